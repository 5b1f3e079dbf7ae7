//! Secrets in requests: what a request wants, the bodies that are looked through, and what is released for it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use secrecy::ExposeSecret as _;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::policy::{Allowed, Reason, Ways};
use crate::proxy::Inside;
use crate::proxy::head::Framing;
use crate::proxy::request::{Forward, Refused, Scheme, Upgrade};
use crate::proxy::upstream::Failed;
use crate::scrub::Scrubber;
use crate::secrets::{Asked, Attached, Passage, Place, Secrets, Unavailable, Visit};
use crate::substitute::{self, Released, headers};

/// The longest body that is looked through, in bytes. A longer one is passed on as it is.
pub(crate) const LONGEST: usize = 1 << 20;
/// How long one becomes at most, with its secrets, in bytes.
const GROWN: usize = 4 << 20;
/// The longest secret that is put into requests, in bytes: a longer one could not be searched for in their answers.
const SECRET: usize = 16 << 10;
/// How many bodies of a session are held at once; the next waits.
const BODIES: usize = 8;
/// How long it is remembered what is attached to a session. Each release is decided by itself, and at once.
const REMEMBERED: Duration = Duration::from_secs(5);

/// What is attached to the session of a door, remembered for a moment.
pub(crate) struct Remembered {
    secrets: Arc<dyn Secrets>,
    session: String,
    newest: Mutex<Option<(Instant, Arc<Attached>)>>,
    bodies: Semaphore,
}

impl Remembered {
    pub(crate) fn new(secrets: Arc<dyn Secrets>, session: &str) -> Self {
        Self {
            secrets,
            session: session.to_owned(),
            newest: Mutex::default(),
            bodies: Semaphore::new(BODIES),
        }
    }

    pub(crate) async fn get(&self) -> Result<Arc<Attached>, Unavailable> {
        let newest = || self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, attached)) = &*newest()
            && read.elapsed() < REMEMBERED
        {
            return Ok(attached.clone());
        }
        let attached = Arc::new(self.secrets.attached(&self.session).await?);
        *newest() = Some((Instant::now(), attached.clone()));
        Ok(attached)
    }
}

/// What is told when nobody knows about a session's secrets.
pub(crate) fn unavailable(error: Unavailable) -> Failed {
    tracing::warn!(%error, "a request of a sandbox fails");
    Failed::Unreachable(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

/// What a request may want of secrets, by what is known before anybody is asked. Pure.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Whether it goes where the session has a repository.
    repository: bool,
    /// The placeholders in its headers.
    headers: BTreeSet<String>,
    /// Whether its body is looked through.
    pub(crate) body: bool,
}

impl Plan {
    pub(crate) fn of(forward: &Forward, attached: &Attached, plain_http: bool) -> Self {
        let verified = forward.scheme == Scheme::Https;
        let repository = verified && attached.repositories.contains(&forward.target);
        if !verified && !plain_http {
            return Self::default();
        }
        let (mut in_headers, mut in_body) = (false, false);
        for credential in attached.credentials_for(&forward.target.host) {
            in_headers |= credential.header;
            in_body |= credential.body;
        }
        let headers = match in_headers {
            true => headers::find(&forward.headers),
            false => BTreeSet::new(),
        };
        Self {
            repository,
            headers,
            body: in_body && is_readable(forward),
        }
    }

    /// Whether nobody has to be asked.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether the body is one that can be looked through: as it is, and not too long.
fn is_readable(forward: &Forward) -> bool {
    let encoded = forward.headers.get_all(header::CONTENT_ENCODING);
    let plain = encoded.iter().all(|value| value == "identity");
    let short = match forward.framing {
        Framing::Empty | Framing::Length(0) => false,
        Framing::Length(length) => length <= LONGEST as u64,
        Framing::Chunked => true,
    };
    plain && short
}

/// Whether the answer to the request can be searched for a secret, and is not made to be an echo of it (security CRED-6).
fn check_form(forward: &Forward) -> Result<(), Failed> {
    let refuse = |reason, detail| {
        Err(Failed::Refused(
            Refused::new(reason, detail).at(&forward.target),
        ))
    };
    if forward.upgrade != Upgrade::No {
        let detail = "a credential cannot be used for a WebSocket";
        return refuse(Reason::NotInspectable, detail);
    }
    let echo = |name: &str| {
        let values = forward.headers.get_all(name).iter();
        let mut methods = values.map(|value| value.as_bytes().trim_ascii());
        methods.any(|method| {
            method.eq_ignore_ascii_case(b"TRACE") || method.eq_ignore_ascii_case(b"TRACK")
        })
    };
    let overridden = [
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
    ];
    if forward.headers.contains_key(header::MAX_FORWARDS) || overridden.into_iter().any(echo) {
        let detail = "a credential cannot be used in a request that is made to be echoed";
        return refuse(Reason::NotServed, detail);
    }
    Ok(())
}

/// Looks up what the plan wants and puts it into the request; `body` is what was looked through. What the answer has to be searched
/// for is given back, and the body where it has changed. The connection to the host is there, so that its certificate is known to be
/// good.
pub(crate) async fn fill(
    inside: &Inside,
    plan: &Plan,
    allowed: &Allowed,
    forward: &mut Forward,
    body: Option<&[u8]>,
) -> Result<Filled, Failed> {
    let passage = match plan.repository {
        true => visit(inside, forward).await?,
        false => None,
    };
    if passage.is_none() && allowed.ways() == Ways::Repositories {
        let detail = "only the session's repositories are reachable there";
        let refused = Refused::new(Reason::HostNotAllowed, detail);
        return Err(Failed::Refused(refused.at(&forward.target)));
    }
    let in_body = body.map(substitute::named).unwrap_or_default();
    if !plan.headers.is_empty() || !in_body.is_empty() {
        check_form(forward)?;
    }
    let released = release(inside, forward, Place::Header, &plan.headers).await?;
    let in_body: BTreeSet<String> = in_body.into_iter().take(substitute::MOST).collect();
    let released_in_body = release(inside, forward, Place::Body, &in_body).await?;
    let mut searched = Vec::new();
    if !released.is_empty() {
        headers::substitute(&mut forward.headers, &released).map_err(no_value)?;
        searched.extend(released.secrets());
    }
    let mut changed = None;
    if let Some(body) = body.filter(|_| !released_in_body.is_empty()) {
        if body.len() + substitute::growth(body, &released_in_body) > GROWN {
            let text = "the body with its secrets is longer than 4 MiB";
            return Err(Failed::Unreachable(
                StatusCode::PAYLOAD_TOO_LARGE,
                text.to_owned(),
            ));
        }
        changed = substitute::replace(body, &released_in_body);
        searched.extend(released_in_body.secrets());
    }
    if let Some(Passage::With(basic)) = &passage {
        check_form(forward)?;
        let value = headers::basic_value(basic).map_err(no_value)?;
        forward.headers.insert(header::AUTHORIZATION, value);
        searched.push(&basic.token);
    }
    let scrubber = Scrubber::new(searched);
    if scrubber.is_some() {
        // So that the answer comes whole and as it is.
        forward.headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        forward.headers.remove(header::RANGE);
        forward.headers.remove(header::IF_RANGE);
    }
    Ok(Filled { changed, scrubber })
}

/// What a request was given.
pub(crate) struct Filled {
    /// The body with its secrets, where it has any.
    pub(crate) changed: Option<zeroize::Zeroizing<Vec<u8>>>,
    /// What the answer is searched by.
    pub(crate) scrubber: Option<Scrubber>,
}

fn no_value(error: headers::NoValue) -> Failed {
    Failed::Unreachable(StatusCode::BAD_GATEWAY, error.to_string())
}

async fn visit(inside: &Inside, forward: &Forward) -> Result<Option<Passage>, Failed> {
    let attached = &inside.attached;
    let visit = Visit {
        session: &attached.session,
        target: &forward.target,
        method: &forward.method,
        path: &forward.path,
    };
    attached
        .secrets
        .repository(&visit)
        .await
        .map_err(unavailable)
}

async fn release(
    inside: &Inside,
    forward: &Forward,
    place: Place,
    placeholders: &BTreeSet<String>,
) -> Result<Released, Failed> {
    let attached = &inside.attached;
    let mut released = Released::default();
    for placeholder in placeholders {
        let asked = Asked {
            session: &attached.session,
            placeholder,
            target: &forward.target,
            place,
        };
        let secret = attached
            .secrets
            .release(&asked)
            .await
            .map_err(unavailable)?;
        metrics::counter!("manyhands_egress_placeholders_total", "released" => if secret.is_some() { "yes" } else { "no" }).increment(1);
        if let Some(secret) = secret {
            if secret.expose_secret().len() > SECRET {
                let text =
                    "the secret of a credential is longer than 16 KiB, and no request can carry it";
                return Err(Failed::Unreachable(
                    StatusCode::BAD_GATEWAY,
                    text.to_owned(),
                ));
            }
            released.insert(placeholder.clone(), secret);
        }
    }
    Ok(released)
}

impl Inside {
    /// Room for a body that is held.
    pub(crate) async fn room(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        // It is never closed.
        self.attached.bodies.acquire().await.ok()
    }
}

/// Whether the answer's head lets its body be searched for a secret (security CRED-6).
pub(crate) fn check_answer(
    parts: &http::response::Parts,
    bodiless: bool,
) -> Result<(), &'static str> {
    let all = |name, fine: fn(&[u8]) -> bool| {
        let mut values = parts.headers.get_all(name).iter();
        values.all(|value| fine(value.as_bytes()))
    };
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err("the answer switches to another protocol");
    }
    if bodiless {
        return Ok(());
    }
    if parts.status == StatusCode::PARTIAL_CONTENT {
        return Err("the answer is partial, although nothing partial was asked for");
    }
    if !all(header::CONTENT_ENCODING, |value| {
        value.eq_ignore_ascii_case(b"identity") || value.is_empty()
    }) {
        return Err("the answer is encoded, although that was not accepted");
    }
    if !all(header::TRANSFER_ENCODING, |value| {
        value.eq_ignore_ascii_case(b"chunked")
    }) {
        return Err("the answer's transfer is encoded");
    }
    Ok(())
}
