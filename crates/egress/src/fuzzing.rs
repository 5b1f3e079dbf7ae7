//! Doors for the fuzz targets to what is private here (security INP-6). No part of the server.

use std::collections::BTreeSet;

use http::{HeaderMap, HeaderName};
use secrecy::SecretString;

use crate::proxy::{head, hello};
use crate::scrub::Scrubber;
use crate::substitute::{self, Released, headers};

/// What holds for every text that is read as a host.
pub fn host(text: &str) {
    crate::host::hold::hold(text);
}

/// What holds for all bytes that are read as the head of a request.
pub fn head(bytes: &[u8]) {
    head::hold::hold(bytes);
}

/// The headers of a request, when its head can be read.
pub fn headers(bytes: &[u8]) -> Option<HeaderMap> {
    Some(head::read(bytes).ok()?.headers)
}

/// The size that a line of a chunked body says.
pub fn chunk_size(line: &[u8]) -> Option<u64> {
    head::read_chunk_size(line).ok()
}

/// What the first bytes of a tunnel are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// More is needed.
    Partial,
    /// TLS, to this name or to none.
    Tls(Option<String>),
    /// Nothing that is understood.
    Other,
}

/// Reads the first bytes of a tunnel.
pub fn hello(bytes: &[u8]) -> Hello {
    match hello::read(bytes) {
        hello::Hello::Partial => Hello::Partial,
        hello::Hello::Tls(name) => Hello::Tls(name),
        hello::Hello::Other | hello::Hello::Malformed => Hello::Other,
    }
}

fn released(pairs: &[(&str, &str)]) -> Released {
    let mut released = Released::default();
    for (placeholder, secret) in pairs {
        released.insert((*placeholder).to_owned(), SecretString::from(*secret));
    }
    released
}

/// The placeholders in these bytes.
pub fn named(bytes: &[u8]) -> BTreeSet<String> {
    substitute::named(bytes)
}

/// The bytes with these secrets in the places of their placeholders; `None` when nothing is replaced.
pub fn replaced(bytes: &[u8], pairs: &[(&str, &str)]) -> Option<Vec<u8>> {
    substitute::replace(bytes, &released(pairs)).map(|bytes| bytes.to_vec())
}

/// Puts these secrets into headers; whether that could be done.
pub fn substitute(headers: &mut HeaderMap, pairs: &[(&str, &str)]) -> bool {
    headers::substitute(headers, &released(pairs)).is_ok()
}

/// Whether a secret may stand in this header.
pub fn may_carry(name: &HeaderName) -> bool {
    headers::may_carry(name)
}

/// A body that comes in these pieces, without these secrets.
pub fn scrub(pieces: &[&[u8]], secrets: &[&str]) -> Vec<u8> {
    let secrets: Vec<SecretString> = secrets.iter().copied().map(SecretString::from).collect();
    let Some(scrubber) = Scrubber::new(&secrets) else {
        return pieces.concat();
    };
    let mut stream = scrubber.stream();
    let mut clean: Vec<u8> = pieces.iter().flat_map(|piece| stream.push(piece)).collect();
    clean.extend(stream.finish());
    clean
}
