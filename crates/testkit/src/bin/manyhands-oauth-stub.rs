//! An authorization server, and an MCP server that admits its tokens and no others, as a process of its own.
//!
//! It prints `listening on http://ADDR:PORT` as its first line and ends on SIGTERM or when its standard input does. What
//! listens there is for the test: `GET /` says where the two are and counts what they were asked, `GET /grant` makes a grant,
//! `GET /expire` ends all access tokens, `GET /revoke` all grants. The client is `manyhands`, its secret `client & secret`, by
//! HTTP Basic.

use std::io::Write;
use std::process::ExitCode;

use manyhands_testkit::mcp::{Asked, Peer, Reply, polite};
use manyhands_testkit::oauth::{Authentication, AuthorizationServer, Registered};
use manyhands_testkit::site::{Site, page};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let login = AuthorizationServer::start(Registered {
        id: "manyhands".to_owned(),
        secret: Some("client & secret".to_owned()),
        authentication: Authentication::Basic,
    })
    .await;
    let admitting = login.clone();
    let office = Peer::start(move |asked| answer(asked, &admitting)).await;
    let site = Site::start(move |path, _| {
        let told = control(path, &login, &office);
        page("application/json", told.to_string().as_bytes())
    })
    .await;
    println!("listening on http://{}", site.address());
    let flushed = std::io::stdout().flush();
    let terminated = signal(SignalKind::terminate());
    let (Ok(()), Ok(mut terminated)) = (flushed, terminated) else {
        return ExitCode::FAILURE;
    };
    tokio::select! {
        () = stdin_ends() => {}
        _ = terminated.recv() => {}
    }
    // Not a return from main: the runtime would wait for the blocking read of stdin.
    std::process::exit(0)
}

async fn stdin_ends() {
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 1024];
    while matches!(stdin.read(&mut ignored).await, Ok(read) if read > 0) {}
}

fn control(path: &str, login: &AuthorizationServer, office: &Peer) -> Value {
    match path {
        "/grant" => {
            let grant = login.grant();
            return json!({"access_token": grant.access_token, "refresh_token": grant.refresh_token});
        }
        "/expire" => login.expire_all(),
        "/revoke" => login.revoke_all(),
        _ => {}
    }
    let tokens: Vec<_> = office
        .asked()
        .iter()
        .map(|asked| bearer(asked).map(str::to_owned))
        .collect();
    json!({"token_endpoint": login.token_endpoint("localhost"), "mcp": office.url("localhost", "/mcp"),
        "ports": [login.address().port(), office.address().port()], "asked": login.asked(),
        "granted": login.granted(), "problems": login.problems(), "tokens": tokens})
}

fn bearer(asked: &Asked) -> Option<&str> {
    asked.header("authorization")?.strip_prefix("Bearer ")
}

/// The MCP server: one tool, which says again what it is told.
fn answer(asked: &Asked, login: &AuthorizationServer) -> Reply {
    if !bearer(asked).is_some_and(|token| login.admits(token)) {
        let challenge = [
            ("www-authenticate", "Bearer"),
            ("content-type", "text/plain"),
        ];
        return Reply::new(401, &challenge, b"who are you?");
    }
    let tools = json!([{"name": "echo", "description": "Says it again.",
        "inputSchema": {"type": "object", "properties": {"say": {"type": "string"}}}}]);
    polite(asked, &tools, |_, input| {
        let said = input["say"].as_str().unwrap_or_default();
        json!({"content": [{"type": "text", "text": format!("echo: {said}")}]})
    })
}
