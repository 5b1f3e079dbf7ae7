//! The token endpoint over HTTP.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;

use super::{Misdeed, Shared, form};

/// Breaks the connection instead of an answer.
#[derive(Debug, thiserror::Error)]
#[error("the answer is lost")]
struct Lost;

pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| answer(Arc::clone(&shared), request));
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        // How a connection ends is the client's matter, or the script's.
        tokio::spawn(async move { drop(connection.await) });
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Lost> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Lost)?.to_bytes();
    if head.uri.path() != "/token" {
        return Ok(json_of(404, &json!({"error": "not_found"})));
    }
    let read = form::read(&shared.client, &head.method, &head.headers, &body);
    let misdeed = {
        let mut state = shared.state();
        match &read {
            Ok(form) => state.forms.push(form.clone()),
            Err((code, why)) => {
                state.forms.push(Default::default());
                state.problems.push(format!("{code}: {why}"));
            }
        }
        state.misdeeds.pop_front()
    };
    let form = match read {
        Ok(form) => form,
        Err((code, _)) => {
            let status = if code == "invalid_client" { 401 } else { 400 };
            return Ok(json_of(status, &json!({"error": code})));
        }
    };
    match &misdeed {
        Some(Misdeed::Refuse(status, code)) => {
            let described = json!({"error": code, "error_description": "as the script wants it"});
            return Ok(json_of(*status, &described));
        }
        Some(Misdeed::Answer(status, body)) => return Ok(plain(*status, body.clone())),
        Some(Misdeed::Redirect(to)) => {
            let mut moved = plain(307, String::new());
            let to = to.parse().expect("a legal location");
            moved.headers_mut().insert("location", to);
            return Ok(moved);
        }
        Some(Misdeed::Hold(gate)) => gate.pass().await,
        Some(Misdeed::Lose | Misdeed::Bloat(_) | Misdeed::Terse) | None => {}
    }
    let (granted, expires_in) = {
        let mut state = shared.state();
        let granted = state.rotate(&form["refresh_token"]);
        if let Err(why) = &granted {
            state.problems.push(format!("invalid_grant: {why}"));
        }
        (granted, state.expires_in)
    };
    let Ok(grant) = granted else {
        return Ok(json_of(400, &json!({"error": "invalid_grant"})));
    };
    shared.granted.send_modify(|granted| *granted += 1);
    let mut members = json!({"access_token": grant.access_token, "token_type": "Bearer",
        "expires_in": expires_in, "refresh_token": grant.refresh_token});
    match misdeed {
        Some(Misdeed::Lose) => return Err(Lost),
        Some(Misdeed::Bloat(bytes)) => members["padding"] = "x".repeat(bytes).into(),
        Some(Misdeed::Terse) => {
            // The old refresh token stays good: this server does not rotate it.
            let mut state = shared.state();
            if let Some((_, used)) = state.refresh.get_mut(&form["refresh_token"]) {
                *used = false;
            }
            members = json!({"access_token": grant.access_token, "token_type": "bearer"});
        }
        _ => {}
    }
    Ok(json_of(200, &members))
}

fn json_of(status: u16, body: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = plain(status, body.to_string());
    let headers = response.headers_mut();
    headers.insert(
        "content-type",
        "application/json;charset=UTF-8".parse().expect("legal"),
    );
    headers.insert("cache-control", "no-store".parse().expect("legal"));
    response
}

fn plain(status: u16, body: String) -> Response<Full<Bytes>> {
    let built = Response::builder()
        .status(status)
        .body(Full::new(body.into()));
    built.expect("a legal response")
}
