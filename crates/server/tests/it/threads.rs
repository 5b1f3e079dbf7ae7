//! Threads of a session with one agent (api §12, runtime US-3, LI-6, ST-6, ST-7).

use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::{Reply, Usage};
use serde_json::{Value, json};

use crate::app::{TestApp, id, kinds, message, stories};

stories! {
    us_3_a_thread_has_usage_from_its_first_rest_on,
    us_3_the_cost_of_a_thread_is_that_of_its_tokens,
    li_6_the_only_thread_is_listed_and_filtered,
    st_6_a_threads_events_and_stream_are_its_sessions,
}

async fn thread(app: &TestApp, session: &str) -> Value {
    let list = format!("/v1/sessions/{session}/threads");
    let listed = app.client.get(&list).await.ok()["data"][0].clone();
    let retrieved = app
        .client
        .get(&format!("{list}/{}", id(&listed)))
        .await
        .ok();
    assert_eq!(retrieved["id"], listed["id"]);
    retrieved
}

async fn us_3_a_thread_has_usage_from_its_first_rest_on(app: &TestApp) {
    let gate = Gate::new();
    app.model.push(Reply::text("One.").hold_first_token(&gate));
    let session = app.session().await;
    // An update is no change of status.
    let path = format!("/v1/sessions/{session}");
    app.client.post(&path, &json!({"title": "t"})).await.ok();
    let fresh = thread(app, &session).await;
    assert_eq!(
        (&fresh["stats"], &fresh["usage"]),
        (&Value::Null, &Value::Null)
    );
    let mut stream = app.stream(&session, "").await;
    app.send(&session, message("hi")).await;
    gate.reached().await;
    let running = thread(app, &session).await;
    assert!(running["stats"].is_object());
    assert_eq!(
        (&running["status"], &running["usage"]),
        (&json!("running"), &Value::Null)
    );
    gate.open();
    stream.until_idle().await;
    let rested = thread(app, &session).await;
    assert_eq!(
        rested["usage"]["active_seconds"],
        rested["stats"]["active_seconds"]
    );
    // At work again, it keeps showing what it used.
    let gate = Gate::new();
    app.model.push(Reply::text("Two.").hold_first_token(&gate));
    app.send(&session, message("more")).await;
    gate.reached().await;
    let again = thread(app, &session).await;
    assert_eq!(again["status"], "running");
    assert_eq!(
        again["usage"]["output_tokens"],
        rested["usage"]["output_tokens"]
    );
    gate.open();
    stream.until_idle().await;
}

async fn us_3_the_cost_of_a_thread_is_that_of_its_tokens(app: &TestApp) {
    let session = app
        .session_of(&app.agent_of("priced-1", json!([])).await)
        .await;
    let usage = Usage {
        input_tokens: 250,
        ..Usage::default()
    };
    app.model.push(Reply::text("One.").usage(usage));
    app.turn(&session, "hi").await;
    let usage = thread(app, &session).await["usage"].clone();
    // Two and a half cents, a half up; the session's running time is not in it.
    assert_eq!(
        usage["list_cost"],
        json!({"amount": "3", "currency": "USD"})
    );
    assert_eq!(usage["input_tokens"], 250);
}

async fn li_6_the_only_thread_is_listed_and_filtered(app: &TestApp) {
    let session = app.session().await;
    let list = format!("/v1/sessions/{session}/threads");
    let get = |query: &str| {
        let path = format!("{list}{query}");
        async move { app.client.get(&path).await }
    };
    let all = get("").await.ok();
    assert_eq!(all["data"].as_array().expect("a list").len(), 1);
    assert_eq!(all["next_page"], Value::Null);
    assert!(all.get("prev_page").is_none(), "LI-1");
    for query in [
        "?statuses[]=idle&limit=1000",
        "?statuses%5B%5D=running&statuses[]=idle",
    ] {
        assert_eq!(get(query).await.ok(), all);
    }
    assert_eq!(get("?statuses[]=terminated").await.ok()["data"], json!([]));
    for query in [
        "?statuses[]=asleep",
        "?limit=1001",
        "?limit=0",
        "?page=page_x",
    ] {
        get(query).await.error(400, "invalid_request_error");
    }
    // An archived session's thread is listed and has ended.
    app.client
        .post_empty(&format!("/v1/sessions/{session}/archive"))
        .await
        .ok();
    let ended = thread(app, &session).await;
    assert_eq!(ended["status"], "terminated");
    assert!(ended["archived_at"].is_string() && ended["stats"].is_object());
    assert_eq!(ended["usage"], Value::Null, "it never came to rest");
}

async fn st_6_a_threads_events_and_stream_are_its_sessions(app: &TestApp) {
    let session = app.session().await;
    let path = format!(
        "/v1/sessions/{session}/threads/{}",
        id(&thread(app, &session).await)
    );
    let query = "?event_deltas[]=agent.message";
    let mut own = app.client.stream(&format!("{path}/stream{query}")).await;
    let mut whole = app.stream(&session, query).await;
    app.model.push(Reply::text("Several words.").split_into(4));
    app.send(&session, message("hi")).await;
    let (own, whole) = (own.until_idle().await, whole.until_idle().await);
    assert!(kinds(&own).contains(&"event_delta"));
    let stored = |events: &[manyhands_testkit::events::Event]| {
        let stored = events.iter().filter(|event| event.id.is_some());
        stored.map(|event| event.data.clone()).collect::<Vec<_>>()
    };
    assert_eq!(stored(&own), stored(&whole));
    let events = app.events(&session).await;
    let listed = app.client.get(&format!("{path}/events?limit=3")).await.ok();
    assert_eq!(listed["data"].as_array().expect("a list")[..], events[..3]);
    let next = listed["next_page"].as_str().expect("a cursor");
    let rest = format!("{path}/events?page={next}");
    let rest = app.client.get(&rest).await.ok();
    assert_eq!(rest["data"].as_array().expect("a list")[..], events[3..]);
    // Only a page can be asked for.
    for query in [
        "order=desc",
        "types[]=agent.message",
        "created_at[gt]=2026-01-01T00:00:00Z",
    ] {
        let path = format!("{path}/events?{query}");
        app.client
            .get(&path)
            .await
            .error(400, "invalid_request_error");
    }
}
