//! Which headers secrets are put into, and how (security CRED-5).

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use crate::secrets::Basic;

use super::{MOST, Released, growth, named, replace};

/// The longest that all values become together, in bytes.
const LONGEST: usize = 256 << 10;

/// Headers that servers and intermediaries commonly echo, forward or log: never substituted. `Authorization` and `Cookie` are not
/// among them, being made for credentials; nor are names that only one service knows (`X-Api-Key`).
const NEVER: &[&str] = &[
    // What a request is routed, framed and negotiated by.
    "host",
    "connection",
    "content-length",
    "content-type",
    "content-encoding",
    "content-language",
    "content-location",
    "content-disposition",
    "content-range",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "max-forwards",
    "via",
    "date",
    "accept",
    "cache-control",
    "pragma",
    "prefer",
    "priority",
    "early-data",
    "keep-alive",
    "http2-settings",
    // Where it comes from and who asks: in every access log.
    "referer",
    "origin",
    "user-agent",
    "from",
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "x-original-url",
    "x-original-host",
    "x-rewrite-url",
    "x-requested-with",
    "x-wap-profile",
    // Ids, which servers log and give back.
    "x-request-id",
    "x-correlation-id",
    "request-id",
    "correlation-id",
    "x-client-request-id",
    "client-request-id",
    "x-ms-client-request-id",
    "x-transaction-id",
    "x-amzn-trace-id",
    "x-cloud-trace-context",
    "x-trace-id",
    "x-session-id",
    "idempotency-key",
    "traceparent",
    "tracestate",
    "baggage",
    "b3",
    "uber-trace-id",
    "last-event-id",
    // What an answer is chosen by, and repeats.
    "range",
    "if",
    "destination",
    "lock-token",
    "link",
    "x-http-method-override",
];

/// The same by how their names begin.
const NEVER_BEGIN: &[&str] = &[
    "x-forwarded",
    "x-envoy-",
    "x-b3-",
    "x-datadog-",
    "x-http-method",
    "x-method-override",
    "if-",
    "accept-",
    "access-control-",
    "sec-",
];

/// A value with its secrets could not stand in a request. Tell the client: the secret cannot be used there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoValue {
    #[error("the secret of a credential has a control character, which no header can carry")]
    Control,
    #[error("the headers with their secrets are longer than 256 KiB")]
    Long,
}

/// Whether secrets may stand in this header.
pub(crate) fn may_carry(name: &HeaderName) -> bool {
    let name = name.as_str();
    !NEVER.contains(&name) && !NEVER_BEGIN.iter().any(|begin| name.starts_with(begin))
}

/// The placeholders in values where secrets may stand, each once.
pub(crate) fn find(headers: &HeaderMap) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (_, value) in headers.iter().filter(|(name, _)| may_carry(name)) {
        all.append(&mut named(value.as_bytes()));
    }
    for value in headers.get_all(header::AUTHORIZATION) {
        if let Some((_, decoded)) = basic(value) {
            all.append(&mut named(&decoded));
        }
    }
    all.into_iter().take(MOST).collect()
}

/// Puts the secrets in; the values with one are marked as sensitive.
///
/// # Errors
/// [`NoValue`]: nothing may be sent.
pub(crate) fn substitute(headers: &mut HeaderMap, released: &Released) -> Result<(), NoValue> {
    let long: usize = headers
        .iter()
        .map(|(_, value)| value.len() + growth(value.as_bytes(), released))
        .sum();
    if long > LONGEST {
        return Err(NoValue::Long);
    }
    for (name, value) in headers.iter_mut().filter(|(name, _)| may_carry(name)) {
        let inside = (*name == header::AUTHORIZATION)
            .then(|| basic(value))
            .flatten()
            .and_then(|(scheme, decoded)| {
                let replaced = replace(&decoded, released)?;
                let encoded = Zeroizing::new(STANDARD.encode(&*replaced));
                Some(Zeroizing::new([&scheme, encoded.as_bytes()].concat()))
            });
        if let Some(bytes) = inside.or_else(|| replace(value.as_bytes(), released)) {
            *value = sensitive(&bytes)?;
        }
    }
    Ok(())
}

/// The value of `Authorization` for a user and a token.
///
/// # Errors
/// [`NoValue::Control`]; never for base64.
pub(crate) fn basic_value(basic: &Basic) -> Result<HeaderValue, NoValue> {
    let token = basic.token.expose_secret();
    let plain = Zeroizing::new(format!("{}:{token}", basic.user));
    let encoded = Zeroizing::new(STANDARD.encode(plain.as_bytes()));
    let value = Zeroizing::new([b"Basic ", encoded.as_bytes()].concat());
    sensitive(&value)
}

fn sensitive(bytes: &[u8]) -> Result<HeaderValue, NoValue> {
    let mut value = HeaderValue::from_bytes(bytes).map_err(|_| NoValue::Control)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The scheme with its spaces, and what is behind it, decoded.
fn basic(value: &HeaderValue) -> Option<(Vec<u8>, Vec<u8>)> {
    const SCHEME: &[u8] = b"basic ";
    let bytes = value.as_bytes();
    let scheme = bytes.get(..SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    let rest = &bytes[SCHEME.len()..];
    let text = rest.trim_ascii_start();
    let decoded = STANDARD.decode(text).ok()?;
    let scheme = &bytes[..SCHEME.len() + rest.len() - text.len()];
    Some((scheme.to_vec(), decoded))
}
