//! The part of the doors for fuzz targets that is about chat completions.

use super::assembly::Assembly;
use super::request::{Translated, translate};
use super::{Dialect, OutputLimit};
use crate::models::Response;
use crate::models::fuzzing::Shown;

/// The message that these chunks of a chat completion are, if they are one.
pub fn completion<'d>(
    chunks: impl Iterator<Item = &'d str>,
    shown: &mut Shown,
) -> Option<Response> {
    let mut message = Assembly::default();
    for chunk in chunks {
        message.event(chunk, shown).ok()?;
        if message.is_done() {
            break;
        }
    }
    message.finish(&Translated::default(), shown).ok()
}

/// The body of a Messages request as that of a chat completion, if it can be said.
pub fn translated(body: &[u8]) -> Option<Vec<u8>> {
    let dialect = Dialect {
        output_limit: Some(OutputLimit::MaxTokens),
        effort: true,
    };
    Some(translate(body, dialect).ok()?.body.to_vec())
}
