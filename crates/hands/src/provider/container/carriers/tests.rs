use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

use manyhands_sandboxd::door::porch::CARRIERS;

use super::*;

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An exchange that is under way, with the other ends of both of its sides.
struct Between {
    carrier: DuplexStream,
    gate: UnixStream,
    exchange: JoinHandle<io::Result<()>>,
}

impl Between {
    fn new() -> Self {
        let (carrier, streams) = tokio::io::duplex(16 * WINDOW);
        let (gate, near) = UnixStream::pair().unwrap();
        let exchange = tokio::spawn(async move {
            let (output, mut input) = tokio::io::split(streams);
            exchange(&mut Marks::new(output), &mut input, near).await
        });
        Self {
            carrier,
            gate,
            exchange,
        }
    }

    async fn say(&mut self, mark: Mark, bytes: &[u8]) {
        self.carrier.write_all(&mark.head()).await.unwrap();
        self.carrier.write_all(bytes).await.unwrap();
    }

    async fn hear(&mut self) -> (Mark, Vec<u8>) {
        let mut head = [0; HEAD];
        let read = timeout(PATIENCE, self.carrier.read_exact(&mut head));
        read.await.unwrap().unwrap();
        let mark = Mark::parse(head).unwrap();
        let mut bytes = match mark {
            Mark::Bytes(length) => vec![0; length.into()],
            _ => Vec::new(),
        };
        self.carrier.read_exact(&mut bytes).await.unwrap();
        (mark, bytes)
    }

    async fn expect(&mut self, mark: Mark, bytes: &[u8]) {
        assert_eq!(self.hear().await, (mark, bytes.to_vec()));
    }

    /// What the gate gets next, which is this long.
    async fn came(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let read = timeout(PATIENCE, self.gate.read_exact(&mut bytes));
        read.await.unwrap().unwrap();
        bytes
    }

    /// Whether nothing more comes to the gate.
    async fn is_over(&mut self) -> bool {
        let mut byte = [0];
        let read = timeout(PATIENCE, self.gate.read(&mut byte));
        read.await.unwrap().unwrap() == 0
    }

    async fn ended(self) -> io::Result<()> {
        let Self {
            carrier,
            gate,
            exchange,
        } = self;
        let ended = timeout(PATIENCE, exchange).await.unwrap().unwrap();
        drop((carrier, gate));
        ended
    }
}

/// security NET-1: each direction ends by itself, whichever is the first.
#[tokio::test]
async fn net_1_an_exchange_ends_when_both_directions_have() {
    let mut asked = Between::new();
    asked.say(Mark::Bytes(7), b"request").await;
    asked.say(Mark::Ended, b"").await;
    assert_eq!(asked.came(7).await, b"request");
    assert!(asked.is_over().await);
    asked.expect(Mark::Passed(7), b"").await;
    asked.gate.write_all(b"answer").await.unwrap();
    asked.expect(Mark::Bytes(6), b"answer").await;
    asked.gate.shutdown().await.unwrap();
    asked.expect(Mark::Ended, b"").await;
    asked.say(Mark::Passed(6), b"").await;
    asked.ended().await.unwrap();

    let mut greeted = Between::new();
    greeted.gate.write_all(b"greeting").await.unwrap();
    greeted.gate.shutdown().await.unwrap();
    greeted.expect(Mark::Bytes(8), b"greeting").await;
    greeted.expect(Mark::Ended, b"").await;
    greeted.say(Mark::Passed(8), b"").await;
    greeted.say(Mark::Bytes(6), b"thanks").await;
    assert_eq!(greeted.came(6).await, b"thanks");
    greeted.expect(Mark::Passed(6), b"").await;
    greeted.say(Mark::Ended, b"").await;
    assert!(greeted.is_over().await);
    greeted.ended().await.unwrap();
}

/// security NET-1: a gate that refuses without reading the rest is heard, and a client that still sends it is not stopped.
#[tokio::test]
async fn net_1_an_answer_that_comes_before_the_end_of_the_request_is_passed_on() {
    let mut refused = Between::new();
    refused.say(Mark::Bytes(5), b"begin").await;
    refused.expect(Mark::Passed(5), b"").await;
    refused.gate.write_all(b"no").await.unwrap();
    let near = UnixStream::pair().unwrap().0;
    // Its end, with something unread.
    drop(std::mem::replace(&mut refused.gate, near));
    refused.expect(Mark::Bytes(2), b"no").await;
    refused.expect(Mark::Ended, b"").await;
    refused.say(Mark::Passed(2), b"").await;
    for _ in 0..4 * WINDOW / PIECE {
        refused.say(Mark::Bytes(PIECE as u16), &[0; PIECE]).await;
        refused.expect(Mark::Passed(PIECE as u16), b"").await;
    }
    refused.say(Mark::Ended, b"").await;
    refused.ended().await.unwrap();
}

/// A carrier is sent a window ahead of what has passed, and no more.
#[tokio::test]
async fn what_has_not_passed_is_bounded() {
    let mut full = Between::new();
    let (_, mut flowing) =
        std::mem::replace(&mut full.gate, UnixStream::pair().unwrap().0).into_split();
    let sending = tokio::spawn(async move { flowing.write_all(&vec![7; 8 * WINDOW]).await });
    let mut heard = 0;
    while heard < WINDOW {
        heard += full.hear().await.1.len();
    }
    assert_eq!(heard, WINDOW);
    // What comes next is what is answered next.
    full.say(Mark::Bytes(1), b"?").await;
    full.expect(Mark::Passed(1), b"").await;
    full.say(Mark::Passed(3), b"").await;
    full.expect(Mark::Bytes(3), &[7; 3]).await;
    drop(full);
    assert!(sending.await.unwrap().is_err(), "nobody took the rest");
}

/// Starts carriers whose only client breaks off, and tells of each.
struct Breaking(mpsc::UnboundedSender<()>);

#[async_trait]
impl Starter for Breaking {
    async fn start(&self) -> Result<Streams, String> {
        let (mut carrier, streams) = tokio::io::duplex(64);
        for mark in [Mark::Waiting, Mark::Begun] {
            carrier.write_all(&mark.head()).await.unwrap();
        }
        // A test that has seen enough.
        let _ = self.0.send(());
        Ok(Streams::of(streams))
    }

    async fn is_over(&self) -> bool {
        false
    }
}

/// security SBX-5: a tool whose connections all break off has the engine start so many programs, and no more.
#[tokio::test]
async fn sbx_5_connections_that_break_off_start_carriers_at_a_bounded_rate() {
    const MORE: u32 = 6;
    let folder = tempfile::tempdir().unwrap();
    let _gate = tokio::net::UnixListener::bind(folder.path().join(door::NAME)).unwrap();
    let (tell, mut started) = mpsc::unbounded_channel();
    let folder = std::fs::File::open(folder.path()).unwrap();
    let pool = Pool::new("test", Box::new(Breaking(tell)), folder.into());
    let since = Instant::now();
    let _pool = AbortOnDropHandle::new(tokio::spawn(Arc::new(pool).run()));
    for _ in 0..CARRIERS as u32 + MORE {
        let next = timeout(PATIENCE, started.recv()).await;
        next.expect("more are started").expect("they go on");
    }
    let took = since.elapsed();
    assert!(took >= starts::EACH * MORE, "{took:?}");
}

/// security SBX-5: what a carrier must not say ends it.
#[tokio::test]
async fn sbx_5_marks_out_of_place_end_the_exchange() {
    async fn check(said: &[(Mark, &[u8])], kind: io::ErrorKind) {
        let mut between = Between::new();
        // In one piece: nobody reads the rest.
        let all = said
            .iter()
            .flat_map(|(mark, bytes)| [&mark.head(), *bytes].concat());
        let all: Vec<u8> = all.collect();
        between.carrier.write_all(&all).await.unwrap();
        between.carrier.shutdown().await.unwrap();
        let ended = between.ended().await.unwrap_err();
        let marks: Vec<Mark> = said.iter().map(|(mark, _)| *mark).collect();
        assert_eq!(ended.kind(), kind, "{marks:?}");
    }
    let wrong = io::ErrorKind::InvalidData;
    check(&[(Mark::Waiting, b"")], wrong).await;
    check(&[(Mark::Begun, b"")], wrong).await;
    check(&[(Mark::Stay, b"")], wrong).await;
    check(&[(Mark::Passed(1), b"")], wrong).await;
    check(&[(Mark::Bytes(1), b"x"), (Mark::Passed(1), b"")], wrong).await;
    check(&[(Mark::Ended, b""), (Mark::Ended, b"")], wrong).await;
    check(&[(Mark::Ended, b""), (Mark::Bytes(1), b"x")], wrong).await;
    // No mark at all.
    check(&[(Mark::Bytes(1), b"xx\0\0")], wrong).await;
    // More than a gate that does not read lets it pass on.
    let piece: (Mark, &[u8]) = (Mark::Bytes(PIECE as u16), &[0; PIECE]);
    check(&[piece; 12 * WINDOW / PIECE], wrong).await;
    // Its end is none of the connection's.
    let cut = io::ErrorKind::UnexpectedEof;
    check(&[], cut).await;
    check(&[(Mark::Bytes(1), b"x"), (Mark::Ended, b"")], cut).await;
    check(&[(Mark::Bytes(2), b"x")], cut).await;
}
