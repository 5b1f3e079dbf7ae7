//! OAuth credentials at work: tried out by clients (runtime VA-17), and used by sessions (VA-6, VA-7, MC-6, MC-7).

use std::sync::Arc;

use manyhands_testkit::mcp::{Asked, Peer, Reply, polite};
use manyhands_testkit::model::Reply as ModelReply;
use manyhands_testkit::oauth::{Authentication, AuthorizationServer, Grant, Misdeed, Registered};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::app::{TestApp, id};

/// What the MCP server does with a request that has a good token.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Fine,
    /// Answers with this status and repeats the token.
    Echoes(u16),
}

/// A server, and beside it an authorization server and an MCP server that asks it about tokens.
struct World {
    app: TestApp,
    login: AuthorizationServer,
    mcp: Peer,
    mood: Arc<watch::Sender<Mood>>,
    vault: String,
}

impl World {
    async fn new() -> Self {
        let login = AuthorizationServer::start(Registered {
            id: "manyhands".to_owned(),
            secret: Some("the client's own".to_owned()),
            authentication: Authentication::Basic,
        })
        .await;
        let mood = Arc::new(watch::Sender::new(Mood::Fine));
        let mcp = Peer::start({
            let (login, mood) = (login.clone(), Arc::clone(&mood));
            move |asked| answer(asked, &login, *mood.borrow())
        })
        .await;
        let ports = vec![80, 443, login.address().port(), mcp.address().port()];
        let app = TestApp::with(|config| {
            config.egress.allow_addresses = vec!["127.0.0.1/32".to_owned(), "::1/128".to_owned()];
            config.egress.ports = ports;
            config.mcp.tokens_in_plain_http = true;
        })
        .await;
        let vault = app
            .client
            .post("/v1/vaults", &json!({"display_name": "mine"}))
            .await;
        Self {
            vault: id(&vault.ok()),
            app,
            login,
            mcp,
            mood,
        }
    }

    fn url(&self) -> String {
        self.mcp.url("localhost", "/mcp")
    }

    async fn credential(&self, auth: Value) -> String {
        let path = format!("/v1/vaults/{}/credentials", self.vault);
        id(&self
            .app
            .client
            .post(&path, &json!({"auth": auth}))
            .await
            .ok())
    }

    fn oauth(&self, grant: &Grant) -> Value {
        json!({"type": "mcp_oauth", "mcp_server_url": self.url(), "access_token": grant.access_token,
            "refresh": {"client_id": "manyhands", "refresh_token": grant.refresh_token,
                "token_endpoint": self.login.token_endpoint("localhost"),
                "token_endpoint_auth": {"type": "client_secret_basic", "client_secret": "the client's own"}}})
    }

    /// Tries a credential out.
    async fn validate(&self, credential: &str) -> Value {
        let path = format!(
            "/v1/vaults/{}/credentials/{credential}/mcp_oauth_validate",
            self.vault
        );
        let answer = self.app.client.post_empty(&path).await;
        let text = answer.to_string();
        assert!(
            !text.contains("access-") && !text.contains("+&=%/"),
            "{text}"
        );
        let mut report = answer.ok();
        assert_eq!(report["type"], "vault_credential_validation");
        assert_eq!(
            (&report["vault_id"], &report["credential_id"]),
            (&json!(self.vault), &json!(credential))
        );
        let members = report.as_object_mut().expect("an object");
        let at = members.remove("validated_at").expect("a time");
        assert!(at.as_str().is_some_and(|at| at.ends_with('Z')), "{at}");
        for name in ["type", "vault_id", "credential_id"] {
            members.remove(name);
        }
        report
    }
}

fn answer(asked: &Asked, login: &AuthorizationServer, mood: Mood) -> Reply {
    let token = asked
        .header("authorization")
        .and_then(|value| value.strip_prefix("Bearer "));
    let Some(token) = token.filter(|token| login.admits(token)) else {
        let challenge = [
            ("www-authenticate", "Bearer"),
            ("content-type", "text/plain"),
        ];
        return Reply::new(401, &challenge, b"who are you?");
    };
    match mood {
        Mood::Fine => {
            let tools = json!([{"name": "echo", "description": "Says it again.",
                "inputSchema": {"type": "object", "properties": {"say": {"type": "string"}}}}]);
            polite(asked, &tools, |_, input| {
                let said = input["say"].as_str().unwrap_or_default();
                json!({"content": [{"type": "text", "text": format!("echo: {said}")}]})
            })
        }
        Mood::Echoes(status) => {
            let body = format!("sorry, {token}");
            Reply::new(status, &[("content-type", "text/plain")], body.as_bytes())
        }
    }
}

fn report(status: &str, has_refresh_token: bool, probe: Value, refresh: Value) -> Value {
    json!({"status": status, "has_refresh_token": has_refresh_token, "mcp_probe": probe, "refresh": refresh})
}

fn http(status: u16, content_type: &str, body: &str) -> Value {
    json!({"status_code": status, "content_type": content_type, "body": body, "body_truncated": false})
}

/// runtime VA-17; api §16.5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn va_17_a_credential_is_tried_out_and_refreshed_where_needed() {
    let world = World::new().await;
    let grant = world.login.grant();
    let credential = world.credential(world.oauth(&grant)).await;
    let fine = report("valid", true, Value::Null, Value::Null);
    assert_eq!(world.validate(&credential).await, fine);
    assert_eq!(world.login.asked(), 0);
    world.login.expire(&grant.access_token);
    let refreshed = json!({"status": "succeeded", "http_response": null});
    let report_of = report("valid", true, Value::Null, refreshed);
    assert_eq!(world.validate(&credential).await, report_of);
    assert_eq!(
        world.validate(&credential).await,
        fine,
        "the new token is stored"
    );
    assert_eq!(
        (world.login.asked(), world.login.problems()),
        (1, Vec::new())
    );
    // The client's tokens were spent; nothing of it shows.
    let path = format!("/v1/vaults/{}/credentials/{credential}", world.vault);
    let shown = world.app.client.get(&path).await.ok();
    assert!(shown["auth"]["expires_at"].is_string(), "{shown}");
    world.app.end().await;
}

/// runtime VA-17: a 4xx of either server is final, a 5xx, 429 or silence is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn va_17_what_is_wrong_is_told_without_secrets() {
    let world = World::new().await;
    let grant = world.login.grant();
    let credential = world.credential(world.oauth(&grant)).await;
    for (status, verdict) in [(403, "invalid"), (503, "unknown")] {
        world.mood.send_replace(Mood::Echoes(status));
        let body = format!("sorry, {}", "*".repeat(grant.access_token.len()));
        let probe =
            json!({"method": "initialize", "http_response": http(status, "text/plain", &body)});
        let expected = report(verdict, true, probe, Value::Null);
        assert_eq!(world.validate(&credential).await, expected);
    }
    world.mood.send_replace(Mood::Fine);
    let refused =
        json!({"method": "initialize", "http_response": http(401, "text/plain", "who are you?")});
    world.login.expire(&grant.access_token);
    let failed = |response: Value| json!({"status": "failed", "http_response": response});
    world
        .login
        .misbehave(Misdeed::Refuse(503, "temporarily_unavailable"));
    let trouble =
        r#"{"error":"temporarily_unavailable","error_description":"as the script wants it"}"#;
    let response = failed(http(503, "application/json;charset=UTF-8", trouble));
    let expected = report("unknown", true, refused.clone(), response);
    assert_eq!(world.validate(&credential).await, expected);
    world.login.revoke_all();
    let gone = failed(http(
        400,
        "application/json;charset=UTF-8",
        r#"{"error":"invalid_grant"}"#,
    ));
    let expected = report("invalid", true, refused.clone(), gone);
    assert_eq!(world.validate(&credential).await, expected);
    assert_eq!(
        world.validate(&credential).await,
        expected,
        "whoever tries it out really asks"
    );
    assert_eq!(world.login.asked(), 3);

    // A token endpoint that is not there, and a credential without one.
    let grant = world.login.grant();
    let other = world.mcp.url("localhost", "/other");
    let mut lost = world.oauth(&grant);
    lost["mcp_server_url"] = json!(other);
    lost["refresh"]["token_endpoint"] = json!("http://login.invalid/token");
    let lost = world.credential(lost).await;
    world.login.expire(&grant.access_token);
    let silent = json!({"status": "connect_error", "http_response": null});
    let expected = report("unknown", true, refused.clone(), silent);
    assert_eq!(world.validate(&lost).await, expected);
    let bare = json!({"type": "mcp_oauth", "access_token": "unknown-token", "mcp_server_url": world.mcp.url("localhost", "/bare")});
    let bare = world.credential(bare).await;
    let none = json!({"status": "no_refresh_token", "http_response": null});
    assert_eq!(
        world.validate(&bare).await,
        report("invalid", false, refused, none)
    );
    let nowhere = json!({"type": "mcp_oauth", "access_token": "unknown-token", "mcp_server_url": "https://mcp.invalid/"});
    let nowhere = world.credential(nowhere).await;
    let probe = json!({"method": "initialize", "http_response": null});
    assert_eq!(
        world.validate(&nowhere).await,
        report("unknown", false, probe, Value::Null)
    );
    world.app.end().await;
}

/// runtime VA-17
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn va_17_only_oauth_credentials_that_are_there_are_tried_out() {
    let world = World::new().await;
    let bearer = json!({"type": "static_bearer", "mcp_server_url": world.url(), "token": "x"});
    let bearer = world.credential(bearer).await;
    let path = |credential: &str| {
        format!(
            "/v1/vaults/{}/credentials/{credential}/mcp_oauth_validate",
            world.vault
        )
    };
    let refused = world.app.client.post_empty(&path(&bearer)).await;
    let refused = refused.error(400, "invalid_request_error");
    assert!(refused.contains("this one is static_bearer"), "{refused}");
    let grant = world.login.grant();
    let mut auth = world.oauth(&grant);
    auth["mcp_server_url"] = json!(world.mcp.url("localhost", "/archived"));
    let archived = world.credential(auth).await;
    let archive = format!("/v1/vaults/{}/credentials/{archived}/archive", world.vault);
    world.app.client.post_empty(&archive).await.ok();
    let refused = world.app.client.post_empty(&path(&archived)).await;
    let refused = refused.error(400, "invalid_request_error");
    assert!(refused.contains("is archived"), "{refused}");
    let missing = world.app.client.post_empty(&path("vcrd_01none")).await;
    missing.error(404, "not_found_error");
    assert_eq!(world.mcp.asked().len(), 0);
    world.app.end().await;
}

/// runtime VA-6, VA-7, MC-6, MC-7, MC-8; scenario 17 without the webhook
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn va_6_calls_at_once_with_an_expired_token_do_one_refresh() {
    const CALLS: usize = 5;
    let world = World::new().await;
    let (app, login) = (&world.app, &world.login);
    let grant = login.grant();
    let credential = world.credential(world.oauth(&grant)).await;
    let agent = json!({"name": "caller", "model": "claude-opus-4-8",
        "tools": [{"type": "mcp_toolset", "mcp_server_name": "docs",
            "default_config": {"permission_policy": {"type": "always_allow"}}}],
        // MC-6: written otherwise than in the vault.
        "mcp_servers": [{"type": "url", "name": "docs",
            "url": format!("{}/", world.url().replace("localhost", "LOCALHOST"))}]});
    let agent = id(&app.client.post("/v1/agents", &agent).await.ok());
    let environment = app.environment().await;
    let body = json!({"agent": agent, "environment_id": environment, "vault_ids": [world.vault]});
    let session = id(&app.client.post("/v1/sessions", &body).await.ok());

    // The token ends after the tools were listed, before the calls.
    let script = login.clone();
    let mut round = 0;
    app.model.respond_with(move |_| {
        round += 1;
        if round != 1 {
            return ModelReply::text("done");
        }
        script.expire_all();
        let call = |n: usize| {
            (
                format!("toolu_{n}"),
                "mcp__docs__echo",
                json!({"say": format!("hi {n}")}),
            )
        };
        let (first, name, input) = call(0);
        let reply = ModelReply::tool_use(first, name, input);
        (1..CALLS)
            .map(call)
            .fold(reply, |reply, (id, name, input)| {
                reply.then_tool_use(id, name, input)
            })
    });
    let events = app.turn(&session, "call them").await;
    let results: Vec<&Value> = events
        .iter()
        .filter(|event| event.kind() == "agent.mcp_tool_result")
        .map(|event| &event.data)
        .collect();
    assert_eq!(results.len(), CALLS);
    for result in results {
        assert_eq!(result["is_error"], false, "{result}");
        let text = result["content"][0]["text"].as_str().unwrap_or_default();
        assert!(text.starts_with("echo: hi "), "{result}");
    }
    assert_eq!((login.asked(), login.granted()), (1, 1));
    assert_eq!(login.problems(), Vec::<String>::new());

    // VA-7: the client's own new token is used by the running session.
    let own = login.grant();
    let path = format!("/v1/vaults/{}/credentials/{credential}", world.vault);
    let update = json!({"auth": {"type": "mcp_oauth", "access_token": own.access_token,
        "refresh": {"refresh_token": own.refresh_token}}});
    app.client.post(&path, &update).await.ok();
    let before = world.mcp.asked().len();
    app.turn(&session, "again").await;
    let expected = format!("Bearer {}", own.access_token);
    let asked = world.mcp.asked();
    let sent: Vec<_> = asked[before..]
        .iter()
        .map(|asked| asked.header("authorization"))
        .collect();
    assert!(
        !sent.is_empty() && sent.iter().all(|sent| *sent == Some(expected.as_str())),
        "{sent:?}"
    );
    assert_eq!(login.asked(), 1);

    // The grant is gone: that is told, and the session goes on.
    login.revoke_all();
    let events = app.turn(&session, "once more").await;
    let errors: Vec<&Value> = events
        .iter()
        .filter(|event| event.kind() == "session.error")
        .map(|event| &event.data["error"])
        .collect();
    let [error] = &errors[..] else {
        panic!("{errors:?}");
    };
    assert_eq!(error["type"], "mcp_authentication_failed_error");
    assert_eq!(error["mcp_server_name"], "docs");
    let message = error["message"].as_str().unwrap_or_default();
    assert!(message.contains("invalid_grant"), "{message}");
    assert!(events.iter().any(|event| event.kind() == "agent.message"));
    // Nobody asks in vain again, until a client changes the credential.
    let asked = login.asked();
    app.turn(&session, "and again").await;
    assert_eq!(login.asked(), asked);
    let all = json!(app.events(&session).await).to_string();
    for secret in ["access-", "+&=%/", "the client's own"] {
        assert!(!all.contains(secret), "{secret}");
    }
    world.app.end().await;
}
