//! Making sessions (api §7.1, runtime §4): what is asked for, looked up, resolved and stored in one write.

use axum::Json as Reply;
use axum::extract::State;
use manyhands_protocol::session::{AgentParam, Session, SessionCreateParams, SessionStatus};
use manyhands_protocol::{EnvironmentId, SessionId, ThreadId};
use manyhands_store::{Created, NewSession};

use super::{require, shown, snapshot, title, update, vaults};
use crate::api::admission;
use crate::api::agents::definition;
use crate::api::attachments::{Reach, attach};
use crate::api::auth::Principal;
use crate::api::error::ApiError;
use crate::api::json::SecretJson;
use crate::api::resources;
use crate::api::skills::refs;
use crate::app::App;
use crate::failpoint::failpoint;

/// `POST /v1/sessions`
pub(crate) async fn create_session(
    State(app): State<App>,
    principal: Principal,
    SecretJson(params): SecretJson<SessionCreateParams>,
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
    let mut record = require(&app, &principal, &id).await?;
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
