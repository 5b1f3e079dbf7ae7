//! Connections as a client sees them, down to the bytes.

use std::io::Write as _;

use axum::body::Body;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::*;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(30);
/// More than the buffers of a connection hold.
const LARGE: usize = 16 << 20;

/// Tells when it is dropped.
struct Told(mpsc::UnboundedSender<()>);

impl Drop for Told {
    fn drop(&mut self) {
        // Whoever listened may have gone.
        let _ = self.0.send(());
    }
}

/// A server, and what tells that an answer of `/flood` or `/quiet` is over.
struct Bed {
    address: std::net::SocketAddr,
    over: mpsc::UnboundedReceiver<()>,
    draining: CancellationToken,
    shutdown: CancellationToken,
}

impl Bed {
    async fn new(patience: Patience) -> Self {
        let (sender, over) = mpsc::unbounded_channel();
        let quiet_sender = sender.clone();
        // Never ends and never waits.
        let flood = async move || -> Response {
            let (told, chunk) = (Told(sender.clone()), Bytes::from(vec![b'x'; 64 << 10]));
            endless::answer(Box::pin(futures::stream::repeat_with(move || {
                let _ = &told;
                chunk.clone()
            })))
        };
        // Never ends and says one word.
        let quiet = async move || -> Response {
            let told = Told(quiet_sender.clone());
            let word = futures::stream::iter([Bytes::from_static(b"word")]);
            let silence = futures::stream::poll_fn(move |_| {
                let _ = &told;
                Poll::Pending
            });
            endless::answer(Box::pin(futures::StreamExt::chain(word, silence)))
        };
        let finite = async || -> Response {
            let chunks = ["a", "", "bc"].map(|text| Bytes::from_static(text.as_bytes()));
            endless::answer(Box::pin(futures::stream::iter(chunks)))
        };
        let router = Router::new()
            .route("/flood", get(flood))
            .route("/quiet", get(quiet))
            .route("/word", get(async || "word"))
            .route("/finite", get(finite))
            .route("/large", get(async || Body::from(vec![b'x'; LARGE])));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (draining, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let ends = (draining.clone(), shutdown.clone());
        tokio::spawn(accept(listener, router, ends.0, ends.1, patience));
        Self {
            address,
            over,
            draining,
            shutdown,
        }
    }

    async fn send(&self, request: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.address).await.expect("connected");
        client.write_all(request.as_bytes()).await.expect("sent");
        client
    }

    /// A client that has sent a request and read the first line of the answer.
    async fn begin(&self, request: &str) -> TcpStream {
        let mut client = self.send(request).await;
        let mut first = [0; 12];
        let read = tokio::time::timeout(LIMIT, client.read_exact(&mut first)).await;
        read.expect("in time").expect("an answer");
        assert!(first.ends_with(b" 200"), "{}", first.escape_ascii());
        client
    }

    async fn told(&mut self) {
        let told = tokio::time::timeout(LIMIT, self.over.recv()).await;
        told.expect("the answer is given up in time");
    }
}

/// Everything until the server closes.
async fn all_of(client: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![];
    let read = tokio::time::timeout(LIMIT, client.read_to_end(&mut bytes)).await;
    read.expect("it closes in time").expect("it closes cleanly");
    bytes
}

fn request(path: &str, version: &str) -> String {
    format!("GET {path} {version}\r\nhost: x\r\n\r\n")
}

/// Sent by us, and sent by the library.
const VERSIONS: [&str; 2] = ["HTTP/1.1", "HTTP/1.0"];

#[tokio::test]
async fn stream_1_a_reader_that_stops_reading_is_closed() {
    for version in VERSIONS {
        let patience = Patience {
            unread: Duration::from_secs(1),
            ..Patience::default()
        };
        let mut bed = Bed::new(patience).await;
        let _client = bed.begin(&request("/flood", version)).await;
        bed.told().await;
    }
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_cut_at_shutdown() {
    for (path, version) in [
        ("/flood", VERSIONS[0]),
        ("/flood", VERSIONS[1]),
        ("/quiet", VERSIONS[0]),
    ] {
        let patience = Patience {
            grace: Duration::from_millis(10),
            ..Patience::default()
        };
        let mut bed = Bed::new(patience).await;
        let _client = bed.begin(&request(path, version)).await;
        bed.shutdown.cancel();
        bed.told().await;
    }
}

/// Reads one answer of `/word`.
async fn word(client: &mut TcpStream) -> String {
    let mut seen = vec![];
    while !seen.ends_with(b"\r\n\r\nword") {
        let read = tokio::time::timeout(LIMIT, client.read_buf(&mut seen)).await;
        let read = read.expect("in time").expect("read");
        assert!(read > 0, "closed after {}", seen.escape_ascii());
    }
    String::from_utf8(seen).expect("text")
}

#[tokio::test]
async fn a_draining_server_answers_and_asks_clients_to_leave() {
    let bed = Bed::new(Patience::default()).await;
    let mut client = bed.send(&request("/word", VERSIONS[0])).await;
    assert!(!word(&mut client).await.contains("connection: close"));
    bed.draining.cancel();
    let again = request("/word", VERSIONS[0]);
    client.write_all(again.as_bytes()).await.expect("sent");
    assert!(
        word(&mut client)
            .await
            .contains("\r\nconnection: close\r\n")
    );
    assert_eq!(all_of(&mut client).await, b"", "and it ends");
    let mut later = bed.send(&again).await;
    assert!(word(&mut later).await.contains("\r\nconnection: close\r\n"));
}

/// A request that was sent when the server was told to stop is answered: on a connection that rested, and on one that the
/// server had not heard of.
#[tokio::test]
async fn a_request_that_was_sent_is_answered_at_shutdown() {
    let patience = Patience {
        linger: Duration::from_secs(5),
        grace: Duration::from_secs(10),
        ..Patience::default()
    };
    let bed = Bed::new(patience).await;
    let mut rested = bed.send(&request("/word", VERSIONS[0])).await;
    word(&mut rested).await;
    // On this thread nothing of the server runs before the next wait.
    bed.draining.cancel();
    bed.shutdown.cancel();
    let text = request("/word", VERSIONS[0]);
    let sent = |stream: &std::net::TcpStream| (&*stream).write_all(text.as_bytes());
    let new = std::net::TcpStream::connect(bed.address).expect("connected");
    sent(&new).expect("sent");
    let old = rested.into_std().expect("a socket");
    sent(&old).expect("sent");
    for stream in [new, old] {
        stream.set_nonblocking(true).expect("set");
        let mut client = TcpStream::from_std(stream).expect("a socket");
        assert!(
            word(&mut client)
                .await
                .contains("\r\nconnection: close\r\n")
        );
        assert_eq!(all_of(&mut client).await, b"");
    }
}

#[tokio::test]
async fn a_connection_that_rests_ends_at_shutdown() {
    let patience = Patience {
        linger: Duration::from_millis(10),
        ..Patience::default()
    };
    let bed = Bed::new(patience).await;
    let mut client = bed.send(&request("/word", VERSIONS[0])).await;
    word(&mut client).await;
    bed.shutdown.cancel();
    assert_eq!(all_of(&mut client).await, b"");
}

#[tokio::test]
async fn stream_1_a_client_that_closes_ends_its_stream_at_once() {
    // Nothing is written any more, so that only the closing can tell.
    let mut bed = Bed::new(Patience::default()).await;
    let mut client = bed.begin(&request("/quiet", VERSIONS[0])).await;
    let mut seen = vec![];
    while !seen.ends_with(b"word\r\n") {
        assert!(client.read_buf(&mut seen).await.expect("read") > 0);
    }
    drop(client);
    bed.told().await;
}

#[tokio::test]
async fn an_answer_of_chunks_is_whole_and_ends_cleanly() {
    let bed = Bed::new(Patience::default()).await;
    for (version, body, header) in [
        ("HTTP/1.1", "3\r\nabc\r\n0\r\n\r\n", "chunked"),
        ("HTTP/1.0", "abc", ""),
    ] {
        let mut client = bed.send(&request("/finite", version)).await;
        let bytes = all_of(&mut client).await;
        let text = String::from_utf8(bytes).expect("text");
        let (head, rest) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(" 200 OK") && head.contains(header), "{head}");
        assert_eq!(rest, body, "{version}");
        let closes = head.lines().filter(|line| *line == "connection: close");
        assert_eq!(closes.count(), usize::from(version == "HTTP/1.1"), "{head}");
    }
}

#[tokio::test]
async fn a_head_alone_is_answered_with_a_head_alone() {
    let bed = Bed::new(Patience::default()).await;
    let mut client = bed.send("HEAD /finite HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let text = String::from_utf8(all_of(&mut client).await).expect("text");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\n") && text.matches("\r\n\r\n").count() == 1);
}

/// What the library still had to send comes before the stream, however late the client reads it.
#[tokio::test]
async fn an_answer_before_the_stream_on_the_same_connection_is_not_cut() {
    let bed = Bed::new(Patience::default()).await;
    let both = request("/large", VERSIONS[0]) + &request("/finite", VERSIONS[0]);
    let mut client = bed.send(&both).await;
    let bytes = all_of(&mut client).await;
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let rest = &bytes[head.expect("a head") + 4..];
    assert!(rest.len() > LARGE && rest[..LARGE].iter().all(|byte| *byte == b'x'));
    let stream = String::from_utf8_lossy(&rest[LARGE..]);
    assert!(stream.starts_with("HTTP/1.1 200 OK\r\n"), "{stream}");
    assert!(
        stream.ends_with("\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        "{stream}"
    );
}

/// The library's buffer may hold the head, or part of it, when it asks for the first chunk.
#[tokio::test]
async fn a_stream_is_taken_only_when_everything_before_it_is_sent() {
    let (slot, word) = (Slot::default(), Bytes::from_static(b"word"));
    let mut response = endless::answer(Box::pin(futures::stream::iter([word.clone()])));
    slot.want(&mut response);
    let mut body = response.into_body();
    slot.flushed();
    assert!(slot.take().is_none(), "the head is not written");
    let frame = futures::poll!(http_body_util::BodyExt::frame(&mut body));
    assert!(frame.is_pending(), "the library has nothing to write");
    assert!(slot.take().is_none(), "the head is not sent");
    slot.flushed();
    let mut chunks = slot.take().expect("it is sent");
    assert_eq!(futures::StreamExt::next(&mut chunks).await, Some(word));
    assert!(slot.take().is_none());
}
