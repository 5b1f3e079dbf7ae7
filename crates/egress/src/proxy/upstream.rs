//! The way to a host: a checked address, TLS where the request wants it, and HTTP/1.1 over it.

use std::error::Error as _;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::dial;
use crate::host::Target;
use crate::policy::{Allowed, Reason};
use crate::proxy::Inside;
use crate::proxy::io::{Broken, Stream};
use crate::proxy::request::{Forward, Refused, Scheme};

/// The longest head of an answer, in bytes.
const HEAD: usize = 256 << 10;

/// A body on its way to a host.
pub(crate) type Body = UnsyncBoxBody<Bytes, Broken>;

/// Why a host is not reached.
#[derive(Debug)]
pub(crate) enum Failed {
    /// It may not be.
    Refused(Refused),
    /// It could not be: the status and the sentence for the client.
    Unreachable(StatusCode, String),
}

/// A connection to a host.
pub(crate) struct Upstream {
    sender: SendRequest<Body>,
    scheme: Scheme,
    target: Target,
    /// Ends with this.
    _connection: AbortOnDropHandle<()>,
}

/// Opens the bare connection.
pub(crate) async fn dial(inside: &Inside, allowed: &Allowed) -> Result<TcpStream, Failed> {
    let target = allowed.target();
    let dialled = inside.shared.dialler.dial(&target.host, target.port).await;
    dialled.map_err(|error| match &error {
        dial::Error::NotGlobal(not) => {
            // Which address it is stays between the resolver and the journal.
            let detail = format!("the host has an address of a special kind: {}", not.kind);
            Failed::Refused(Refused::new(Reason::AddressNotGlobal, detail).at(target))
        }
        dial::Error::Unresolved { .. } => {
            tracing::debug!(host = %target.host, ?error, "not resolved");
            Failed::Unreachable(StatusCode::BAD_GATEWAY, error.to_string())
        }
        dial::Error::Unreachable { .. } => {
            Failed::Unreachable(StatusCode::BAD_GATEWAY, whole(&error))
        }
    })
}

/// An error with its causes.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl Upstream {
    /// Makes a connection for requests, over one that is there already or a new one.
    pub(crate) async fn open(
        inside: &Inside,
        allowed: &Allowed,
        scheme: Scheme,
        dialled: Option<TcpStream>,
    ) -> Result<Self, Failed> {
        let bare = match dialled {
            Some(bare) => bare,
            None => dial(inside, allowed).await?,
        };
        let target = allowed.target();
        let stream: Stream = match scheme {
            Scheme::Http => Box::new(bare),
            Scheme::Https => Box::new(handshake(inside, target, bare).await?),
        };
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD);
        let made = builder.handshake::<_, Body>(TokioIo::new(stream)).await;
        let (sender, connection) = made.map_err(|error| unreachable(target, &error))?;
        let connection = tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "the connection to a host ended");
            }
        });
        Ok(Self {
            sender,
            scheme,
            target: target.clone(),
            _connection: AbortOnDropHandle::new(connection),
        })
    }

    /// Whether another request to the same place can go over it.
    pub(crate) async fn ready_for(&mut self, target: &Target, scheme: Scheme) -> bool {
        self.target == *target && self.scheme == scheme && self.sender.ready().await.is_ok()
    }

    pub(crate) async fn send(
        &mut self,
        request: Request<Body>,
    ) -> hyper::Result<Response<Incoming>> {
        self.sender.send_request(request).await
    }
}

/// The connections that a client's requests may go over.
pub(crate) struct Lines {
    /// That of the last request, for the next one.
    kept: Option<Upstream>,
    /// What the tunnel was opened with.
    dialled: Option<TcpStream>,
}

impl Lines {
    pub(crate) fn new(dialled: Option<TcpStream>) -> Self {
        Self {
            kept: None,
            dialled,
        }
    }

    /// Keeps a connection for the next request.
    pub(crate) fn keep(&mut self, upstream: Upstream) {
        self.kept = Some(upstream);
    }

    /// The connection for a request, and whether it has carried another one. Only what can be repeated goes over one of
    /// those: the host may be closing it.
    pub(crate) async fn take(
        &mut self,
        inside: &Inside,
        forward: &Forward,
        allowed: &Allowed,
    ) -> Result<(Upstream, bool), Failed> {
        if let Some(mut kept) = self.kept.take()
            && forward.repeatable()
            && kept.ready_for(&forward.target, forward.scheme).await
        {
            return Ok((kept, true));
        }
        // The host may have closed what the tunnel was opened with, when the client took its time: then another one is dialled.
        if let Some(dialled) = self.dialled.take() {
            let open = Upstream::open(inside, allowed, forward.scheme, Some(dialled));
            match (open.await, forward.scheme) {
                (Ok(made), Scheme::Https) => return Ok((made, false)),
                (Ok(made), Scheme::Http) if forward.repeatable() => return Ok((made, true)),
                _ => {}
            }
        }
        let made = Upstream::open(inside, allowed, forward.scheme, None).await?;
        Ok((made, false))
    }
}

/// What is told about a host that did not answer.
pub(crate) fn unreachable(target: &Target, error: &hyper::Error) -> Failed {
    let mut text = format!("{target} did not answer: {error}");
    if let Some(cause) = error.source() {
        text.push_str(&format!(": {cause}"));
    }
    Failed::Unreachable(StatusCode::BAD_GATEWAY, text)
}

async fn handshake(
    inside: &Inside,
    target: &Target,
    bare: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Failed> {
    let failed = |why: String| {
        let text = format!("TLS with {target} failed: {why}");
        Failed::Unreachable(StatusCode::BAD_GATEWAY, text)
    };
    let name =
        ServerName::try_from(target.host.to_string()).map_err(|error| failed(error.to_string()))?;
    let connecting = inside.shared.connector.connect(name, bare);
    match timeout(inside.timeouts().head, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(failed(whole(&error))),
        Err(_) => Err(failed("it took too long".to_owned())),
    }
}
