//! Answers: a host's, made anew for the client's connection, and the proxy's own.

use http::response::Parts;
use http::{HeaderMap, Method, StatusCode, Version, header};
use hyper::body::{Body as _, Incoming};

use crate::proxy::request::{HOP_BY_HOP, Refused};

/// How a client learns where an answer's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It has none, whatever its headers say.
    None,
    /// By its length.
    Length(u64),
    /// By its last chunk.
    Chunked,
    /// By the end of the connection.
    Close,
}

impl Ending {
    /// How an answer to such a request ends.
    pub(crate) fn of(
        method: &Method,
        version: Version,
        status: StatusCode,
        body: &Incoming,
    ) -> Self {
        let bodiless = *method == Method::HEAD
            || status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED;
        match body.size_hint().exact() {
            _ if bodiless => Self::None,
            Some(length) => Self::Length(length),
            None if version == Version::HTTP_11 => Self::Chunked,
            None => Self::Close,
        }
    }
}

/// The head of a host's answer for the client.
pub(crate) fn head(parts: &Parts, ending: Ending, keep_alive: bool) -> Vec<u8> {
    let mut headers = parts.headers.clone();
    strip(&mut headers);
    if ending != Ending::None {
        headers.remove(header::CONTENT_LENGTH);
    }
    let mut bytes = status_line(parts.status, reason(parts));
    write_headers(&mut bytes, &headers);
    match ending {
        Ending::Length(length) => {
            bytes.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
        }
        Ending::Chunked => bytes.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Ending::None | Ending::Close => {}
    }
    if !keep_alive {
        bytes.extend_from_slice(b"connection: close\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// The head that makes the connection a WebSocket's.
pub(crate) fn switching(parts: &Parts) -> Vec<u8> {
    let mut headers = parts.headers.clone();
    strip(&mut headers);
    headers.remove(header::CONTENT_LENGTH);
    let mut bytes = status_line(parts.status, reason(parts));
    write_headers(&mut bytes, &headers);
    bytes.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\n\r\n");
    bytes
}

/// An interim answer: 100, 102, 103.
pub(crate) fn interim(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let mut headers = headers.clone();
    strip(&mut headers);
    headers.remove(header::CONTENT_LENGTH);
    let mut bytes = status_line(status, status.canonical_reason().unwrap_or_default());
    write_headers(&mut bytes, &headers);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// What a client whose request was refused reads: the rule, and what could be done. The connection ends with it.
pub(crate) fn refusal(refused: &Refused, body: bool) -> Vec<u8> {
    let Refused {
        reason,
        detail,
        host,
        port,
    } = refused;
    let place = match host.is_empty() {
        true => String::new(),
        false if *port == 0 => format!("{}: ", shown(host)),
        false => format!("{}:{port}: ", shown(host)),
    };
    let text = format!(
        "Refused by the egress proxy of this sandbox ({reason}): {place}{}.\n{}\n",
        shown(detail),
        reason.remedy()
    );
    let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::FORBIDDEN);
    own(status, reason.code(), &text, body)
}

/// An answer of the proxy itself about a host that cannot be reached. The connection ends with it.
pub(crate) fn failure(status: StatusCode, text: &str, body: bool) -> Vec<u8> {
    let text = format!(
        "The egress proxy of this sandbox could not do it: {}.\n",
        shown(text)
    );
    own(status, "unreachable", &text, body)
}

fn own(status: StatusCode, code: &str, text: &str, body: bool) -> Vec<u8> {
    let mut bytes = status_line(status, status.canonical_reason().unwrap_or_default());
    let head = format!(
        "content-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nx-egress-reason: {code}\r\nconnection: close\r\n\r\n",
        text.len()
    );
    bytes.extend_from_slice(head.as_bytes());
    if body {
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// A text from outside as it may be shown: bounded, printable, on one line (security INP-5).
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 256;
    let mut shown: String = text
        .chars()
        .take(LONGEST)
        .flat_map(char::escape_default)
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push_str("...");
    }
    shown
}

fn strip(headers: &mut HeaderMap) {
    let nominated: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| name != "content-length")
        .collect();
    for name in nominated {
        headers.remove(name.as_str());
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

fn reason(parts: &Parts) -> &str {
    let sent = parts.extensions.get::<hyper::ext::ReasonPhrase>();
    let sent = sent.and_then(|phrase| std::str::from_utf8(phrase.as_bytes()).ok());
    let known = || parts.status.canonical_reason().unwrap_or_default();
    sent.unwrap_or_else(known)
}

fn status_line(status: StatusCode, reason: &str) -> Vec<u8> {
    format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes()
}

/// Writes headers as lines.
pub(crate) fn write_headers(bytes: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
}
