//! The one reader of request bodies: strict about the document, tolerant of unknown members (security INP-1, INP-2).
//!
//! A document that two readers could understand differently (the same member twice, bytes after the end) is refused.
//! Members nobody knows are left alone and named in the log at debug. Nesting is capped by serde_json, and the number of
//! values before any is kept: a few bytes of text are many of memory.

mod expected;
mod quiet;

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use manyhands_protocol::number::has_wide_integer;
use serde::Deserialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use zeroize::Zeroize as _;

use self::expected::in_words;
pub(crate) use self::quiet::{entry_quietly, parse_quietly};
use crate::api::body::Pieces;
use crate::api::error::ApiError;

/// The largest body of this request, set by its route (runtime HT-14).
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyCap(pub(crate) usize);

/// How many values a document may have, in all its lists and objects (security INP-1): more than the largest that is legal, and
/// a few dozen megabytes of memory.
const VALUES: usize = 250_000;

/// How deep is too deep: serde_json's own limit.
const NESTED: usize = 128;

/// A JSON object as the request's body.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let cap = request.extensions().get::<BodyCap>().map_or(0, |cap| cap.0);
        check_headers(request.headers())?;
        let bytes = read(request, cap).await?;
        parse(&bytes).map(Self)
    }
}

/// A JSON object that may have secrets in it: no refusal quotes a part of it, and what was read is wiped (security CRED-2).
pub(crate) struct SecretJson<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for SecretJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let cap = request.extensions().get::<BodyCap>().map_or(0, |cap| cap.0);
        check_headers(request.headers())?;
        let bytes = read(request, cap).await?;
        let parsed = parse_quietly(&bytes);
        wipe(bytes);
        parsed.map(Self)
    }
}

/// Leaves nothing of a body in memory, as far as it is nobody else's.
fn wipe(bytes: Bytes) {
    if let Ok(mut bytes) = bytes.try_into_mut() {
        bytes.as_mut().zeroize();
    }
}

/// Refuses a body that says it is packed, or in any other characters than UTF-8, in any of its headers.
fn check_headers(headers: &HeaderMap) -> Result<(), ApiError> {
    let plain = |value: &HeaderValue| matches!(value.as_bytes(), b"" | b"identity");
    if !headers.get_all(CONTENT_ENCODING).iter().all(plain) {
        return Err(
            ApiError::invalid("compressed request bodies are not supported")
                .with_code("request_body_encoding_unsupported"),
        );
    }
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let kind = kinds.next();
    if kinds.next().is_none() && kind.is_none_or(is_utf_8) {
        return Ok(());
    }
    Err(ApiError::invalid("request bodies are UTF-8").with_code("unsupported_charset"))
}

fn is_utf_8(kind: &HeaderValue) -> bool {
    let utf_8 = |parameter: &str| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim().trim_matches('"');
        !name.trim().eq_ignore_ascii_case("charset")
            || ["utf-8", "us-ascii"]
                .iter()
                .any(|known| value.eq_ignore_ascii_case(known))
    };
    let text = kind.to_str().unwrap_or("; charset");
    text.split(';').skip(1).all(utf_8)
}

/// The whole body, up to a cap, in time.
pub(crate) async fn read(request: Request, cap: usize) -> Result<Bytes, ApiError> {
    let announced = request.headers().get(CONTENT_LENGTH);
    let announced = announced
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok())
        .unwrap_or(0);
    let mut body = Pieces::new(request.into_body());
    // As long as it will be, so that no copy of a secret is left behind by growing.
    let mut kept = BytesMut::with_capacity(if announced > cap { 0 } else { announced });
    let mut over = announced > cap;
    while !over && let Some(piece) = body.next().await? {
        over = kept.len() + piece.len() > cap;
        if !over {
            kept.extend_from_slice(&piece);
        }
    }
    if over {
        drop(kept);
        body.drain().await;
        return Err(ApiError::too_large(cap));
    }
    Ok(kept.freeze())
}

/// Refuses what is no object, and what two readers could understand differently (security INP-2); `wrong` says of a document that
/// cannot be read what it does.
fn require_object(
    bytes: &[u8],
    wrong: impl FnOnce(&serde_json::Error) -> String,
) -> Result<(), ApiError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(ApiError::invalid(
            "a JSON object is required as the request body",
        ));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let left = Cell::new(VALUES);
    let root = Unambiguous { left: &left }.deserialize(&mut reader);
    match root.and_then(|root| reader.end().map(|()| root)) {
        Ok(Root::Object) if has_wide_integer(bytes) => Err(ApiError::invalid(
            "the request body has a whole number that needs more than 64 bits; send it as a string",
        )),
        Ok(Root::Object) => Ok(()),
        Ok(Root::Other) => Err(ApiError::invalid("the request body is not a JSON object")),
        Err(_) if left.get() == 0 => Err(ApiError::invalid(format!(
            "the request body has more than {VALUES} values"
        ))),
        Err(error) if error.to_string().starts_with("recursion limit exceeded") => {
            Err(ApiError::invalid(format!(
                "the request body is nested {NESTED} levels deep or deeper"
            )))
        }
        Err(error) => Err(ApiError::invalid(format!(
            "the request body {}",
            wrong(&error)
        ))),
    }
}

/// Reads a document that has to be an object.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    require_object(bytes, |error| {
        format!("is not valid JSON: {}", brief(error))
    })?;
    typed(&mut serde_json::Deserializer::from_slice(bytes), "")
}

/// Reads one entry of a list that was kept raw; `at` names it in errors, such as `events[0]`.
pub(crate) fn entry<T: DeserializeOwned>(value: &Value, at: &str) -> Result<T, ApiError> {
    if !value.is_object() {
        return Err(ApiError::field(at, "expected an object"));
    }
    typed(value, at)
}

/// The `type` of an entry of a union that was kept raw.
pub(crate) fn tag<'v>(value: &'v Value, at: &str) -> Result<&'v str, ApiError> {
    if !value.is_object() {
        return Err(ApiError::field(at, "expected an object"));
    }
    let tag = value
        .get("type")
        .ok_or_else(|| ApiError::field(format!("{at}.type"), "is required"))?;
    tag.as_str()
        .ok_or_else(|| ApiError::field(format!("{at}.type"), "expected a string"))
}

fn typed<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    reader: D,
    at: &str,
) -> Result<T, ApiError> {
    let mut unknown = |path: serde_ignored::Path<'_>| {
        tracing::debug!(field = %path, at, "unknown request field");
    };
    let reader = serde_ignored::Deserializer::new(reader, &mut unknown);
    serde_path_to_error::deserialize(reader).map_err(|error| {
        let problem = brief(error.inner());
        match within(at, &error.path().to_string()).as_str() {
            "" => ApiError::invalid(problem),
            path => ApiError::field(path, problem),
        }
    })
}

/// A path below `at`, which is empty for a body; both may be the whole.
fn within(at: &str, path: &str) -> String {
    match (at, path) {
        (at, ".") => at.to_owned(),
        ("", path) => path.to_owned(),
        (at, path) => format!("{at}.{path}"),
    }
}

/// An error's text, short even when it quotes the request.
fn brief(error: &dyn fmt::Display) -> String {
    let mut text = in_words(error.to_string());
    if let Some((end, _)) = text.char_indices().nth(300) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// What a document is.
enum Root {
    Object,
    Other,
}

/// Reads any document and keeps nothing of it; refuses one with a member twice, or with more values than are left.
#[derive(Clone, Copy)]
struct Unambiguous<'c> {
    left: &'c Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Unambiguous<'_> {
    type Value = Root;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Root, D::Error> {
        let more = self.left.get().checked_sub(1);
        self.left.set(more.unwrap_or(0));
        match more {
            Some(_) => deserializer.deserialize_any(self),
            None => Err(serde::de::Error::custom("too many values")),
        }
    }
}

impl<'de> Visitor<'de> for Unambiguous<'_> {
    type Value = Root;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Root, A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value_seed(self)?;
            if seen.contains(&key) {
                return Err(serde::de::Error::custom(format!("duplicate field `{key}`")));
            }
            seen.insert(key);
        }
        Ok(Root::Object)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Root, A::Error> {
        while seq.next_element_seed(self)?.is_some() {}
        Ok(Root::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Root, E> {
        Ok(Root::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Root, E> {
        Ok(Root::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Root, E> {
        Ok(Root::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Root, E> {
        Ok(Root::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Root, E> {
        Ok(Root::Other)
    }

    fn visit_unit<E>(self) -> Result<Root, E> {
        Ok(Root::Other)
    }
}

#[cfg(test)]
mod tests;
