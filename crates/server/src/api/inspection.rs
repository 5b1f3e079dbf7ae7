//! What an operator may want to know of a session beyond the public contract: what it waits for (security I8), and the
//! summaries that stand for parts of its conversation (runtime CC-2).

use axum::Json as Reply;
use axum::extract::State;
use manyhands_brain::{HistoryError, Summary, Why};
use manyhands_protocol::SessionId;
use manyhands_store::SessionRecord;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::api::auth::Principal;
use crate::api::error::ApiError;
use crate::api::query::Ids;
use crate::app::App;

/// What a session waits for.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ShownWhy {
    session_id: SessionId,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    #[schemars(with = "Map<String, Value>")]
    why: Why,
}

/// The summaries of a session, oldest first.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ShownSummaries {
    #[schemars(with = "Vec<Map<String, Value>>")]
    data: Vec<Summary>,
}

async fn load(app: &App, principal: &Principal, ids: &Ids) -> Result<SessionRecord, ApiError> {
    let session = ids.session()?;
    let record = app.store.session(&principal.workspace, &session).await?;
    record.ok_or_else(|| ApiError::not_found("session"))
}

/// `GET /v1/manyhands/sessions/{session_id}/why`: what it waits for, since when, and who has to act.
pub(crate) async fn explain_session(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<ShownWhy>, ApiError> {
    let record = load(&app, &principal, &ids).await?;
    let why = manyhands_brain::why(&app.store, &app.activities, &record, app.now()).await?;
    Ok(Reply(ShownWhy {
        session_id: record.id,
        kind: "session_why",
        why,
    }))
}

/// `GET /v1/manyhands/sessions/{session_id}/compactions`: what the model reads in place of the older conversation.
pub(crate) async fn list_compactions(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<ShownSummaries>, ApiError> {
    let record = load(&app, &principal, &ids).await?;
    let data = manyhands_brain::compactions(&app.store, &record.id).await?;
    Ok(Reply(ShownSummaries { data }))
}

impl From<HistoryError> for ApiError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Store(error) => error.into(),
            HistoryError::Unreadable(reason) => {
                tracing::error!(reason, "a session's log cannot be read");
                Self::internal()
            }
        }
    }
}
