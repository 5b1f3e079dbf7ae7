//! Links for whom a profile stands for: given out, and opened (api §23). This server has no programs, and the page behind a link
//! says so. A link's secret part is stored as its hash.

use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use axum::Json as Reply;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::header::{CACHE_CONTROL, HOST, REFERRER_POLICY};
use http::request::Parts;
use http::uri::Authority;
use manyhands_protocol::Timestamp;
use manyhands_protocol::user_profile::{ActionUrl, ActionUrlParams, EnrollmentUrl};

use crate::api::auth::{self, Principal};
use crate::api::error::ApiError;
use crate::api::json::Json;
use crate::api::query::Ids;
use crate::app::App;

/// How long a link works.
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// More than any secret part has.
const LONGEST: usize = 64;

/// `POST /v1/user_profiles/{user_profile_id}/enrollment_url`
pub(crate) async fn create_enrollment_url(
    State(app): State<App>,
    principal: Principal,
    origin: Origin,
    ids: Ids,
) -> Result<Reply<EnrollmentUrl>, ApiError> {
    let (url, expires_at) = link(&app, &principal, &origin, &ids).await?;
    Ok(Reply(EnrollmentUrl {
        kind: Default::default(),
        url,
        expires_at,
    }))
}

/// `POST /v1/user_profiles/{user_profile_id}/action_urls`
pub(crate) async fn create_action_url(
    State(app): State<App>,
    principal: Principal,
    origin: Origin,
    ids: Ids,
    Json(ActionUrlParams { action: _ }): Json<ActionUrlParams>,
) -> Result<Reply<ActionUrl>, ApiError> {
    let (url, expires_at) = link(&app, &principal, &origin, &ids).await?;
    Ok(Reply(ActionUrl {
        kind: Default::default(),
        url,
        expires_at,
    }))
}

async fn link(
    app: &App,
    principal: &Principal,
    Origin(origin): &Origin,
    ids: &Ids,
) -> Result<(String, Timestamp), ApiError> {
    let id = ids.user_profile()?;
    let mut secret = [0; 32];
    SystemRandom::new().fill(&mut secret).map_err(|_| {
        tracing::error!("this machine gives no random bytes");
        ApiError::internal()
    })?;
    let secret = BASE64_URL_SAFE_NO_PAD.encode(secret);
    let expires_at = app.now().after(LIFE);
    let kept = app
        .store
        .insert_user_profile_link(&principal.workspace, &id, &auth::hash(&secret), expires_at)
        .await?;
    if !kept {
        return Err(super::missing());
    }
    Ok((format!("{origin}/enroll/{secret}"), expires_at))
}

/// `GET /enroll/{link}`: what a person sees.
pub(crate) async fn open_link(State(app): State<App>, ids: Ids) -> Result<Response, ApiError> {
    let secret = ids.text("link");
    let works =
        secret.len() <= LONGEST && app.store.is_user_profile_link(&auth::hash(secret)).await?;
    if !works {
        return Err(ApiError::not_found("link"));
    }
    let headers = [
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    let text = "There is nothing to do: this server has no programs to enroll in.\n";
    Ok((headers, text).into_response())
}

/// Where people reach this server: what a link begins with. As the operator says, or else as the request says.
pub(crate) struct Origin(String);

impl FromRequestParts<App> for Origin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        if let Some(url) = &app.public_url {
            return Ok(Self(url.clone()));
        }
        let text = |name: &str| {
            parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let host = text(HOST.as_str()).and_then(|host| host.parse::<Authority>().ok());
        let authority = parts.uri.authority().cloned().or(host).filter(|authority| {
            // No user information: a link names a place.
            !authority.as_str().contains('@')
        });
        let authority = authority
            .ok_or_else(|| ApiError::invalid("the Host header does not name this server"))?;
        let scheme = match text("x-forwarded-proto") {
            Some("https") => "https",
            _ => "http",
        };
        Ok(Self(format!("{scheme}://{authority}")))
    }
}
