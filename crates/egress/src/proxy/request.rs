//! What a head asks for, in the place where it arrived: a tunnel, or a request that is made anew for its host (security
//! NET-4, NET-5). Pure.

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};

use crate::host::{NotCanonical, Target};
use crate::policy::Reason;
use crate::proxy::head::{Framing, Head, Malformed};

/// Where a request arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At the door: its own URL says where it goes.
    Door,
    /// In a tunnel: it goes where the tunnel goes.
    Tunnel {
        /// Where the tunnel goes.
        target: Target,
        /// Whether the tunnel's bytes were TLS.
        scheme: Scheme,
    },
}

/// How the host is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn prefix(self) -> &'static str {
        match self {
            Self::Http => "http://",
            Self::Https => "https://",
        }
    }

    /// The port that is meant where none is written.
    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// What a head asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// A tunnel.
    Connect(Target),
    /// A request to be made.
    Forward(Forward),
}

/// A request as it will be made: its own parts and nothing of the connection it came on.
#[derive(Debug)]
pub(crate) struct Forward {
    pub(crate) target: Target,
    pub(crate) scheme: Scheme,
    pub(crate) method: Method,
    pub(crate) path: PathAndQuery,
    /// Without those that belong to a connection; with a `Host` of our own spelling.
    pub(crate) headers: HeaderMap,
    pub(crate) framing: Framing,
    pub(crate) upgrade: Upgrade,
    /// Whether the client waits for a 100 before it sends the body.
    pub(crate) expects: bool,
    pub(crate) version: Version,
    /// Whether the client may send another request on its connection.
    pub(crate) keep_alive: bool,
}

impl Forward {
    /// Whether it changes nothing at the host, and can be sent again.
    pub(crate) fn repeatable(&self) -> bool {
        let safe = [Method::GET, Method::HEAD, Method::OPTIONS];
        self.framing == Framing::Empty && safe.contains(&self.method)
    }
}

/// Whether the connection is to become another protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upgrade {
    No,
    WebSocket,
}

/// A request that is not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    /// What exactly, for the answer.
    pub(crate) detail: String,
    /// The host as it was named, which may be no host at all.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl From<Malformed> for Refused {
    fn from(Malformed(what): Malformed) -> Self {
        Self::new(Reason::Malformed, what)
    }
}

impl Refused {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            host: String::new(),
            port: 0,
        }
    }

    pub(crate) fn at(self, target: &Target) -> Self {
        Self {
            host: target.host.to_string(),
            port: target.port,
            ..self
        }
    }

    fn named(self, host: &str) -> Self {
        Self {
            host: host.to_owned(),
            ..self
        }
    }
}

/// Reads what a head asks for.
///
/// # Errors
/// What is not made, with the reason.
pub(crate) fn read(head: Head, place: &Place) -> Result<Asked, Refused> {
    if head.method == Method::CONNECT {
        return connect(&head, place).map(Asked::Connect);
    }
    if head.method == Method::TRACE || head.method.as_str() == "TRACK" {
        return Err(Refused::new(Reason::NotServed, "TRACE is not served"));
    }
    let (scheme, target, path) = locate(&head, place)?;
    check_host(&head, &target, scheme).map_err(|refused| refused.at(&target))?;
    let upgrade = upgrade(&head).map_err(|refused| refused.at(&target))?;
    let expects = expects(&head).map_err(|refused| refused.at(&target))?;
    let nominated = nominated(&head.headers).map_err(|refused| refused.at(&target))?;
    let keep_alive =
        head.version == Version::HTTP_11 && !nominated.iter().any(|name| name == "close");
    let mut headers = head.headers;
    for name in &nominated {
        headers.remove(name.as_str());
    }
    let trailers = headers.get(header::TE).is_some_and(|te| te == "trailers");
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    headers.insert(header::HOST, host_value(&target, scheme)?);
    Ok(Asked::Forward(Forward {
        target,
        scheme,
        method: head.method,
        path,
        headers,
        framing: head.framing,
        upgrade,
        expects,
        version: head.version,
        keep_alive,
    }))
}

/// What belongs to one connection and is not passed on.
pub(crate) const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

fn not_canonical(error: NotCanonical, text: &str) -> Refused {
    Refused::new(Reason::HostNotCanonical, error.to_string()).named(text)
}

fn connect(head: &Head, place: &Place) -> Result<Target, Refused> {
    if *place != Place::Door {
        return Err(Refused::new(Reason::NotServed, "CONNECT inside a tunnel"));
    }
    let target =
        Target::parse(&head.target, None).map_err(|error| not_canonical(error, &head.target))?;
    // A body would be the tunnel's first bytes to one reader and not to another.
    if !matches!(head.framing, Framing::Empty | Framing::Length(0)) {
        return Err(Refused::new(Reason::Malformed, "CONNECT with a body").at(&target));
    }
    if head.headers.contains_key(header::HOST) || head.version == Version::HTTP_11 {
        // Some clients leave out the port that is TLS's own.
        check_host(head, &target, Scheme::Https).map_err(|refused| refused.at(&target))?;
    }
    Ok(target)
}

/// Where the request goes and what it asks for there.
fn locate(head: &Head, place: &Place) -> Result<(Scheme, Target, PathAndQuery), Refused> {
    let own = match place {
        Place::Door => Scheme::Http,
        Place::Tunnel { scheme, .. } => *scheme,
    };
    let (target, path) = match (head.target.strip_prefix(own.prefix()), place) {
        (Some(rest), _) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            let target = Target::parse(authority, Some(own.port()))
                .map_err(|error| not_canonical(error, authority))?;
            if let Place::Tunnel { target: tunnel, .. } = place
                && *tunnel != target
            {
                let detail = format!("the tunnel goes to {tunnel}");
                return Err(Refused::new(Reason::NameMismatch, detail).at(&target));
            }
            (target, path)
        }
        (None, Place::Tunnel { target, .. }) => (target.clone(), head.target.as_str()),
        (None, Place::Door) => {
            let detail =
                "a proxy's request has an absolute http:// URL; https goes through CONNECT";
            return Err(Refused::new(Reason::NotServed, detail));
        }
    };
    let path = match path {
        "" => "/".to_owned(),
        "*" if head.method == Method::OPTIONS => "*".to_owned(),
        path if path.starts_with('?') && *place == Place::Door => format!("/{path}"),
        path if path.starts_with('/') && !path.contains('#') => path.to_owned(),
        _ => {
            let refused = Refused::new(Reason::Malformed, "the target is neither a URL nor a path");
            return Err(refused.at(&target));
        }
    };
    match PathAndQuery::try_from(path) {
        Ok(path) => Ok((own, target, path)),
        Err(_) => {
            let detail = "the path has a character that no URL has";
            Err(Refused::new(Reason::Malformed, detail).at(&target))
        }
    }
}

/// The `Host` header names the target, and there is one, unless the version has none.
fn check_host(head: &Head, target: &Target, scheme: Scheme) -> Result<(), Refused> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host,
        (None, _) if head.version == Version::HTTP_10 => return Ok(()),
        (None, _) => return Err(Refused::new(Reason::Malformed, "there is no Host header")),
        (Some(_), Some(_)) => {
            return Err(Refused::new(Reason::Malformed, "more than one Host header"));
        }
    };
    let text = String::from_utf8_lossy(host.as_bytes());
    let default = match head.method == Method::CONNECT {
        true => target.port,
        false => scheme.port(),
    };
    let named = Target::parse(&text, Some(default)).map_err(|error| not_canonical(error, &text))?;
    if named != *target {
        let detail = format!("the Host header names {named}, the request goes to {target}");
        return Err(Refused::new(Reason::NameMismatch, detail));
    }
    Ok(())
}

fn upgrade(head: &Head) -> Result<Upgrade, Refused> {
    let mut values = head.headers.get_all(header::UPGRADE).iter();
    let websocket = match (values.next(), values.next()) {
        (None, _) => return Ok(Upgrade::No),
        (Some(value), None) => value.as_bytes().eq_ignore_ascii_case(b"websocket"),
        (Some(_), Some(_)) => false,
    };
    let whole = head.method == Method::GET
        && head.version == Version::HTTP_11
        && head.framing == Framing::Empty
        && head.headers.contains_key(header::SEC_WEBSOCKET_KEY)
        && nominated(&head.headers)?
            .iter()
            .any(|name| name == "upgrade");
    match websocket && whole {
        true => Ok(Upgrade::WebSocket),
        false => Err(Refused::new(
            Reason::NotServed,
            "an upgrade other than to WebSocket",
        )),
    }
}

fn expects(head: &Head) -> Result<bool, Refused> {
    let mut values = head.headers.get_all(header::EXPECT).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(false),
        (Some(value), None) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            Ok(head.framing != Framing::Empty)
        }
        _ => Err(Refused::new(
            Reason::Malformed,
            "an expectation other than 100-continue",
        )),
    }
}

/// The headers that `Connection` names as its own, in lower case. It may not name what a request is read by.
fn nominated(headers: &HeaderMap) -> Result<Vec<String>, Refused> {
    let mut names = Vec::new();
    for value in headers.get_all(header::CONNECTION) {
        let text = value.to_str().unwrap_or("\"");
        for name in text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            let name = name.to_ascii_lowercase();
            let kept = [
                "host",
                "content-length",
                "transfer-encoding",
                "expect",
                "trailer",
                "content-encoding",
                "authorization",
                "cookie",
                "range",
            ];
            if !name.bytes().all(crate::proxy::head::is_token) || kept.contains(&name.as_str()) {
                let detail = "the Connection header names what is not its own";
                return Err(Refused::new(Reason::Malformed, detail));
            }
            names.push(name);
        }
    }
    Ok(names)
}

fn host_value(target: &Target, scheme: Scheme) -> Result<HeaderValue, Refused> {
    let text = match target.port == scheme.port() {
        true => target.host.to_string(),
        false => target.to_string(),
    };
    HeaderValue::try_from(text)
        .map_err(|_| Refused::new(Reason::HostNotCanonical, "the host is no header's value"))
}

#[cfg(test)]
mod tests;
