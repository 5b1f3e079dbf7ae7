//! The way out of a sandbox as far as its provider makes it, security NET-1, NET-6 and NET-8. What answers behind it is a
//! stand-in here.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};

use manyhands_hands::provider::namespace::{Config, Namespace};
use manyhands_hands::provider::{Door, Network};
use manyhands_hands::{Gate, Output, Provider, Recipe, Sandbox};
use manyhands_protocol::environment::Networking;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::host::{Host, call, run, text};

/// A gate that says who it is to whoever comes, and remembers whom it was opened for.
#[derive(Default)]
pub(crate) struct Porter {
    name: &'static str,
    opened: Mutex<Vec<(String, Network)>>,
    /// Doors that have not been dropped.
    open: Arc<()>,
    broken: bool,
}

impl Porter {
    pub(crate) fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self {
            name,
            ..Self::default()
        })
    }

    pub(crate) fn open_doors(&self) -> usize {
        Arc::strong_count(&self.open) - 1
    }

    pub(crate) fn opened(&self) -> Vec<(String, Network)> {
        self.opened.lock().unwrap().clone()
    }
}

/// Answers until it is dropped.
struct Answering(
    tokio::task::JoinHandle<()>,
    #[expect(dead_code, reason = "counted")] Arc<()>,
);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Gate for Porter {
    fn open(&self, session: &str, network: &Network, socket: UnixListener) -> io::Result<Door> {
        if self.broken {
            return Err(ErrorKind::Other.into());
        }
        let opened = (session.to_owned(), network.clone());
        self.opened.lock().unwrap().push(opened);
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UnixListener::from_std(socket)?;
        let words = format!("{} for {session}", self.name);
        let answering = tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let words = words.clone();
                tokio::spawn(async move {
                    let mut lines = BufReader::new(stream).lines();
                    let asked = lines.next_line().await.unwrap().unwrap_or_default();
                    while lines
                        .next_line()
                        .await
                        .unwrap()
                        .is_some_and(|line| !line.is_empty())
                    {}
                    let body = format!("{words}: {asked}");
                    let length = body.len();
                    let answer =
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
                    lines.get_mut().write_all(answer.as_bytes()).await.unwrap();
                });
            }
        });
        Ok(Box::new(Answering(answering, Arc::clone(&self.open))))
    }

    fn authority(&self) -> String {
        "-----BEGIN CERTIFICATE-----\nof the stand-in\n-----END CERTIFICATE-----\n".to_owned()
    }
}

fn host(gate: &Arc<Porter>) -> Host {
    let gate = Arc::clone(gate);
    Host::with(|config| config.gate = Some(gate))
}

/// Another server of the same data directory.
fn beside(host: &Host, gate: &Arc<Porter>) -> Namespace {
    Namespace::new(Config {
        gate: Some(Arc::clone(gate) as Arc<dyn Gate>),
        ..Config::new(host.data.path())
    })
}

pub(crate) fn limited(session: &str, epoch: i64, host: &str) -> Recipe {
    Recipe {
        network: Network {
            networking: Networking::Limited {
                allowed_hosts: vec![host.to_owned()],
                allow_mcp_servers: false,
                allow_package_managers: true,
            },
            mcp_hosts: vec!["mcp.example.com".to_owned()],
        },
        ..Recipe::new(session, epoch)
    }
}

const ASK: &str = "curl -sS http://a.example.com/path";

/// Runs [`ASK`] for the owner with this epoch.
pub(crate) async fn ask(sandbox: &Arc<dyn Sandbox>, epoch: i64) -> String {
    let id = format!("ask-{epoch}");
    let call = manyhands_hands::Call {
        epoch,
        ..call(&id, ASK)
    };
    text(&sandbox.execute(&call).await.unwrap()).to_owned()
}

pub(crate) fn says(name: &str, session: &str) -> String {
    format!("{name} for {session}: GET http://a.example.com/path HTTP/1.1")
}

/// security NET-1, runtime SC-4: what may be reached is decided outside, by who is told which session asks.
#[tokio::test]
async fn net_1_clients_find_the_gate_which_knows_the_session_and_what_it_may_reach() {
    let gate = Porter::new("gate");
    let host = host(&gate);
    let recipe = limited("sesn_a", 1, "a.example.com");
    let sandbox = host.provider.provision(&recipe).await.unwrap();
    assert_eq!(
        gate.opened(),
        [("sesn_a".to_owned(), recipe.network.clone())]
    );
    assert_eq!(ask(&sandbox, 1).await, says("gate", "sesn_a"));
    for file in [
        "$SSL_CERT_FILE",
        "/etc/ssl/certs/ca-certificates.crt",
        "$NODE_EXTRA_CA_CERTS",
    ] {
        let second = format!("sed -n 2p {file}");
        assert_eq!(
            text(&run(&sandbox, &second).await),
            "of the stand-in",
            "{file}"
        );
    }
    let change = "touch /run/manyhands/door/x; rm -f /run/manyhands/door/socket; touch /run/manyhands/trust/x; \
                  ls /run/manyhands/door; ls /run/manyhands/trust; wc -l < /proc/net/route";
    let output = run(&sandbox, change).await;
    let (refused, seen): (Vec<_>, Vec<_>) =
        text(&output).lines().partition(|line| line.contains(": "));
    assert!(
        refused.len() == 3
            && refused
                .iter()
                .all(|line| line.ends_with("Read-only file system")),
        "{output:?}"
    );
    // Of the table of routes there is the head alone.
    assert_eq!(
        seen,
        ["socket", "authority.pem", "node.cjs", "roots.pem", "1"],
        "{output:?}"
    );
}

/// security NET-8: a socket says who speaks, and there is one for each.
#[tokio::test]
async fn net_8_each_session_has_a_door_of_its_own() {
    let gate = Porter::new("gate");
    let host = host(&gate);
    let (one, other) = (host.sandbox("sesn_a").await, host.sandbox("sesn_b").await);
    assert_eq!(ask(&one, 1).await, says("gate", "sesn_a"));
    assert_eq!(ask(&other, 1).await, says("gate", "sesn_b"));
    assert_eq!(gate.open_doors(), 2);
    host.provider.release("sesn_a").await.unwrap();
    assert_eq!(
        gate.open_doors(),
        1,
        "closed with its sandbox, also for those who still hold that"
    );
    host.provider.destroy("sesn_b").await.unwrap();
    assert_eq!(gate.open_doors(), 0);
}

/// security NET-1, invariant I9 and runtime SC-4: no gate, or one that fails, and there is no way out.
#[tokio::test]
async fn net_1_without_a_gate_there_is_no_way_out() {
    let none = Host::new();
    let sandbox = none.sandbox("sesn_a").await;
    let closed = "env | grep -ci proxy; ls /run/manyhands; (exec 3<>/dev/tcp/127.0.0.1/3128) 2>&1 | grep -c refused";
    assert_eq!(run(&sandbox, closed).await, Output::text("0\nsandboxd\n2"));
    let notes = none.provider.probe().await.notes;
    assert!(
        notes.iter().any(|note| note.contains("no way out")),
        "{notes:?}"
    );

    let broken = Arc::new(Porter {
        broken: true,
        ..Porter::default()
    });
    let host = host(&broken);
    let sandbox = host.sandbox("sesn_a").await;
    let output = run(&sandbox, &format!("{ASK}; echo ended")).await;
    assert!(
        text(&output).starts_with("curl: ") && text(&output).ends_with("ended"),
        "{output:?}"
    );
}

/// security NET-1: what a sandbox may reach is what it was provisioned with, whoever serves it.
#[tokio::test]
async fn net_1_the_next_server_opens_the_same_door() {
    let (first, second) = (Porter::new("first"), Porter::new("second"));
    let host = host(&first);
    let recipe = limited("sesn_a", 1, "a.example.com");
    let sandbox = host.provider.provision(&recipe).await.unwrap();
    assert_eq!(ask(&sandbox, 1).await, says("first", "sesn_a"));

    let later = beside(&host, &second);
    let found = later.find("sesn_a", 2).await.unwrap().expect("it lives");
    assert_eq!(found.instance(), sandbox.instance());
    assert_eq!(
        second.opened(),
        [("sesn_a".to_owned(), recipe.network.clone())]
    );
    assert_eq!(ask(&found, 2).await, says("second", "sesn_a"));

    // And back, where the first one still has what it had.
    let changed = limited("sesn_a", 3, "b.example.com");
    let back = host.provider.provision(&changed).await.unwrap();
    assert_eq!(back.instance(), sandbox.instance());
    assert_eq!(ask(&back, 3).await, says("first", "sesn_a"));
    assert_eq!(
        first.opened().last().unwrap().1,
        recipe.network,
        "not what is asked for by now"
    );
    let opened = first.opened().len();
    assert_eq!(
        ask(
            &host
                .provider
                .provision(&limited("sesn_a", 4, "b.example.com"))
                .await
                .unwrap(),
            4
        )
        .await,
        says("first", "sesn_a")
    );
    assert_eq!(
        first.opened().len(),
        opened,
        "a door that is in its place stays"
    );
}

/// security NET-1, NET-6: every other way out fails, whatever a program tries.
#[tokio::test]
async fn net_6_no_packet_leaves_but_through_the_gate() {
    let gate = Porter::new("gate");
    let host = host(&gate);
    let sandbox = host.sandbox("sesn_a").await;
    let curl = |url: &str| format!("curl -sS --noproxy '*' --max-time 5 '{url}'");
    // Each ends with the words of the refusal.
    let attempts: [(&str, &str, &str); 12] = [
        (
            "connect to an address",
            &curl("http://93.184.216.34/"),
            "connect",
        ),
        (
            "connect by IPv6",
            &curl("http://[2606:4700::1111]/"),
            "connect",
        ),
        (
            "the metadata service",
            &curl("http://169.254.169.254/"),
            "connect",
        ),
        (
            "resolve a name",
            &curl("http://a.example.com/"),
            "resolve host",
        ),
        (
            "the system's resolver",
            "getent hosts a.example.com || echo none",
            "none",
        ),
        (
            "ask a name server",
            &send("AF_INET", "SOCK_DGRAM, 0", "('8.8.8.8', 53)"),
            "Network is unreachable",
        ),
        (
            "ask one by IPv6",
            &send("AF_INET6", "SOCK_DGRAM, 0", "('2001:4860:4860::8888', 53)"),
            "unreachable",
        ),
        (
            "ask one by TCP",
            "(exec 3<>/dev/tcp/8.8.8.8/53) 2>&1",
            "Network is unreachable",
        ),
        (
            "send an echo request",
            &send("AF_INET", "SOCK_DGRAM, 1", "('8.8.8.8', 1)"),
            "Permission denied",
        ),
        (
            "send a raw packet",
            &send("AF_INET", "SOCK_RAW, 1", "('8.8.8.8', 1)"),
            "not permitted",
        ),
        (
            "send a frame",
            &send("AF_PACKET", "SOCK_RAW, 0", "('lo', 0)"),
            "not supported",
        ),
        (
            "the host's own loop",
            "(exec 3<>/dev/tcp/127.0.0.1/8787) 2>&1",
            "refused",
        ),
    ];
    for (what, attempt, refusal) in attempts {
        let output = run(&sandbox, attempt).await;
        assert!(text(&output).contains(refusal), "{what}: {output:?}");
    }
    let output = run(
        &sandbox,
        "ls /sys/class/net 2>/dev/null; cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' '",
    )
    .await;
    assert_eq!(output, Output::text("lo"));
}

/// A program that sends a few bytes and says what became of them.
fn send(family: &str, kind: &str, to: &str) -> String {
    format!(
        "python3 -c \"import socket as s; from socket import *\ns.socket({family}, {kind}).sendto(bytes(16), {to}); print('sent')\" \
         2>&1 | tail -n 1"
    )
}
