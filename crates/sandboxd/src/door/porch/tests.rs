use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, Shutdown};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::door::carrier::{HEAD, Mark, PIECE, WINDOW, carry_from};

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A porch with a port and a name of its own.
struct House {
    address: SocketAddr,
    name: UnixAddress,
}

impl House {
    fn new(alone: Duration) -> Self {
        Self::of(rustix::process::getuid().as_raw(), alone)
    }

    fn of(keeper: u32, alone: Duration) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("manyhands-test-{}-{count}", std::process::id()).into_bytes();
        let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        let porch = Porch::named(any, &name, Keeper(keeper), alone).unwrap();
        assert!(Porch::named(any, &name, Keeper(keeper), alone).is_err());
        let address = porch.address().unwrap();
        porch.serve().unwrap();
        let name = UnixAddress::from_abstract_name(&name).unwrap();
        Self { address, name }
    }

    fn client(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.set_write_timeout(Some(PATIENCE)).unwrap();
        client
    }

    /// A carrier that waits, and the server's end of its streams.
    fn carrier(&self) -> Server {
        let porch = UnixStream::connect_addr(&self.name).unwrap();
        let (streams, theirs) = UnixStream::pair().unwrap();
        streams.set_read_timeout(Some(PATIENCE)).unwrap();
        let file = |stream: UnixStream| File::from(OwnedFd::from(stream));
        let (input, output) = (
            file(theirs.try_clone().unwrap()),
            file(theirs.try_clone().unwrap()),
        );
        thread::spawn(move || {
            let _ = carry_from(porch, input, output);
            // As the end of its process does.
            let _ = theirs.shutdown(Shutdown::Both);
        });
        let mut server = Server(streams);
        assert_eq!(server.heard(), (Mark::Waiting, Vec::new()));
        server
    }
}

/// A server's end of a carrier's streams.
struct Server(UnixStream);

impl Server {
    /// What is said next, beside that bytes have passed.
    fn heard(&mut self) -> (Mark, Vec<u8>) {
        loop {
            match self.hear() {
                (Mark::Passed(_), _) => {}
                (Mark::Bytes(length), bytes) => {
                    self.say(Mark::Passed(length), b"");
                    return (Mark::Bytes(length), bytes);
                }
                other => return other,
            }
        }
    }

    fn hear(&mut self) -> (Mark, Vec<u8>) {
        let mut head = [0; HEAD];
        self.0.read_exact(&mut head).unwrap();
        let mark = Mark::parse(head).unwrap();
        let mut bytes = match mark {
            Mark::Bytes(length) => vec![0; length.into()],
            _ => Vec::new(),
        };
        self.0.read_exact(&mut bytes).unwrap();
        (mark, bytes)
    }

    fn expect(&mut self, mark: Mark, bytes: &[u8]) {
        assert_eq!(self.heard(), (mark, bytes.to_vec()));
    }

    fn say(&mut self, mark: Mark, bytes: &[u8]) {
        self.0.write_all(&mark.head()).unwrap();
        self.0.write_all(bytes).unwrap();
    }

    fn has_ended(&mut self) -> bool {
        self.0.read_to_end(&mut Vec::new()).is_ok()
    }
}

fn all(mut stream: impl Read) -> Vec<u8> {
    let mut read = Vec::new();
    stream.read_to_end(&mut read).unwrap();
    read
}

/// security NET-1: each direction ends by itself, and one carrier has one client after the other.
#[test]
fn net_1_a_carrier_takes_the_next_client_when_both_directions_have_ended() {
    let house = House::new(PATIENCE);
    let mut server = house.carrier();
    for turn in 0..3 {
        let mut client = house.client();
        server.expect(Mark::Begun, b"");
        let mut next = house.client();
        client.write_all(b"request").unwrap();
        server.expect(Mark::Bytes(7), b"request");
        server.say(Mark::Bytes(6), b"answer");
        if turn == 1 {
            server.say(Mark::Ended, b"");
            assert_eq!(all(&client), b"answer");
            client.write_all(b"thanks").unwrap();
            server.expect(Mark::Bytes(6), b"thanks");
            drop(client);
            server.expect(Mark::Ended, b"");
        } else {
            client.shutdown(Shutdown::Write).unwrap();
            server.expect(Mark::Ended, b"");
            server.say(Mark::Ended, b"");
            assert_eq!(all(&client), b"answer");
        }
        server.say(Mark::Stay, b"");
        server.expect(Mark::Waiting, b"");
        server.expect(Mark::Begun, b"");
        next.write_all(b"mine").unwrap();
        server.expect(Mark::Bytes(4), b"mine");
        next.shutdown(Shutdown::Write).unwrap();
        server.expect(Mark::Ended, b"");
        server.say(Mark::Ended, b"");
        assert_eq!(all(&next), b"");
        server.say(Mark::Stay, b"");
        server.expect(Mark::Waiting, b"");
    }
}

/// security NET-1: who goes takes the connection along: the server its clients, a client that breaks off its carrier.
#[test]
fn net_1_a_connection_that_breaks_off_ends_on_both_sides() {
    let house = House::new(PATIENCE);
    let mut server = house.carrier();
    let mut client = house.client();
    server.expect(Mark::Begun, b"");
    drop(server);
    assert_eq!(client.read(&mut [0]).unwrap_or(0), 0, "the server is gone");

    let mut server = house.carrier();
    let client = house.client();
    server.expect(Mark::Begun, b"");
    server.say(Mark::Bytes(3), b"not");
    let linger = rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO));
    linger.unwrap();
    drop(client);
    assert!(server.has_ended(), "the client has reset it");

    let mut server = house.carrier();
    server.say(Mark::Stay, b"");
    assert!(server.has_ended(), "nobody had come");
    // The one that is gone gets nobody.
    let mut server = house.carrier();
    let _client = house.client();
    server.expect(Mark::Begun, b"");
}

/// security NET-1, invariant I9: without anybody to carry, clients wait for a moment and then there is no way out, until
/// somebody comes.
#[test]
fn i9_without_carriers_there_is_no_way_out() {
    let house = House::new(Duration::from_millis(50));
    let tried = house.client().read(&mut [0]);
    assert_eq!(tried.unwrap_or(0), 0, "nobody came");
    let (mut one, mut other) = (house.client(), house.client());
    assert_eq!(one.read(&mut [0]).unwrap_or(0), 0, "nor since");
    assert_eq!(other.read(&mut [0]).unwrap_or(0), 0, "nor beside");
    let mut server = house.carrier();
    let client = house.client();
    server.expect(Mark::Begun, b"");
    let patient = house.client();
    server.say(Mark::Bytes(2), b"go");
    server.say(Mark::Ended, b"");
    assert_eq!(all(&client), b"go");
    drop(client);
    server.expect(Mark::Ended, b"");
    server.say(Mark::Stay, b"");
    server.expect(Mark::Waiting, b"");
    server.expect(Mark::Begun, b"");
    server.say(Mark::Bytes(3), b"you");
    server.say(Mark::Ended, b"");
    assert_eq!(all(patient), b"you", "it waited for somebody who was there");

    let early = House::new(PATIENCE);
    let client = early.client();
    let mut server = early.carrier();
    server.expect(Mark::Begun, b"");
    server.say(Mark::Bytes(2), b"go");
    server.say(Mark::Ended, b"");
    assert_eq!(all(client), b"go", "it was there before anybody");
}

/// security SBX-5: tools that come to the name are handed nothing.
#[test]
fn sbx_5_only_the_keepers_carriers_are_taken() {
    let house = House::of(rustix::process::getuid().as_raw() + 1, PATIENCE);
    let client = house.client();
    let mut stranger = UnixStream::connect_addr(&house.name).unwrap();
    stranger.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(stranger.read(&mut [0]).unwrap_or(0), 0, "it is sent away");
    client.set_nonblocking(true).unwrap();
    let waits = (&client).read(&mut [0]).unwrap_err();
    assert_eq!(waits.kind(), ErrorKind::WouldBlock);
}

#[test]
fn large_bodies_pass_in_both_directions_at_once() {
    let house = House::new(PATIENCE);
    let mut server = house.carrier();
    let client = house.client();
    server.expect(Mark::Begun, b"");
    let sent: Vec<u8> = (0..4_u32 << 20)
        .map(|number| (number % 251) as u8)
        .collect();
    let (mut up, request) = (client.try_clone().unwrap(), sent.clone());
    let sending = thread::spawn(move || {
        up.write_all(&request).unwrap();
        up.shutdown(Shutdown::Write).unwrap();
    });
    let echoing = thread::spawn(move || {
        loop {
            let (mark, bytes) = server.heard();
            server.say(mark, &bytes);
            if mark == Mark::Ended {
                return server;
            }
        }
    });
    assert!(all(client) == sent);
    sending.join().unwrap();
    let mut server = echoing.join().unwrap();
    server.say(Mark::Stay, b"");
    server.expect(Mark::Waiting, b"");
}

/// A direction that is stuck holds up neither the server, which is sent a window and no more, nor the other direction.
#[test]
fn a_direction_that_is_stuck_does_not_stop_the_other() {
    let house = House::new(PATIENCE);
    let mut server = house.carrier();
    let mut client = house.client();
    server.expect(Mark::Begun, b"");
    let mut up = client.try_clone().unwrap();
    let sending = thread::spawn(move || up.write_all(&vec![7; 16 << 20]));
    let mut taken = Vec::new();
    while taken.iter().map(Vec::len).sum::<usize>() < WINDOW {
        taken.push(server.hear().1);
    }
    // Nothing of it has passed, and the client does not read either.
    let piece = vec![1; PIECE];
    for _ in 0..WINDOW / PIECE {
        server.say(Mark::Bytes(PIECE as u16), &piece);
    }
    let mut answer = vec![0; WINDOW];
    client.read_exact(&mut answer).unwrap();
    let mut passed = 0;
    while passed < WINDOW {
        match server.hear() {
            (Mark::Passed(length), _) => passed += usize::from(length),
            other => panic!("{other:?}"),
        }
    }
    drop(server);
    assert!(sending.join().unwrap().is_err(), "nobody took the rest");
}
