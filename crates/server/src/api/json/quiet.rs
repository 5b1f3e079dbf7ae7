//! Reading what may hold secrets: no refusal quotes a part of it (security CRED-2).

use serde::de::DeserializeOwned;

use super::require_object;
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
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        // The members of the request's types are known; the keys of metadata are the client's own.
        let path = error.path().to_string();
        let path = match path.split_once("metadata.") {
            Some((front, _)) => format!("{front}metadata"),
            None => path,
        };
        let problem = quiet(&error.inner().to_string());
        match path.as_str() {
            "." => ApiError::invalid(problem),
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
    let known = ["invalid type: ", "invalid value: ", "unknown variant `"];
    let expected = text
        .rsplit_once(", expected ")
        .filter(|_| known.iter().any(|known| text.starts_with(known)));
    match expected {
        Some((_, expected)) => format!("expected {expected}"),
        None => "is not as documented".to_owned(),
    }
}
