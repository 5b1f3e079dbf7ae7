//! Vaults and credentials through HTTP (api §16).

use manyhands_server::MasterKey;
use manyhands_store::audit::{AuditFilter, AuditRecord};
use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use crate::app::{TestApp, confirmation, id, ids, kinds, stories};

stories! {
    va_1_a_vault_has_an_exact_shape,
    va_1_vaults_are_paged_newest_first,
    va_2_each_kind_of_credential_has_an_exact_shape,
    va_2_an_active_key_is_unique_in_its_vault,
    va_1_a_vault_takes_twenty_credentials,
    va_3_secrets_are_never_shown,
    va_5_a_credential_is_updated,
    va_16_archived_and_deleted,
    cred_2_what_cannot_be_read_is_not_quoted,
    ops_3_who_did_what_is_written_down,
    ops_3_approvals_are_written_down,
}

/// Part of every secret in these stories.
const CANARY: &str = "canary-7c1f";

async fn vault(app: &TestApp) -> String {
    let body = json!({"display_name": "keys"});
    id(&app.client.post("/v1/vaults", &body).await.ok())
}

fn bearer(url: &str) -> Value {
    json!({"auth": {"type": "static_bearer", "mcp_server_url": url, "token": CANARY}})
}

fn variable(name: &str) -> Value {
    json!({"auth": {"type": "environment_variable", "secret_name": name, "secret_value": CANARY,
        "networking": {"type": "unrestricted"}}})
}

fn oauth() -> Value {
    json!({"auth": {"type": "mcp_oauth", "mcp_server_url": "https://oauth.example.com/mcp", "access_token": CANARY,
        "expires_at": "2999-01-01T00:00:00Z",
        "refresh": {"client_id": "client", "refresh_token": CANARY, "token_endpoint": "https://auth.example.com/token",
            "token_endpoint_auth": {"type": "client_secret_post", "client_secret": CANARY}, "scope": "read"}},
        "display_name": "the server's", "metadata": {"a": "b"}})
}

async fn audit(app: &TestApp) -> Vec<AuditRecord> {
    let store = app.server.store();
    let rows = store.list_audit(&AuditFilter::default(), 1000).await;
    rows.expect("the audit log")
}

/// api §16.1
async fn va_1_a_vault_has_an_exact_shape(app: &TestApp) {
    let body = json!({"display_name": "keys", "metadata": {"a": "b"}});
    let made = app.client.post("/v1/vaults", &body).await.ok();
    assert_eq!(
        made,
        json!({
            "id": made["id"], "type": "vault", "display_name": "keys", "metadata": {"a": "b"},
            "created_at": made["created_at"], "updated_at": made["created_at"], "archived_at": null,
        })
    );
    assert!(id(&made).starts_with("vlt_"));
    let path = format!("/v1/vaults/{}", id(&made));
    assert_eq!(app.client.get(&path).await.ok(), made);
    assert_eq!(app.client.post(&path, &json!({})).await.ok(), made);
    let null = json!({"display_name": null, "metadata": null});
    assert_eq!(app.client.post(&path, &null).await.ok(), made);
    let patch = json!({"display_name": "other", "metadata": {"a": null, "c": "d"}});
    let changed = app.client.post(&path, &patch).await.ok();
    assert_eq!(
        (&changed["display_name"], &changed["metadata"]),
        (&json!("other"), &json!({"c": "d"}))
    );
    assert!(changed["updated_at"].as_str() > made["updated_at"].as_str());
    for (body, problem) in [
        (json!({}), "missing field `display_name`"),
        (
            json!({"display_name": ""}),
            "display_name: must not be empty",
        ),
        (
            json!({"display_name": "x".repeat(256)}),
            "display_name: is 256",
        ),
        (
            json!({"display_name": 5}),
            "display_name: expected a string",
        ),
        (
            json!({"display_name": "x", "metadata": {"": "x"}}),
            "metadata: keys",
        ),
    ] {
        app.client.post("/v1/vaults", &body).await.refused(problem);
    }
    let refused = app.client.post(&path, &json!({"display_name": ""})).await;
    refused.error(400, "invalid_request_error");
    let strange = app.client.get("/v1/vaults/agent_01").await;
    strange.error(400, "invalid_request_error");
}

/// api §16.1, §1.5
async fn va_1_vaults_are_paged_newest_first(app: &TestApp) {
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(vault(app).await);
    }
    made.reverse();
    let archive = format!("/v1/vaults/{}/archive", made[1]);
    app.client.post_empty(&archive).await.ok();
    let list = async |query: &str| {
        let mut found = Vec::new();
        let mut page = String::new();
        loop {
            let path = format!("/v1/vaults?limit=2{query}{page}");
            let answer = app.client.get(&path).await.ok();
            let data = answer["data"].as_array().expect("data");
            found.extend(data.iter().map(id));
            match answer["next_page"].as_str() {
                Some(next) => page = format!("&page={next}"),
                None => return found,
            }
        }
    };
    assert_eq!(list("&include_archived=true").await, made);
    made.remove(1);
    assert_eq!(list("").await, made);
    let refused = app.client.get("/v1/vaults?limit=101").await;
    refused.error(400, "invalid_request_error");
    let refused = app.client.get("/v1/vaults?page=page_x").await;
    refused.error(400, "invalid_request_error");
}

/// api §16.4, runtime VA-3
async fn va_2_each_kind_of_credential_has_an_exact_shape(app: &TestApp) {
    let vault = vault(app).await;
    let path = format!("/v1/vaults/{vault}/credentials");
    for (body, auth) in [
        (
            bearer("https://Bearer.example.com/"),
            json!({"type": "static_bearer", "mcp_server_url": "https://Bearer.example.com/"}),
        ),
        (
            oauth(),
            json!({"type": "mcp_oauth", "mcp_server_url": "https://oauth.example.com/mcp",
                "expires_at": "2999-01-01T00:00:00.000000Z",
                "refresh": {"client_id": "client", "token_endpoint": "https://auth.example.com/token",
                    "token_endpoint_auth": {"type": "client_secret_post"}, "scope": "read"}}),
        ),
        (
            variable("API_KEY"),
            json!({"type": "environment_variable", "secret_name": "API_KEY", "networking": {"type": "unrestricted"},
                "injection_location": {"body": true, "header": true}}),
        ),
    ] {
        let made = app.client.post(&path, &body).await.ok();
        let expected = json!({
            "id": made["id"], "type": "vault_credential", "vault_id": vault,
            "display_name": body.get("display_name"), "auth": auth,
            "metadata": body.get("metadata").cloned().unwrap_or(json!({})),
            "created_at": made["created_at"], "updated_at": made["created_at"], "archived_at": null,
        });
        assert_eq!(made, expected);
        assert!(id(&made).starts_with("vcrd_"));
        let found = app.client.get(&format!("{path}/{}", id(&made))).await.ok();
        assert_eq!(found, made);
    }
    let listed = app.client.get(&path).await.ok();
    let kinds: Vec<&str> = listed["data"]
        .as_array()
        .expect("data")
        .iter()
        .filter_map(|credential| credential["auth"]["type"].as_str())
        .collect();
    assert_eq!(
        kinds,
        ["environment_variable", "mcp_oauth", "static_bearer"],
        "newest first"
    );
    // Of another vault, or of none, it is not there.
    let other = id(&app
        .client
        .post("/v1/vaults", &json!({"display_name": "x"}))
        .await
        .ok());
    let credential = id(&listed["data"][0]);
    for path in [
        format!("/v1/vaults/{other}/credentials/{credential}"),
        format!("/v1/vaults/vlt_01none/credentials/{credential}"),
        format!("/v1/vaults/{vault}/credentials/vcrd_01none"),
    ] {
        app.client.get(&path).await.error(404, "not_found_error");
        app.client.delete(&path).await.error(404, "not_found_error");
        let archive = app.client.post_empty(&format!("{path}/archive")).await;
        archive.error(404, "not_found_error");
        let update = app.client.post(&path, &json!({})).await;
        update.error(404, "not_found_error");
    }
    let nowhere = "/v1/vaults/vlt_01none/credentials";
    app.client.get(nowhere).await.error(404, "not_found_error");
    let refused = app.client.post(nowhere, &variable("X")).await;
    refused.error(404, "not_found_error");
}

/// runtime VA-2, MC-6: the key of an MCP credential is its URL in one spelling, whatever its kind.
async fn va_2_an_active_key_is_unique_in_its_vault(app: &TestApp) {
    let path = format!("/v1/vaults/{}/credentials", vault(app).await);
    let first = app
        .client
        .post(&path, &bearer("https://mcp.example.com/x"))
        .await
        .ok();
    app.client.post(&path, &variable("API_KEY")).await.ok();
    let mut same = oauth();
    same["auth"]["mcp_server_url"] = json!("https://MCP.example.com:443/x/");
    for (body, name) in [
        (bearer("https://mcp.example.com/x"), "mcp_server_url"),
        (same.clone(), "mcp_server_url"),
        (variable("API_KEY"), "secret_name"),
    ] {
        let refused = app.client.post(&path, &body).await;
        assert_eq!(refused.header("x-should-retry"), Some("false"));
        let message = refused.error(409, "conflict_error");
        assert!(
            message.contains(name) && !message.contains(CANARY),
            "{message}"
        );
    }
    for other in [
        "https://mcp.example.com/y",
        "https://mcp.example.com:8443/x",
        "http://mcp.example.com/x",
    ] {
        app.client.post(&path, &bearer(other)).await.ok();
    }
    app.client.post(&path, &variable("api_key")).await.ok();
    let archive = format!("{path}/{}/archive", id(&first));
    app.client.post_empty(&archive).await.ok();
    app.client.post(&path, &same).await.ok();
    let elsewhere = format!("/v1/vaults/{}/credentials", vault(app).await);
    app.client.post(&elsewhere, &variable("API_KEY")).await.ok();
}

/// runtime VA-1
async fn va_1_a_vault_takes_twenty_credentials(app: &TestApp) {
    let path = format!("/v1/vaults/{}/credentials", vault(app).await);
    let mut first = None;
    for n in 0..20 {
        let made = app
            .client
            .post(&path, &variable(&format!("NAME_{n}")))
            .await
            .ok();
        first.get_or_insert(id(&made));
    }
    let refused = app.client.post(&path, &variable("ONE_MORE")).await;
    let message = refused.error(400, "invalid_request_error");
    assert!(message.contains("20 credentials"), "{message}");
    let archive = format!("{path}/{}/archive", first.expect("one"));
    app.client.post_empty(&archive).await.ok();
    app.client.post(&path, &variable("ONE_MORE")).await.ok();
    let listed = app.client.get(&format!("{path}?limit=100")).await.ok();
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(20));
    let listed = app
        .client
        .get(&format!("{path}?limit=100&include_archived=true"))
        .await
        .ok();
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(21));
}

/// runtime VA-3, security CRED-2
async fn va_3_secrets_are_never_shown(app: &TestApp) {
    let vault = vault(app).await;
    let path = format!("/v1/vaults/{vault}/credentials");
    let mut shown = String::new();
    for body in [bearer("https://a.example"), oauth(), variable("API_KEY")] {
        let made = app.client.post(&path, &body).await.ok();
        let one = format!("{path}/{}", id(&made));
        shown.push_str(&made.to_string());
        shown.push_str(&app.client.get(&one).await.ok().to_string());
        let update = json!({"auth": body["auth"], "display_name": "new"});
        // As it is read and sent back, but for the members that an update does not have.
        shown.push_str(&app.client.post(&one, &update).await.to_string());
        shown.push_str(
            &app.client
                .post_empty(&format!("{one}/archive"))
                .await
                .to_string(),
        );
        shown.push_str(&app.client.delete(&one).await.to_string());
    }
    shown.push_str(
        &app.client
            .get(&format!("{path}?include_archived=true"))
            .await
            .to_string(),
    );
    shown.push_str(&app.client.get("/metrics").await.to_string());
    for row in audit(app).await {
        shown.push_str(&format!("{row:?}"));
    }
    assert!(shown.len() > 2000);
    assert!(!shown.contains(CANARY));
}

/// runtime VA-5
async fn va_5_a_credential_is_updated(app: &TestApp) {
    let path = format!("/v1/vaults/{}/credentials", vault(app).await);
    let made = app.client.post(&path, &oauth()).await.ok();
    let one = format!("{path}/{}", id(&made));
    assert_eq!(app.client.post(&one, &json!({})).await.ok(), made);
    let update = json!({"auth": {"type": "mcp_oauth", "access_token": "new", "refresh": {"scope": ""}},
        "display_name": null, "metadata": {"a": null}});
    let changed = app.client.post(&one, &update).await.ok();
    assert_eq!(
        changed["auth"]["expires_at"], made["auth"]["expires_at"],
        "kept"
    );
    assert_eq!(changed["auth"]["refresh"].get("scope"), None);
    assert_eq!(
        (&changed["display_name"], &changed["metadata"]),
        (&json!(null), &json!({}))
    );
    assert!(changed["updated_at"].as_str() > made["updated_at"].as_str());
    let before = app.client.get(&one).await.ok();
    for (body, problem) in [
        (
            json!({"display_name": ""}),
            "display_name: must not be empty",
        ),
        (
            json!({"auth": {"type": "static_bearer", "token": "x"}}),
            "auth.type: cannot be changed",
        ),
        (
            json!({"auth": {"type": "mcp_oauth", "mcp_server_url": "https://x.example"}}),
            "auth.mcp_server_url: cannot",
        ),
        (
            json!({"auth": {"type": "mcp_oauth", "expires_at": "2001-01-01T00:00:00Z"}}),
            "auth.expires_at: must be in the future",
        ),
        (
            json!({"auth": {"access_token": "x"}}),
            "auth.type: is required",
        ),
    ] {
        app.client.post(&one, &body).await.refused(problem);
    }
    assert_eq!(
        app.client.get(&one).await.ok(),
        before,
        "nothing was stored"
    );
}

/// runtime VA-16, UP-11
async fn va_16_archived_and_deleted(app: &TestApp) {
    let vault_id = vault(app).await;
    let path = format!("/v1/vaults/{vault_id}/credentials");
    let one = id(&app.client.post(&path, &variable("ONE")).await.ok());
    let two = id(&app.client.post(&path, &variable("TWO")).await.ok());
    let archive = format!("{path}/{one}/archive");
    let archived = app.client.post_empty(&archive).await.ok();
    assert!(archived["archived_at"].is_string());
    assert_eq!(app.client.post_empty(&archive).await.ok(), archived, "once");
    let update = app
        .client
        .post(&format!("{path}/{one}"), &json!({"display_name": "x"}))
        .await;
    update.error(400, "invalid_request_error");
    let deleted = app.client.delete(&format!("{path}/{one}")).await.ok();
    assert_eq!(
        deleted,
        json!({"id": one, "type": "vault_credential_deleted"})
    );
    app.client
        .delete(&format!("{path}/{one}"))
        .await
        .error(404, "not_found_error");

    let archive = format!("/v1/vaults/{vault_id}/archive");
    let archived = app.client.post_empty(&archive).await.ok();
    assert!(archived["archived_at"].is_string());
    assert_eq!(app.client.post_empty(&archive).await.ok(), archived, "once");
    let kept = app.client.get(&format!("{path}/{two}")).await.ok();
    assert!(kept["archived_at"].is_string(), "it cascades");
    let update = app
        .client
        .post(
            &format!("/v1/vaults/{vault_id}"),
            &json!({"display_name": "x"}),
        )
        .await;
    update.error(400, "invalid_request_error");
    let late = app.client.post(&path, &variable("THREE")).await;
    late.error(400, "invalid_request_error");
    let deleted = app
        .client
        .delete(&format!("/v1/vaults/{vault_id}"))
        .await
        .ok();
    assert_eq!(deleted, json!({"id": vault_id, "type": "vault_deleted"}));
    for path in [
        format!("/v1/vaults/{vault_id}"),
        path.clone(),
        format!("{path}/{two}"),
    ] {
        app.client.get(&path).await.error(404, "not_found_error");
    }
    let again = app.client.delete(&format!("/v1/vaults/{vault_id}")).await;
    again.error(404, "not_found_error");
}

/// security CRED-2: not even in parts.
async fn cred_2_what_cannot_be_read_is_not_quoted(app: &TestApp) {
    let path = format!("/v1/vaults/{}/credentials", vault(app).await);
    let made = id(&app.client.post(&path, &variable("MADE")).await.ok());
    for body in [
        r#"{"auth": "canary-7c1f"}"#,
        r#"{"auth": {"type": "canary-7c1f"}}"#,
        r#"{"auth": {"type": "static_bearer", "token": ["canary-7c1f"]}}"#,
        r#"{"auth": {"type": "static_bearer", "token": {"canary-7c1f": 1}}}"#,
        r#"{"auth": {"type": "static_bearer", "token": 7, "canary-7c1f": 1}}"#,
        r#"{"auth": {"type": "static_bearer", "token": "canary-7c1f", "token": "canary-7c1f"}}"#,
        r#"{"auth": {"canary-7c1f": 1, "canary-7c1f": 2}}"#,
        r#"{"auth": {"type": "mcp_oauth", "expires_at": "canary-7c1f"}}"#,
        r#"{"auth": {"type": "mcp_oauth", "refresh": "canary-7c1f"}}"#,
        r#"{"auth": {"type": "mcp_oauth", "refresh": {"token_endpoint_auth": "canary-7c1f"}}}"#,
        r#"{"auth": {"type": "environment_variable", "networking": "canary-7c1f"}}"#,
        r#"{"auth": {"type": "environment_variable", "networking": {"type": "canary-7c1f"}}}"#,
        r#"{"auth": {"type": "environment_variable", "networking": {"type": "limited", "allowed_hosts": "canary-7c1f"}}}"#,
        r#"{"auth": {"type": "environment_variable", "injection_location": {"body": "canary-7c1f"}}}"#,
        r#"{"auth": {"type": "static_bearer"}, "display_name": ["canary-7c1f"]}"#,
        r#"{"auth": {"type": "static_bearer"}, "metadata": {"canary-7c1f": 5}}"#,
        r#"{"auth": {"type": "static_bearer", "token": "canary-7c1f}}"#,
        r#"{"auth": {"type": "static_bearer", "token": canary-7c1f}}"#,
        r#"{"auth": {"type": "static_bearer", "token": "canary-7c1f\ud800"}}"#,
        r#"["canary-7c1f"]"#,
        r#""canary-7c1f""#,
        r#"canary-7c1f"#,
    ] {
        for path in [path.clone(), format!("{path}/{made}")] {
            let answer = app.client.send(http::Method::POST, &path, body).await;
            let answer = answer.expect("an answer");
            let message = answer.error(400, "invalid_request_error");
            assert!(!answer.to_string().contains("7c1f"), "{body}: {message}");
        }
    }
}

/// security OPS-3
async fn ops_3_who_did_what_is_written_down(app: &TestApp) {
    let before = audit(app).await;
    assert_eq!(before.len(), 1);
    assert_eq!(
        (before[0].action.as_str(), before[0].actor.as_str()),
        ("key.create", "server")
    );
    let key = before[0].object.clone().expect("the first key");
    let vault = vault(app).await;
    let path = format!("/v1/vaults/{vault}/credentials");
    let made = id(&app.client.post(&path, &variable("API_KEY")).await.ok());
    app.client
        .post(&path, &variable("API_KEY"))
        .await
        .error(409, "conflict_error");
    let one = format!("{path}/{made}");
    app.client
        .post(&one, &json!({"display_name": "x"}))
        .await
        .ok();
    app.client
        .post(&one, &json!({"display_name": ""}))
        .await
        .error(400, "invalid_request_error");
    let second = app
        .client
        .post("/v1/manyhands/keys", &json!({"name": "ci"}))
        .await
        .ok();
    let revoke = format!("/v1/manyhands/keys/{}", id(&second));
    app.client.delete(&revoke).await.ok();
    app.client.delete(&revoke).await.ok();
    app.client.delete(&format!("/v1/vaults/{vault}")).await.ok();
    let rows = audit(app).await;
    let rows: Vec<(&str, Option<&str>)> = rows[1..]
        .iter()
        .map(|row| {
            assert_eq!((&row.actor, row.outcome.as_str()), (&key, "done"));
            (
                row.action.as_str(),
                row.credential.as_deref().or(row.object.as_deref()),
            )
        })
        .collect();
    let second = id(&second);
    assert_eq!(
        rows,
        [
            ("vault.create", None),
            ("credential.create", Some(made.as_str())),
            ("credential.update", Some(&made)),
            ("key.create", Some(&second)),
            ("key.revoke", Some(&second)),
            ("vault.delete", None),
            ("credential.delete", Some(&made)),
        ]
    );
}

/// security OPS-3: who let a tool run, and who did not.
async fn ops_3_approvals_are_written_down(app: &TestApp) {
    let tools = json!([{"type": "agent_toolset_20260401",
        "default_config": {"permission_policy": {"type": "always_ask"}}}]);
    let call = |command: &str| json!({"command": command});
    app.model.push(
        Reply::tool_use("toolu_1", "bash", call("ls")).then_tool_use("toolu_2", "bash", call("rm")),
    );
    let session = app.session_of(&app.agent_with(tools).await).await;
    let events = app.turn(&session, "go").await;
    let calls = ids(&events, "agent.tool_use");
    app.send_all(&session, json!([confirmation(&calls[1], Some("no"))]))
        .await;
    app.send_all(&session, json!([confirmation(&calls[0], None)]))
        .await;
    let rows = audit(app).await;
    let approvals: Vec<_> = rows
        .iter()
        .filter(|row| row.action == "approval")
        .map(|row| {
            (
                row.object.as_deref(),
                row.outcome.as_str(),
                row.session.as_deref(),
            )
        })
        .collect();
    let session = Some(session.as_str());
    assert_eq!(
        approvals,
        [
            (Some(calls[1].as_str()), "refused", session),
            (Some(calls[0].as_str()), "done", session),
        ]
    );
}

/// security CRED-1: sealed, the server answers everything but what is about credentials.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cred_1_without_the_master_key_credential_routes_answer_503() {
    let keys = tempfile::tempdir().expect("a folder");
    let path = keys.path().join("key");
    let app = TestApp::with(|config| config.master_key = MasterKey::File(path.clone())).await;
    let vault_id = vault(&app).await;
    let credentials = format!("/v1/vaults/{vault_id}/credentials");
    let one = format!("{credentials}/vcrd_01none");
    for answer in [
        app.client.post(&credentials, &variable("API_KEY")).await,
        app.client.get(&credentials).await,
        app.client.get(&one).await,
        app.client.post(&one, &json!({})).await,
        app.client.delete(&one).await,
        app.client.post_empty(&format!("{one}/archive")).await,
    ] {
        assert_eq!(answer.header("retry-after"), Some("60"));
        let message = answer.error(503, "api_error");
        let told = path.to_str().expect("text");
        assert!(
            message.contains("sealed") && !message.contains(told),
            "{message}"
        );
    }
    app.client.get(&format!("/v1/vaults/{vault_id}")).await.ok();
    app.model.push(Reply::text("hello yourself"));
    let session = app.session().await;
    let events = app.turn(&session, "hello").await;
    assert!(kinds(&events).contains(&"agent.message"));
    // The key in its place opens them, without a restart.
    let key = manyhands_vault::master::MasterKey::generate().expect("a key");
    key.write(&path, false).expect("written");
    let made = app
        .client
        .post(&credentials, &variable("API_KEY"))
        .await
        .ok();
    let app = app.restarted().await;
    let found = app
        .client
        .get(&format!("{credentials}/{}", id(&made)))
        .await;
    assert_eq!(found.ok(), made);
    app.end().await;
}
