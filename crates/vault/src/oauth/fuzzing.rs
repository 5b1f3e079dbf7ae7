//! The part of the doors for fuzz targets that is about token endpoints.

use http::StatusCode;
use secrecy::ExposeSecret as _;

use super::answer::{self, Answer};

/// See [`crate::fuzzing::granted`].
pub(crate) fn granted(status: u16, body: &[u8]) -> Option<Vec<String>> {
    let status = StatusCode::from_u16(status).ok()?;
    let Answer::Granted(granted) = answer::read(status, Some(body)) else {
        return None;
    };
    let tokens = [Some(granted.access_token), granted.refresh_token];
    let shown = |token: secrecy::SecretString| token.expose_secret().to_owned();
    Some(tokens.into_iter().flatten().map(shown).collect())
}
