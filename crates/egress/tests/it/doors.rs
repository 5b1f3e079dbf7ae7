//! Doors: whose they are, when they close, what becomes of policies, and that one cannot stop another.

use manyhands_egress::audit::Outcome;
use manyhands_egress::policy::Policy;
use manyhands_egress::proxy::Proxy;
use manyhands_protocol::environment::Networking;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

use crate::bed::{self, Bed, bounded, limited};
use crate::origin::bytes;

fn get(host: &str, path: &str) -> Vec<u8> {
    format!("GET http://{host}{path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
}

async fn answer(client: &mut UnixStream, request: &[u8]) -> String {
    bed::send(client, request).await;
    bed::head(client).await
}

/// A door whose holder is the test.
fn open(
    bed: &Bed,
    directory: &tempfile::TempDir,
    name: &str,
    policy: Policy,
) -> (manyhands_egress::proxy::Door, std::path::PathBuf) {
    let path = directory.path().join(name);
    let socket = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    (
        bed.proxy.open("sesn_1", policy, socket).expect("a door"),
        path,
    )
}

fn policy(proxy: &Proxy, hosts: &[&str]) -> Policy {
    proxy.policy(&limited(hosts), &[])
}

/// security NET-10: whoever is refused is told which rule it was, and so is the operator.
#[tokio::test]
async fn net_10_a_refusal_is_told_to_both_sides() {
    let bed = Bed::new().await;
    let door = bed.limited("sesn_1");
    let mut client = bed::knock(&door).await;
    bed::send(&mut client, &get("evil.example", "/secret?token=hunter2")).await;
    let told = String::from_utf8(bed::rest(&mut client).await).expect("text");
    assert!(told.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{told}");
    assert!(
        told.contains("host_not_allowed")
            && told.contains("evil.example:80")
            && told.contains("allowed_hosts"),
        "{told}"
    );
    let mut client = bed::knock(&door).await;
    let head = bed::connect(&mut client, "10.0.0.1:443").await;
    assert!(
        head.starts_with("HTTP/1.1 403 ") && head.contains("x-egress-reason: host_not_canonical"),
        "{head}"
    );
    let entries = bed.audited("sesn_1");
    let reasons: Vec<_> = entries
        .iter()
        .map(|entry| match &entry.outcome {
            Outcome::Refused { reason, .. } => (entry.host.as_str(), entry.port, reason.as_str()),
            Outcome::Allowed => panic!("{entry:?}"),
        })
        .collect();
    assert_eq!(
        reasons,
        [
            ("evil.example", 80, "host_not_allowed"),
            ("10.0.0.1:443", 0, "host_not_canonical")
        ]
    );
    assert!(!format!("{entries:?}").contains("hunter2"));
    assert_eq!(bed.world.arrivals(), [""; 0]);
}

/// security NET-7: the next request on the same connection is decided by the new policy, and tunnels that it forbids end.
#[tokio::test]
async fn net_7_a_policy_is_swapped_as_a_whole() {
    let bed = Bed::new().await;
    let directory = tempfile::tempdir().expect("a directory");
    let (door, path) = open(
        &bed,
        &directory,
        "door",
        policy(&bed.proxy, &["good.example"]),
    );
    let mut kept = bed::knock(&path).await;
    assert!(
        answer(&mut kept, &get("good.example", "/none"))
            .await
            .starts_with("HTTP/1.1 204 ")
    );
    let mut tunnel = bed::knock(&path).await;
    assert!(
        bed::connect(&mut tunnel, "good.example:443")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    let mut inside = bed.tls(tunnel, "good.example").await.expect("TLS");
    bed::send(
        &mut inside,
        b"GET /none HTTP/1.1\r\nHost: good.example\r\n\r\n",
    )
    .await;
    assert!(bed::head(&mut inside).await.starts_with("HTTP/1.1 204 "));
    let mut socket = bed::knock(&path).await;
    let upgrade = "GET http://good.example/ws HTTP/1.1\r\nHost: good.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n";
    assert!(
        answer(&mut socket, upgrade.as_bytes())
            .await
            .starts_with("HTTP/1.1 101 ")
    );

    door.swap(policy(&bed.proxy, &["a.wild.example"]));
    assert!(
        answer(&mut kept, &get("good.example", "/none"))
            .await
            .starts_with("HTTP/1.1 403 ")
    );
    bed::send(
        &mut inside,
        b"GET /none HTTP/1.1\r\nHost: good.example\r\n\r\n",
    )
    .await;
    assert!(bed::head(&mut inside).await.starts_with("HTTP/1.1 403 "));
    assert_eq!(bed::rest(&mut socket).await, b"");
    let mut other = bed::knock(&path).await;
    assert!(
        answer(&mut other, &get("a.wild.example", "/none"))
            .await
            .starts_with("HTTP/1.1 204 ")
    );

    // A list that cannot be read allows nothing.
    door.swap(policy(&bed.proxy, &["good.example", "not a host"]));
    let mut other = bed::knock(&path).await;
    let refused = answer(&mut other, &get("good.example", "/none")).await;
    assert!(
        refused.starts_with("HTTP/1.1 403 ") && refused.contains("no_policy"),
        "{refused}"
    );
}

/// security NET-8: a door that is dropped is no way out any more, and a session has one.
#[tokio::test]
async fn net_8_a_door_ends_with_its_holder() {
    let bed = Bed::new().await;
    let directory = tempfile::tempdir().expect("a directory");
    let (first, path) = open(
        &bed,
        &directory,
        "first",
        policy(&bed.proxy, &["good.example"]),
    );
    let mut at_first = bed::knock(&path).await;
    assert!(
        answer(&mut at_first, &get("good.example", "/none"))
            .await
            .starts_with("HTTP/1.1 204 ")
    );
    let (second, other_path) = open(
        &bed,
        &directory,
        "second",
        policy(&bed.proxy, &["good.example"]),
    );
    assert_eq!(bed::rest(&mut at_first).await, b"");
    let mut at_second = bed::knock(&other_path).await;
    assert!(
        answer(&mut at_second, &get("good.example", "/none"))
            .await
            .starts_with("HTTP/1.1 204 ")
    );
    // The first one's holder lets go of it late, which is nothing to the second.
    drop(first);
    assert!(
        answer(&mut at_second, &get("good.example", "/none"))
            .await
            .starts_with("HTTP/1.1 204 ")
    );
    drop(second);
    assert_eq!(bed::rest(&mut at_second).await, b"");
    let late = UnixStream::connect(&other_path).await;
    let refused = match late {
        Err(_) => true,
        Ok(mut late) => bed::rest(&mut late).await.is_empty(),
    };
    assert!(refused);
}

/// Invariant I10: a door with all its connections in use leaves the others theirs, and serves again when one ends.
#[tokio::test]
async fn net_8_one_door_cannot_stop_another() {
    let bed = Bed::with(|settings| settings.connections = 3).await;
    let (greedy, modest) = (bed.limited("sesn_1"), bed.limited("sesn_2"));
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut client = bed::knock(&greedy).await;
        assert!(
            answer(&mut client, &get("good.example", "/none"))
                .await
                .starts_with("HTTP/1.1 204 ")
        );
        held.push(client);
    }
    let mut waiting = bed::knock(&greedy).await;
    bed::send(&mut waiting, &get("good.example", "/bytes/5")).await;
    let mut other = bed::knock(&modest).await;
    assert!(
        answer(&mut other, &get("good.example", "/none"))
            .await
            .starts_with("HTTP/1.1 204 ")
    );
    assert!(waiting.try_read(&mut [0; 1]).is_err());
    held.pop();
    assert!(bed::head(&mut waiting).await.starts_with("HTTP/1.1 200 "));
}

/// security INP-1: who sends slowly, or nothing, or reads nothing, is given up.
#[tokio::test]
async fn inp_1_slow_clients_are_given_up() {
    let bed = Bed::with(|settings| settings.timeouts = bed::hurried()).await;
    let door = bed.limited("sesn_1");
    #[track_caller]
    fn ended(what: &str, told: &[u8], expected: &str) {
        let told = String::from_utf8_lossy(told);
        assert!(
            told.starts_with(expected) && (!expected.is_empty() || told.is_empty()),
            "{what}: {told}"
        );
    }
    for (sent, expected) in [
        ("", ""),
        (
            "GET http://good.example/ HTTP/1.1\r\nHost:",
            "HTTP/1.1 408 ",
        ),
        (
            "POST http://good.example/echo HTTP/1.1\r\nHost: good.example\r\nContent-Length: 10\r\n\r\nabc",
            "",
        ),
        (
            "POST http://good.example/echo HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked\r\n\r\n",
            "",
        ),
        (
            "CONNECT good.example:443 HTTP/1.1\r\nHost: good.example\r\n\r\n",
            "HTTP/1.1 200 ",
        ),
        (
            "CONNECT good.example:443 HTTP/1.1\r\nHost: good.example\r\n\r\n\x16\x03\x01",
            "HTTP/1.1 200 ",
        ),
    ] {
        let mut client = bed::knock(&door).await;
        bed::send(&mut client, sent.as_bytes()).await;
        ended(sent, &bed::rest(&mut client).await, expected);
    }
}

/// runtime EN-10, security NET-3, NET-4: everything that is public, TLS unopened, and its name the tunnel's.
#[tokio::test]
async fn en_10_unrestricted_reaches_what_is_public() {
    let bed = Bed::new().await;
    let door = bed.open("sesn_1", &Networking::Unrestricted {});
    bed.world.name("private.wild.example", &[&["10.0.0.1"]]);
    let mut client = bed::knock(&door).await;
    bed::send(&mut client, &get("good.example", "/bytes/9")).await;
    assert!(bed::head(&mut client).await.starts_with("HTTP/1.1 200 "));
    let mut body = vec![0; 9];
    bounded(client.read_exact(&mut body)).await.expect("a body");
    assert_eq!(body, bytes(9));
    for target in [
        "private.wild.example:443",
        "127.0.0.1:443",
        "good.example:22",
        "2130706433:80",
    ] {
        let mut client = bed::knock(&door).await;
        assert!(
            bed::connect(&mut client, target)
                .await
                .starts_with("HTTP/1.1 403 "),
            "{target}"
        );
    }
    // Unopened: the certificate is the host's own, which the proxy's authority did not sign.
    let mut client = bed::knock(&door).await;
    assert!(
        bed::connect(&mut client, "good.example:443")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    assert!(bed.tls(client, "good.example").await.is_err());
    let mut client = bed::knock(&door).await;
    assert!(
        bed::connect(&mut client, "good.example:443")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    assert!(bed.tls(client, "a.wild.example").await.is_err());
    let entries = bed.audited("sesn_1");
    let mismatches = entries.iter().filter(|entry| matches!(&entry.outcome, Outcome::Refused { reason, .. } if reason == "name_mismatch"));
    assert_eq!(mismatches.count(), 1, "{entries:?}");
    assert_eq!(bed.world.arrivals(), [""; 0]);
}

/// security NET-4: hosts that the operator lists are tunnelled unopened, and are named by TLS all the same.
#[tokio::test]
async fn net_4_listed_hosts_are_tunnelled_unopened() {
    let bed = Bed::new().await;
    let door = bed.limited("sesn_1");
    bed.world.name("pinned.wild.example", &[&[bed::GOOD]]);
    for (name, through) in [("pinned.wild.example", true), ("good.example", false)] {
        let mut client = bed::knock(&door).await;
        assert!(
            bed::connect(&mut client, "pinned.wild.example:443")
                .await
                .starts_with("HTTP/1.1 200 ")
        );
        // The host's own certificate comes through, which this client does not trust; nothing comes from a closed tunnel.
        let error = bed.tls(client, name).await.expect_err("an unknown issuer");
        assert_eq!(
            error.to_string().contains("UnknownIssuer"),
            through,
            "{name}: {error}"
        );
    }
    let mut client = bed::knock(&door).await;
    assert!(
        bed::connect(&mut client, "pinned.wild.example:443")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    bed::send(
        &mut client,
        b"GET /smuggled HTTP/1.1\r\nHost: pinned.wild.example\r\n\r\n",
    )
    .await;
    assert_eq!(bed::rest(&mut client).await, b"");
    assert_eq!(bed.world.arrivals(), [""; 0]);
}

/// security CRED-10: one authority for a data directory, readable by the server alone; its leaves carry one name.
#[tokio::test]
async fn cred_10_the_authority_is_made_once_and_signs_for_allowed_hosts() {
    use std::os::unix::fs::PermissionsExt as _;
    let bed = Bed::new().await;
    let directory = tempfile::tempdir().expect("a directory");
    let clock = || std::sync::Arc::new(manyhands_protocol::time::SystemClock);
    let first = manyhands_egress::authority::Authority::open(directory.path(), clock())
        .expect("an authority");
    let again = manyhands_egress::authority::Authority::open(directory.path(), clock())
        .expect("an authority");
    assert_eq!(first.pem(), again.pem());
    assert!(first.pem().contains("CERTIFICATE") && !first.pem().contains("PRIVATE"));
    assert_ne!(first.pem(), bed.proxy.authority());
    let names: Vec<_> = std::fs::read_dir(directory.path())
        .expect("a directory")
        .map(|it| it.expect("a file"))
        .collect();
    assert_eq!(names.len(), 1, "{names:?}");
    let mode = names[0].metadata().expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let door = bed.limited("sesn_1");
    let mut client = bed::knock(&door).await;
    assert!(
        bed::connect(&mut client, "good.example:443")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    let stream = bed.tls(client, "good.example").await.expect("TLS");
    let shown = stream
        .get_ref()
        .1
        .peer_certificates()
        .expect("certificates")
        .len();
    assert_eq!(shown, 2);
    // What is not allowed gets no tunnel, so there is nothing to sign for.
    let mut client = bed::knock(&door).await;
    assert!(
        bed::connect(&mut client, "evil.example:443")
            .await
            .starts_with("HTTP/1.1 403 ")
    );

    std::fs::write(names[0].path(), "nonsense").expect("written");
    assert!(manyhands_egress::authority::Authority::open(directory.path(), clock()).is_err());
}
