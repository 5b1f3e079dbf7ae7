//! `Idempotency-Key`: a POST that its client may repeat for 24 h without doing it twice (security API-6).
//!
//! What is promised: of all requests with one key one has an effect. Who repeats it gets the first answer; while the first still
//! runs, a 409 that clients repeat by themselves; when the server died between the effect and its answer, a 409 that says so and is
//! not repeated. A refused request that changed nothing is forgotten, so that it can be repeated when its cause is gone.

use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use manyhands_store::Store;
use manyhands_store::idempotency::{Claim, Claimed, RequestHash};

use crate::api::auth::Principal;
use crate::api::error::ApiError;
use crate::api::json;
use crate::failpoint::failpoint;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Marks an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// The longest key.
const LONGEST: usize = 255;
/// The longest answer that is kept.
const ANSWER: usize = 32 << 20;

/// How a route takes requests that may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Its pattern.
    pub(crate) path: &'static str,
    /// The largest body.
    pub(crate) cap: usize,
    /// Whether its answers may be kept: those that hold a secret may not.
    pub(crate) repeatable: bool,
}

/// Whether a request wants to be repeatable. The header means nothing where repeating does no harm anyway.
pub(crate) fn is_wanted(request: &Request) -> bool {
    request.method() == Method::POST && request.headers().contains_key(KEY)
}

/// Runs a request once, whoever repeats it.
pub(crate) async fn run_once(
    store: &Store,
    route: Route,
    principal: &Principal,
    request: Request,
    next: Next,
) -> Response {
    match claim(store, route, principal, request).await {
        Ok(Turn::Run(claim, request)) => {
            let store = store.clone();
            // It runs to its end, and its answer is kept, also when the client goes away.
            let run = tokio::spawn(async move { run(store, claim, request, next).await });
            run.await
                .unwrap_or_else(|_| ApiError::internal().into_response())
        }
        Ok(Turn::Answer(response)) => response,
        Err(error) => error.into_response(),
    }
}

enum Turn {
    Run(Claim, Request),
    Answer(Response),
}

async fn claim(
    store: &Store,
    route: Route,
    principal: &Principal,
    request: Request,
) -> Result<Turn, ApiError> {
    let key = key_of(request.headers())?;
    if !route.repeatable || is_multipart(request.headers()) {
        return Err(ApiError::field(
            KEY.as_str(),
            "requests of this kind cannot be made repeatable; send them without it",
        ));
    }
    let (parts, body) = request.into_parts();
    let body = json::read(Request::from_parts(parts.clone(), body), route.cap).await?;
    let name = digest(&[&key, route.path.as_bytes()]);
    // Not to be guessed from the hash, whatever secrets are in the body: the key is in it, and kept nowhere.
    let target = parts
        .uri
        .path_and_query()
        .map_or("", |target| target.as_str());
    let asked = digest(&[&key, target.as_bytes(), &body]);
    let claimed = store
        .claim_request(&principal.workspace, name, asked)
        .await?;
    match claimed {
        Claimed::Granted(claim) => Ok(Turn::Run(
            claim,
            Request::from_parts(parts, Body::from(body)),
        )),
        Claimed::Answered { status, body } => Ok(Turn::Answer(replayed(status, body))),
        Claimed::Running => Err(ApiError::repeatable_conflict(
            "the first request with this idempotency-key still runs; repeat this one in a moment",
            Duration::from_secs(1),
        )),
        Claimed::Lost => Err(ApiError::conflict(
            "the first request with this idempotency-key took effect, and the server ended before it could answer: look at \
             what is there instead of repeating it",
        )),
        Claimed::Different => Err(ApiError::unprocessable(
            "another request was made with this idempotency-key; each request needs a key of its own",
        )),
    }
}

async fn run(store: Store, claim: Claim, request: Request, next: Next) -> Response {
    let response = claim.cover(next.run(request)).await;
    failpoint!("server::idempotent_run");
    if let Some(error) = response.extensions().get::<ApiError>() {
        let status = error.status().as_u16();
        let body = error.body(None);
        told(store.release_request(&claim, status, &body).await);
        return response;
    }
    let (parts, body) = response.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, ANSWER).await else {
        tracing::error!("the answer of a repeatable request is longer than any");
        return ApiError::internal().into_response();
    };
    let text = String::from_utf8_lossy(&bytes);
    told(
        store
            .answer_request(&claim, parts.status.as_u16(), &text)
            .await,
    );
    failpoint!("server::idempotent_answered");
    Response::from_parts(parts, Body::from(bytes))
}

/// The client gets its answer all the same; who repeats the request is told that it had an effect.
fn told(kept: Result<(), manyhands_store::Error>) {
    if let Err(error) = kept {
        tracing::error!(%error, "the answer of a repeatable request is not kept");
    }
}

fn replayed(status: u16, body: String) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let mut response = (status, Bytes::from(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// The key: 1 to 255 visible characters, once.
fn key_of(headers: &HeaderMap) -> Result<Vec<u8>, ApiError> {
    let mut all = headers.get_all(KEY).iter();
    let key = all.next().map_or(&b""[..], HeaderValue::as_bytes);
    let visible = key.iter().all(u8::is_ascii_graphic);
    if all.next().is_some() || key.is_empty() || key.len() > LONGEST || !visible {
        return Err(ApiError::field(
            KEY.as_str(),
            format!("expected one key of 1 to {LONGEST} visible ASCII characters"),
        ));
    }
    Ok(key.to_vec())
}

fn is_multipart(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.get(..10)
        .is_some_and(|start| start.eq_ignore_ascii_case("multipart/"))
}

/// A hash of several texts, none of which can pass for a part of another.
fn digest(parts: &[&[u8]]) -> RequestHash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut hash = RequestHash::default();
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    /// security API-6, INP-1
    #[test]
    fn api_6_a_key_is_one_short_visible_text() {
        #[track_caller]
        fn check(keys: &[&str], good: bool) {
            let mut headers = HeaderMap::new();
            for key in keys {
                headers.append(KEY, key.parse().expect("a value"));
            }
            assert_eq!(key_of(&headers).is_ok(), good, "{keys:?}");
        }
        check(&["a"], true);
        check(&["stainless-python-retry-7f1b"], true);
        check(&[&"x".repeat(255)], true);
        check(&[&"x".repeat(256)], false);
        check(&[""], false);
        check(&["a b"], false);
        check(&["a", "b"], false);
        check(&["a", "a"], false);
    }

    #[test]
    fn api_6_parts_of_a_hash_do_not_run_into_each_other() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
        assert_ne!(digest(&[b"a"]), digest(&[b"a", b""]));
        assert_eq!(digest(&[b"a", b"b"]), digest(&[b"a", b"b"]));
    }
}
