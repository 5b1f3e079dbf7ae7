//! Reading what may hold secrets: no refusal and no line of the log quotes a part of it (security CRED-2).

use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde_json::Value;

use super::expected::in_words;
use super::{require_object, within};
use crate::api::error::ApiError;

/// Reads a document that has to be an object and may hold secrets: a refusal says where and what is expected, and nothing of
/// what is there.
pub(crate) fn parse_quietly<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    require_object(bytes, |error| {
        let what = match error.is_data() {
            true => "has a member twice",
            false => "is not valid JSON",
        };
        format!("{what}, at line {} column {}", error.line(), error.column())
    })?;
    typed(&mut serde_json::Deserializer::from_slice(bytes), "")
}

/// Reads one entry of a list, or a body, that was kept raw and may hold secrets; `at` names it in errors, such as
/// `resources[0]`.
pub(crate) fn entry_quietly<T: DeserializeOwned>(value: &Value, at: &str) -> Result<T, ApiError> {
    if !value.is_object() {
        return Err(ApiError::field(at, "expected an object"));
    }
    typed(value, at)
}

fn typed<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    reader: D,
    at: &str,
) -> Result<T, ApiError> {
    // What stands in the wrong place may be the name of a member.
    let mut unknown = |_: serde_ignored::Path<'_>| tracing::debug!(at, "unknown request field");
    let reader = serde_ignored::Deserializer::new(reader, &mut unknown);
    serde_path_to_error::deserialize(reader).map_err(|error| {
        // The members of the request's types are known; the keys of metadata are the client's own.
        let path = error.path().to_string();
        let path = match path.split_once("metadata.") {
            Some((front, _)) => format!("{front}metadata"),
            None => path,
        };
        let problem = quiet(&error.inner().to_string());
        match within(at, &path).as_str() {
            "" => ApiError::invalid(problem),
            path => ApiError::field(path, problem),
        }
    })
}

/// What serde says is expected, without what it has found.
fn quiet(text: &str) -> String {
    let place = text.rfind(" at line ").unwrap_or(text.len());
    let text = &text[..place];
    if text.starts_with("missing field `") {
        return text.to_owned();
    }
    let known = [
        "invalid type: ",
        "invalid value: ",
        "invalid length ",
        "unknown variant `",
    ];
    let known = known.iter().any(|known| text.starts_with(known));
    let text = in_words(text.to_owned());
    let expected = text.rsplit_once(", expected ").filter(|_| known);
    match expected {
        Some((_, expected)) => format!("expected {expected}"),
        None => "is not as documented".to_owned(),
    }
}

#[cfg(test)]
mod tests;
