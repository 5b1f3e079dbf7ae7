//! Threads of a session (api §12). Rosters are not built, so each session has its primary thread and no other.

use axum::Json as Reply;
use axum::extract::State;
use manyhands_protocol::page::Page;
use manyhands_protocol::session::{Session, SessionStatus};
use manyhands_protocol::thread::SessionThread;
use manyhands_protocol::{SessionId, ThreadId, Timestamp};
use manyhands_store::SessionRecord;
use manyhands_store::listing::EventRange;

use crate::api::auth::Principal;
use crate::api::error::ApiError;
use crate::api::query::{Ids, Query};
use crate::api::sessions::{require, shown};
use crate::app::App;

/// How far a thread has come in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress {
    /// Whether its status ever changed: it has `stats` from then on.
    moved: bool,
    /// Whether it was ever idle after work: it has `usage` from then on.
    rested: bool,
}

/// The primary thread as shown in responses. Its usage is its own: tokens at their prices, without the session's
/// running time (runtime US-3).
fn primary(record: SessionRecord, progress: Progress, now: Timestamp) -> SessionThread {
    let thread = record.thread_id.clone();
    let list_cost = record.usage.consumption(0, now).list_cost();
    let Session {
        id,
        agent,
        status,
        stats,
        mut usage,
        created_at,
        updated_at,
        archived_at,
        ..
    } = shown(record, now);
    usage.list_cost = list_cost;
    usage.active_seconds = stats.active_seconds;
    SessionThread {
        id: thread,
        kind: Default::default(),
        session_id: id,
        agent: agent.into(),
        status,
        parent_thread_id: None,
        workflow_run_id: None,
        stats: progress.moved.then_some(stats),
        usage: progress.rested.then_some(usage),
        created_at,
        updated_at,
        archived_at,
    }
}

/// The session's row, when the thread is its primary one.
async fn load_thread(
    app: &App,
    principal: &Principal,
    ids: &Ids,
) -> Result<SessionRecord, ApiError> {
    let thread: ThreadId = ids.thread()?;
    let record = require(app, principal, &ids.session()?).await?;
    if record.thread_id == thread {
        Ok(record)
    } else {
        Err(ApiError::not_found("thread"))
    }
}

async fn show(app: &App, record: SessionRecord) -> Result<SessionThread, ApiError> {
    let moved = [
        "session.thread_status_running",
        "session.thread_status_terminated",
    ];
    let moved = has_event(app, &record.id, &moved).await?;
    let rested = moved && has_event(app, &record.id, &["session.thread_status_idle"]).await?;
    Ok(primary(record, Progress { moved, rested }, app.now()))
}

/// Whether the log has an event of one of these types.
async fn has_event(app: &App, session: &SessionId, types: &[&str]) -> Result<bool, ApiError> {
    let range = EventRange {
        limit: 1,
        types: types.iter().map(|&name| name.to_owned()).collect(),
        ..EventRange::default()
    };
    Ok(!app.store.list_events(session, &range).await?.is_empty())
}

/// `GET /v1/sessions/{session_id}/threads`
pub(crate) async fn list_threads(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    query: Query,
) -> Result<Reply<Page<SessionThread>>, ApiError> {
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
    let record = require(&app, &principal, &ids.session()?).await?;
    let mut data = Vec::new();
    if statuses.is_empty() || statuses.contains(&record.status.as_str()) {
        data.push(show(&app, record).await?);
    }
    Ok(Reply(Page {
        data,
        next_page: None,
    }))
}

/// `GET /v1/sessions/{session_id}/threads/{thread_id}`
pub(crate) async fn retrieve_thread(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<SessionThread>, ApiError> {
    let record = load_thread(&app, &principal, &ids).await?;
    Ok(Reply(show(&app, record).await?))
}

/// `POST /v1/sessions/{session_id}/threads/{thread_id}/archive`: the primary thread ends with its session only
/// (architecture §3).
pub(crate) async fn archive_thread(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<SessionThread>, ApiError> {
    load_thread(&app, &principal, &ids).await?;
    Err(ApiError::invalid(
        "the primary thread cannot be archived; archive the session instead",
    ))
}
