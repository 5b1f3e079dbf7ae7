//! The one reader of request bodies: strict about the document, tolerant of unknown members (security INP-1, INP-2).
//!
//! A document that two readers could understand differently (the same member twice, bytes after the end) is refused.
//! Members nobody knows are left alone and named in the log at debug. Nesting is capped by serde_json at 128, and the number of
//! values before any is kept: a few bytes of text are many of memory.

mod quiet;

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use serde::Deserialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use zeroize::Zeroize as _;

pub(crate) use self::quiet::parse_quietly;
use crate::api::body::Pieces;
use crate::api::error::ApiError;

/// The largest body of this request, set by its route (runtime HT-14).
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyCap(pub(crate) usize);

/// How many values a document may have, in all its lists and objects (security INP-1): more than the largest that is legal, and
/// a few dozen megabytes of memory.
const VALUES: usize = 250_000;

/// A JSON object as the request's body.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let cap = request.extensions().get::<BodyCap>().map_or(0, |cap| cap.0);
        check_headers(request.headers())?;
        let bytes = read(request, cap).await?;
        let parsed = parse(&bytes);
        // A session's resources may hold tokens.
        wipe(bytes);
        parsed.map(Self)
    }
}

/// A JSON object with secrets in it: no refusal quotes a part of it, and what was read is wiped (security CRED-2).
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
            || ["utf-8", "us-ascii"].iter().any(|known| value.eq_ignore_ascii_case(known))
    };
    let text = kind.to_str().unwrap_or("; charset");
    text.split(';').skip(1).all(utf_8)
}

async fn read(request: Request, cap: usize) -> Result<Bytes, ApiError> {
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
        Ok(Root::Object) => Ok(()),
        Ok(Root::Other) => Err(ApiError::invalid("the request body is not a JSON object")),
        Err(_) if left.get() == 0 => Err(ApiError::invalid(format!(
            "the request body has more than {VALUES} values"
        ))),
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
        let path = error.path().to_string();
        let path = match (at, path.as_str()) {
            ("", ".") => String::new(),
            ("", path) => format!("{path}: "),
            (at, ".") => format!("{at}: "),
            (at, path) => format!("{at}.{path}: "),
        };
        ApiError::invalid(format!("{path}{}", brief(error.inner())))
    })
}

/// An error's text, short even when it quotes the request.
fn brief(error: &dyn fmt::Display) -> String {
    let mut text = error.to_string();
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
mod tests {
    use manyhands_protocol::agent::AgentCreateParams;

    use super::*;

    #[track_caller]
    fn check(body: &str, problem: &str) {
        let error = parse::<AgentCreateParams>(body.as_bytes()).expect_err(body);
        assert!(
            error.message().contains(problem),
            "{body}: {}",
            error.message()
        );
    }

    #[test]
    fn inp_2_a_document_has_one_reading() {
        check("", "is required");
        check(" \n", "is required");
        check("[]", "not a JSON object");
        check("\"text\"", "not a JSON object");
        check("{", "not valid JSON");
        check(r#"{"name":"a","model":"m"} x"#, "not valid JSON");
        check(
            r#"{"name":"a","name":"b","model":"m"}"#,
            "duplicate field `name`",
        );
        check(
            r#"{"name":"a","model":"m","metadata":{"k":"1","k":"2"}}"#,
            "duplicate field `k`",
        );
        check(
            r#"{"name":"a","model":"m","x":{"y":[{"z":1,"\u007a":2}]}}"#,
            "duplicate field `z`",
        );
        check(
            "{\"name\":\"\u{fffd}\",\"model\":\"\\ud800\"}",
            "not valid JSON",
        );
        check(&"[".repeat(200), "recursion limit");
        check("\u{feff}{\"name\":\"a\",\"model\":\"m\"}", "not valid JSON");
        for number in ["NaN", "Infinity", "1e999", "01", "+1", ".5", "0x1"] {
            let body = format!("{{\"name\":\"a\",\"model\":\"m\",\"x\":{number}}}");
            check(&body, "not valid JSON");
        }
        for odd in ["{'name':'a'}", "{\"name\":\"a\",}", "{/**/}", "{\"name\":\"a\nb\"}"] {
            check(odd, "not valid JSON");
        }
        // In any other encoding than UTF-8 it is no document.
        let wide: Vec<u8> = "{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        parse::<Value>(&wide).expect_err("UTF-16");
        parse::<Value>(b"{\"a\":\"\xff\"}").expect_err("no text");
        parse::<Value>(b"{\"a\":\"\xed\xa0\x80\"}").expect_err("half a character");
    }

    #[test]
    fn inp_1_the_values_of_a_document_are_bounded() {
        let document = |lists: usize| format!("{{\"x\":[{}[]]}}", "[],".repeat(lists));
        // The object, the list and the last list are values as well.
        parse::<Value>(document(VALUES - 3).as_bytes()).expect("as many as are allowed");
        for bytes in [document(VALUES - 2), document(4 << 20)] {
            let begun = std::time::Instant::now();
            for refusal in [
                parse::<Value>(bytes.as_bytes()).expect_err("too many"),
                parse_quietly::<Value>(bytes.as_bytes()).expect_err("too many"),
            ] {
                assert_eq!(refusal.message(), "the request body has more than 250000 values");
            }
            assert!(begun.elapsed().as_secs() < 10, "it is not read to its end");
        }
    }

    #[test]
    fn inp_2_how_a_body_is_written_is_said_once() {
        #[track_caller]
        fn check(lines: &[(&'static str, &'static str)], code: Option<&str>) {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, http::HeaderValue::from_static(value));
            }
            let refusal = check_headers(&headers).err();
            let refused = refusal.map(|refusal| refusal.body(None));
            match (refused, code) {
                (None, None) => {}
                (Some(body), Some(code)) => assert!(body.contains(code), "{lines:?}: {body}"),
                (refused, _) => panic!("{lines:?}: {refused:?}"),
            }
        }
        check(&[], None);
        for kind in ["application/json", "application/json; charset=utf-8", "text/plain;Charset=\"UTF-8\"", "a/b; x=y; charset=us-ascii"] {
            check(&[("content-type", kind)], None);
        }
        for kind in ["a/b; charset=utf-16", "a/b;CHARSET=utf-7", "a/b; charset=utf-8; charset=utf-16", "a/b; charset = latin1", "a/b; charset"] {
            check(&[("content-type", kind)], Some("unsupported_charset"));
        }
        let json = ("content-type", "application/json");
        check(&[json, json], Some("unsupported_charset"));
        check(&[("content-encoding", "identity")], None);
        for coding in ["gzip", "identity, gzip", "br"] {
            check(&[("content-encoding", coding)], Some("request_body_encoding_unsupported"));
        }
        let (plain, packed) = (("content-encoding", "identity"), ("content-encoding", "gzip"));
        check(&[plain, packed], Some("request_body_encoding_unsupported"));
    }

    #[test]
    fn a_refusal_names_the_field() {
        check(r#"{"model":"m"}"#, "missing field `name`");
        check(
            r#"{"name":5,"model":"m"}"#,
            "name: invalid type: integer `5`",
        );
        check(
            r#"{"name":"a","model":5}"#,
            "model: invalid type: integer `5`, expected a model id",
        );
        check(
            r#"{"name":"a","model":{"id":"m","effort":"ultra"}}"#,
            "model.effort: unknown variant `ultra`",
        );
        check(
            r#"{"name":"a","model":"m","metadata":{"k":1}}"#,
            "metadata.k: invalid type",
        );
        check(
            r#"{"name":"a","model":"m","tools":{}}"#,
            "tools: invalid type: map",
        );
    }

    /// runtime HT-17, as decided
    #[test]
    fn unknown_fields_are_tolerated() {
        let body = br#"{"name":"a","model":"m","flavour":"mint","metadata":null}"#;
        assert_eq!(
            parse::<AgentCreateParams>(body).expect("accepted").name,
            "a"
        );
    }
}
