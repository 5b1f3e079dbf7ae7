//! Sessions: create, read, change, end (api §7, runtime §4, §12).

pub(crate) mod snapshot;
pub(crate) mod update;
mod vaults;

use std::time::Duration;

use axum::Json as Reply;
use axum::extract::State;
use manyhands_protocol::event::EventBody;
use manyhands_protocol::page::{BidirectionalPage, Order};
use manyhands_protocol::session::{
    AgentParam, CacheCreation, Session, SessionCreateParams, SessionDeleted, SessionFilter,
    SessionStatus, SessionUpdateParams, Stats, Usage,
};
use manyhands_protocol::{AgentId, EnvironmentId, MemoryStoreId, SessionId, ThreadId, Timestamp};
use manyhands_store::{Append, Change, Created, NewEntry, NewSession, SessionRecord, SessionState};

use crate::api::admission;
use crate::api::agents::definition;
use crate::api::attachments::{Reach, attach};
use crate::api::auth::Principal;
use crate::api::cursor::Paging;
use crate::api::error::ApiError;
use crate::api::json::Json;
use crate::api::query::{Ids, Query};
use crate::api::resources;
use crate::api::skills::refs;
use crate::app::App;
use crate::failpoint::failpoint;

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

/// `POST /v1/sessions`
pub(crate) async fn create_session(
    State(app): State<App>,
    principal: Principal,
    Json(params): Json<SessionCreateParams>,
) -> Result<Reply<Session>, ApiError> {
    let vault_ids = vaults::read(params.vault_ids.unwrap_or_default())?;
    let budget = params.budget.as_ref().map(update::budget).transpose()?;
    let title = title(params.title)?;
    let metadata = definition::metadata(params.metadata.unwrap_or_default())?;
    let environment_id = EnvironmentId::parse(&params.environment_id)
        .map_err(|problem| ApiError::field("environment_id", problem.to_string()))?;
    let mut events = admission::read_initial_events(&params.initial_events.unwrap_or_default())?;

    let (agent_id, version) = snapshot::reference(&params.agent)?;
    let (agent, environment) = tokio::try_join!(
        app.store.agent(&principal.workspace, &agent_id, version),
        app.store.environment(&principal.workspace, &environment_id),
    )?;
    let agent = agent.ok_or_else(|| ApiError::not_found("agent"))?;
    if agent.archived_at.is_some() {
        return Err(archived_agent());
    }
    let environment = environment.ok_or_else(|| ApiError::not_found("environment"))?;
    if environment.archived_at.is_some() {
        return Err(archived_environment());
    }
    let mut wanted = resources::wanted(params.resources.unwrap_or_default().0, &environment)?;
    let overrides = match params.agent {
        AgentParam::Id(_) => None,
        AgentParam::Object(object) => Some(*object),
    };
    let skills = match &overrides {
        Some(overrides) => refs::replaced(&app, &principal.workspace, &overrides.skills)
            .await
            .map_err(|error| error.inside("agent"))?,
        None => None,
    };
    let agent = snapshot::resolve(agent, overrides, skills, app.catalog())?;
    let skills = agent.definition.skills.clone();
    let announced = refs::announced(&app, &principal.workspace, &skills).await?;
    if app.web_within_environment {
        definition::within(&agent.definition.tools, &environment.config, "agent")?;
    }
    if budget.is_some() && !app.catalog().is_priced(&agent.definition.model.id) {
        return Err(unpriced(&agent.definition.model.id));
    }

    let reach = Reach {
        workspace: &principal.workspace,
        session: None,
    };
    attach(&app, reach, &mut events, "initial_events").await?;
    let thread_id = ThreadId::generate();
    let change = admission::begin(&thread_id, &agent.definition.name, events);
    let running = change.append.status.is_some();
    let mut session = NewSession {
        workspace: principal.workspace.clone(),
        id: SessionId::generate(),
        thread_id,
        environment_id,
        agent,
        title,
        metadata,
        budget,
        vault_ids,
        change,
    };
    let id = session.id.clone();
    let has_resources = !wanted.is_empty();
    let belongings = wanted.belongings(&app, &principal.workspace, &id).await?;
    if let Some(entry) = resources::entry(&belongings.repositories) {
        session.change.append.entries.insert(0, entry);
    }
    if !announced.is_empty() {
        let entry = manyhands_brain::skills(&announced);
        session.change.append.entries.insert(0, entry);
    }
    let created = app.store.create_session_with(session, belongings).await?;
    match created {
        Created::Done => {}
        Created::Gone => return Err(gone_meanwhile()),
        Created::NoVault(_) => return Err(ApiError::not_found("vault")),
        Created::ArchivedVault(index) => return Err(vaults::archived(index)),
        Created::Refused(refusal) => return Err(wanted.refused(refusal)),
        Created::NoSkill(index) => return Err(refs::gone(&skills, index)),
        Created::NotAttached(refusal) => return Err(wanted.not_attached(refusal)),
    }
    failpoint!("server::session_stored");
    let record = app.store.session(&principal.workspace, &id).await?;
    let mut record = record.ok_or_else(|| ApiError::not_found("session"))?;
    if running {
        // The brain may be done by now; the answer shows the session as it was made (LC-6).
        record.status = SessionStatus::Running;
        record.usage = Default::default();
    }
    let mut session = shown(record, app.now());
    if has_resources {
        session.resources = resources::of(&app, &id).await?;
    }
    Ok(Reply(session))
}

fn archived_agent() -> ApiError {
    ApiError::field("agent", "the agent is archived and cannot start sessions")
}

fn archived_environment() -> ApiError {
    let error = ApiError::field(
        "environment_id",
        "the environment is archived and cannot start sessions",
    );
    error.with_code("environment_archived")
}

fn unpriced(model: &str) -> ApiError {
    let problem = format!("{model} has no list price, so its cost cannot be capped");
    ApiError::field("budget", problem).with_code("model_not_budgetable")
}

fn gone_meanwhile() -> ApiError {
    ApiError::invalid(
        "the agent or the environment was archived or deleted while the session was being made",
    )
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
    let record = app
        .store
        .session(&principal.workspace, &ids.session()?)
        .await?;
    let record = record.ok_or_else(|| ApiError::not_found("session"))?;
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
        let record = app.store.session(&principal.workspace, &id).await?;
        let record = record.ok_or_else(|| ApiError::not_found("session"))?;
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
    changed.ok_or_else(|| ApiError::not_found("session"))??;
    failpoint!("server::session_updated");
    let record = app.store.session(&principal.workspace, &id).await?;
    let record = record.ok_or_else(|| ApiError::not_found("session"))?;
    Ok(Reply(whole(&app, record).await?))
}

/// `GET /v1/sessions`
pub(crate) async fn list_sessions(
    State(app): State<App>,
    principal: Principal,
    query: Query,
) -> Result<Reply<BidirectionalPage<Session>>, ApiError> {
    let filter = filter(&query)?;
    let paging = Paging::read("sessions", &query, query.order(Order::Desc)?, (20, 100))?;
    if paging
        .position()
        .is_some_and(|position| !admits(&filter, position))
    {
        return Err(ApiError::field(
            "page",
            "the cursor lies outside of the created_at filter",
        ));
    }
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

fn filter(query: &Query) -> Result<SessionFilter, ApiError> {
    let agent_id = query.text("agent_id")?.map(AgentId::parse).transpose();
    let agent_id = agent_id.map_err(|problem| ApiError::field("agent_id", problem.to_string()))?;
    let agent_version = query.version("agent_version")?;
    if agent_version.is_some() && agent_id.is_none() {
        return Err(ApiError::field("agent_version", "needs agent_id"));
    }
    let memory_store_id = query.text("memory_store_id")?.map(MemoryStoreId::parse);
    let memory_store_id = memory_store_id
        .transpose()
        .map_err(|problem| ApiError::field("memory_store_id", problem.to_string()))?;
    let statuses = query.list("statuses").map(|text| {
        let problem = "expected rescheduling, running, idle or terminated";
        SessionStatus::parse(text).ok_or_else(|| ApiError::field("statuses", problem))
    });
    Ok(SessionFilter {
        agent_id,
        agent_version,
        memory_store_id,
        statuses: statuses.collect::<Result<_, _>>()?,
        created_after: query.instant("created_at[gt]")?,
        created_from: query.instant("created_at[gte]")?,
        created_before: query.instant("created_at[lt]")?,
        created_to: query.instant("created_at[lte]")?,
        include_archived: query.flag("include_archived")?,
    })
}

/// Whether a session made at `at` passes the time filters (runtime LI-2).
fn admits(filter: &SessionFilter, at: Timestamp) -> bool {
    filter.created_after.is_none_or(|limit| at > limit)
        && filter.created_from.is_none_or(|limit| at >= limit)
        && filter.created_before.is_none_or(|limit| at < limit)
        && filter.created_to.is_none_or(|limit| at <= limit)
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
    archived.ok_or_else(|| ApiError::not_found("session"))??;
    failpoint!("server::session_archived");
    if let Some(hands) = app.hands.clone() {
        let session = id.clone();
        tokio::spawn(async move {
            if let Err(error) = hands.release(session.as_str()).await {
                tracing::warn!(session.id = %session, %error, "the sandbox of an archived session still runs");
            }
        });
    }
    let record = app.store.session(&principal.workspace, &id).await?;
    let record = record.ok_or_else(|| ApiError::not_found("session"))?;
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
    deleted.ok_or_else(|| ApiError::not_found("session"))??;
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
