//! Secrets and their placeholders at the proxy: what arrives where it should, and what must not arrive or come back.

mod attempts;
mod holder;
mod legitimate;
mod mirror;
mod stories;

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use manyhands_protocol::environment::Networking;
use tokio::io::AsyncReadExt as _;

use crate::bed::{self, Bed, bounded, limited};
use crate::client::Io;
use crate::origin::Arrived;
use holder::{Held, Holder};

/// The answer of a host that gives back what it was asked.
pub(crate) fn mirrored(way: &str, arrived: &Arrived) -> Vec<u8> {
    mirror::answer(way, arrived)
}

/// A proxy that asks a holder.
struct Vaulted {
    bed: Bed,
    holder: Arc<Holder>,
}

impl Vaulted {
    async fn new() -> Self {
        Self::with(false).await
    }

    async fn with(plain_http: bool) -> Self {
        let holder = Arc::new(Holder::default());
        let asked = holder.clone();
        let bed = Bed::with(|settings| {
            settings.secrets = asked;
            settings.substitute_in_plain_http = plain_http;
        });
        Self {
            bed: bed.await,
            holder,
        }
    }

    /// The door of a session that reaches the good host and those below the wild one.
    fn tight(&self, session: &str) -> PathBuf {
        self.bed
            .open(session, &limited(&["good.example", "*.wild.example"]))
    }

    /// The door of a session that reaches everything.
    fn open(&self, session: &str) -> PathBuf {
        self.bed.open(session, &Networking::Unrestricted {})
    }

    /// What has arrived with the secret in it, in its head, its body or its user and password.
    fn arrived_with(&self, secret: &str) -> Vec<Arrived> {
        let all = self.bed.world.arrived().into_iter();
        all.filter(|arrived| carries(arrived, secret)).collect()
    }
}

fn carries(arrived: &Arrived, secret: &str) -> bool {
    let basic = arrived.header("authorization").and_then(|value| {
        let (_, encoded) = value.split_once(' ')?;
        STANDARD.decode(encoded.trim()).ok()
    });
    let body = &arrived.body;
    [arrived.head.as_bytes(), body, &basic.unwrap_or_default()]
        .iter()
        .any(|bytes| contains(bytes, secret.as_bytes()))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn percent(bytes: &[u8], upper: bool) -> String {
    let encode = |byte: &u8| match (byte.is_ascii_alphanumeric(), upper) {
        (true, _) => char::from(*byte).to_string(),
        (false, true) => format!("%{byte:02X}"),
        (false, false) => format!("%{byte:02x}"),
    };
    bytes.iter().map(encode).collect()
}

/// The forms of a secret that are found in these bytes, which is what a client inside has read.
fn leaks(bytes: &[u8], secret: &str) -> Vec<&'static str> {
    let mut forms = vec![
        ("plain", secret.to_owned()),
        ("percent", percent(secret.as_bytes(), true)),
        ("percent in lower case", percent(secret.as_bytes(), false)),
    ];
    for engine in [STANDARD, URL_SAFE] {
        for before in 0..3 {
            let encoded = engine.encode(format!("{}{secret}", "x".repeat(before)));
            // The inner letters, which are the secret's alone.
            let inner = &encoded[(before * 8).div_ceil(6)..(before + secret.len()) * 8 / 6];
            forms.push(("base64", inner.to_owned()));
        }
    }
    let mut decoded = Vec::new();
    if let Some(at) = bytes.windows(2).position(|pair| pair == [0x1f, 0x8b]) {
        let mut reader = flate2::read::GzDecoder::new(&bytes[at..]);
        // What is cut off is read as far as it goes.
        drop(std::io::Read::read_to_end(&mut reader, &mut decoded));
    }
    let found = |(form, text): (&'static str, String)| {
        let there = contains(bytes, text.as_bytes()) || contains(&decoded, text.as_bytes());
        there.then_some(form)
    };
    forms.into_iter().filter_map(found).collect()
}

/// A step of a client inside.
#[derive(Clone, Debug)]
enum Step {
    /// CONNECT to this target.
    Connect(&'static str),
    /// TLS to this name.
    Tls(&'static str),
    Send(Vec<u8>),
    /// Reads one answer that says its length.
    Answer,
    /// Something happens to the credential.
    Then(Change),
}

/// What happens to a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Archived,
    Elsewhere,
    NotInHeaders,
}

/// Makes the steps and reads to the end; everything that the client has read.
async fn play(vaulted: &Vaulted, door: &PathBuf, session: &str, steps: &[Step]) -> Vec<u8> {
    let mut stream: Box<dyn Io> = Box::new(bed::knock(door).await);
    let mut read = Vec::new();
    for step in steps {
        match step {
            Step::Connect(target) => {
                let connect = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
                bed::send(&mut stream, connect.as_bytes()).await;
                let head = bed::head(&mut stream).await;
                read.extend_from_slice(head.as_bytes());
                if !head.starts_with("HTTP/1.1 200 ") {
                    return read;
                }
            }
            Step::Tls(name) => match vaulted.bed.tls(stream, name).await {
                Ok(tls) => stream = Box::new(tls),
                Err(_) => return read,
            },
            Step::Send(bytes) => bed::send(&mut stream, bytes).await,
            Step::Answer => {
                let head = bed::head(&mut stream).await;
                let lower = head.to_lowercase();
                let length = lower.split("content-length: ").nth(1).expect(&head);
                let length = length.lines().next().expect("a line").parse();
                let mut body = vec![0; length.expect("a number")];
                bounded(stream.read_exact(&mut body)).await.expect("a body");
                read.extend_from_slice(head.as_bytes());
                read.extend(body);
            }
            Step::Then(change) => vaulted.holder.change(session, *change),
        }
    }
    read.extend(bed::rest(&mut stream).await);
    read
}
