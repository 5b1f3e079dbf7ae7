//! The list of a session's events (runtime §14).

use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use crate::app::{TestApp, stories};

stories! {
    li_4_the_list_is_filtered_and_paged,
    li_5_the_list_equals_the_stream,
}

async fn li_4_the_list_is_filtered_and_paged(app: &TestApp) {
    app.model.push(Reply::text("One."));
    app.model.push(Reply::text("Two."));
    let session = app.session().await;
    app.turn(&session, "first").await;
    app.turn(&session, "second").await;
    let all = app.events(&session).await;
    let path = format!("/v1/sessions/{session}/events");
    let get = |query: String| async move { app.client.get(&query).await };
    for order in ["asc", "desc"] {
        let mut walked = Vec::new();
        let mut page = String::new();
        loop {
            let answer = get(format!("{path}?limit=4&order={order}&page={page}"))
                .await
                .ok();
            walked.extend(answer["data"].as_array().expect("a list").clone());
            assert!(answer.get("prev_page").is_none());
            match answer["next_page"].as_str() {
                Some(next) => page = next.to_owned(),
                None => break,
            }
        }
        if order == "desc" {
            walked.reverse();
        }
        assert_eq!(walked, all, "{order}");
    }
    let messages = get(format!(
        "{path}?types%5B%5D=agent.message&types%5B%5D=user.message"
    ))
    .await
    .ok();
    assert_eq!(messages["data"].as_array().expect("a list").len(), 4);
    let at = all[all.len() / 2]["processed_at"].as_str().expect("a time");
    let count = |answer: Value| answer["data"].as_array().expect("a list").len();
    let until = count(get(format!("{path}?created_at[lte]={at}")).await.ok());
    let from = count(get(format!("{path}?created_at[gt]={at}")).await.ok());
    assert_eq!(until + from, all.len());
    assert!(until > 0 && from > 0);
    for query in [
        "types[]=session.deleted",
        "types[]=event_delta",
        "limit=1001",
        "limit=0",
        "order=x",
        "page=page_x",
    ] {
        get(format!("{path}?{query}"))
            .await
            .error(400, "invalid_request_error");
    }
    let page = get(format!("{path}?limit=1")).await.ok();
    let next = page["next_page"].as_str().expect("a cursor");
    get(format!("{path}?order=desc&page={next}"))
        .await
        .error(400, "invalid_request_error");
}

async fn li_5_the_list_equals_the_stream(app: &TestApp) {
    app.model
        .push(Reply::tool_use("toolu_1", "bash", json!({"command": "ls"})));
    app.model.push(Reply::text("Done."));
    let session = app.session().await;
    let events = app.turn(&session, "look").await;
    // The last appearance of each id, in order.
    let told: Vec<Value> = events
        .iter()
        .enumerate()
        .filter(|(index, event)| {
            !events[index + 1..]
                .iter()
                .any(|later| later.data["id"] == event.data["id"])
        })
        .map(|(_, event)| event.data.clone())
        .collect();
    assert_eq!(app.events(&session).await, told);
    let ids: Vec<i64> = events
        .iter()
        .map(|event| {
            event
                .id
                .as_ref()
                .expect("a position")
                .parse()
                .expect("a number")
        })
        .collect();
    assert!(ids.is_sorted(), "{ids:?}");
    let call = events
        .iter()
        .find(|event| event.kind() == "agent.tool_use")
        .expect("a call");
    assert_eq!(call.data["evaluated_permission"], "allow");
    let result = events
        .iter()
        .find(|event| event.kind() == "agent.tool_result")
        .expect("a result");
    assert_eq!(result.data["tool_use_id"], call.data["id"], "ID-2");
    assert_eq!(
        result.data["content"],
        json!([{"type": "text", "text": "ran ls"}])
    );
}
