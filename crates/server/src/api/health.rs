//! Whether the server lives and can work (security OPS-1), and its figures.

use std::collections::BTreeMap;

use axum::Json as Reply;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use manyhands_store::Role;
use schemars::JsonSchema;
use serde::Serialize;

use crate::app::App;

/// What to do about sealed vaults.
pub(crate) const GIVE_KEY: &str =
    "give the server the key in use (vault.master_key_file, or MANYHANDS_MASTER_KEY)";

/// That the process answers.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Health {
    /// `ok`.
    status: &'static str,
}

/// Whether the server can work.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Readiness {
    /// `ready`, `stopping` or `not_ready`.
    status: &'static str,
    /// What the server does: `all`, `api` or `brain`.
    role: &'static str,
    /// What it needs: `ok`, or what is wrong with it.
    checks: BTreeMap<&'static str, String>,
}

/// `GET /healthz`: the process answers.
pub(crate) async fn healthz() -> Reply<Health> {
    Reply(Health { status: "ok" })
}

/// `GET /readyz`: not on its way out, the store answers, and what the server's role needs is there: a key that opens it,
/// a sandbox that can be made. Whether the vaults are open is said beside it.
pub(crate) async fn readyz(State(app): State<App>) -> (StatusCode, Reply<Readiness>) {
    let mut checks = vec![("store", store(&app).await)];
    if app.role != Role::Brain {
        checks.push(("key", key(&app).await));
    }
    if app.role.wakes() {
        checks.push(("sandbox", sandbox(&app).await));
    }
    let draining = app.draining.is_cancelled();
    let ready = !draining && checks.iter().all(|(_, check)| check.is_ok());
    // Said, and ready all the same: what needs no secret works (security CRED-1).
    checks.push(("vaults", vaults(&app).await));
    // Said, and ready all the same: reads and interrupts work, and nobody else can take them (security STORE-4).
    let full = app.store.is_short_of_room();
    let fine = |name| match (name, full) {
        ("store", true) => "the disk is full: no new work is taken".to_owned(),
        _ => "ok".to_owned(),
    };
    let checks = checks
        .into_iter()
        .map(|(name, check)| (name, check.err().unwrap_or(fine(name))));
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let status = match (ready, draining) {
        (true, _) => "ready",
        (false, true) => "stopping",
        (false, false) => "not_ready",
    };
    let readiness = Readiness {
        status,
        role: app.role.as_str(),
        checks: checks.collect(),
    };
    (code, Reply(readiness))
}

async fn store(app: &App) -> Result<(), String> {
    app.store.ping().await.map_err(|error| {
        tracing::warn!(%error, "the store is not ready");
        "the database does not answer".to_owned()
    })
}

async fn key(app: &App) -> Result<(), String> {
    let keys = app
        .store
        .list_keys(&app.workspace)
        .await
        .map_err(|_| "the database does not answer".to_owned())?;
    let usable = keys.iter().any(|key| key.revoked_at.is_none());
    usable
        .then_some(())
        .ok_or_else(|| "no API key is valid; make one with `manyhands keys create`".to_owned())
}

async fn vaults(app: &App) -> Result<(), String> {
    app.vaults
        .require_open()
        .await
        .map_err(|error| match error {
            manyhands_vault::Error::Sealed { why } => {
                format!("sealed: {why}; {}", GIVE_KEY)
            }
            error => {
                tracing::warn!(%error, "whether the vaults are open is not known");
                "not known: the database does not answer".to_owned()
            }
        })
}

async fn sandbox(app: &App) -> Result<(), String> {
    let probe = app.probe().await;
    match probe.as_ref().and_then(|probe| probe.missing.first()) {
        None => Ok(()),
        Some(missing) => Err(format!("{}; {}", missing.what, missing.install)),
    }
}

/// `GET /metrics`: the Prometheus text format. What waits is counted now and not as it comes: it costs nothing between.
pub(crate) async fn metrics(State(app): State<App>) -> Response {
    match app.store.backlog().await {
        Ok(backlog) => {
            let age = backlog.oldest.map_or(0, |oldest| {
                (app.now().as_micros() - oldest.as_micros()).max(0)
            });
            metrics::gauge!("manyhands_sessions_waiting").set(backlog.sessions as f64);
            metrics::gauge!("manyhands_sessions_waiting_oldest_seconds").set(age as f64 / 1e6);
        }
        Err(error) => tracing::warn!(%error, "sessions that wait cannot be counted"),
    }
    let sealed = app.vaults.require_open().await.is_err();
    metrics::gauge!("manyhands_vaults_sealed").set(f64::from(u8::from(sealed)));
    let text = crate::telemetry::recorder().render();
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response()
}
