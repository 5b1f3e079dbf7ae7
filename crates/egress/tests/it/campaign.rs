//! A thousand attempts to reach what is refused, against a world that remembers every trace of one that succeeds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use futures::stream::{self, StreamExt as _};
use manyhands_protocol::environment::Networking;
use tokio::io::AsyncWriteExt as _;

use crate::attempts::{Attempt, Step, generate};
use crate::bed::{self, Bed, bounded};
use crate::client::Io;

/// A record of TLS with an alert, in bytes.
const ALERT: usize = 7;

/// What came of an attempt, for the client.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// A tunnel, or TLS in it, was not opened, or the connection was closed.
    Closed,
    /// A tunnel was opened, and nothing came out of it.
    Empty,
    /// An answer with this status was the last thing said.
    Answered(u16),
}

async fn make(bed: &Bed, door: &PathBuf, attempt: &Attempt) -> Ended {
    let mut stream: Box<dyn Io> = Box::new(bed::knock(door).await);
    for step in &attempt.steps {
        match step {
            Step::Send(bytes) => bed::send(&mut stream, bytes).await,
            Step::Shut => drop(bounded(stream.shutdown()).await),
            Step::Connect(target) => {
                let connect = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
                bed::send(&mut stream, connect.as_bytes()).await;
                let head = bed::head(&mut stream).await;
                if !head.starts_with("HTTP/1.1 200 ") {
                    return Ended::Answered(status(head.as_bytes()));
                }
            }
            Step::Tls(name) => match bed.tls(stream, name).await {
                Ok(tls) => stream = Box::new(tls),
                Err(_) => return Ended::Closed,
            },
            Step::Answer => {
                // These answers have a length of their own.
                let head = bed::head(&mut stream).await;
                let length = head.to_lowercase();
                let length = length.split("content-length: ").nth(1).expect("a length");
                let length = length
                    .lines()
                    .next()
                    .expect("a line")
                    .parse()
                    .expect("a number");
                let mut body = vec![0; length];
                bounded(tokio::io::AsyncReadExt::read_exact(&mut stream, &mut body))
                    .await
                    .expect("a body");
            }
        }
    }
    let rest = bed::rest(&mut stream).await;
    // An alert of TLS is all that may come out of a tunnel that was not gone through.
    let opened = b"HTTP/1.1 200 Connection established\r\n\r\n";
    if rest
        .strip_prefix(opened)
        .is_some_and(|rest| rest.len() <= ALERT)
    {
        return Ended::Empty;
    }
    let answers = rest
        .windows(12)
        .filter(|window| window.starts_with(b"HTTP/1.1 "));
    let last = answers.map(status).rfind(|status| *status > 0);
    last.map_or(Ended::Closed, Ended::Answered)
}

fn status(head: &[u8]) -> u16 {
    let status = head
        .get(9..12)
        .and_then(|digits| std::str::from_utf8(digits).ok());
    status.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

async fn run(bed: Bed, seed: u64, count: usize) {
    let bed = Arc::new(bed);
    let attempts = generate(seed, count);
    let each = attempts.iter().enumerate().map(|(number, attempt)| {
        let bed = bed.clone();
        async move {
            for (name, answers) in &attempt.names {
                let answers: Vec<&[&str]> = answers.iter().map(|answer| &answer[..]).collect();
                bed.world.name(name, &answers);
            }
            let session = format!("s{number}");
            let door = bed.limited(&session);
            (session, attempt, make(&bed, &door, attempt).await)
        }
    });
    let ended: Vec<_> = stream::iter(each).buffer_unordered(16).collect().await;
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    let noted = bed.refused_sessions();
    for (session, attempt, ended) in &ended {
        *kinds.entry(attempt.kind).or_default() += 1;
        let refused = matches!(
            ended,
            Ended::Closed | Ended::Empty | Ended::Answered(400..=499)
        );
        let noted = noted.contains(session);
        if !refused || (attempt.noted && !noted) {
            wrong.push(format!("{session}: {ended:?}, noted: {noted}: {attempt:?}"));
        }
    }
    println!(
        "seed {seed}: {count} attempts, by kind {kinds:?}, requests at the allowed host {}",
        bed.world.arrived().len()
    );
    assert_eq!(bed.world.arrivals(), [""; 0]);
    assert!(
        wrong.is_empty(),
        "{} of {count}, for example {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
    assert!(
        kinds.len() == 14 && kinds.values().all(|made| *made > count / 20),
        "{kinds:?}"
    );
    // The world was there all the time: what is allowed is served at the end as at the beginning.
    assert!(bed.world.arrived().len() > count / 20);
    let door = bed.limited("last");
    let mut client = bed::knock(&door).await;
    bed::send(&mut client, b"GET http://good.example/bytes/10 HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status(&bed::rest(&mut client).await), 200);
}

/// security NET-2 to NET-6, NET-10 and §5: 1,000 attempts, and nothing arrives where it may not. Another seed makes others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn net_4_a_thousand_attempts_reach_nothing() {
    let seed = std::env::var("MANYHANDS_EGRESS_SEED").ok();
    let seed = seed.map_or(2026, |seed| seed.parse().expect("a number"));
    run(Bed::new().await, seed, 1000).await;
}

/// What keeps the campaign honest: where the policy lets it through, the same world notices it.
#[tokio::test]
async fn net_4_the_world_notices_what_arrives() {
    let bed = Bed::new().await;
    let door = bed.open("sesn_1", &Networking::Unrestricted {});
    for (request, trace) in [
        (
            "GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            "dialled 45.33.32.156:80",
        ),
        (
            "GET http://good.example/smuggled HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\n\r\n",
            "/smuggled",
        ),
    ] {
        let mut client = bed::knock(&door).await;
        bed::send(&mut client, request.as_bytes()).await;
        bed::rest(&mut client).await;
        let arrivals = bed.world.arrivals();
        assert!(
            arrivals.iter().any(|arrival| arrival.contains(trace)),
            "{arrivals:?}"
        );
    }
    assert!(
        bed.world
            .arrivals()
            .contains(&"asked for evil.example".to_owned())
    );
}

/// Where a process finds out that it is the one in a network of its own.
const INSIDE: &str = "MANYHANDS_TEST_NETWORK";

/// Addresses that exist in that network, with something listening at each.
const SINKHOLES: [&str; 7] = [
    "127.0.0.1",
    "10.0.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "45.33.32.156",
    "[::1]",
    "[2606:4700::1]",
];

/// security NET-3, NET-4: the same with the machine's own connections, in a network where the refused addresses are there.
#[test]
fn net_3_attempts_in_a_network_of_its_own_reach_nothing() {
    if std::env::var_os(INSIDE).is_none() {
        let this = std::env::current_exe().expect("this program");
        let name = "campaign::net_3_attempts_in_a_network_of_its_own_reach_nothing";
        let output = Command::new("unshare")
            .args(["--map-root-user", "--net", "--"])
            .arg(this)
            .args(["--exact", name, "--nocapture"])
            .env(INSIDE, "1")
            .output()
            .expect("unshare");
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && told.contains("1 passed"),
            "{told}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        return;
    }
    let ip = |arguments: &[&str]| {
        let done = Command::new("ip").args(arguments).status();
        assert!(done.expect("ip").success(), "{arguments:?}");
    };
    ip(&["link", "set", "lo", "up"]);
    for address in SINKHOLES.iter().chain([&bed::GOOD]) {
        match address.trim_matches(['[', ']']) {
            "127.0.0.1" | "::1" => {}
            address => ip(&["address", "add", address, "dev", "lo"]),
        }
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let ports = |address| [80, 443].map(|port| format!("{address}:{port}"));
        let listening: Vec<String> = SINKHOLES.iter().flat_map(ports).collect();
        let listening: Vec<&str> = listening.iter().map(String::as_str).collect();
        run(Bed::routed(&listening).await, 2027, 280).await;
    });
}
