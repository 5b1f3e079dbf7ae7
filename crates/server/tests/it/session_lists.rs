//! The list of sessions (runtime §14).

use serde_json::{Value, json};

use crate::app::{TestApp, id, stories};

stories! {
    li_2_sessions_are_walked_in_both_directions,
    li_3_sessions_are_filtered,
}

async fn li_2_sessions_are_walked_in_both_directions(app: &TestApp) {
    let agent = app.agent().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(app.session_of(&agent).await);
    }
    let get = |query: String| async move { app.client.get(&format!("/v1/sessions?{query}")).await };
    let ids = |page: &Value| {
        page["data"]
            .as_array()
            .expect("a list")
            .iter()
            .map(id)
            .collect::<Vec<_>>()
    };
    let first = get("limit=2&order=asc".to_owned()).await.ok();
    assert_eq!(
        (ids(&first), &first["prev_page"]),
        (made[..2].to_vec(), &Value::Null)
    );
    let next = first["next_page"].as_str().expect("a cursor").to_owned();
    let second = get(format!("limit=2&order=asc&page={next}")).await.ok();
    assert_eq!(ids(&second), made[2..4]);
    let back = second["prev_page"].as_str().expect("a cursor").to_owned();
    let again = get(format!("limit=2&order=asc&page={back}")).await.ok();
    assert_eq!(
        (ids(&again), &again["prev_page"]),
        (made[..2].to_vec(), &Value::Null)
    );
    assert!(again["next_page"].is_string());
    let all = get("limit=100".to_owned()).await.ok();
    made.reverse();
    assert_eq!(
        (ids(&all), &all["next_page"]),
        (made, &Value::Null),
        "newest first by default"
    );

    get(format!("limit=2&order=desc&page={next}"))
        .await
        .error(400, "invalid_request_error");
    get(format!("page={next}"))
        .await
        .error(400, "invalid_request_error");
    get(format!(
        "order=asc&page={next}&created_at[gt]=2126-01-01T00:00:00Z"
    ))
    .await
    .error(400, "invalid_request_error");
    get(format!(
        "order=asc&page={next}&limit=1&statuses[]=idle&created_at[gt]=2026-01-01T00:00:00Z"
    ))
    .await
    .ok();
    get("limit=0".to_owned())
        .await
        .error(400, "invalid_request_error");
}

/// runtime LI-3, LI-7
async fn li_3_sessions_are_filtered(app: &TestApp) {
    let (one, other) = (app.agent().await, app.agent().await);
    app.client
        .post(&format!("/v1/agents/{one}"), &json!({"name": "v2"}))
        .await
        .ok();
    let (first, _) = (app.session_of(&one).await, app.session_of(&other).await);
    app.client
        .post_empty(&format!(
            "/v1/sessions/{}/archive",
            app.session_of(&one).await
        ))
        .await
        .ok();
    let count = |query: String| async move {
        let page = app.client.get(&format!("/v1/sessions?{query}")).await.ok();
        page["data"].as_array().expect("a list").len()
    };
    assert_eq!(count(String::new()).await, 2);
    assert_eq!(count("include_archived=true".to_owned()).await, 3);
    assert_eq!(count(format!("agent_id={one}")).await, 1);
    assert_eq!(count(format!("agent_id={one}&agent_version=1")).await, 0);
    assert_eq!(
        count(format!(
            "agent_id={one}&agent_version=2&include_archived=true"
        ))
        .await,
        2
    );
    assert_eq!(
        count("statuses%5B%5D=idle&statuses%5B%5D=running".to_owned()).await,
        2
    );
    assert_eq!(
        count("statuses[]=terminated&include_archived=true".to_owned()).await,
        1
    );
    assert_eq!(count("statuses[]=running".to_owned()).await, 0);
    let at = app.client.get(&format!("/v1/sessions/{first}")).await.ok()["created_at"]
        .as_str()
        .expect("a time")
        .to_owned();
    assert_eq!(count(format!("created_at[lte]={at}")).await, 1);
    assert_eq!(count(format!("created_at[lt]={at}")).await, 0);
    assert_eq!(count(format!("created_at[gt]={at}")).await, 1);
    for query in [
        "agent_version=1",
        "statuses[]=asleep",
        "agent_id=env_1",
        "deployment_id=depl_1",
        "memory_store_id=mem_1",
    ] {
        app.client
            .get(&format!("/v1/sessions?{query}"))
            .await
            .error(400, "invalid_request_error");
    }
}
