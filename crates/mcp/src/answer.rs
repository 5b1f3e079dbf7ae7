//! Reading the answer to a POST.

use http::header::CONTENT_TYPE;
use reqwest::{Response, StatusCode};
use serde_json::Value;

use crate::fault::Fault;
use crate::scrub::Scrub;
use crate::wire::{self, Incoming};

/// How much of a refusal is read, in bytes.
const REFUSAL: usize = 64 << 10;
/// Errors of the protocol that are no answer to the request itself, but say why it was not looked at.
const ABOUT_THE_REQUEST: std::ops::RangeInclusive<i64> = -32022..=-32020;

/// What an answer is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Json,
    Events,
    Nothing,
    Other,
}

/// As its head says.
pub(crate) fn kind(response: &Response) -> Kind {
    let media_type = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media_type = media_type
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    if matches!(
        response.status(),
        StatusCode::ACCEPTED | StatusCode::NO_CONTENT
    ) {
        Kind::Nothing
    } else if media_type.eq_ignore_ascii_case("application/json") {
        Kind::Json
    } else if media_type.eq_ignore_ascii_case("text/event-stream") {
        Kind::Events
    } else if response.content_length() == Some(0) {
        Kind::Nothing
    } else {
        Kind::Other
    }
}

/// The result in an answer of one piece.
pub(crate) async fn whole(response: Response, id: u64, most: usize) -> Result<Value, Fault> {
    let body = body(response, most).await?;
    if body.trim_ascii().is_empty() {
        return Err(Fault::Lost("the server's answer is empty".to_owned()));
    }
    let messages = wire::read(&body)
        .map_err(|error| Fault::Lost(format!("the server's answer cannot be read: {error}")))?;
    for message in messages {
        match message {
            Incoming::Answer(of, outcome) if of == Some(id) => return outcome.map_err(Fault::Rpc),
            // It could not tell which request it was; there is only this one.
            Incoming::Answer(None, Err(error)) => return Err(Fault::Rpc(error)),
            _ => {}
        }
    }
    Err(Fault::Lost(
        "the server's answer is to something else".to_owned(),
    ))
}

/// What an unsuccessful status comes to. One of 500 or more may come from between us and the server.
pub(crate) async fn refusal(response: Response, id: u64, scrub: &Scrub) -> Fault {
    let status = response.status();
    let is_json = kind(&response) == Kind::Json;
    // Too long, or cut off: the status says enough.
    let body = body(response, REFUSAL).await.unwrap_or_default();
    if is_json && let Ok(messages) = wire::read(&body) {
        for message in messages {
            match message {
                Incoming::Answer(of, Err(error))
                    if of == Some(id) || ABOUT_THE_REQUEST.contains(&error.code) =>
                {
                    return Fault::Rpc(error);
                }
                _ => {}
            }
        }
    }
    let said = scrub.said(&body);
    let reason = match said.as_str() {
        "" => format!("the server answers with status {}", status.as_u16()),
        said => format!("the server answers with status {}: {said}", status.as_u16()),
    };
    if status.is_server_error() {
        Fault::Lost(reason)
    } else {
        Fault::Refused {
            status: status.as_u16(),
            reason,
        }
    }
}

async fn body(mut response: Response, most: usize) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    while let Some(piece) = response
        .chunk()
        .await
        .map_err(|_| Fault::Lost("the answer broke off".to_owned()))?
    {
        if body.len() + piece.len() > most {
            return Err(Fault::TooLarge(most));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}
