//! Threads of a session (api §12). Rosters are not built, so each session has its primary thread and no other.

use axum::Json as Reply;
use axum::extract::State;
use manyhands_protocol::ThreadId;
use manyhands_protocol::page::Page;
use manyhands_protocol::session::{Session, SessionStatus};
use serde_json::{Value, json};

use crate::api::auth::Principal;
use crate::api::error::ApiError;
use crate::api::query::{Ids, Query};
use crate::api::sessions::shown;
use crate::app::App;

/// The primary thread as shown in responses. `stats` are null until the first status change, `usage` until the first
/// idle.
fn primary(session: &Session, thread: &ThreadId, started: bool) -> Value {
    let mut agent = json!(session.agent);
    if let Some(agent) = agent.as_object_mut() {
        agent.remove("multiagent");
    }
    let rested = started && session.status != SessionStatus::Running;
    json!({
        "id": thread,
        "type": "session_thread",
        "session_id": session.id,
        "agent": agent,
        "status": session.status,
        "parent_thread_id": null,
        "workflow_run_id": null,
        "stats": started.then_some(&session.stats),
        "usage": rested.then_some(&session.usage),
        "created_at": session.created_at,
        "updated_at": session.updated_at,
        "archived_at": session.archived_at,
    })
}

async fn load(
    app: &App,
    principal: &Principal,
    ids: &Ids,
) -> Result<(Session, ThreadId, bool), ApiError> {
    let record = app
        .store
        .session(&principal.workspace, &ids.session()?)
        .await?;
    let record = record.ok_or_else(|| ApiError::not_found("session"))?;
    let thread = record.thread_id.clone();
    let started =
        record.running_since.is_some() || record.active_millis > 0 || record.last_position > 0;
    Ok((shown(record, app.now()), thread, started))
}

/// `GET /v1/sessions/{session_id}/threads`
pub(crate) async fn list_threads(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    query: Query,
) -> Result<Reply<Page<Value>>, ApiError> {
    query.only(&["limit", "page", "statuses"], &[])?;
    query.limit(1000, 1000)?;
    if query.text("page")?.is_some() {
        return Err(ApiError::field("page", "is not a cursor of this list"));
    }
    let statuses: Vec<&str> = query.list("statuses").collect();
    if statuses
        .iter()
        .any(|text| SessionStatus::parse(text).is_none())
    {
        return Err(ApiError::field(
            "statuses",
            "expected rescheduling, running, idle or terminated",
        ));
    }
    let (session, thread, started) = load(&app, &principal, &ids).await?;
    let shown = statuses.is_empty() || statuses.contains(&session.status.as_str());
    Ok(Reply(Page {
        data: shown
            .then(|| primary(&session, &thread, started))
            .into_iter()
            .collect(),
        next_page: None,
    }))
}

/// `GET /v1/sessions/{session_id}/threads/{thread_id}`
pub(crate) async fn retrieve_thread(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<Value>, ApiError> {
    let id = ids.thread()?;
    let (session, thread, started) = load(&app, &principal, &ids).await?;
    if thread != id {
        return Err(ApiError::not_found("thread"));
    }
    Ok(Reply(primary(&session, &thread, started)))
}

/// `POST /v1/sessions/{session_id}/threads/{thread_id}/archive`: the primary thread ends with its session only
/// (architecture §3).
pub(crate) async fn archive_thread(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<Value>, ApiError> {
    let id = ids.thread()?;
    let (_, thread, _) = load(&app, &principal, &ids).await?;
    if thread != id {
        return Err(ApiError::not_found("thread"));
    }
    Err(ApiError::invalid(
        "the primary thread cannot be archived; archive the session instead",
    ))
}
