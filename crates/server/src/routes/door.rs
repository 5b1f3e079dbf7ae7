//! What stands before every handler: who asks, whether the route is theirs, and how the answer is counted and signed.

use std::time::Instant;

use axum::RequestExt as _;
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};
use manyhands_protocol::Timestamp;
use manyhands_protocol::id::RequestId;

use super::{Access, Needs, Route};
use crate::api::auth::{self, Principal, betas, permits};
use crate::api::error::ApiError;
use crate::api::idempotency;
use crate::api::json::BodyCap;
use crate::api::query::{Declared, Ids};
use crate::api::rates::{Kind, Left};
use crate::app::App;

/// What stands before a route's handler.
#[derive(Clone)]
pub(super) struct Door {
    app: App,
    access: Access,
    needs: Needs,
    workers: bool,
    rate: Kind,
    idempotency: idempotency::Route,
    method: Method,
    query: Declared,
}

impl Door {
    /// The door of a route.
    pub(super) fn new(app: App, route: &Route) -> Self {
        Self {
            app,
            access: route.access,
            needs: route.needs,
            workers: route.workers,
            rate: route.rate(),
            idempotency: idempotency::Route {
                path: route.path,
                cap: route.cap,
                repeatable: route.repeatable,
            },
            method: route.method.clone(),
            query: Declared(route.operation.query),
        }
    }
}

impl Door {
    /// Counts a request against the workspace's rate limit, if there is one.
    fn take(&self, principal: &Principal) -> (Option<Left>, Result<(), ApiError>) {
        match &self.app.rates {
            None => (None, Ok(())),
            Some(rates) => {
                let (left, taken) = rates.take(&principal.workspace, self.rate);
                (Some(left), taken)
            }
        }
    }
}

/// Lets a request in to its handler, or refuses it, and counts it.
pub(super) async fn enter(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let response = match admit(&door, &mut request).await {
        Ok(None) => next.run(request).await,
        Ok(Some(principal)) => {
            let (left, taken) = door.take(&principal);
            let mut response = match taken {
                Err(error) => error.into_response(),
                Ok(()) if idempotency::is_wanted(&request) => {
                    let (store, route) = (&door.app.store, door.idempotency);
                    idempotency::run_once(store, route, &principal, request, next).await
                }
                Ok(()) => next.run(request).await,
            };
            response.extensions_mut().insert(Scope {
                organization: door.app.organization.clone(),
                workspace: HeaderValue::from_str(principal.workspace.as_str()).ok(),
                left: left.map(|left| (left, door.app.now())),
            });
            response
        }
        Err(error) => error.into_response(),
    };
    let labels = [
        ("method", method_label(&door.method)),
        ("path", door.idempotency.path),
        ("status", status_label(response.status())),
    ];
    metrics::counter!("manyhands_http_requests_total", &labels).increment(1);
    metrics::histogram!("manyhands_http_request_seconds", &labels)
        .record(begun.elapsed().as_secs_f64());
    response
}

async fn admit(door: &Door, request: &mut Request) -> Result<Option<Principal>, ApiError> {
    request
        .extensions_mut()
        .insert(BodyCap(door.idempotency.cap));
    request.extensions_mut().insert(door.query);
    if matches!(door.access, Access::Open | Access::Link) {
        return Ok(None);
    }
    let principal = auth::authenticate(&door.app.store, &door.app.keys, request.headers()).await?;
    match door.access {
        Access::Open | Access::Link | Access::Key => {}
        Access::Beta => betas::require_managed_agents(request.headers())?,
        Access::Memory => betas::require_memory(request.headers())?,
        Access::Named(beta) => betas::require(request.headers(), beta)?,
    }
    permits::check(door.needs, door.workers, &principal, &door.app.workspace)?;
    if principal.environment.is_some() {
        let ids = request.extract_parts::<Ids>().await?;
        permits::check_place(&door.app.store, &principal, &ids).await?;
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
        403 => "403",
        409 => "409",
        413 => "413",
        429 => "429",
        501 => "501",
        503 => "503",
        _ if status.is_success() => "2xx",
        _ if status.is_client_error() => "4xx",
        _ => "5xx",
    }
}

/// Which workspace an answer speaks of (runtime HT-10), and what is left of its rate limit at this time.
#[derive(Clone)]
struct Scope {
    organization: HeaderValue,
    workspace: Option<HeaderValue>,
    left: Option<(Left, Timestamp)>,
}

/// The outermost layer: gives each request its id, and errors their body (runtime HT-11).
pub(super) async fn finish(request: Request, next: Next) -> Response {
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
        left,
    }) = scope
    {
        if let Some((left, now)) = left {
            left.show(now, headers);
        }
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
pub(super) fn panicked(_: Box<dyn std::any::Any + Send + 'static>) -> Response {
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
