//! Sending and listing events (api §9, runtime §6, §7, §14), with a brain behind.

use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use crate::app::{TestApp, id, kinds, message, stories};

stories! {
    sq_1_a_plain_turn,
    se_2_the_echo_is_what_was_stored,
    ht_15_one_bad_event_refuses_all,
    sq_10_a_custom_tool_is_answered_by_the_client,
    se_18_a_late_or_second_result_shows_the_first,
    se_14_a_message_waits_behind_a_pending_call,
    se_5_a_message_while_running_joins,
    in_8_an_interrupt_of_nothing_is_done_at_once,
    in_1_an_interrupt_ends_the_turn,
    se_6_an_interrupt_with_a_message_redirects,
    in_7_an_interrupt_names_a_thread_of_the_session,
    se_13_documents_and_images_reach_the_model,
    li_4_the_list_is_filtered_and_paged,
    li_5_the_list_equals_the_stream,
}

async fn sq_1_a_plain_turn(app: &TestApp) {
    app.model.push(Reply::text("Hello."));
    let session = app.session().await;
    let events = app.turn(&session, "hi").await;
    assert_eq!(
        kinds(&events),
        [
            "user.message",
            "session.thread_status_running",
            "session.status_running",
            "user.message",
            "span.model_request_start",
            "agent.message",
            "span.model_request_end",
            "session.thread_status_idle",
            "session.usage",
            "session.status_idle",
        ]
    );
    assert_eq!(
        events[0].data["id"], events[3].data["id"],
        "SE-4: twice, with one id"
    );
    assert_eq!(events[0].data["processed_at"], Value::Null);
    assert!(events[3].data["processed_at"].is_string());
    assert_eq!(
        events[5].data["content"],
        json!([{"type": "text", "text": "Hello."}])
    );
    assert_eq!(events[9].data["stop_reason"], json!({"type": "end_turn"}));
    let status = app
        .client
        .get(&format!("/v1/sessions/{session}"))
        .await
        .ok()["status"]
        .clone();
    assert_eq!(status, "idle", "LC-16: committed before it is told");
}

async fn se_2_the_echo_is_what_was_stored(app: &TestApp) {
    app.model.push(Reply::text("Hello."));
    let session = app.session().await;
    let mut stream = app.stream(&session, "").await;
    let content = json!([
        {"type": "text", "text": "look"},
        {"type": "image", "source": {"type": "base64", "data": "aGk=", "media_type": "image/png"}},
    ]);
    let body = json!({"events": [{"type": "user.interrupt"}, {"type": "user.message", "content": content}]});
    let data = app
        .client
        .post(&format!("/v1/sessions/{session}/events"), &body)
        .await
        .ok()["data"]
        .clone();
    let [interrupt, message] = data.as_array().expect("a list").as_slice() else {
        panic!("{data}")
    };
    assert!(interrupt["processed_at"].is_string());
    assert_eq!(
        message,
        &json!({"id": message["id"], "processed_at": null, "type": "user.message", "content": content})
    );
    let told = stream.until_idle().await;
    assert_eq!((&told[0].data, &told[1].data), (interrupt, message));
}

async fn ht_15_one_bad_event_refuses_all(app: &TestApp) {
    let session = app.session().await;
    let path = format!("/v1/sessions/{session}/events");
    for (events, problem) in [
        (json!([]), "events: must not be empty"),
        (
            json!([message("fine"), {"type": "user.message", "content": []}]),
            "events[1].content: must not be empty",
        ),
        (
            json!([message("fine"), {"type": "user.message", "content": [{"type": "redacted"}]}]),
            "events[1].content[0].type: clients cannot send redacted",
        ),
        (
            json!([message("fine"), {"type": "user.custom_tool_result", "custom_tool_use_id": "sevt_01none"}]),
            "events[1].custom_tool_use_id",
        ),
        (
            json!([message("fine"), {"type": "user.tool_confirmation", "tool_use_id": "sevt_01none", "result": "allow"}]),
            "events[1].tool_use_id",
        ),
        (
            json!([message("fine"), {"type": "user.tool_result", "tool_use_id": "sevt_01none"}]),
            "events[1].type: only sessions in self-hosted",
        ),
        (
            json!([message("fine"), {"type": "user.define_outcome", "description": "x"}]),
            "events[1].type: user.define_outcome is not supported",
        ),
        (
            json!([message("fine"), {"type": "system.message", "content": []}]),
            "events[1].content: has 0 blocks",
        ),
        (
            json!([{"type": "user.interrupt", "session_thread_id": "sthr_01none"}]),
            "events[0].session_thread_id",
        ),
        (
            json!(vec![message("x"); 1001]),
            "events: more than 1000 events",
        ),
    ] {
        let refused = app
            .client
            .post(&path, &json!({"events": events}))
            .await
            .error(400, "invalid_request_error");
        assert!(refused.starts_with(problem), "{refused}");
    }
    app.client
        .post(&path, &json!({}))
        .await
        .error(400, "invalid_request_error");
    assert_eq!(app.events(&session).await, Vec::<Value>::new());
    assert_eq!(
        app.client
            .get(&format!("/v1/sessions/{session}"))
            .await
            .ok()["status"],
        "idle"
    );
    assert_eq!(app.model.hits(), 0);
}

fn weather() -> Value {
    json!([{"type": "custom", "name": "get_weather", "description": "Gets it.", "input_schema": {"type": "object"}}])
}

pub(crate) fn result(call: &str, text: &str) -> Value {
    json!({"type": "user.custom_tool_result", "custom_tool_use_id": call, "content": [{"type": "text", "text": text}]})
}

/// A session that waits for the results of `count` calls; their ids.
pub(crate) async fn waiting(app: &TestApp, count: usize) -> (String, Vec<String>) {
    let calls = (1..count).fold(
        Reply::tool_use("toolu_0", "get_weather", json!({})),
        |reply, n| reply.then_tool_use(format!("toolu_{n}"), "get_weather", json!({})),
    );
    app.model.push(calls);
    let session = app.session_of(&app.agent_with(weather()).await).await;
    let events = app.turn(&session, "weather?").await;
    let uses = events
        .iter()
        .filter(|event| event.kind() == "agent.custom_tool_use");
    let ids: Vec<String> = uses.map(|event| id(&event.data)).collect();
    let idle = &events.last().expect("idle").data;
    assert_eq!(
        idle["stop_reason"],
        json!({"type": "requires_action", "event_ids": ids})
    );
    (session, ids)
}

async fn sq_10_a_custom_tool_is_answered_by_the_client(app: &TestApp) {
    let (session, calls) = waiting(app, 2).await;
    let mut stream = app.stream(&session, "").await;
    let echo = app.send(&session, result(&calls[0], "rain")).await;
    assert!(
        echo["processed_at"].is_string(),
        "SE-3: processed on receipt"
    );
    let rest = stream.until_idle().await;
    assert_eq!(
        rest.last().expect("idle").data["stop_reason"]["event_ids"],
        json!([calls[1]]),
        "SQ-8"
    );
    assert!(!kinds(&rest).contains(&"session.status_running"));
    app.model.push(Reply::text("Rain and sun."));
    app.send(&session, result(&calls[1], "sun")).await;
    let events = stream.until_idle().await;
    assert_eq!(
        kinds(&events)[..3],
        [
            "user.custom_tool_result",
            "session.thread_status_running",
            "session.status_running"
        ]
    );
    assert!(!kinds(&events).contains(&"agent.tool_result"));
    let request = app.model.request(2).await;
    let texts: Vec<String> = request
        .tool_results()
        .into_iter()
        .map(|result| result.text)
        .collect();
    assert_eq!(texts, ["rain", "sun"]);
}

async fn se_18_a_late_or_second_result_shows_the_first(app: &TestApp) {
    let (session, calls) = waiting(app, 1).await;
    app.model.push(Reply::text("Rain."));
    let mut stream = app.stream(&session, "").await;
    let first = app.send(&session, result(&calls[0], "rain")).await;
    stream.until_idle().await;
    let second = app.send(&session, result(&calls[0], "snow")).await;
    assert_eq!(second, first);
    assert_eq!(app.model.hits(), 2, "it had no effect");
    let listed = app.events(&session).await;
    assert_eq!(
        listed
            .iter()
            .filter(|event| event["type"] == "user.custom_tool_result")
            .count(),
        1
    );
}

async fn se_14_a_message_waits_behind_a_pending_call(app: &TestApp) {
    let (session, calls) = waiting(app, 1).await;
    let echo = app.send(&session, message("and tomorrow?")).await;
    assert_eq!(echo["processed_at"], Value::Null);
    assert_eq!(
        app.client
            .get(&format!("/v1/sessions/{session}"))
            .await
            .ok()["status"],
        "idle"
    );
    assert_eq!(
        app.events(&session).await.last().expect("events")["id"],
        echo["id"],
        "LI-4: queued ones come last"
    );
    app.model.push(Reply::text("Rain, and sun."));
    let mut stream = app.stream(&session, "").await;
    app.send(&session, result(&calls[0], "rain")).await;
    let events = stream.until_idle().await;
    assert!(
        events
            .iter()
            .any(|event| event.data["id"] == echo["id"] && event.data["processed_at"].is_string())
    );
    assert_eq!(app.model.hits(), 2, "one request takes both");
}

async fn se_5_a_message_while_running_joins(app: &TestApp) {
    let gate = Gate::new();
    app.model.push(Reply::text("One.").hold_first_token(&gate));
    app.model.push(Reply::text("Two."));
    let session = app.session().await;
    let mut stream = app.stream(&session, "").await;
    app.send(&session, message("first")).await;
    gate.reached().await;
    let echo = app.send(&session, message("second")).await;
    assert_eq!(echo["processed_at"], Value::Null);
    gate.open();
    let request = app.model.request(2).await;
    assert!(String::from_utf8_lossy(&request.raw).contains("second"));
    let mut texts = Vec::new();
    while texts.len() < 2 {
        let event = stream.next().await.expect("an event");
        if event.kind() == "agent.message" {
            texts.push(event.data["content"][0]["text"].clone());
        }
    }
    assert_eq!(texts, [json!("One."), json!("Two.")]);
    stream.until_idle().await;
}

async fn in_8_an_interrupt_of_nothing_is_done_at_once(app: &TestApp) {
    let session = app.session().await;
    let echo = app.send(&session, json!({"type": "user.interrupt"})).await;
    assert!(echo["processed_at"].is_string());
    assert_eq!(app.events(&session).await, [echo]);
    assert_eq!(
        app.client
            .get(&format!("/v1/sessions/{session}"))
            .await
            .ok()["status"],
        "idle"
    );
}

async fn in_1_an_interrupt_ends_the_turn(app: &TestApp) {
    let gate = Gate::new();
    app.model
        .push(Reply::text("Never told.").hold_first_token(&gate));
    let session = app.session().await;
    let mut stream = app.stream(&session, "").await;
    app.send(&session, message("hi")).await;
    gate.reached().await;
    app.send(&session, json!({"type": "user.interrupt"})).await;
    let events = stream.until_idle().await;
    gate.open();
    assert!(!kinds(&events).contains(&"agent.message"), "IN-5");
    assert_eq!(
        events.last().expect("idle").data["stop_reason"],
        json!({"type": "end_turn"}),
        "IN-3"
    );
    assert!(kinds(&events).contains(&"span.model_request_end"), "SQ-3");
}

/// Acceptance scenario 9; runtime SE-6, SQ-11, IN-2 to IN-5.
async fn se_6_an_interrupt_with_a_message_redirects(app: &TestApp) {
    let gate = Gate::new();
    app.model
        .push(Reply::text("Never told.").hold_first_token(&gate));
    app.model.push(Reply::text("Instead."));
    let session = app.session().await;
    let mut stream = app.stream(&session, "").await;
    app.send(&session, message("hi")).await;
    gate.reached().await;
    let queued = app.send(&session, message("queued before")).await;
    let redirect = json!([{"type": "user.interrupt"}, message("do this instead")]);
    let echoes = app.send_all(&session, redirect).await;
    assert_eq!(
        echoes[0]["processed_at"],
        Value::Null,
        "IN-2: not yet applied"
    );
    let cut = stream.until_idle().await;
    let next = stream.until_idle().await;
    gate.open();
    let cut_kinds = kinds(&cut);
    assert!(!cut_kinds.contains(&"agent.message"), "IN-5");
    let end = cut_kinds.len();
    assert_eq!(
        cut_kinds[end - 5..],
        [
            "span.model_request_end",
            "user.interrupt",
            "session.thread_status_idle",
            "session.usage",
            "session.status_idle"
        ],
        "SQ-11"
    );
    assert!(cut[end - 4].data["processed_at"].is_string());
    assert_eq!(
        cut[end - 1].data["stop_reason"],
        json!({"type": "end_turn"}),
        "IN-3"
    );
    let said: Vec<&Value> = next
        .iter()
        .filter(|event| event.kind() == "user.message")
        .map(|event| &event.data["id"])
        .collect();
    assert_eq!(
        said,
        [&queued["id"], &echoes[1]["id"]],
        "in the order they came"
    );
    let request = app.model.request(2).await;
    let asked = String::from_utf8_lossy(&request.raw).into_owned();
    assert!(asked.contains("queued before") && asked.contains("do this instead"));
    assert!(
        !asked.contains("Never told.") && !asked.contains("interrupt"),
        "IN-4"
    );
}

async fn in_7_an_interrupt_names_a_thread_of_the_session(app: &TestApp) {
    let session = app.session().await;
    let threads = app
        .client
        .get(&format!("/v1/sessions/{session}/threads"))
        .await
        .ok();
    let thread = threads["data"][0]["id"].clone();
    let own = json!({"type": "user.interrupt", "session_thread_id": thread});
    assert_eq!(app.send(&session, own).await["session_thread_id"], thread);
    let other = json!({"type": "user.interrupt", "session_thread_id": "sthr_01none"});
    app.refused(&session, json!([other])).await;
}

async fn se_13_documents_and_images_reach_the_model(app: &TestApp) {
    app.model.push(Reply::text("I see."));
    let session = app.session().await;
    let content = json!([
        {"type": "image", "source": {"type": "base64", "data": "aGk=", "media_type": "image/png"}},
        {"type": "document", "source": {"type": "base64", "data": "aGk=", "media_type": "application/pdf"}, "title": "A"},
        {"type": "document", "source": {"type": "text", "data": "plain", "media_type": "text/plain"}, "context": "B"},
        {"type": "text", "text": "look"},
    ]);
    let mut stream = app.stream(&session, "").await;
    let echo = app
        .send(
            &session,
            json!({"type": "user.message", "content": content}),
        )
        .await;
    assert_eq!(echo["content"], content);
    stream.until_idle().await;
    let request = app.model.request(1).await;
    let sent = &request.messages()[0]["content"];
    for (index, block) in content.as_array().expect("a list").iter().enumerate() {
        for (name, value) in block.as_object().expect("an object") {
            assert_eq!(sent[index][name], *value, "{name} of block {index}");
        }
    }
    let file = json!({"type": "document", "source": {"type": "file", "file_id": "file_01"}});
    let url =
        json!({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}});
    for (blocks, field) in [
        (vec![file; 101], "events[0].content[0].source.type"),
        (
            vec![json!({"type": "text", "text": "x"}), url],
            "events[0].content[1].source.type",
        ),
    ] {
        let event = json!({"type": "user.message", "content": blocks});
        let refused = app.refused(&session, json!([event])).await;
        assert!(refused.starts_with(field), "{refused}");
    }
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
