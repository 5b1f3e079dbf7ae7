//! Every route, its principal and its handler, in the order of the API reference (api §2, security API-1).

use std::time::Instant;

use axum::Router;
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};
use manyhands_protocol::id::RequestId;
use manyhands_store::Role;
use tower_http::catch_panic::CatchPanicLayer;

use crate::api::auth::{self, Principal};
use crate::api::error::ApiError;
use crate::api::json::BodyCap;
use crate::api::{
    agents, environments, events, files, health, inspection, keys, models, resources, sessions,
    stream, threads, vaults,
};
use crate::app::App;

/// Who may call a route. There is no default: a route without an answer does not compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anybody who reaches the port.
    Open,
    /// An API key.
    Key,
    /// An API key, and the beta header (runtime HT-1).
    Beta,
}
use Access::{Beta, Key, Open};

/// Bodies of session create and events send (runtime HT-14).
const LARGE: usize = 32 << 20;
/// All other bodies.
const SMALL: usize = 4 << 20;

/// One row of the table.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    cap: usize,
    handler: MethodRouter<App>,
}

/// The table.
#[rustfmt::skip]
pub(crate) fn table() -> Vec<Route> {
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    const DELETE: Method = Method::DELETE;
    let row = |method, path, access, cap, handler| Route { method, path, access, cap, handler };
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

        row(POST,   "/v1/sessions",                                 Beta, LARGE, post(sessions::create_session)),
        row(GET,    "/v1/sessions/{session_id}",                    Beta, 0,     get(sessions::retrieve_session)),
        row(POST,   "/v1/sessions/{session_id}",                    Beta, SMALL, post(sessions::update_session)),
        row(GET,    "/v1/sessions",                                 Beta, 0,     get(sessions::list_sessions)),
        row(DELETE, "/v1/sessions/{session_id}",                    Beta, 0,     delete(sessions::delete_session)),
        row(POST,   "/v1/sessions/{session_id}/archive",            Beta, 0,     post(sessions::archive_session)),
        row(POST,   "/v1/sessions/{session_id}/events",             Beta, LARGE, post(events::send_events)),
        row(GET,    "/v1/sessions/{session_id}/events",             Beta, 0,     get(events::list_events)),
        row(GET,    "/v1/sessions/{session_id}/events/stream",      Beta, 0,     get(stream::stream_events)),
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

        row(GET,    "/v1/models/{model_id}",                        Key,  0,     get(models::retrieve_model)),
        row(GET,    "/v1/models",                                   Key,  0,     get(models::list_models)),

        row(POST,   "/v1/manyhands/keys",                           Key,  SMALL, post(keys::create_key)),
        row(GET,    "/v1/manyhands/keys",                           Key,  0,     get(keys::list_keys)),
        row(DELETE, "/v1/manyhands/keys/{key_id}",                  Key,  0,     delete(keys::revoke_key)),

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
    for Route {
        path,
        access,
        cap,
        handler,
        method,
    } in table()
    {
        // A brain's port is for its operator alone.
        if app.role == Role::Brain && access != Open {
            continue;
        }
        let door = Door {
            app: app.clone(),
            access,
            cap,
            path,
            method,
        };
        router = router.route(path, handler.route_layer(from_fn_with_state(door, enter)));
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

/// What stands before a route's handler.
#[derive(Clone)]
struct Door {
    app: App,
    access: Access,
    cap: usize,
    path: &'static str,
    method: Method,
}

/// Lets a request in to its handler, or refuses it, and counts it.
async fn enter(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let response = match admit(&door, &mut request).await {
        Ok(principal) => {
            let mut response = next.run(request).await;
            if let Some(principal) = principal {
                let workspace = principal.workspace;
                response.extensions_mut().insert(Scope {
                    organization: door.app.organization.clone(),
                    workspace: HeaderValue::from_str(workspace.as_str()).ok(),
                });
            }
            response
        }
        Err(error) => error.into_response(),
    };
    let labels = [
        ("method", method_label(&door.method)),
        ("path", door.path),
        ("status", status_label(response.status())),
    ];
    metrics::counter!("manyhands_http_requests_total", &labels).increment(1);
    metrics::histogram!("manyhands_http_request_seconds", &labels)
        .record(begun.elapsed().as_secs_f64());
    response
}

async fn admit(door: &Door, request: &mut Request) -> Result<Option<Principal>, ApiError> {
    request.extensions_mut().insert(BodyCap(door.cap));
    if door.access == Open {
        return Ok(None);
    }
    let principal = auth::authenticate(&door.app.store, &door.app.keys, request.headers()).await?;
    if door.access == Beta {
        auth::require_beta(request.headers())?;
    }
    request.extensions_mut().insert(principal.clone());
    Ok(Some(principal))
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::DELETE => "DELETE",
        _ => "POST",
    }
}

fn status_label(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200 => "200",
        400 => "400",
        401 => "401",
        404 => "404",
        409 => "409",
        413 => "413",
        503 => "503",
        _ if status.is_success() => "2xx",
        _ if status.is_client_error() => "4xx",
        _ => "5xx",
    }
}

/// Which workspace an answer speaks of (runtime HT-10).
#[derive(Clone)]
struct Scope {
    organization: HeaderValue,
    workspace: Option<HeaderValue>,
}

/// The outermost layer: gives each request its id, and errors their body (runtime HT-11).
async fn finish(request: Request, next: Next) -> Response {
    let id = RequestId::generate();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).await;
    let scope = response.extensions_mut().remove::<Scope>();
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        response = error.respond(&id);
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        headers.insert(HeaderName::from_static("request-id"), value);
    }
    if let Some(Scope {
        organization,
        workspace,
    }) = scope
    {
        headers.insert(
            HeaderName::from_static("anthropic-organization-id"),
            organization,
        );
        if let Some(workspace) = workspace {
            headers.insert(HeaderName::from_static("anthropic-workspace-id"), workspace);
        }
    }
    tracing::debug!(request.id = %id, %method, path, status = response.status().as_u16(), "answered");
    response
}

/// A panic ends one request (security OPS-2). Its place is in the log, its text may hold what the request held.
fn panicked(_: Box<dyn std::any::Any + Send + 'static>) -> Response {
    metrics::counter!("manyhands_panics_total").increment(1);
    tracing::error!("a request handler panicked");
    ApiError::internal().into_response()
}

/// Set by the route's door; a handler that asks for it behind an open door refuses everybody.
impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| ApiError::unauthenticated("an API key is required"))
    }
}

#[cfg(test)]
mod tests;
