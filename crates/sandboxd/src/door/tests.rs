use super::*;
use std::os::unix::net::UnixListener;

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A door of its own, and the socket behind it.
struct House {
    folder: tempfile::TempDir,
    address: SocketAddr,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        let door = Door::bind(any, folder.path().join("socket")).unwrap();
        let address = door.address().unwrap();
        door.serve().unwrap();
        Self { folder, address }
    }

    /// A proxy in the place of an earlier one.
    fn proxy(&self) -> UnixListener {
        let path = self.folder.path().join("socket");
        let _ = std::fs::remove_file(&path);
        UnixListener::bind(path).unwrap()
    }

    fn client(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.set_write_timeout(Some(PATIENCE)).unwrap();
        client
    }
}

fn accept(proxy: &UnixListener) -> UnixStream {
    let (stream, _) = proxy.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn all(mut stream: impl Read) -> Vec<u8> {
    let mut read = Vec::new();
    stream.read_to_end(&mut read).unwrap();
    read
}

/// security NET-1: each side may stop speaking and still listen.
#[test]
fn net_1_each_direction_ends_by_itself() {
    let house = House::new();
    let proxy = house.proxy();
    let mut client = house.client();
    client.write_all(b"request").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut served = accept(&proxy);
    assert_eq!(all(&served), b"request");
    served.write_all(b"answer").unwrap();
    drop(served);
    assert_eq!(all(&client), b"answer");

    let mut client = house.client();
    let mut served = accept(&proxy);
    served.write_all(b"greeting").unwrap();
    served.shutdown(Shutdown::Write).unwrap();
    assert_eq!(all(&client), b"greeting");
    client.write_all(b"thanks").unwrap();
    drop(client);
    assert_eq!(all(&served), b"thanks");
}

#[test]
fn more_than_fits_waits_for_its_reader_in_both_directions() {
    let house = House::new();
    let proxy = house.proxy();
    let sent: Vec<u8> = (0..4_u32 << 20)
        .map(|number| (number % 251) as u8)
        .collect();
    let client = house.client();
    let (mut up, mut down) = (client.try_clone().unwrap(), client);
    let request = sent.clone();
    let sending = thread::spawn(move || {
        up.write_all(&request).unwrap();
        up.shutdown(Shutdown::Write).unwrap();
    });
    let served = accept(&proxy);
    // Echoed as it comes: neither side ever holds all of it.
    let echoing = thread::spawn(move || {
        let mut to = served.try_clone().unwrap();
        io::copy(&mut &served, &mut to).unwrap();
    });
    let mut read = Vec::new();
    down.read_to_end(&mut read).unwrap();
    assert!(
        read == sent,
        "{} of {} bytes came back",
        read.len(),
        sent.len()
    );
    sending.join().unwrap();
    echoing.join().unwrap();
}

#[test]
fn an_answer_that_comes_before_the_end_of_the_request_is_read() {
    let house = House::new();
    let proxy = house.proxy();
    let mut client = house.client();
    client.write_all(b"the beginning").unwrap();
    let mut served = accept(&proxy);
    served.write_all(b"refused").unwrap();
    drop(served);
    // Far more than all buffers on the way hold.
    client.write_all(&vec![0; 32 << 20]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(all(&client), b"refused");
}

/// security NET-1: proxy gone means no network.
#[test]
fn net_1_without_a_proxy_connections_end_and_the_next_proxy_is_found() {
    let house = House::new();
    assert_eq!(
        house.client().read(&mut [0]).unwrap_or(0),
        0,
        "nobody is there"
    );
    let first = house.proxy();
    let client = house.client();
    drop(accept(&first));
    assert_eq!(all(&client), b"");
    drop(first);
    assert_eq!(
        house.client().read(&mut [0]).unwrap_or(0),
        0,
        "nobody answers"
    );
    let second = house.proxy();
    let client = house.client();
    accept(&second).write_all(b"second").unwrap();
    assert_eq!(all(&client), b"second");
}

#[test]
fn connections_are_bounded_and_the_next_ones_wait() {
    let house = House::new();
    let proxy = house.proxy();
    let mut open: Vec<_> = (0..CONNECTIONS)
        .map(|_| (house.client(), accept(&proxy)))
        .collect();
    let waiting = house.client();
    // A turn of all that are open.
    let (client, served) = open.last_mut().unwrap();
    client.write_all(b"?").unwrap();
    served.read_exact(&mut [0]).unwrap();
    proxy.set_nonblocking(true).unwrap();
    assert_eq!(proxy.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    proxy.set_nonblocking(false).unwrap();
    drop(open.pop());
    accept(&proxy).write_all(b"your turn").unwrap();
    assert_eq!(all(&waiting), b"your turn");
}

/// A pair, and the ends of its client and its proxy.
fn pair() -> (Pair, TcpStream, UnixStream) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let proxy = UnixListener::bind(&socket).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let pair = Pair::new(listener.accept().unwrap().0, &socket).unwrap();
    (pair, client, accept(&proxy))
}

#[test]
fn nothing_is_tried_again_and_again_while_one_side_is_waited_for() {
    let door = Door::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), "/nowhere").unwrap();
    // Whether the pair has anything to do, now or within a moment.
    let is_called = |pair: &Pair| door.wait(std::slice::from_ref(pair), false, true).unwrap()[1];

    let (mut silent, client, proxy) = pair();
    assert!(!is_called(&silent), "nothing was said");
    client.shutdown(Shutdown::Write).unwrap();
    while is_called(&silent) {
        assert!(silent.turn(), "the proxy may still answer");
    }
    drop(proxy);
    assert!(is_called(&silent) && !silent.turn(), "both have ended");

    let (mut open, _client, proxy) = pair();
    proxy.shutdown(Shutdown::Write).unwrap();
    while is_called(&open) {
        assert!(open.turn(), "the client may still speak");
    }

    let (mut full, client, mut proxy) = pair();
    proxy.set_nonblocking(true).unwrap();
    while proxy.write(&[0; ROOM]).is_ok() || is_called(&full) {
        assert!(full.turn(), "the client may still read");
    }
    drop(proxy);
    assert!(!is_called(&full), "the client does not read");
    drop(client);
    assert!(is_called(&full) && !full.turn(), "the client is gone");
}
