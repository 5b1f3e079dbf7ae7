//! A full disk, as clients meet it (security STORE-4).

use std::path::PathBuf;
use std::time::Duration;

use manyhands_store::Database;
use manyhands_testkit::disk;
use manyhands_testkit::gate::Gate;
use manyhands_testkit::http::Client;
use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use crate::app::{TestApp, ids, kinds, message};

const NAME: &str = "full_disk::store_4_a_full_disk_takes_no_new_work_and_goes_on_without_a_restart";

#[test]
fn store_4_a_full_disk_takes_no_new_work_and_goes_on_without_a_restart() {
    let Some(disk) = disk::small(NAME, 64) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let told = async { tokio::time::timeout(Duration::from_secs(120), story(disk)).await };
    runtime.block_on(told).expect("nothing waits for ever");
}

async fn story(disk: PathBuf) {
    let data = disk.join("data");
    let app = TestApp::with(|config| {
        config.data_dir = data.clone();
        config.database = Database::Sqlite { directory: data };
    })
    .await;
    app.model.push(Reply::text("Before."));
    let rested = app.session().await;
    app.turn(&rested, "hi").await;
    let (stopped, held, mut stream) = app.working("Never told.").await;
    let asks = Gate::new();
    let call = |id: &str| Reply::tool_use(id, "bash", json!({"command": "date"}));
    app.model.push(call("toolu_lost").hold_first_token(&asks));
    let cut = app.session().await;
    let mut unfinished = app.stream(&cut, "").await;
    app.send(&cut, message("what time is it")).await;
    asks.reached().await;
    let agent = app.agent().await;
    let environment = app.environment().await;

    let ballast = disk.join("ballast");
    disk::fill(&ballast);
    let before = app.events(&rested).await;
    let path = format!("/v1/sessions/{rested}/events");
    let new = json!({"agent": agent, "environment_id": environment});
    for (path, body) in [
        (path.as_str(), json!({"events": [message("more")]})),
        ("/v1/sessions", new.clone()),
        (
            "/v1/agents",
            json!({"name": "another", "model": "claude-opus-4-8"}),
        ),
        ("/v1/environments", json!({"name": "another"})),
        (
            &*format!("/v1/sessions/{rested}"),
            json!({"title": "other"}),
        ),
    ] {
        let refused = app.client.post(path, &body).await;
        let message = refused.error(529, "overloaded_error");
        assert!(message.contains("disk is full"), "{path}: {message}");
        assert_eq!(refused.header("retry-after"), Some("10"), "{path}");
    }
    assert_eq!(app.events(&rested).await, before, "nothing is stored");
    let sessions = app.client.get("/v1/sessions").await.ok();
    assert_eq!(sessions["data"].as_array().map(Vec::len), Some(3));
    let stranger = Client::new(&app.url());
    let ready = stranger.get("/readyz").await.ok();
    let store = ready["checks"]["store"].as_str().expect("words");
    assert!(store.contains("disk is full"), "{ready}");
    let figures = stranger.get("/metrics").await;
    let figures = String::from_utf8_lossy(&figures.body).into_owned();
    let refusals = "manyhands_refused_total{reason=\"disk_full\"} 5";
    assert!(figures.contains(refusals), "{figures}");

    // What a client stops comes to its rest.
    app.send(&stopped, json!({"type": "user.interrupt"})).await;
    let events = stream.until_idle().await;
    assert!(!kinds(&events).contains(&"agent.message"));
    assert_eq!(app.retrieve(&stopped).await["status"], "idle");
    held.open();

    // An answer that cannot be written is asked for again, once there is room.
    asks.open();
    app.model.outcome(2).await;
    app.model.push(call("toolu_kept"));
    app.model.push(Reply::text("Late."));
    assert_eq!(app.retrieve(&cut).await["status"], "running");
    std::fs::remove_file(&ballast).expect("the ballast");
    let events = unfinished.until_idle().await;
    assert_eq!(ids(&events, "agent.tool_use").len(), 1);
    assert_eq!(ids(&events, "agent.tool_result").len(), 1);
    assert_eq!(ids(&events, "session.error"), [""; 0]);
    assert_eq!(app.hands.starts().len(), 1, "the call ran once");

    app.model.push(Reply::text("After."));
    app.turn(&rested, "more").await;
    app.client.post("/v1/sessions", &new).await.ok();
    let ready = stranger.get("/readyz").await.ok();
    assert_eq!(ready["checks"]["store"], json!("ok"));
    let told: Vec<Value> = app.events(&rested).await;
    assert!(told.len() > before.len());
    app.end().await;
}
