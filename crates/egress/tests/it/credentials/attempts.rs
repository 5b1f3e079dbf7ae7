//! Attempts to get at a secret, generated from a seed: each by a session of its own, whose secret is looked for everywhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::stream::{self, StreamExt as _};
use manyhands_egress::host::Pattern;
use manyhands_egress::secrets::Hosts;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::{Change, Held, Step, Vaulted, carries, leaks, mirror, play};
use crate::client::chunks;

mod forms;
mod places;

use forms::*;
use places::*;

/// What a session tries.
struct Attempt {
    kind: &'static str,
    held: Held,
    /// Whether its sandbox may reach everything.
    open: bool,
    steps: Vec<Step>,
    /// How often its secret may arrive at the good host, at paths that begin with `/may`, `/mirror` or `/echo`.
    arrives: usize,
}

struct Generator {
    random: StdRng,
    number: usize,
}

const PREFIX: &str = "mhp_";
/// What long bodies are made of, and no secret has.
const FILLER: &str = "\t";
/// Headers that carry no secret.
const ECHOED: [&str; 24] = [
    "Referer",
    "Origin",
    "User-Agent",
    "From",
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Real-IP",
    "Via",
    "X-Request-Id",
    "X-Correlation-Id",
    "Traceparent",
    "Baggage",
    "Range",
    "If-None-Match",
    "If-Match",
    "If-Range",
    "Accept",
    "Accept-Language",
    "Access-Control-Request-Headers",
    "Content-Type",
    "Sec-WebSocket-Protocol",
    "Idempotency-Key",
    "X-HTTP-Method-Override",
];

impl Generator {
    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        *list.choose(&mut self.random).expect("a list")
    }

    fn letters(&mut self, alphabet: &[u8], count: usize) -> String {
        let mut letter = || char::from(self.pick(alphabet));
        (0..count).map(|_| letter()).collect()
    }

    fn held(&mut self) -> Held {
        let letters = self.letters(b"abcdefghijklmnopqrstuvwxyz234567", 32);
        let length = self.random.random_range(12..60);
        let middle = match self.number % 4 {
            0 => self.letters(
                b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
                length,
            ),
            1 => self.letters(
                b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/=",
                length,
            ),
            2 => self.letters(b"abcdef0123456789-_.~", length),
            _ => self.letters(b"abcXYZ0189 !\"#$%&'()*+,-./:;<=>?@[\\]^`{|}~", length),
        };
        // Unlike every other one, and without spaces at its ends, which no header keeps.
        let secret = format!("k{}{middle}Z", self.number);
        Held::new(
            &format!("s{}", self.number),
            &format!("{PREFIX}{letters}"),
            &secret,
        )
    }

    fn attempt(&mut self, kind: &'static str, held: Held, steps: Vec<Step>) -> Attempt {
        let open = self.random.random_bool(0.5);
        Attempt {
            kind,
            held,
            open,
            steps,
            arrives: 0,
        }
    }
}

/// So many attempts, of every kind alike.
fn generate(seed: u64, count: usize) -> Vec<Attempt> {
    let random = StdRng::seed_from_u64(seed);
    let mut generator = Generator { random, number: 0 };
    let kinds = [
        other_host,
        in_the_target,
        in_an_echoed_header,
        in_a_name,
        in_the_host,
        plain_http,
        another_door,
        afterwards,
        not_whole,
        not_enabled,
        encoded_body,
        long_body,
        in_trailers,
        pipelined,
        smuggled,
        echo_forms,
        unverified,
        unopened,
        after_a_redirect,
        mirrored,
        mirrored,
        mirrored,
    ];
    let one = |number| {
        generator.number = number;
        kinds[number % kinds.len()](&mut generator)
    };
    (0..count).map(one).collect()
}

fn tls(host: &'static str) -> Vec<Step> {
    let target = match host {
        "good.example" => "good.example:443",
        _ => "a.wild.example:443",
    };
    vec![Step::Connect(target), Step::Tls(host)]
}

fn send(text: impl Into<Vec<u8>>) -> Step {
    Step::Send(text.into())
}

fn request(method: &str, host: &str, path: &str, headers: &str, body: &str) -> Step {
    let length = match (body.len(), method) {
        (0, "GET" | "HEAD" | "OPTIONS" | "TRACE") => String::new(),
        (length, _) => format!("Content-Length: {length}\r\n"),
    };
    send(format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}{length}Connection: close\r\n\r\n{body}"
    ))
}

/// Some way of giving a placeholder: headers and a body.
fn given(generator: &mut Generator, placeholder: &str) -> (&'static str, String, String) {
    let basic = STANDARD.encode(format!("user:{placeholder}"));
    match generator.random.random_range(0..6) {
        0 => (
            "GET",
            format!("Authorization: Bearer {placeholder}\r\n"),
            String::new(),
        ),
        1 => (
            "GET",
            format!("X-Api-Key: {placeholder}\r\n"),
            String::new(),
        ),
        2 => (
            "GET",
            format!("Cookie: a=b; key={placeholder}\r\n"),
            String::new(),
        ),
        3 => (
            "GET",
            format!("Authorization: Basic {basic}\r\n"),
            String::new(),
        ),
        4 => (
            "POST",
            "Content-Type: application/json\r\n".to_owned(),
            format!("{{\"key\":\"{placeholder}\"}}"),
        ),
        _ => (
            "PUT",
            "Content-Type: application/x-www-form-urlencoded\r\n".to_owned(),
            format!("a=b&key={placeholder}&c=d"),
        ),
    }
}

async fn run(vaulted: Vaulted, attempts: Vec<Attempt>) -> BTreeMap<&'static str, (usize, usize)> {
    let count = attempts.len();
    let vaulted = Arc::new(vaulted);
    for name in ["pinned.wild.example", "false.example"] {
        vaulted.bed.world.name(name, &[&[crate::bed::GOOD]]);
    }
    let each = attempts.into_iter().map(|attempt| {
        let vaulted = vaulted.clone();
        async move {
            vaulted.holder.hold(attempt.held.clone());
            let session = attempt.held.session.replace("other-", "");
            let door = match attempt.open {
                true => vaulted.open(&session),
                false => vaulted.tight(&session),
            };
            let read = play(&vaulted, &door, &session, &attempt.steps).await;
            (attempt, read)
        }
    });
    let ended: Vec<_> = stream::iter(each).buffer_unordered(16).collect().await;
    let mut all = vaulted.bed.world.arrived();
    for arrived in &mut all {
        arrived.body.retain(|byte| *byte != FILLER.as_bytes()[0]);
    }
    let mut wrong = Vec::new();
    let mut kinds: BTreeMap<&'static str, (usize, usize)> = BTreeMap::new();
    for (attempt, read) in &ended {
        let Attempt {
            kind,
            held,
            arrives,
            ..
        } = attempt;
        let arrived = all.iter().filter(|arrived| carries(arrived, &held.secret));
        let arrived: Vec<_> = arrived.collect();
        let strays = arrived.iter().filter(|arrived| {
            let allowed = ["/may", "/mirror", "/redirect", "/echo"]
                .iter()
                .any(|path| arrived.path().starts_with(path));
            arrived.header("host") != Some("good.example")
                || arrived.tls_name.as_deref() != Some("good.example")
                || !allowed
        });
        let strays: Vec<_> = strays.collect();
        let came_back = leaks(read, &held.secret);
        let released = vaulted.holder.released(&held.session).len();
        let fine = strays.is_empty()
            && came_back.is_empty()
            && arrived.len() == *arrives
            && released == *arrives;
        if !fine {
            let read = String::from_utf8_lossy(read);
            wrong.push(format!(
                "{kind}: {:?}: arrived {} times, astray {strays:?}, released {released}, came back as {came_back:?} in {read:.600}; steps {:?}",
                held.secret, arrived.len(), attempt.steps.iter().map(|step| format!("{step:.300?}")).collect::<Vec<_>>()
            ));
        }
        let of_kind = kinds.entry(kind).or_default();
        of_kind.0 += 1;
        of_kind.1 += arrived.len();
    }
    println!("{count} attempts (made, arrived as they may): {kinds:?}");
    assert!(
        wrong.is_empty(),
        "{} of {count}, for example {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(4)]
    );
    kinds
}

/// security CRED-4 to CRED-8: more than 600 attempts, and no secret arrives or comes back where it may not. Another seed makes others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cred_4_generated_attempts_get_no_secret() {
    let seed = std::env::var("MANYHANDS_EGRESS_SEED").ok();
    let seed = seed.map_or(2028, |seed| seed.parse().expect("a number"));
    let kinds = run(Vaulted::new().await, generate(seed, 660)).await;
    assert_eq!(kinds.len(), 20);
    assert!(kinds.values().all(|(made, _)| *made >= 30), "{kinds:?}");
}

/// security CRED-6: every way of giving a secret back, for secrets of every style, in headers and in bodies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cred_6_no_way_of_giving_it_back_leads_back() {
    let random = StdRng::seed_from_u64(7);
    let mut generator = Generator { random, number: 0 };
    let mut attempts = Vec::new();
    for way in mirror::WAYS {
        for _ in 0..6 {
            generator.number += 1;
            let held = generator.held();
            attempts.push(mirror_of(&mut generator, held, way));
        }
    }
    let count = attempts.len();
    let kinds = run(Vaulted::new().await, attempts).await;
    assert_eq!(kinds["mirrored"], (count, count));
}

/// What keeps the attempts honest: a secret that does come back is noticed, in every form.
#[test]
fn cred_6_a_leak_is_noticed() {
    let secret = "k1 a+b/c=\"Z";
    let arrived = crate::origin::Arrived {
        tls_name: None,
        head: format!("GET / HTTP/1.1\r\nX-Api-Key: {secret}\r\n\r\n"),
        body: Vec::new(),
    };
    for way in mirror::WAYS {
        let noticed = !leaks(&mirror::answer(way, &arrived), secret).is_empty();
        // In lines, in hex, as JSON, in two parts, byte by byte: what is looked for by the proxy and not by this.
        let other = [
            "wrapped", "hex", "json", "plus", "bytes", "chunks", "range", "multi",
        ];
        assert!(noticed || other.contains(&way), "{way}");
    }
}
