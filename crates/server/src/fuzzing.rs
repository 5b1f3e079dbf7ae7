//! Doors for the fuzz targets to what is private here (security INP-6). No part of the server.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::Request;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use manyhands_protocol::agent::{AgentCreateParams, AgentUpdateParams};
use manyhands_protocol::content::ContentBlock;
use manyhands_protocol::environment::EnvironmentCreateParams;
use manyhands_protocol::event::EventBody;
use manyhands_protocol::memory::{
    MemoryCreateParams, MemoryStoreCreateParams, MemoryStoreUpdateParams, MemoryUpdateParams,
};
use manyhands_protocol::session::{SessionCreateParams, SessionUpdateParams};
use manyhands_protocol::user_profile::{ActionUrlParams, UserProfileParams};
use manyhands_protocol::vault::{CredentialCreateParams, VaultCreateParams};
use manyhands_protocol::{EventId, ThreadId, Timestamp};
use manyhands_store::{Entry, EntryKind};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::cursor::{self, Place};
use crate::api::error::ApiError;
use crate::api::keys::KeyCreateParams;
use crate::api::multipart::{self, Parts};
use crate::api::query::Query;
use crate::api::workspaces::WorkspaceParams;
use crate::api::{admission, files, json, resources, stream};

fn told<T>(result: Result<T, ApiError>) -> Result<T, String> {
    result.map_err(|error| error.message().to_owned())
}

/// The document that these bytes are as the body of a request.
///
/// # Errors
/// What the client reads.
pub fn body(bytes: &[u8]) -> Result<Value, String> {
    told(json::parse(bytes))
}

/// What the client reads when these bytes are no body of each kind that a request may have.
pub fn refusals(bytes: &[u8]) -> Vec<String> {
    fn refusal<T: DeserializeOwned>(bytes: &[u8]) -> Option<String> {
        told(json::parse::<T>(bytes)).err()
    }
    let readers = [
        refusal::<AgentCreateParams>,
        refusal::<AgentUpdateParams>,
        refusal::<EnvironmentCreateParams>,
        refusal::<SessionCreateParams>,
        refusal::<SessionUpdateParams>,
        refusal::<VaultCreateParams>,
        refusal::<MemoryStoreCreateParams>,
        refusal::<MemoryStoreUpdateParams>,
        refusal::<MemoryCreateParams>,
        refusal::<MemoryUpdateParams>,
        refusal::<UserProfileParams>,
        refusal::<ActionUrlParams>,
        refusal::<KeyCreateParams>,
        refusal::<WorkspaceParams>,
    ];
    readers.iter().filter_map(|read| read(bytes)).collect()
}

/// What the client reads when these bytes are no body with a secret.
pub fn quiet_refusals(bytes: &[u8]) -> Vec<String> {
    let read = [
        told(json::parse_quietly::<CredentialCreateParams>(bytes).map(drop)),
        told(json::parse_quietly::<SessionCreateParams>(bytes).map(drop)),
        told(json::parse_quietly::<Value>(bytes).map(drop)),
    ];
    read.into_iter().filter_map(Result::err).collect()
}

/// A part of a body of multipart/form-data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: Option<String>,
    /// The name of the file in it.
    pub file_name: Option<String>,
    /// Its content.
    pub content: Vec<u8>,
}

/// The parts of a body of this content type that comes in these pieces; of at most `most` parts.
///
/// # Errors
/// What the client reads.
pub async fn parts(kind: &str, pieces: Vec<Vec<u8>>, most: usize) -> Result<Vec<Part>, String> {
    let pieces = pieces.into_iter().map(Ok::<_, Infallible>);
    let mut request = Request::new(Body::from_stream(futures::stream::iter(pieces)));
    let kind = HeaderValue::from_str(kind).map_err(|error| error.to_string())?;
    request.headers_mut().insert(CONTENT_TYPE, kind);
    let mut parts = Parts::of(request, most);
    let all = async {
        let mut all = Vec::new();
        while let Some(mut field) = parts.next().await? {
            let mut part = Part {
                name: field.name().map(str::to_owned),
                file_name: field.file_name().map(str::to_owned),
                content: Vec::new(),
            };
            while let Some(piece) = multipart::piece(&mut field).await? {
                part.content.extend_from_slice(&piece);
            }
            all.push(part);
        }
        Ok(all)
    };
    let all = all.await;
    told(parts.end(all).await)
}

/// How many events this `events` of a request has.
///
/// # Errors
/// What the client reads.
pub fn events(events: &[Value]) -> Result<usize, String> {
    told(admission::read_events(events)).map(|events| events.len())
}

/// The names and values of a query, or why it is refused.
///
/// # Errors
/// What the client reads.
pub fn query(text: &str) -> Result<Vec<(String, String)>, String> {
    let query = told(Query::parse(text))?;
    // Whatever is asked of it, it answers.
    told(query.limit(20, 100))?;
    told(query.instant("created_at[gte]"))?;
    told(query.version("version"))?;
    Ok(query.pairs().to_vec())
}

/// The cursor that stands for the same place as this one.
pub fn cursor(text: &str) -> Option<String> {
    let query = Query::from_text(&format!("page={text}"));
    let place: Place = cursor::decode("fuzz", &query).ok()??;
    Some(cursor::encode("fuzz", &place))
}

/// The path in the sandbox that this one of a file resource stands for.
pub fn mount_path(given: &str) -> Option<String> {
    resources::path::canonical(given).ok()
}

/// The name of a sent file.
pub fn upload_name(sent: &str, kind: &str) -> Option<String> {
    files::name::of_upload(Some(sent), Some(kind)).ok()
}

/// The name of what a sandbox wrote at this path.
pub fn output_name(path: &str) -> String {
    files::name::of_output(path)
}

/// What is said to be in a file of this name, sent as this.
pub fn mime_type(name: &str, sent: &str) -> String {
    files::name::mime_type(name, Some(sent))
}

/// The header with the name of a file.
pub fn disposition(name: &str) -> String {
    files::name::disposition(name)
}

/// The frame of an agent's message as it is streamed, at position 1.
pub fn frame(text: &str) -> String {
    let body = EventBody::AgentMessage {
        content: vec![ContentBlock::text(text)],
    };
    let entry = Entry {
        position: 1,
        kind: EntryKind::Event,
        event_id: EventId::generate(),
        type_name: body.type_name().into(),
        thread_id: ThreadId::generate(),
        body: serde_json::to_string(&body).unwrap_or_default().into(),
        processed_at: None,
        created_at: Timestamp::from_micros(0),
        epoch: 1,
    };
    stream::frames(&[entry])
}

/// Reads a configuration file.
///
/// # Errors
/// What the operator reads.
pub fn config(text: &str) -> Result<(), String> {
    crate::config::fuzzing(text).map_err(|error| error.to_string())
}
