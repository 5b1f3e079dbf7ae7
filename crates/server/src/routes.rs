//! Every route, its principal and its handler, in the order of the API reference (api §2, security API-1).

mod door;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::MethodRouter;
use http::Method;
use manyhands_protocol::event::Event;
use manyhands_protocol::page::Page;
use manyhands_protocol::skill::{Skill, SkillVersion, SkillVersionDeleted};
use manyhands_store::Role;
use tower_http::catch_panic::CatchPanicLayer;

use crate::api::error::ApiError;
use crate::api::rates::Kind;
use crate::api::{
    agents, environments, events, files, health, inspection, keys, later, memory_stores, models,
    resources, sessions, skills, stream, threads, user_profiles, vaults, workspaces,
};
use crate::app::App;
use crate::openapi::{
    self,
    operation::{Content, Handled, Operation, delete, get, post},
    parameter as query,
};

use self::door::{Door, enter, finish, panicked};

/// What a request brings along so that a route is there for it. There is no default: a route without an answer does not compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing: anybody who reaches the port.
    Open,
    /// A key.
    Key,
    /// A key, and the beta header (runtime HT-1).
    Beta,
    /// A key, and the beta header of memory stores or the older one, not both (runtime HT-2, api §1.3).
    Memory,
    /// A key, and this beta header (runtime HT-3, HT-4).
    Named(&'static str),
    /// No key, but a secret in the path that was given out before.
    Link,
}
use Access::{Beta, Key, Link, Memory, Named, Open};

/// The least of a key's roles that a route takes (security API-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Not even a key.
    Nothing,
    /// `read_only`: it changes nothing.
    Reader,
    /// `developer`: it changes something.
    Developer,
    /// `admin`: it is about keys.
    Admin,
    /// `admin` in the first workspace: it is about workspaces.
    Operator,
}

/// Bodies of session create and events send (runtime HT-14).
const LARGE: usize = 32 << 20;
/// All other bodies.
const SMALL: usize = 4 << 20;

/// One row of the table.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    /// The least role that may call it.
    pub(crate) needs: Needs,
    /// Whether the key of an environment may call it too, for what belongs to that environment.
    pub(crate) workers: bool,
    /// Whether a POST of it may carry an `Idempotency-Key`: not where the answer holds a secret, since answers are kept.
    pub(crate) repeatable: bool,
    cap: usize,
    handler: MethodRouter<App>,
    /// What the OpenAPI document says of it.
    pub(crate) operation: Operation,
}

impl Route {
    /// A GET is a reader's and all else a developer's, unless the row says otherwise.
    fn new(
        method: Method,
        path: &'static str,
        access: Access,
        cap: usize,
        Handled { router, operation }: Handled,
    ) -> Self {
        let needs = match (access, &method) {
            (Open | Link, _) => Needs::Nothing,
            (_, &Method::GET) => Needs::Reader,
            _ => Needs::Developer,
        };
        Self {
            method,
            path,
            access,
            needs,
            workers: false,
            repeatable: true,
            cap,
            handler: router,
            operation,
        }
    }

    /// For admins alone.
    fn admins(self) -> Self {
        Self {
            needs: Needs::Admin,
            ..self
        }
    }

    /// For the operator alone.
    fn operator(self) -> Self {
        Self {
            needs: Needs::Operator,
            ..self
        }
    }

    /// Its answer holds a secret that is kept nowhere else.
    fn tells_a_secret(self) -> Self {
        Self {
            repeatable: false,
            ..self
        }
    }

    /// Which rate limit it counts against: that of creates when it makes something. Events are sent, not made (runtime RL-1,
    /// RL-2).
    fn rate(&self) -> Kind {
        match self.operation.id {
            "upload_file" | "add_resource" => Kind::Create,
            id if id.starts_with("create_") => Kind::Create,
            _ => Kind::Other,
        }
    }

    /// Also for the key of an environment (api §1.1).
    fn workers(self) -> Self {
        Self {
            workers: true,
            ..self
        }
    }
}

/// The table.
#[rustfmt::skip]
pub(crate) fn table() -> Vec<Route> {
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    const DELETE: Method = Method::DELETE;
    let row = Route::new;
    vec![
        row(POST,   "/v1/agents",                                   Beta, SMALL, post(agents::create_agent)),
        row(GET,    "/v1/agents/{agent_id}",                        Beta, 0,     get(agents::retrieve_agent).query(&[query::VERSION])),
        row(POST,   "/v1/agents/{agent_id}",                        Beta, SMALL, post(agents::update_agent)),
        row(GET,    "/v1/agents",                                   Beta, 0,     get(agents::list_agents).query(&[query::CREATED_FROM, query::CREATED_TO, query::INCLUDE_ARCHIVED, query::LIMIT_100, query::PAGE, query::NOT_CREATED_AFTER, query::NOT_CREATED_BEFORE, query::NOT_ORDER])),
        row(POST,   "/v1/agents/{agent_id}/archive",                Beta, 0,     post(agents::archive_agent)),
        row(GET,    "/v1/agents/{agent_id}/versions",               Beta, 0,     get(agents::list_agent_versions).query(&[query::LIMIT_100, query::PAGE])),

        row(POST,   "/v1/environments",                             Beta, SMALL, post(environments::create_environment)),
        row(GET,    "/v1/environments/{environment_id}",            Beta, 0,     get(environments::retrieve_environment)),
        row(POST,   "/v1/environments/{environment_id}",            Beta, SMALL, post(environments::update_environment)),
        row(GET,    "/v1/environments",                             Beta, 0,     get(environments::list_environments).query(&[query::INCLUDE_ARCHIVED, query::LIMIT_100, query::PAGE])),
        row(DELETE, "/v1/environments/{environment_id}",            Beta, 0,     delete(environments::delete_environment)),
        row(POST,   "/v1/environments/{environment_id}/archive",    Beta, 0,     post(environments::archive_environment)),

        row(GET,    "/v1/environments/{environment_id}/work/poll", Beta, 0,     get(later::work)).workers(),
        row(GET,    "/v1/environments/{environment_id}/work",    Beta, 0,     get(later::work)).workers(),
        row(GET,    "/v1/environments/{environment_id}/work/stats", Beta, 0,     get(later::work)).workers(),
        row(GET,    "/v1/environments/{environment_id}/work/{work_id}", Beta, 0,     get(later::work)),
        row(POST,   "/v1/environments/{environment_id}/work/{work_id}", Beta, 0,     post(later::work)),
        row(POST,   "/v1/environments/{environment_id}/work/{work_id}/ack", Beta, 0,     post(later::work)).workers(),
        row(POST,   "/v1/environments/{environment_id}/work/{work_id}/heartbeat", Beta, 0,     post(later::work)).workers(),
        row(POST,   "/v1/environments/{environment_id}/work/{work_id}/stop", Beta, 0,     post(later::work)).workers(),

        row(POST,   "/v1/sessions",                                 Beta, LARGE, post(sessions::create_session)),
        row(GET,    "/v1/sessions/{session_id}",                    Beta, 0,     get(sessions::retrieve_session)).workers(),
        row(POST,   "/v1/sessions/{session_id}",                    Beta, SMALL, post(sessions::update_session)),
        row(GET,    "/v1/sessions",                                 Beta, 0,     get(sessions::list_sessions).query(&[query::AGENT_ID, query::AGENT_VERSION, query::STATUSES, query::CREATED_AFTER, query::CREATED_FROM, query::CREATED_BEFORE, query::CREATED_TO, query::INCLUDE_ARCHIVED, query::ORDER, query::LIMIT_100, query::PAGE, query::NOT_DEPLOYMENT_ID, query::MEMORY_STORE_ID])),
        row(DELETE, "/v1/sessions/{session_id}",                    Beta, 0,     delete(sessions::delete_session)),
        row(POST,   "/v1/sessions/{session_id}/archive",            Beta, 0,     post(sessions::archive_session)),
        row(POST,   "/v1/sessions/{session_id}/events",             Beta, LARGE, post(events::send_events).gives::<events::SentEvents>()).workers(),
        row(GET,    "/v1/sessions/{session_id}/events",             Beta, 0,     get(events::list_events).query(&[query::TYPES, query::CREATED_AFTER, query::CREATED_FROM, query::CREATED_BEFORE, query::CREATED_TO, query::ORDER, query::LIMIT_1000, query::PAGE]).gives::<Page<Event>>()).workers(),
        row(GET,    "/v1/sessions/{session_id}/events/stream",      Beta, 0,     get(stream::stream_events).query(&[query::EVENT_DELTAS]).gives_other(Content::Stream)).workers(),
        row(POST,   "/v1/sessions/{session_id}/resources",          Beta, SMALL, post(resources::add_resource)),
        row(GET,    "/v1/sessions/{session_id}/resources",          Beta, 0,     get(resources::list_resources).query(&[query::LIMIT_1000, query::PAGE])),
        row(GET,    "/v1/sessions/{session_id}/resources/{resource_id}", Beta, 0, get(resources::retrieve_resource)),
        row(POST,   "/v1/sessions/{session_id}/resources/{resource_id}", Beta, SMALL, post(resources::update_resource)),
        row(DELETE, "/v1/sessions/{session_id}/resources/{resource_id}", Beta, 0, delete(resources::delete_resource)),
        row(GET,    "/v1/sessions/{session_id}/threads",            Beta, 0,     get(threads::list_threads).query(&[query::STATUSES, query::LIMIT_1000, query::PAGE])),
        row(GET,    "/v1/sessions/{session_id}/threads/{thread_id}", Beta, 0,    get(threads::retrieve_thread)),
        row(POST,   "/v1/sessions/{session_id}/threads/{thread_id}/archive", Beta, 0, post(threads::archive_thread)),
        row(GET,    "/v1/sessions/{session_id}/threads/{thread_id}/events", Beta, 0, get(events::list_thread_events).query(&[query::LIMIT_1000, query::PAGE, query::NOT_TYPES, query::NOT_ORDER, query::NOT_CREATED_AFTER, query::NOT_CREATED_FROM, query::NOT_CREATED_BEFORE, query::NOT_CREATED_TO]).gives::<Page<Event>>()),
        row(GET,    "/v1/sessions/{session_id}/threads/{thread_id}/stream", Beta, 0, get(stream::stream_thread).query(&[query::EVENT_DELTAS]).gives_other(Content::Stream)),

        row(POST,   "/v1/vaults",                                   Beta, SMALL, post(vaults::create_vault)),
        row(GET,    "/v1/vaults/{vault_id}",                        Beta, 0,     get(vaults::retrieve_vault)),
        row(POST,   "/v1/vaults/{vault_id}",                        Beta, SMALL, post(vaults::update_vault)),
        row(GET,    "/v1/vaults",                                   Beta, 0,     get(vaults::list_vaults).query(&[query::INCLUDE_ARCHIVED, query::LIMIT_100, query::PAGE])),
        row(DELETE, "/v1/vaults/{vault_id}",                        Beta, 0,     delete(vaults::delete_vault)),
        row(POST,   "/v1/vaults/{vault_id}/archive",                Beta, 0,     post(vaults::archive_vault)),
        row(POST,   "/v1/vaults/{vault_id}/credentials",            Beta, SMALL, post(vaults::credentials::create_credential)),
        row(GET,    "/v1/vaults/{vault_id}/credentials/{credential_id}", Beta, 0, get(vaults::credentials::retrieve_credential)),
        row(POST,   "/v1/vaults/{vault_id}/credentials/{credential_id}", Beta, SMALL, post(vaults::credentials::update_credential)),
        row(GET,    "/v1/vaults/{vault_id}/credentials",            Beta, 0,     get(vaults::credentials::list_credentials).query(&[query::INCLUDE_ARCHIVED, query::LIMIT_100, query::PAGE])),
        row(DELETE, "/v1/vaults/{vault_id}/credentials/{credential_id}", Beta, 0, delete(vaults::credentials::delete_credential)),
        row(POST,   "/v1/vaults/{vault_id}/credentials/{credential_id}/archive", Beta, 0, post(vaults::credentials::archive_credential)),
        row(POST,   "/v1/vaults/{vault_id}/credentials/{credential_id}/mcp_oauth_validate", Beta, 0, post(vaults::validate::validate_credential)),

        row(POST,   "/v1/memory_stores",                            Memory, SMALL, post(memory_stores::create_memory_store)),
        row(GET,    "/v1/memory_stores/{memory_store_id}",          Memory, 0,   get(memory_stores::retrieve_memory_store)),
        row(POST,   "/v1/memory_stores/{memory_store_id}",          Memory, SMALL, post(memory_stores::update_memory_store)),
        row(GET,    "/v1/memory_stores",                            Memory, 0,   get(memory_stores::list_memory_stores).query(&[query::CREATED_FROM, query::CREATED_TO, query::INCLUDE_ARCHIVED, query::LIMIT_100, query::PAGE])),
        row(DELETE, "/v1/memory_stores/{memory_store_id}",          Memory, 0,   delete(memory_stores::delete_memory_store)),
        row(POST,   "/v1/memory_stores/{memory_store_id}/archive",  Memory, 0,   post(memory_stores::archive_memory_store)),
        row(POST,   "/v1/memory_stores/{memory_store_id}/memories", Memory, SMALL, post(memory_stores::memories::create_memory).query(&[query::VIEW])),
        row(GET,    "/v1/memory_stores/{memory_store_id}/memories/{memory_id}", Memory, 0, get(memory_stores::memories::retrieve_memory).query(&[query::VIEW])),
        row(POST,   "/v1/memory_stores/{memory_store_id}/memories/{memory_id}", Memory, SMALL, post(memory_stores::memories::update_memory).query(&[query::VIEW])),
        row(GET,    "/v1/memory_stores/{memory_store_id}/memories", Memory, 0,   get(memory_stores::memories::list_memories).query(&[query::DEPTH, query::LIMIT_100, query::PAGE, query::PATH_PREFIX, query::VIEW])),
        row(DELETE, "/v1/memory_stores/{memory_store_id}/memories/{memory_id}", Memory, 0, delete(memory_stores::memories::delete_memory).query(&[query::EXPECTED_CONTENT_SHA256])),
        row(GET,    "/v1/memory_stores/{memory_store_id}/memory_versions/{memory_version_id}", Memory, 0, get(memory_stores::versions::retrieve_memory_version).query(&[query::VIEW])),
        row(GET,    "/v1/memory_stores/{memory_store_id}/memory_versions", Memory, 0, get(memory_stores::versions::list_memory_versions).query(&[query::MEMORY_ID, query::OPERATION, query::SESSION_ID, query::API_KEY_ID, query::SERVICE_ACCOUNT_ID, query::CREATED_FROM, query::CREATED_TO, query::LIMIT_100, query::PAGE, query::VIEW])),
        row(POST,   "/v1/memory_stores/{memory_store_id}/memory_versions/{memory_version_id}/redact", Memory, 0, post(memory_stores::versions::redact_memory_version)),

        row(POST,   "/v1/files",                                    Key,  0,     post(files::upload_file).takes_form::<files::UploadForm>()),
        row(GET,    "/v1/files",                                    Key,  0,     get(files::list_files).query(&[query::IDS, query::SCOPE_ID, query::AFTER_ID, query::BEFORE_ID, query::LIMIT_1000, query::PAGE])),
        row(GET,    "/v1/files/{file_id}",                          Key,  0,     get(files::retrieve_file)),
        row(GET,    "/v1/files/{file_id}/content",                  Key,  0,     get(files::download_file).gives_other(Content::Bytes)),
        row(DELETE, "/v1/files/{file_id}",                          Key,  0,     delete(files::delete_file)),

        row(POST,   "/v1/skills",                                   Key,  0,     post(skills::create_skill).takes_form::<skills::SkillForm>().gives::<Skill>()),
        row(GET,    "/v1/skills/{skill_id}",                        Key,  0,     get(skills::retrieve_skill).gives::<Skill>()),
        row(GET,    "/v1/skills",                                   Key,  0,     get(skills::list_skills).query(&[query::SKILL_SOURCE, query::LIMIT_1000, query::PAGE]).gives::<Page<Skill>>()),
        row(DELETE, "/v1/skills/{skill_id}",                        Key,  0,     delete(skills::delete_skill)),
        row(POST,   "/v1/skills/{skill_id}/versions",               Key,  0,     post(skills::create_skill_version).takes_form::<skills::VersionForm>().gives::<SkillVersion>()),
        row(GET,    "/v1/skills/{skill_id}/versions/{version}",     Key,  0,     get(skills::retrieve_skill_version).gives::<SkillVersion>()).workers(),
        row(GET,    "/v1/skills/{skill_id}/versions",               Key,  0,     get(skills::list_skill_versions).query(&[query::LIMIT_1000, query::PAGE]).gives::<Page<SkillVersion>>()),
        row(DELETE, "/v1/skills/{skill_id}/versions/{version}",     Key,  0,     delete(skills::delete_skill_version).gives::<SkillVersionDeleted>()),
        row(GET,    "/v1/skills/{skill_id}/versions/{version}/content", Key, 0,  get(skills::download_skill_version).gives_other(Content::Bytes)).workers(),

        row(POST,   "/v1/deployments",                           Beta, 0,     post(later::deployments)),
        row(GET,    "/v1/deployments/{deployment_id}",           Beta, 0,     get(later::deployments)),
        row(POST,   "/v1/deployments/{deployment_id}",           Beta, 0,     post(later::deployments)),
        row(GET,    "/v1/deployments",                           Beta, 0,     get(later::deployments)),
        row(POST,   "/v1/deployments/{deployment_id}/archive",   Beta, 0,     post(later::deployments)),
        row(POST,   "/v1/deployments/{deployment_id}/pause",     Beta, 0,     post(later::deployments)),
        row(POST,   "/v1/deployments/{deployment_id}/unpause",   Beta, 0,     post(later::deployments)),
        row(POST,   "/v1/deployments/{deployment_id}/run",       Beta, 0,     post(later::deployments)),
        row(GET,    "/v1/deployment_runs/{deployment_run_id}",   Beta, 0,     get(later::deployments)),
        row(GET,    "/v1/deployment_runs",                       Beta, 0,     get(later::deployments)),

        row(POST,   "/v1/dreams",                                Named(later::DREAMS), 0,     post(later::dreams)),
        row(GET,    "/v1/dreams/{dream_id}",                     Named(later::DREAMS), 0,     get(later::dreams)),
        row(GET,    "/v1/dreams",                                Named(later::DREAMS), 0,     get(later::dreams)),
        row(POST,   "/v1/dreams/{dream_id}/cancel",              Named(later::DREAMS), 0,     post(later::dreams)),
        row(POST,   "/v1/dreams/{dream_id}/archive",             Named(later::DREAMS), 0,     post(later::dreams)),

        row(GET,    "/v1/models/{model_id}",                        Key,  0,     get(models::retrieve_model)),
        row(GET,    "/v1/models",                                   Key,  0,     get(models::list_models).query(&[query::LIFECYCLE, query::AFTER_ID, query::BEFORE_ID, query::LIMIT_1000])),

        row(POST,   "/v1/tunnels",                               Named(later::TUNNELS), 0,     post(later::tunnels)),
        row(GET,    "/v1/tunnels/{tunnel_id}",                   Named(later::TUNNELS), 0,     get(later::tunnels)),
        row(GET,    "/v1/tunnels",                               Named(later::TUNNELS), 0,     get(later::tunnels)),
        row(POST,   "/v1/tunnels/{tunnel_id}/archive",           Named(later::TUNNELS), 0,     post(later::tunnels)),
        row(POST,   "/v1/tunnels/{tunnel_id}/reveal_token",      Named(later::TUNNELS), 0,     post(later::tunnels)),
        row(POST,   "/v1/tunnels/{tunnel_id}/rotate_token",      Named(later::TUNNELS), 0,     post(later::tunnels)),
        row(POST,   "/v1/tunnels/{tunnel_id}/certificates",      Named(later::TUNNELS), 0,     post(later::tunnels)),
        row(GET,    "/v1/tunnels/{tunnel_id}/certificates/{certificate_id}", Named(later::TUNNELS), 0,     get(later::tunnels)),
        row(GET,    "/v1/tunnels/{tunnel_id}/certificates",      Named(later::TUNNELS), 0,     get(later::tunnels)),
        row(POST,   "/v1/tunnels/{tunnel_id}/certificates/{certificate_id}/archive", Named(later::TUNNELS), 0,     post(later::tunnels)),

        row(POST,   "/v1/user_profiles",                         Key,  SMALL, post(user_profiles::create_user_profile)),
        row(GET,    "/v1/user_profiles/{user_profile_id}",       Key,  0,     get(user_profiles::retrieve_user_profile)),
        row(POST,   "/v1/user_profiles/{user_profile_id}",       Key,  SMALL, post(user_profiles::update_user_profile)),
        row(GET,    "/v1/user_profiles",                         Key,  0,     get(user_profiles::list_user_profiles).query(&[query::ENFORCEMENT_STATUS, query::ORDER, query::ORDER_BY, query::LIMIT_100, query::PAGE])),
        row(DELETE, "/v1/user_profiles/{user_profile_id}",       Key,  0,     delete(user_profiles::delete_user_profile)),
        row(POST,   "/v1/user_profiles/{user_profile_id}/enrollment_url", Key,  0,     post(user_profiles::links::create_enrollment_url)).tells_a_secret(),
        row(POST,   "/v1/user_profiles/{user_profile_id}/action_urls", Key,  SMALL, post(user_profiles::links::create_action_url)).tells_a_secret(),
        row(GET,    "/enroll/{link}",                            Link, 0,     get(user_profiles::links::open_link).gives_other(Content::Text)),

        row(POST,   "/v1/organizations/webhooks",                Named(later::WEBHOOKS), 0,     post(later::webhooks)),
        row(GET,    "/v1/organizations/webhooks/{webhook_endpoint_id}", Named(later::WEBHOOKS), 0,     get(later::webhooks)),
        row(POST,   "/v1/organizations/webhooks/{webhook_endpoint_id}", Named(later::WEBHOOKS), 0,     post(later::webhooks)),
        row(GET,    "/v1/organizations/webhooks",                Named(later::WEBHOOKS), 0,     get(later::webhooks)),
        row(DELETE, "/v1/organizations/webhooks/{webhook_endpoint_id}", Named(later::WEBHOOKS), 0,     delete(later::webhooks)),
        row(POST,   "/v1/organizations/webhooks/{webhook_endpoint_id}/regenerate_signing_secret", Named(later::WEBHOOKS), 0,     post(later::webhooks)),

        row(POST,   "/v1/manyhands/keys",                           Key,  SMALL, post(keys::create_key)).tells_a_secret().admins(),
        row(GET,    "/v1/manyhands/keys",                           Key,  0,     get(keys::list_keys).query(&[query::WORKSPACE_ID])).admins(),
        row(DELETE, "/v1/manyhands/keys/{key_id}",                  Key,  0,     delete(keys::revoke_key)).admins(),

        row(POST,   "/v1/manyhands/workspaces",                     Key,  SMALL, post(workspaces::create_workspace)).operator(),
        row(GET,    "/v1/manyhands/workspaces",                     Key,  0,     get(workspaces::list_workspaces)).operator(),
        row(POST,   "/v1/manyhands/workspaces/{workspace_id}",      Key,  SMALL, post(workspaces::rename_workspace)).operator(),

        row(GET,    "/v1/manyhands/sessions/{session_id}/why",      Key,  0,     get(inspection::explain_session)),
        row(GET,    "/v1/manyhands/sessions/{session_id}/compactions", Key, 0,   get(inspection::list_compactions)),

        row(GET,    "/openapi.json",                                Open, 0,     get(openapi::openapi).gives_other(Content::Bytes)),
        row(GET,    "/healthz",                                     Open, 0,     get(health::healthz)),
        row(GET,    "/readyz",                                      Open, 0,     get(health::readyz)),
        row(GET,    "/metrics",                                     Open, 0,     get(health::metrics).gives_other(Content::Text)),
    ]
}

/// The whole service, or the part of it that the server's role has.
pub(crate) fn router(app: App) -> Router {
    let mut router = Router::new();
    for route in table() {
        // A brain's port is for its operator alone.
        if app.role == Role::Brain && route.access != Open {
            continue;
        }
        let door = Door::new(app.clone(), &route);
        let handler = route.handler.route_layer(from_fn_with_state(door, enter));
        router = router.route(route.path, handler);
    }
    router
        .fallback(|| async {
            ApiError::no_route("there is no such path, or this version does not have it")
        })
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(finish))
        .with_state(app)
}

#[cfg(test)]
mod tests;
