//! Sessions: create, read, change, end (api §7, runtime §4, §12).

mod create;
#[cfg(test)]
pub(crate) mod sample;
pub(crate) mod snapshot;
pub(crate) mod update;
mod vaults;

use std::time::Duration;

use axum::Json as Reply;
use axum::extract::State;
use manyhands_protocol::event::EventBody;
use manyhands_protocol::page::{BidirectionalPage, Order};
use manyhands_protocol::session::{
    CacheCreation, Session, SessionDeleted, SessionFilter, SessionStatus, SessionUpdateParams,
    Stats, Usage,
};
use manyhands_protocol::{AgentId, MemoryStoreId, SessionId, Timestamp};
use manyhands_store::{Append, Change, NewEntry, SessionRecord, SessionState};

use crate::api::agents::definition;
use crate::api::auth::Principal;
use crate::api::cursor::Paging;
use crate::api::error::ApiError;
use crate::api::json::Json;
use crate::api::query::{Ids, Query, Times};
use crate::api::resources;
use crate::app::App;
use crate::failpoint::failpoint;

pub(crate) use create::create_session;

const TITLE: usize = 2048;
/// How long a request waits for a sandbox to be gone; the sweep at the next start takes what is left.
const DESTROY: Duration = Duration::from_secs(10);

/// A session as shown in responses, at the time `now`.
pub(crate) fn shown(record: SessionRecord, now: Timestamp) -> Session {
    let seconds = |millis: i64| millis as f64 / 1000.0;
    let active_seconds = seconds(record.active_millis_at(now));
    let list_cost = record.consumption_at(now).list_cost();
    let end = record.terminated_at.unwrap_or(now);
    Session {
        stats: Stats {
            active_seconds,
            duration_seconds: seconds(end.millis_since(record.created_at)),
        },
        usage: Usage {
            input_tokens: record.usage.input_tokens,
            output_tokens: record.usage.output_tokens,
            cache_read_input_tokens: record.usage.cache_read_input_tokens,
            cache_creation: CacheCreation {
                ephemeral_1h_input_tokens: record.usage.cache_creation_1h_input_tokens,
                ephemeral_5m_input_tokens: record.usage.cache_creation_5m_input_tokens,
            },
            active_seconds,
            list_cost,
            server_tool_use: Some(record.usage.server_tool_use()),
        },
        id: record.id,
        kind: Default::default(),
        title: record.title,
        status: record.status,
        environment_id: record.environment_id,
        agent: record.agent,
        vault_ids: record.vault_ids,
        metadata: record.metadata,
        resources: Vec::new(),
        outcome_evaluations: Vec::new(),
        budget: record.budget,
        deployment_id: None,
        created_at: record.created_at,
        updated_at: record.updated_at,
        archived_at: record.archived_at,
    }
}

/// A session as shown in responses, with its resources.
async fn whole(app: &App, record: SessionRecord) -> Result<Session, ApiError> {
    let resources = resources::of(app, &record.id).await?;
    Ok(Session {
        resources,
        ..shown(record, app.now())
    })
}

/// The session, if it is the caller's (security API-2).
pub(crate) async fn require(
    app: &App,
    principal: &Principal,
    id: &SessionId,
) -> Result<SessionRecord, ApiError> {
    let found = app.store.session(&principal.workspace, id).await?;
    found.ok_or_else(missing)
}

fn missing() -> ApiError {
    ApiError::not_found("session")
}

fn title(given: Option<String>) -> Result<Option<String>, ApiError> {
    if let Some(title) = &given {
        definition::text("title", title, 0, TITLE)?;
    }
    Ok(given)
}

/// `GET /v1/sessions/{session_id}`
pub(crate) async fn retrieve_session(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<Session>, ApiError> {
    let record = require(&app, &principal, &ids.session()?).await?;
    Ok(Reply(whole(&app, record).await?))
}

/// `POST /v1/sessions/{session_id}`
pub(crate) async fn update_session(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    Json(params): Json<SessionUpdateParams>,
) -> Result<Reply<Session>, ApiError> {
    let id = ids.session()?;
    let patch = update::parse(params)?;
    if let Some(tools) = patch.tools.as_ref().filter(|_| app.web_within_environment) {
        let record = require(&app, &principal, &id).await?;
        let environment = &record.environment_id;
        let environment = app
            .store
            .environment(&principal.workspace, environment)
            .await?;
        if let Some(environment) = environment {
            definition::within(tools, &environment.config, "agent.tools")?;
        }
    }
    let changed = app
        .store
        .change(&principal.workspace, &id, &[], move |state| {
            update::decide(state, patch).map(|change| (change, ()))
        })
        .await?;
    changed.ok_or_else(missing)??;
    failpoint!("server::session_updated");
    let record = require(&app, &principal, &id).await?;
    Ok(Reply(whole(&app, record).await?))
}

/// `GET /v1/sessions`
pub(crate) async fn list_sessions(
    State(app): State<App>,
    principal: Principal,
    query: Query,
) -> Result<Reply<BidirectionalPage<Session>>, ApiError> {
    let times = query.times()?;
    let filter = filter(&query, times)?;
    let paging = Paging::read("sessions", &query, query.order(Order::Desc)?, (20, 100))?;
    paging.require_within(&times)?;
    let found = app
        .store
        .list_sessions(&principal.workspace, &filter, &paging.range())
        .await?;
    let cut = paging.cut(found, |record| (record.created_at, record.id.to_string()));
    let now = app.now();
    let ids: Vec<SessionId> = cut.data.iter().map(|record| record.id.clone()).collect();
    let mut resources = resources::of_all(&app, &ids).await?;
    let with_resources = |record: SessionRecord| Session {
        resources: resources.remove(&record.id).unwrap_or_default(),
        ..shown(record, now)
    };
    Ok(Reply(BidirectionalPage {
        data: cut.data.into_iter().map(with_resources).collect(),
        next_page: cut.next,
        prev_page: cut.prev,
    }))
}

fn filter(query: &Query, times: Times) -> Result<SessionFilter, ApiError> {
    let agent_id = query.id("agent_id", AgentId::parse)?;
    let agent_version = query.version("agent_version")?;
    if agent_version.is_some() && agent_id.is_none() {
        return Err(ApiError::field("agent_version", "needs agent_id"));
    }
    let statuses = query.list("statuses").map(|text| {
        let problem = "expected rescheduling, running, idle or terminated";
        SessionStatus::parse(text).ok_or_else(|| ApiError::field("statuses", problem))
    });
    Ok(SessionFilter {
        agent_id,
        agent_version,
        memory_store_id: query.id("memory_store_id", MemoryStoreId::parse)?,
        statuses: statuses.collect::<Result<_, _>>()?,
        created_after: times.after,
        created_from: times.from,
        created_before: times.before,
        created_to: times.to,
        include_archived: query.flag("include_archived")?,
    })
}

/// A session at work is neither archived nor deleted (runtime UP-7, UP-8).
fn refuse_working(state: &SessionState, deed: &str) -> Result<(), ApiError> {
    match state.record.status {
        SessionStatus::Running | SessionStatus::Rescheduling => Err(ApiError::invalid(format!(
            "the session is {} and cannot be {deed}: send user.interrupt and wait for session.status_idle",
            state.record.status.as_str()
        ))),
        SessionStatus::Idle | SessionStatus::Terminated => Ok(()),
    }
}

/// What archiving writes (runtime SQ-19); nothing when it is archived.
fn archive(state: &SessionState) -> Result<Change, ApiError> {
    refuse_working(state, "archived")?;
    let record = &state.record;
    let mut append = Append::default();
    if record.status == SessionStatus::Idle {
        append.status = Some(SessionStatus::Terminated);
        append.entries = vec![
            NewEntry::event(EventBody::SessionThreadStatusTerminated {
                session_thread_id: record.thread_id.clone(),
                agent_name: record.agent.definition.name.clone(),
            }),
            NewEntry::event(EventBody::SessionStatusTerminated {}),
        ];
    }
    Ok(Change {
        append,
        archive: record.archived_at.is_none(),
        ..Change::default()
    })
}

/// `POST /v1/sessions/{session_id}/archive`: for good, and repeating it changes nothing.
pub(crate) async fn archive_session(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<Session>, ApiError> {
    let id = ids.session()?;
    let decide = |state: &SessionState| archive(state).map(|change| (change, ()));
    let archived = app
        .store
        .change(&principal.workspace, &id, &[], decide)
        .await?;
    archived.ok_or_else(missing)??;
    failpoint!("server::session_archived");
    if let Some(hands) = app.hands.clone() {
        let session = id.clone();
        tokio::spawn(async move {
            if let Err(error) = hands.release(session.as_str()).await {
                tracing::warn!(session.id = %session, %error, "the sandbox of an archived session still runs");
            }
        });
    }
    let record = require(&app, &principal, &id).await?;
    Ok(Reply(whole(&app, record).await?))
}

/// `DELETE /v1/sessions/{session_id}`: the log, then the sandbox (runtime UP-8, EN-20).
pub(crate) async fn delete_session(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<SessionDeleted>, ApiError> {
    let id = ids.session()?;
    let decide = |state: &SessionState| {
        refuse_working(state, "deleted")?;
        let change = Change {
            delete: true,
            ..Change::default()
        };
        Ok::<_, ApiError>((change, ()))
    };
    let deleted = app
        .store
        .change(&principal.workspace, &id, &[], decide)
        .await?;
    deleted.ok_or_else(missing)??;
    failpoint!("server::session_deleted");
    let destroy = async {
        match &app.hands {
            Some(hands) => hands.destroy(id.as_str()).await,
            // The servers that wake sessions sweep.
            None => Ok(()),
        }
    };
    match tokio::time::timeout(DESTROY, destroy).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(session.id = %id, %error, "the sandbox of a deleted session is left over")
        }
        Err(_) => {
            tracing::warn!(session.id = %id, "the sandbox of a deleted session takes long to go")
        }
    }
    Ok(Reply(SessionDeleted {
        id,
        kind: Default::default(),
    }))
}
