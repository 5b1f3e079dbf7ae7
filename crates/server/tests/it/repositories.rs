//! Repositories of sessions over HTTP: shown without their tokens, whose rows open nowhere else, and rotated.

use manyhands_testkit::http::Answer;
use serde_json::{Value, json};

use crate::app::{TestApp, id, stories};

stories! {
    gh_2_a_repository_is_shown_without_its_token,
    gh_6_only_the_token_of_a_repository_changes,
    gh_1_a_bad_repository_makes_no_session,
}

const TOKEN: &str = "c4nary/of+a=token";

async fn create(app: &TestApp, resources: Value) -> Answer {
    let body = json!({
        "agent": app.agent().await, "environment_id": app.environment().await, "resources": resources,
    });
    app.client.post("/v1/sessions", &body).await
}

fn tools(token: Value) -> Value {
    let url = "https://github.com/acme/tools";
    json!({"type": "github_repository", "url": url, "authorization_token": token})
}

/// runtime GH-2, api §8, security CRED-2: exactly the documented members, wherever a resource is shown.
async fn gh_2_a_repository_is_shown_without_its_token(app: &TestApp) {
    let branch = json!({"type": "branch", "name": "main"});
    let other = json!({"type": "github_repository", "url": "https://git.example.com/a/b/other.git",
        "checkout": branch, "mount_path": "/workspace/deep/er"});
    let session = create(app, json!([tools(json!(TOKEN)), other])).await.ok();
    let shown = session["resources"].as_array().expect("resources");
    let by_path = |path: &str| {
        let found = shown.iter().find(|resource| resource["mount_path"] == path);
        found.unwrap_or_else(|| panic!("{path}: {shown:?}"))
    };
    let first = by_path("/workspace/tools");
    let at = &first["created_at"];
    let expected = json!({
        "id": first["id"], "type": "github_repository", "url": "https://github.com/acme/tools",
        "mount_path": "/workspace/tools", "checkout": null, "created_at": at, "updated_at": at,
    });
    assert_eq!(*first, expected);
    assert!(id(first).starts_with("sesrsc_"));
    assert_eq!(by_path("/workspace/deep/er")["checkout"], branch);
    let path = format!("/v1/sessions/{}", id(&session));
    let retrieved = app.client.get(&path).await.ok();
    assert_eq!(retrieved["resources"], session["resources"]);
    let listed = app.client.get(&format!("{path}/resources")).await.ok();
    assert_eq!(listed["data"], session["resources"]);
    let one = app
        .client
        .get(&format!("{path}/resources/{}", id(first)))
        .await;
    assert_eq!(one.ok(), *first);
    let events = app.client.get(&format!("{path}/events")).await.ok();
    assert_eq!(
        events["data"],
        json!([]),
        "what the log says of them is private"
    );
    for answer in [&session, &retrieved, &listed, &events] {
        assert!(!answer.to_string().contains("c4nary"), "{answer}");
    }
}

/// runtime GH-6, security OPS-3
async fn gh_6_only_the_token_of_a_repository_changes(app: &TestApp) {
    let session = create(app, json!([tools(Value::Null)])).await.ok();
    let resource = session["resources"][0].clone();
    let base = format!("/v1/sessions/{}/resources", id(&session));
    let path = format!("{base}/{}", id(&resource));
    let rotated = app
        .client
        .post(&path, &json!({"authorization_token": TOKEN}))
        .await
        .ok();
    let mut expected = resource.clone();
    expected["updated_at"] = rotated["updated_at"].clone();
    assert_eq!(rotated, expected);
    assert_ne!(rotated["updated_at"], resource["updated_at"]);

    for body in [
        json!({}),
        json!({"authorization_token": null}),
        json!({"authorization_token": ""}),
        json!({"authorization_token": ["c4nary"]}),
    ] {
        let refused = app
            .client
            .post(&path, &body)
            .await
            .error(400, "invalid_request_error");
        assert!(
            refused.contains("authorization_token") && !refused.contains("c4nary"),
            "{refused}"
        );
    }
    app.client
        .delete(&path)
        .await
        .error(400, "invalid_request_error");
    app.client
        .post(&base, &tools(json!(TOKEN)))
        .await
        .error(400, "invalid_request_error");
    let missing = format!("{base}/sesrsc_01none");
    let body = json!({"authorization_token": TOKEN});
    app.client
        .post(&missing, &body)
        .await
        .error(404, "not_found_error");

    let archived = format!("/v1/sessions/{}/archive", id(&session));
    app.client.post(&archived, &json!({})).await.ok();
    app.client
        .post(&path, &body)
        .await
        .error(400, "invalid_request_error");
}

/// runtime GH-1, HT-15: nothing is made, and no error quotes a token.
async fn gh_1_a_bad_repository_makes_no_session(app: &TestApp) {
    let before = app.client.get("/v1/sessions").await.ok()["data"]
        .as_array()
        .map(Vec::len);
    let twice = json!([tools(json!(TOKEN)), tools(json!(TOKEN))]);
    let ssh = json!([{"type": "github_repository", "url": "git@github.com:acme/tools.git", "authorization_token": TOKEN}]);
    for (resources, member) in [
        (twice, "resources[1].mount_path"),
        (ssh, "resources[0].url"),
    ] {
        let refused = create(app, resources)
            .await
            .error(400, "invalid_request_error");
        assert!(
            refused.starts_with(member) && !refused.contains("c4nary"),
            "{refused}"
        );
    }
    let after = app.client.get("/v1/sessions").await.ok()["data"]
        .as_array()
        .map(Vec::len);
    assert_eq!(after, before);
}
