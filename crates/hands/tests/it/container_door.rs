//! The way out of containers that see no folder of this server's, over the engine's streams: what its clients notice (nothing),
//! and what becomes of it when either side goes.

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use manyhands_hands::provider::container::{Config, Doorway};
use manyhands_hands::provider::{Door, Network};
use manyhands_hands::{Call, Gate, Provider, Sandbox};
use manyhands_testkit::containers::Engine;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::containers::Containers;
use crate::door::{Porter, ask, limited, says};
use crate::host::{PATIENCE, call, run, text};

fn by_streams(gate: Arc<dyn Gate>) -> impl FnOnce(&mut Config) {
    |config| {
        config.gate = Some(gate);
        config.shared_folders = false;
        config.door = Doorway::Streams;
    }
}

/// Containers with a way out by streams alone.
pub(crate) fn streams(gate: &Arc<Porter>) -> Containers {
    Containers::with(by_streams(Arc::<Porter>::clone(gate)))
}

/// Says how many carriers there are.
const COUNT: &str = "pgrep -u 61000 -fc 'sandboxd carry'";

/// Says whether there are some, and not more than so many.
fn few(most: u32) -> String {
    format!("count=$({COUNT}); [ $count -gt 0 -a $count -le {most} ] && echo few")
}

/// Waits until a command, which is of no consequence, says this.
async fn until(sandbox: &Arc<dyn Sandbox>, epoch: i64, command: &str, said: &str) {
    let mut last = String::new();
    let asked = async {
        for number in 0.. {
            let call = Call {
                epoch,
                ..call(&format!("look-{epoch}-{number}"), command)
            };
            let output = sandbox.execute(&call).await.unwrap();
            last = text(&output).to_owned();
            if last == said {
                return;
            }
        }
    };
    let asked = tokio::time::timeout(PATIENCE, asked).await;
    assert!(asked.is_ok(), "{command}: {last}");
}

/// security NET-1, NET-8, SBX-5, runtime EN-14: clients find the gate without configuration and without a folder of this
/// server's, each session its own; tools can neither carry nor take the place of who does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn net_8_over_streams_each_session_has_its_own_way_out() {
    let gate = Porter::new("gate");
    let host = streams(&gate);
    let notes = host.provider.probe().await.notes;
    assert!(
        notes.iter().any(|note| note.contains("streams")),
        "{notes:?}"
    );
    let recipe = limited("sesn_a", 1, "a.example.com");
    let one = host.provider.provision(&recipe).await.unwrap();
    let other = host.sandbox("sesn_b").await;
    assert_eq!(ask(&one, 1).await, says("gate", "sesn_a"));
    assert_eq!(ask(&other, 1).await, says("gate", "sesn_b"));
    assert_eq!(gate.opened()[0], ("sesn_a".to_owned(), recipe.network));
    let trusted = "for f in $SSL_CERT_FILE $NODE_EXTRA_CA_CERTS; do sed -n 2p $f; done; ls -l $SSL_CERT_FILE | cut -c 1-10; \
                   ls /run/manyhands 2>/dev/null; wc -l < /proc/net/route";
    assert_eq!(
        text(&run(&one, trusted).await),
        "of the stand-in\nof the stand-in\n-r--r--r--\n1"
    );
    let squat = r#"python3 -c '
import socket
def tried(what, work):
    try:
        print(what, work())
    except OSError as error:
        print(what, error.errno)
def carries():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20)
    s.connect("\0manyhands-door")
    return s.recv(1)
tried("bind", lambda: socket.socket(socket.AF_UNIX).bind("\0manyhands-door"))
tried("port", lambda: socket.socket().bind(("127.0.0.1", 3128)))
tried("carry", carries)
'; /usr/libexec/manyhands/sandboxd carry </dev/null | wc -c; kill -9 $(pgrep -u 61000) 2>/dev/null || echo unharmed"#;
    assert_eq!(
        text(&run(&one, squat).await),
        "bind 98\nport 98\ncarry b''\n3\nunharmed"
    );
    assert_eq!(ask(&one, 1).await, says("gate", "sesn_a"));
    until(&one, 1, &few(8), "few").await;
    assert_eq!(gate.open_doors(), 2);
    host.provider.release("sesn_a").await.unwrap();
    host.provider.destroy("sesn_b").await.unwrap();
    assert_eq!(gate.open_doors(), 0);
    let recipe = limited("sesn_a", 1, "a.example.com");
    let rested = host.provider.provision(&recipe).await.unwrap();
    assert_eq!(ask(&rested, 1).await, says("gate", "sesn_a"));
}

/// security NET-1: which way it is follows from what the engine shows, unless the operator says it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn net_1_the_way_that_works_is_found_by_trying() {
    let check = async |shared_folders: bool, door: Doorway, expected: &str| {
        let porter = Porter::new("gate");
        let gate: Arc<dyn Gate> = porter.clone();
        let host = Containers::with(|config| {
            config.gate = Some(gate);
            config.shared_folders = shared_folders;
            config.door = door;
        });
        let sandbox = host.sandbox("sesn_a").await;
        assert_eq!(ask(&sandbox, 1).await, says("gate", "sesn_a"));
        let labels = "{{index .Config.Labels \"manyhands.door\"}}";
        let name = host.name("sesn_a");
        let label = host.engine.podman(&["inspect", "--format", labels, &name]);
        assert_eq!(label, expected, "{shared_folders} {door:?}");
        let left = host.listed("{{.Names}}");
        assert_eq!(left, [name], "what has tried is gone");
    };
    check(true, Doorway::Auto, "folder").await;
    check(false, Doorway::Auto, "streams").await;
    check(true, Doorway::Streams, "streams").await;
}

/// A gate that sends back what it gets, once it has the number of bytes that the first four say, or as it comes for 0.
struct Echo;

impl Gate for Echo {
    fn open(&self, _: &str, _: &Network, socket: UnixListener) -> io::Result<Door> {
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UnixListener::from_std(socket)?;
        let serving = tokio::spawn(async move {
            let mut all = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = socket.accept().await {
                all.spawn(echo(stream));
            }
        });
        Ok(Box::new(tokio_util::task::AbortOnDropHandle::new(serving)))
    }

    fn authority(&self) -> String {
        String::new()
    }
}

async fn echo(mut stream: UnixStream) -> io::Result<()> {
    let held = stream.read_u32().await?;
    let mut all = vec![0; held as usize];
    stream.read_exact(&mut all).await?;
    stream.write_all(&all).await?;
    let (mut from, mut to) = stream.split();
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await
}

/// security NET-1: many connections at once, large bodies in both directions, and each direction ends by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn net_1_over_streams_many_large_connections_pass_unharmed() {
    let host = Containers::with(by_streams(Arc::new(Echo)));
    let sandbox = host.sandbox("sesn_a").await;
    let script = r#"cat > echo.py <<'END'
import hashlib, os, socket, struct, sys, threading
def connection(held, flowing):
    s = socket.create_connection(("127.0.0.1", 3128))
    s.settimeout(60)
    sent = os.urandom(held + flowing)
    def send():
        s.sendall(struct.pack(">I", held) + sent)
        s.shutdown(socket.SHUT_WR)
    sending = threading.Thread(target=send)
    sending.start()
    got = hashlib.sha256()
    while piece := s.recv(1 << 16):
        got.update(piece)
    sending.join()
    return got.digest() == hashlib.sha256(sent).digest()
good = []
def run(*sizes):
    if connection(*sizes):
        good.append(1)
count, held, flowing = map(int, sys.argv[1:])
all = [threading.Thread(target=run, args=(held, flowing)) for _ in range(count)]
for one in all: one.start()
for one in all: one.join()
print(len(good))
END
python3 echo.py 1 8000000 0; python3 echo.py 1 0 32000000; python3 echo.py 32 1000 200000; python3 echo.py 80 10 0"#;
    let said = tokio::time::timeout(4 * PATIENCE, run(&sandbox, script));
    assert_eq!(text(&said.await.expect("it ends")), "1\n1\n32\n80");
    // The burst is over: a few stay.
    until(&sandbox, 1, &few(24), "few").await;
}

/// security NET-1, SBX-7, LEASE-1, invariant I9: carriers end with the server that was killed, there is no way out without
/// them, and the next server brings its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lease_1_carriers_end_with_their_server_and_the_next_one_brings_its_own() {
    let gate = Porter::new("next");
    let host = streams(&gate);
    let socket = Engine::shared().socket().display().to_string();
    // Each named pipe is a meeting: whoever comes first waits.
    let command = "mkfifo go closed; curl -sS http://a.example.com/; echo; cat go; \
                   curl -sS --max-time 30 http://a.example.com/ 2>&1 | cut -c 1-6; echo now > closed";
    let (mut child, instance) = crate::survival::server_at(
        host.data.path(),
        "sesn_a",
        "call",
        command,
        &["--engine", &socket],
    );
    let name = host.name("sesn_a");
    let inside = |command: &str| {
        let words = ["exec", "--user=1000", &name, "sh", "-c", command];
        host.engine.podman(&words)
    };
    let reaches = async |command: &str, expected: &str| {
        let reached = async {
            while inside(command) != expected {
                tokio::task::yield_now().await;
            }
        };
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        assert!(reached.is_ok(), "{command}: not {expected}");
    };
    inside("until [ -p /workspace/closed ]; do :; done");
    reaches(&few(8), "few").await;
    child.kill().unwrap();
    child.wait().unwrap();
    reaches(&format!("{COUNT} || :"), "0").await;
    inside("echo on > /workspace/go");
    assert_eq!(inside("cat /workspace/closed"), "now", "it was tried");
    let found = host.provider.find("sesn_a", 2).await.unwrap();
    let found = found.expect("the sandbox lives");
    assert_eq!(found.instance(), instance);
    let again = Call {
        epoch: 2,
        ..call("call", command)
    };
    let said = found.execute(&again).await.unwrap();
    assert_eq!(text(&said), "example\non\ncurl: ");
    assert_eq!(ask(&found, 2).await, says("next", "sesn_a"));
    assert_eq!(gate.open_doors(), 1);
    until(&found, 2, &few(8), "few").await;
}

/// security NET-1, LEASE-1, invariant I9: while nobody answers at the session's socket there is no way out, although there are
/// carriers; it is back with whoever opens it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn net_1_a_gate_that_is_gone_is_no_way_out_until_it_is_back() {
    let gate = Porter::new("gate");
    let host = streams(&gate);
    let sandbox = host.sandbox("sesn_a").await;
    assert_eq!(ask(&sandbox, 1).await, says("gate", "sesn_a"));
    let socket = Engine::shared().socket().display().to_string();
    let (mut other, instance) = crate::survival::server_at(
        host.data.path(),
        "sesn_a",
        "other",
        "true",
        &["--engine", &socket],
    );
    assert_eq!(instance, sandbox.instance());
    let name = host.name("sesn_a");
    let tried = |take: &str| {
        let curl = format!("curl -sS -x 127.0.0.1:3128 http://a.example.com/path 2>&1 | {take}");
        let words = ["exec", "--user=1000", &name, "sh", "-c", &curl];
        host.engine.podman(&words)
    };
    assert_eq!(tried("cat"), "example", "the other's is in its place");
    other.kill().unwrap();
    other.wait().unwrap();
    // More often than carriers wait: each ends with its connection.
    for _ in 0..4 {
        assert_eq!(tried("cut -c 1-7"), "curl: (");
    }
    let found = host.provider.find("sesn_a", 2).await.unwrap();
    let back = found.expect("it lives");
    assert_eq!(back.instance(), instance);
    // The killed one's carriers may still be on their way out, with a client.
    let again = "curl -sS http://a.example.com/path";
    until(&back, 2, again, &says("gate", "sesn_a")).await;
    until(&back, 2, &few(8), "few").await;
}

/// security NET-1, LEASE-1: nobody's connection is lost when a session goes from one living server to another and back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lease_1_a_change_of_owners_loses_no_client() {
    let (gate, other) = (Porter::new("gate"), Porter::new("other"));
    let host = streams(&gate);
    let beside = host.beside_with(by_streams(Arc::<Porter>::clone(&other)));
    let sandbox = host.sandbox("sesn_a").await;
    assert_eq!(ask(&sandbox, 1).await, says("gate", "sesn_a"));
    for epoch in [2, 4, 6] {
        let there = beside.find("sesn_a", epoch).await.unwrap();
        let asked = ask(&there.expect("it lives"), epoch).await;
        assert_eq!(asked, says("other", "sesn_a"));
        let back = host.provider.find("sesn_a", epoch + 1).await.unwrap();
        let asked = ask(&back.expect("it lives"), epoch + 1).await;
        assert_eq!(asked, says("gate", "sesn_a"));
    }
}
