//! What CONNECT leads to: requests that are decided one by one, or bytes that are passed on once their name was seen.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::LazyConfigAcceptor;

use crate::host::Target;
use crate::policy::{Allowed, Decision, Reason, Tls};
use crate::proxy::connection::{Connection, serve_inside};
use crate::proxy::hello::{self, Hello};
use crate::proxy::io::Stream;
use crate::proxy::request::{Place, Refused, Scheme};
use crate::proxy::rewound::Rewound;
use crate::proxy::upstream::{self, Failed};
use crate::proxy::{Inside, answer, join};

/// Opens the tunnel that a client asked for, and stays until it ends.
pub(crate) async fn open(mut client: Connection, target: Target) {
    let inside = client.inside.clone();
    let decided = inside.attached().await;
    let decided = decided.map(|attached| inside.policy().decide_with(&target, &attached));
    let dialled = match decided {
        Err(failed) => Err(failed),
        Ok(Decision::Refuse(reason)) => {
            let refused = Refused::new(reason, "the policy does not allow it");
            Err(Failed::Refused(refused.at(&target)))
        }
        // Dialled at once, so that a host that is not there is told where the client expects it.
        Ok(Decision::Allow(allowed)) => upstream::dial(&inside, &allowed)
            .await
            .map(|dialled| (allowed, dialled)),
    };
    let (allowed, dialled) = match dialled {
        Ok(opened) => opened,
        Err(Failed::Refused(refused)) => {
            inside.note(&refused);
            return client.say(&answer::refusal(&refused, true)).await;
        }
        Err(Failed::Unreachable(status, text)) => {
            return client.say(&answer::failure(status, &text, true)).await;
        }
    };
    let established = b"HTTP/1.1 200 Connection established\r\n\r\n";
    if client.writer.write(established).await.is_err() {
        return;
    }
    let (read, first) = client.reader.into_parts();
    let stream = read.unsplit(client.writer.into_half());
    match allowed.tls() {
        Tls::Opened => inspect(inside, stream, first, allowed, dialled).await,
        Tls::Passed | Tls::PassedWithName => {
            inside.log.allowed(&target);
            pass(&inside, stream, first, &allowed, dialled).await;
        }
    }
}

/// Opens TLS, where the tunnel has it, and answers the requests inside.
async fn inspect(
    inside: Arc<Inside>,
    mut stream: Stream,
    first: Bytes,
    allowed: Allowed,
    dialled: TcpStream,
) {
    let timeouts = inside.timeouts();
    let mut read = BytesMut::from(&first[..]);
    if read.is_empty() {
        let more = timeout(timeouts.idle, stream.read_buf(&mut read)).await;
        if !matches!(more, Ok(Ok(count)) if count > 0) {
            return;
        }
    }
    let tls = read[0] == hello::TLS;
    let stream = Rewound {
        read: read.freeze(),
        rest: stream,
    };
    let target = allowed.target().clone();
    let (stream, scheme): (Stream, _) = match tls {
        false => (Box::new(stream), Scheme::Http),
        true => match timeout(timeouts.head, unwrap(&inside, stream, &allowed)).await {
            Ok(Some(stream)) => (stream, Scheme::Https),
            Ok(None) | Err(_) => return,
        },
    };
    let place = Place::Tunnel { target, scheme };
    serve_inside(inside, stream, place, Some(dialled)).await;
}

/// The server's side of TLS with a leaf of the authority. None when it ended there.
async fn unwrap(inside: &Inside, stream: Rewound, allowed: &Allowed) -> Option<Stream> {
    let host = &allowed.target().host;
    let refuse =
        |reason, detail: String| inside.note(&Refused::new(reason, detail).at(allowed.target()));
    let start = match LazyConfigAcceptor::new(Acceptor::default(), stream).await {
        Ok(start) => start,
        Err(error) => {
            refuse(Reason::Malformed, format!("TLS began malformed: {error}"));
            return None;
        }
    };
    let name = start.client_hello().server_name().map(str::to_owned);
    if name.as_deref() != Some(host.as_str()) {
        refuse(Reason::NameMismatch, misnamed(name.as_deref()));
        return None;
    }
    let config = match inside.shared.authority.leaf(allowed) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, "a leaf of the egress authority cannot be made");
            return None;
        }
    };
    match start.into_stream(config).await {
        Ok(stream) => Some(Box::new(stream)),
        Err(error) => {
            // Often a client that does not trust the authority, or does not speak HTTP/1.1.
            tracing::debug!(%host, %error, "TLS with a sandbox failed");
            None
        }
    }
}

fn misnamed(name: Option<&str>) -> String {
    match name {
        Some(name) => format!("TLS names {name}, the tunnel goes elsewhere"),
        None => "TLS names no host".to_owned(),
    }
}

/// Passes bytes on, both ways, once the first ones named no other host.
async fn pass(
    inside: &Inside,
    stream: Stream,
    first: Bytes,
    allowed: &Allowed,
    dialled: TcpStream,
) {
    let idle = inside.timeouts().tunnel;
    let moved = join::Moved::new();
    let (mut from_client, to_client) = tokio::io::split(stream);
    let (from_host, to_host) = dialled.into_split();
    let up = async {
        let first = look(inside, &mut from_client, first, allowed).await?;
        join::copy(from_client, to_host, first, &moved, idle).await
    };
    let down = join::copy(from_host, to_client, Bytes::new(), &moved, idle);
    tokio::select! {
        // However it ended: both sides are told by the end of their connections.
        _ = async { tokio::try_join!(up, down) } => {}
        () = join::forbidden(inside, allowed.target()) => {}
    }
}

/// The first bytes of a client, when they may be passed on.
async fn look(
    inside: &Inside,
    client: &mut (impl AsyncRead + Unpin),
    first: Bytes,
    allowed: &Allowed,
) -> std::io::Result<Bytes> {
    let target = allowed.target();
    let refuse = |reason, detail: String| {
        inside.note(&Refused::new(reason, detail).at(target));
        std::io::Error::from(std::io::ErrorKind::PermissionDenied)
    };
    let timeouts = inside.timeouts();
    let mut bytes = BytesMut::from(&first[..]);
    let mut begun = None;
    loop {
        match hello::read(&bytes) {
            Hello::Tls(Some(name)) if name == target.host.as_str() => return Ok(bytes.freeze()),
            Hello::Tls(None) | Hello::Other if allowed.tls() == Tls::Passed => {
                return Ok(bytes.freeze());
            }
            Hello::Tls(name) => {
                return Err(refuse(Reason::NameMismatch, misnamed(name.as_deref())));
            }
            Hello::Other => {
                return Err(refuse(
                    Reason::NotServed,
                    "only TLS may go through this tunnel".to_owned(),
                ));
            }
            Hello::Malformed => {
                return Err(refuse(Reason::Malformed, "TLS began malformed".to_owned()));
            }
            Hello::Partial => {}
        }
        // A client that lets the host speak first may stay silent; one that has begun TLS has one limit for its message.
        let deadline = match bytes.is_empty() {
            true => Instant::now() + timeouts.tunnel,
            false => *begun.get_or_insert_with(|| Instant::now() + timeouts.head),
        };
        let read = timeout_at(deadline, client.read_buf(&mut bytes)).await??;
        if read == 0 {
            return match bytes.is_empty() {
                true => Ok(bytes.freeze()),
                false => Err(refuse(
                    Reason::Malformed,
                    "TLS began and did not go on".to_owned(),
                )),
            };
        }
    }
}
