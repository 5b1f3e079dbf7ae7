//! The one reader of request bodies: strict about the document, tolerant of unknown members (security INP-1, INP-2).
//!
//! A document that two readers could understand differently (the same member twice, bytes after the end) is refused.
//! Members nobody knows are left alone and named in the log at debug. Nesting is capped by serde_json at 128.

mod quiet;

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use zeroize::Zeroize as _;

pub(crate) use self::quiet::parse_quietly;
use crate::api::error::ApiError;

/// The largest body of this request, set by its route (runtime HT-14).
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyCap(pub(crate) usize);

/// How long the next piece of a body may take.
const PIECE: Duration = Duration::from_secs(30);
/// How much of an oversized body is read and dropped, so that the client gets to read the answer.
const DRAIN: usize = 64 << 20;

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

fn check_headers(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    if !matches!(text(CONTENT_ENCODING), "" | "identity") {
        return Err(
            ApiError::invalid("compressed request bodies are not supported")
                .with_code("request_body_encoding_unsupported"),
        );
    }
    let charset = text(CONTENT_TYPE)
        .split(';')
        .skip(1)
        .find_map(|parameter| parameter.trim().strip_prefix("charset="));
    match charset.map(|charset| charset.trim_matches('"')) {
        None => Ok(()),
        Some(charset)
            if charset.eq_ignore_ascii_case("utf-8")
                || charset.eq_ignore_ascii_case("us-ascii") =>
        {
            Ok(())
        }
        Some(_) => {
            Err(ApiError::invalid("request bodies are UTF-8").with_code("unsupported_charset"))
        }
    }
}

async fn read(request: Request, cap: usize) -> Result<Bytes, ApiError> {
    let announced = request.headers().get(CONTENT_LENGTH);
    let announced = announced
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok())
        .unwrap_or(0);
    let mut over = announced > cap;
    let mut kept = BytesMut::with_capacity(if over { 0 } else { announced });
    let mut seen = 0;
    let mut body = request.into_body();
    loop {
        let frame = match tokio::time::timeout(PIECE, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(ApiError::invalid("the request body broke off")),
            Err(_) => {
                return Err(ApiError::invalid("the request body stopped coming")
                    .with_code("request_body_timeout"));
            }
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        seen += data.len();
        over |= seen > cap;
        if over {
            kept = BytesMut::new();
            if seen > DRAIN {
                break;
            }
        } else {
            kept.extend_from_slice(&data);
        }
    }
    if over {
        Err(ApiError::too_large(cap))
    } else {
        Ok(kept.freeze())
    }
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
    let root = Unambiguous::deserialize(&mut reader).and_then(|root| reader.end().map(|()| root));
    match root {
        Ok(Unambiguous::Object) => Ok(()),
        Ok(Unambiguous::Other) => Err(ApiError::invalid("the request body is not a JSON object")),
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

/// Reads any document and refuses one with a member twice.
enum Unambiguous {
    Object,
    Other,
}

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Unambiguous;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON value")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unambiguous, A::Error> {
                let mut seen = HashSet::new();
                while let Some(key) = map.next_key::<String>()? {
                    map.next_value::<Unambiguous>()?;
                    if seen.contains(&key) {
                        return Err(serde::de::Error::custom(format!("duplicate field `{key}`")));
                    }
                    seen.insert(key);
                }
                Ok(Unambiguous::Object)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Unambiguous, A::Error> {
                while seq.next_element::<Unambiguous>()?.is_some() {}
                Ok(Unambiguous::Other)
            }

            fn visit_str<E>(self, _: &str) -> Result<Unambiguous, E> {
                Ok(Unambiguous::Other)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Unambiguous, E> {
                Ok(Unambiguous::Other)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Unambiguous, E> {
                Ok(Unambiguous::Other)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Unambiguous, E> {
                Ok(Unambiguous::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Unambiguous, E> {
                Ok(Unambiguous::Other)
            }

            fn visit_unit<E>(self) -> Result<Unambiguous, E> {
                Ok(Unambiguous::Other)
            }
        }
        deserializer.deserialize_any(Any)
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
