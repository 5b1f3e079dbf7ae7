//! Agents: versioned configuration (api §3, runtime §3).

pub(crate) mod definition;

use axum::Json as Reply;
use axum::extract::State;
use manyhands_protocol::agent::{
    Agent, AgentCreateParams, AgentUpdateParams, Definition, ExecutionIdentity, SkillRef,
};
use manyhands_protocol::page::{Order, Page};
use manyhands_protocol::patch::Patch;
use manyhands_protocol::{AgentId, Timestamp};
use manyhands_store::listing::Filter;

use crate::api::auth::Principal;
use crate::api::cursor::{self, Paging};
use crate::api::error::ApiError;
use crate::api::json::Json;
use crate::api::query::{Ids, Query};
use crate::api::skills::refs;
use crate::app::App;
use definition::Catalog;

const NAME: usize = 256;
const DESCRIPTION: usize = 2048;
/// The longest system prompt, in characters (api §29).
pub(crate) const SYSTEM: usize = 100_000;

/// `POST /v1/agents`
pub(crate) async fn create_agent(
    State(app): State<App>,
    principal: Principal,
    Json(params): Json<AgentCreateParams>,
) -> Result<Reply<Agent>, ApiError> {
    definition::none_of("multiagent", params.multiagent.as_slice(), "a roster")?;
    definition::text("name", &params.name, 1, NAME)?;
    let tools = definition::tools(&params.tools.unwrap_or_default())?;
    let mcp_servers = definition::servers(&params.mcp_servers.unwrap_or_default())?;
    definition::agree(&tools, &mcp_servers)?;
    let skills = params.skills.unwrap_or_default();
    let skills = refs::resolve(&app, &principal.workspace, &skills).await?;
    definition::readable(&tools, &skills)?;
    let now = app.now();
    let agent = Agent {
        id: AgentId::generate(),
        kind: Default::default(),
        version: 1,
        definition: Definition {
            name: params.name,
            description: definition::optional_text("description", params.description, DESCRIPTION)?,
            system: definition::optional_text("system", params.system, SYSTEM)?,
            model: definition::model(app.catalog(), params.model, None)?,
            tools,
            mcp_servers,
            skills,
            multiagent: None,
            execution_identity: definition::execution_identity(params.execution_identity)?,
        },
        metadata: definition::metadata(params.metadata.unwrap_or_default())?,
        created_at: now,
        updated_at: now,
        archived_at: None,
    };
    app.store.insert_agent(&principal.workspace, &agent).await?;
    Ok(Reply(agent))
}

/// `GET /v1/agents/{agent_id}`
pub(crate) async fn retrieve_agent(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    query: Query,
) -> Result<Reply<Agent>, ApiError> {
    let version = query.version("version")?;
    let agent = app
        .store
        .agent(&principal.workspace, &ids.agent()?, version)
        .await?;
    agent.map(Reply).ok_or_else(|| ApiError::not_found("agent"))
}

/// `POST /v1/agents/{agent_id}`
pub(crate) async fn update_agent(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    Json(params): Json<AgentUpdateParams>,
) -> Result<Reply<Agent>, ApiError> {
    let id = ids.agent()?;
    let skills = refs::replaced(&app, &principal.workspace, &params.skills).await?;
    let (now, models) = (app.now(), app.clone());
    let updated = app
        .store
        .update_agent(&principal.workspace, &id, move |current| {
            updated(current, params, skills, models.catalog(), now)
        })
        .await?;
    updated
        .ok_or_else(|| ApiError::not_found("agent"))?
        .map(Reply)
}

/// The next version of an agent, or `None` when nothing changes (runtime AG-1, AG-2).
fn updated(
    current: &Agent,
    params: AgentUpdateParams,
    skills: Option<Vec<SkillRef>>,
    catalog: &dyn Catalog,
    now: Timestamp,
) -> Result<Option<Agent>, ApiError> {
    if let Some(version) = params.version {
        if version < 1 {
            return Err(ApiError::field("version", "expected a whole number from 1"));
        }
        if version != i64::from(current.version) {
            let problem = format!(
                "version {version} is not the current version, which is {}",
                current.version
            );
            return Err(ApiError::conflict(problem));
        }
    }
    if current.archived_at.is_some() {
        return Err(ApiError::invalid(
            "the agent is archived and can no longer be changed",
        ));
    }
    let definition = changed(&current.definition, &params, skills, catalog)?;
    let metadata = match params.metadata {
        Some(patch) => definition::merge_metadata(&current.metadata, patch)?,
        None => current.metadata.clone(),
    };
    if definition == current.definition && metadata == current.metadata {
        return Ok(None);
    }
    Ok(Some(Agent {
        version: current.version + 1,
        definition,
        metadata,
        updated_at: now,
        ..current.clone()
    }))
}

/// The definition after an update: omitted keeps, null clears where that is possible, a value replaces (HT-16).
fn changed(
    current: &Definition,
    params: &AgentUpdateParams,
    skills: Option<Vec<SkillRef>>,
    catalog: &dyn Catalog,
) -> Result<Definition, ApiError> {
    definition::none_of(
        "multiagent",
        params.multiagent.value().as_slice(),
        "a roster",
    )?;
    let name = required(&params.name, "name")?
        .unwrap_or(&current.name)
        .clone();
    definition::text("name", &name, 1, NAME)?;
    let model = match required(&params.model, "model")? {
        Some(param) => definition::model(catalog, param.clone(), Some(&current.model))?,
        None => current.model.clone(),
    };
    let description = params
        .description
        .clone()
        .apply(current.description.clone());
    let system = params.system.clone().apply(current.system.clone());
    let tools = match &params.tools {
        Patch::Keep => current.tools.clone(),
        Patch::Clear => Vec::new(),
        Patch::Set(entries) => definition::tools(entries)?,
    };
    let mcp_servers = match &params.mcp_servers {
        Patch::Keep => current.mcp_servers.clone(),
        Patch::Clear => Vec::new(),
        Patch::Set(entries) => definition::servers(entries)?,
    };
    definition::agree(&tools, &mcp_servers)?;
    let skills = skills.unwrap_or_else(|| current.skills.clone());
    definition::readable(&tools, &skills)?;
    Ok(Definition {
        name,
        description: definition::optional_text("description", description, DESCRIPTION)?,
        system: definition::optional_text("system", system, SYSTEM)?,
        model,
        tools,
        mcp_servers,
        skills,
        multiagent: None,
        execution_identity: match &params.execution_identity {
            Patch::Keep => current.execution_identity.clone(),
            Patch::Clear => ExecutionIdentity::default(),
            Patch::Set(identity) => definition::execution_identity(Some(identity.clone()))?,
        },
    })
}

/// The value of a field that cannot be cleared.
fn required<'p, T>(patch: &'p Patch<T>, field: &str) -> Result<Option<&'p T>, ApiError> {
    match patch {
        Patch::Clear => Err(ApiError::field(field, "cannot be cleared")),
        patch => Ok(patch.value()),
    }
}

/// `GET /v1/agents`
pub(crate) async fn list_agents(
    State(app): State<App>,
    principal: Principal,
    query: Query,
) -> Result<Reply<Page<Agent>>, ApiError> {
    let times = query.span()?;
    let filter = Filter {
        created_from: times.from,
        created_to: times.to,
        include_archived: query.flag("include_archived")?,
    };
    let paging = Paging::read("agents", &query, Order::Desc, (20, 100))?;
    let agents = app
        .store
        .list_agents(&principal.workspace, &filter, &paging.range())
        .await?;
    Ok(Reply(paging.page(agents, |agent| {
        (agent.created_at, agent.id.to_string())
    })))
}

/// `POST /v1/agents/{agent_id}/archive`: for good, and repeating it changes nothing (runtime AG-8, UP-11).
pub(crate) async fn archive_agent(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<Agent>, ApiError> {
    let now = app.now();
    let archived = app
        .store
        .update_agent(&principal.workspace, &ids.agent()?, move |current| {
            Ok::<_, ApiError>(current.archived_at.is_none().then(|| Agent {
                archived_at: Some(now),
                ..current.clone()
            }))
        })
        .await?;
    archived
        .ok_or_else(|| ApiError::not_found("agent"))?
        .map(Reply)
}

/// `GET /v1/agents/{agent_id}/versions`, newest first.
pub(crate) async fn list_agent_versions(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    query: Query,
) -> Result<Reply<Page<Agent>>, ApiError> {
    const LIST: &str = "agent_versions";
    let id = ids.agent()?;
    let limit = query.limit(20, 100)?;
    let before: Option<u32> = cursor::decode(LIST, &query)?;
    if app
        .store
        .agent(&principal.workspace, &id, None)
        .await?
        .is_none()
    {
        return Err(ApiError::not_found("agent"));
    }
    let mut data = app
        .store
        .list_agent_versions(&principal.workspace, &id, before, limit + 1)
        .await?;
    let more = cursor::cut_off(&mut data, limit);
    let last = data.last().map(|agent| agent.version);
    let next_page = last
        .filter(|_| more)
        .map(|version| cursor::encode(LIST, &version));
    Ok(Reply(Page { data, next_page }))
}
