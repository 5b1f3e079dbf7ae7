//! Every route, its principal and its handler, in the order of the API reference (api §2, security API-1).

mod door;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, delete, get, post};
use http::Method;
use manyhands_store::Role;
use tower_http::catch_panic::CatchPanicLayer;

use crate::api::error::ApiError;
use crate::api::{
    agents, environments, events, files, health, inspection, keys, later, models, resources, sessions,
    stream, threads, user_profiles, vaults, workspaces,
};
use crate::app::App;

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
    cap: usize,
    handler: MethodRouter<App>,
}

impl Route {
    /// A GET is a reader's and all else a developer's, unless the row says otherwise.
    fn new(
        method: Method,
        path: &'static str,
        access: Access,
        cap: usize,
        handler: MethodRouter<App>,
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
            cap,
            handler,
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
        row(GET,    "/v1/agents/{agent_id}",                        Beta, 0,     get(agents::retrieve_agent)),
        row(POST,   "/v1/agents/{agent_id}",                        Beta, SMALL, post(agents::update_agent)),
        row(GET,    "/v1/agents",                                   Beta, 0,     get(agents::list_agents)),
        row(POST,   "/v1/agents/{agent_id}/archive",                Beta, 0,     post(agents::archive_agent)),
        row(GET,    "/v1/agents/{agent_id}/versions",               Beta, 0,     get(agents::list_agent_versions)),

        row(POST,   "/v1/environments",                             Beta, SMALL, post(environments::create_environment)),
        row(GET,    "/v1/environments/{environment_id}",            Beta, 0,     get(environments::retrieve_environment)),
        row(POST,   "/v1/environments/{environment_id}",            Beta, SMALL, post(environments::update_environment)),
        row(GET,    "/v1/environments",                             Beta, 0,     get(environments::list_environments)),
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
        row(GET,    "/v1/sessions",                                 Beta, 0,     get(sessions::list_sessions)),
        row(DELETE, "/v1/sessions/{session_id}",                    Beta, 0,     delete(sessions::delete_session)),
        row(POST,   "/v1/sessions/{session_id}/archive",            Beta, 0,     post(sessions::archive_session)),
        row(POST,   "/v1/sessions/{session_id}/events",             Beta, LARGE, post(events::send_events)).workers(),
        row(GET,    "/v1/sessions/{session_id}/events",             Beta, 0,     get(events::list_events)).workers(),
        row(GET,    "/v1/sessions/{session_id}/events/stream",      Beta, 0,     get(stream::stream_events)).workers(),
        row(POST,   "/v1/sessions/{session_id}/resources",          Beta, SMALL, post(resources::add_resource)),
        row(GET,    "/v1/sessions/{session_id}/resources",          Beta, 0,     get(resources::list_resources)),
        row(GET,    "/v1/sessions/{session_id}/resources/{resource_id}", Beta, 0, get(resources::retrieve_resource)),
        row(POST,   "/v1/sessions/{session_id}/resources/{resource_id}", Beta, SMALL, post(resources::update_resource)),
        row(DELETE, "/v1/sessions/{session_id}/resources/{resource_id}", Beta, 0, delete(resources::delete_resource)),
        row(GET,    "/v1/sessions/{session_id}/threads",            Beta, 0,     get(threads::list_threads)),
        row(GET,    "/v1/sessions/{session_id}/threads/{thread_id}", Beta, 0,    get(threads::retrieve_thread)),
        row(POST,   "/v1/sessions/{session_id}/threads/{thread_id}/archive", Beta, 0, post(threads::archive_thread)),
        row(GET,    "/v1/sessions/{session_id}/threads/{thread_id}/events", Beta, 0, get(events::list_thread_events)),
        row(GET,    "/v1/sessions/{session_id}/threads/{thread_id}/stream", Beta, 0, get(stream::stream_thread)),

        row(POST,   "/v1/vaults",                                   Beta, SMALL, post(vaults::create_vault)),
        row(GET,    "/v1/vaults/{vault_id}",                        Beta, 0,     get(vaults::retrieve_vault)),
        row(POST,   "/v1/vaults/{vault_id}",                        Beta, SMALL, post(vaults::update_vault)),
        row(GET,    "/v1/vaults",                                   Beta, 0,     get(vaults::list_vaults)),
        row(DELETE, "/v1/vaults/{vault_id}",                        Beta, 0,     delete(vaults::delete_vault)),
        row(POST,   "/v1/vaults/{vault_id}/archive",                Beta, 0,     post(vaults::archive_vault)),
        row(POST,   "/v1/vaults/{vault_id}/credentials",            Beta, SMALL, post(vaults::credentials::create_credential)),
        row(GET,    "/v1/vaults/{vault_id}/credentials/{credential_id}", Beta, 0, get(vaults::credentials::retrieve_credential)),
        row(POST,   "/v1/vaults/{vault_id}/credentials/{credential_id}", Beta, SMALL, post(vaults::credentials::update_credential)),
        row(GET,    "/v1/vaults/{vault_id}/credentials",            Beta, 0,     get(vaults::credentials::list_credentials)),
        row(DELETE, "/v1/vaults/{vault_id}/credentials/{credential_id}", Beta, 0, delete(vaults::credentials::delete_credential)),
        row(POST,   "/v1/vaults/{vault_id}/credentials/{credential_id}/archive", Beta, 0, post(vaults::credentials::archive_credential)),
        row(POST,   "/v1/vaults/{vault_id}/credentials/{credential_id}/mcp_oauth_validate", Beta, 0, post(vaults::validate::validate_credential)),

        row(POST,   "/v1/files",                                    Key,  0,     post(files::upload_file)),
        row(GET,    "/v1/files",                                    Key,  0,     get(files::list_files)),
        row(GET,    "/v1/files/{file_id}",                          Key,  0,     get(files::retrieve_file)),
        row(GET,    "/v1/files/{file_id}/content",                  Key,  0,     get(files::download_file)),
        row(DELETE, "/v1/files/{file_id}",                          Key,  0,     delete(files::delete_file)),

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
        row(GET,    "/v1/models",                                   Key,  0,     get(models::list_models)),

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
        row(GET,    "/v1/user_profiles",                         Key,  0,     get(user_profiles::list_user_profiles)),
        row(DELETE, "/v1/user_profiles/{user_profile_id}",       Key,  0,     delete(user_profiles::delete_user_profile)),
        row(POST,   "/v1/user_profiles/{user_profile_id}/enrollment_url", Key,  0,     post(user_profiles::links::create_enrollment_url)),
        row(POST,   "/v1/user_profiles/{user_profile_id}/action_urls", Key,  SMALL, post(user_profiles::links::create_action_url)),
        row(GET,    "/enroll/{link}",                            Link, 0,     get(user_profiles::links::open_link)),

        row(POST,   "/v1/organizations/webhooks",                Named(later::WEBHOOKS), 0,     post(later::webhooks)),
        row(GET,    "/v1/organizations/webhooks/{webhook_endpoint_id}", Named(later::WEBHOOKS), 0,     get(later::webhooks)),
        row(POST,   "/v1/organizations/webhooks/{webhook_endpoint_id}", Named(later::WEBHOOKS), 0,     post(later::webhooks)),
        row(GET,    "/v1/organizations/webhooks",                Named(later::WEBHOOKS), 0,     get(later::webhooks)),
        row(DELETE, "/v1/organizations/webhooks/{webhook_endpoint_id}", Named(later::WEBHOOKS), 0,     delete(later::webhooks)),
        row(POST,   "/v1/organizations/webhooks/{webhook_endpoint_id}/regenerate_signing_secret", Named(later::WEBHOOKS), 0,     post(later::webhooks)),

        row(POST,   "/v1/manyhands/keys",                           Key,  SMALL, post(keys::create_key)).admins(),
        row(GET,    "/v1/manyhands/keys",                           Key,  0,     get(keys::list_keys)).admins(),
        row(DELETE, "/v1/manyhands/keys/{key_id}",                  Key,  0,     delete(keys::revoke_key)).admins(),

        row(POST,   "/v1/manyhands/workspaces",                     Key,  SMALL, post(workspaces::create_workspace)).operator(),
        row(GET,    "/v1/manyhands/workspaces",                     Key,  0,     get(workspaces::list_workspaces)).operator(),
        row(POST,   "/v1/manyhands/workspaces/{workspace_id}",      Key,  SMALL, post(workspaces::rename_workspace)).operator(),

        row(GET,    "/v1/manyhands/sessions/{session_id}/why",      Key,  0,     get(inspection::explain_session)),
        row(GET,    "/v1/manyhands/sessions/{session_id}/compactions", Key, 0,   get(inspection::list_compactions)),

        row(GET,    "/healthz",                                     Open, 0,     get(health::healthz)),
        row(GET,    "/readyz",                                      Open, 0,     get(health::readyz)),
        row(GET,    "/metrics",                                     Open, 0,     get(health::metrics)),
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
