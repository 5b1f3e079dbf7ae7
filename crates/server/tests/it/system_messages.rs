//! Messages of the operator in mid-conversation (runtime SE-8 to SE-11).

use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::{Reply, Request};
use serde_json::{Value, json};

use crate::app::{TestApp, kinds, message, stories};
use crate::events::{result, waiting};

stories! {
    se_9_a_system_message_joins_the_turn_it_accompanies_and_stays,
    se_8_a_lone_one_opens_no_turn_and_the_next_one_reads_it,
    se_8_one_sent_during_a_turn_is_read_by_the_next_request,
    se_8_a_misplaced_one_refuses_the_request,
    se_11_while_calls_wait_it_goes_only_behind_a_result,
    se_8_one_behind_some_of_the_answers_outlives_an_interrupt,
    se_10_not_every_model_takes_them,
}

fn system(text: &str) -> Value {
    json!({"type": "system.message", "content": [{"type": "text", "text": text}]})
}

/// The texts of the system turns in a request, with the role of the turn before each.
fn system_turns(request: &Request) -> Vec<(String, String)> {
    let messages = request.messages();
    let texts = messages
        .iter()
        .enumerate()
        .filter(|(_, turn)| turn["role"] == "system");
    texts
        .map(|(index, turn)| {
            let text = turn["content"][0]["text"]
                .as_str()
                .expect("a text")
                .to_owned();
            let before = messages[index - 1]["role"]
                .as_str()
                .expect("a role")
                .to_owned();
            (before, text)
        })
        .collect()
}

fn turn(text: &str) -> (String, String) {
    ("user".to_owned(), text.to_owned())
}

async fn se_9_a_system_message_joins_the_turn_it_accompanies_and_stays(app: &TestApp) {
    app.model.push(Reply::text("One."));
    app.model.push(Reply::text("Two."));
    let session = app.session().await;
    let mut stream = app.stream(&session, "").await;
    let echoes = app
        .send_all(&session, json!([message("first"), system("Be brief.")]))
        .await;
    assert_eq!(echoes[1]["type"], "system.message");
    assert_eq!(echoes[1]["processed_at"], Value::Null);
    let events = stream.until_idle().await;
    let twice = events
        .iter()
        .filter(|event| event.data["id"] == echoes[1]["id"]);
    let twice: Vec<bool> = twice
        .map(|event| event.data["processed_at"].is_string())
        .collect();
    assert_eq!(twice, [false, true], "SE-4");
    app.turn(&session, "second").await;
    let prompt = app.model.request(1).await.system();
    for number in [1, 2] {
        let request = app.model.request(number).await;
        assert_eq!(system_turns(&request), [turn("Be brief.")]);
        assert_eq!(request.system(), prompt, "it replaces nothing");
    }
}

async fn se_8_a_lone_one_opens_no_turn_and_the_next_one_reads_it(app: &TestApp) {
    let session = app.session().await;
    let echo = app.send(&session, system("Be brief.")).await;
    assert!(echo["processed_at"].is_string());
    assert_eq!(app.events(&session).await, [echo]);
    assert_eq!(app.retrieve(&session).await["status"], "idle");
    app.model.push(Reply::text("One."));
    app.turn(&session, "first").await;
    let request = app.model.request(1).await;
    let turns = system_turns(&request);
    assert_eq!(turns.len(), 1);
    assert_eq!(turns[0].1, "Be brief.");
}

async fn se_8_one_sent_during_a_turn_is_read_by_the_next_request(app: &TestApp) {
    let gate = Gate::new();
    let call = Reply::tool_use("toolu_1", "bash", json!({"command": "ls"}));
    app.model.push(call.hold_first_token(&gate));
    app.model.push(Reply::text("Done."));
    let session = app.session().await;
    let mut stream = app.stream(&session, "").await;
    app.send(&session, message("go")).await;
    gate.reached().await;
    let echo = app.send(&session, system("Be brief.")).await;
    assert_eq!(echo["processed_at"], Value::Null);
    gate.open();
    stream.until_idle().await;
    assert_eq!(system_turns(&*app.model.request(1).await), []);
    assert_eq!(
        system_turns(&*app.model.request(2).await),
        [turn("Be brief.")]
    );
    assert_eq!(app.model.hits(), 2);
    let listed = app.events(&session).await;
    let listed = listed.iter().find(|event| event["id"] == echo["id"]);
    assert!(listed.expect("listed")["processed_at"].is_string());
}

async fn se_8_a_misplaced_one_refuses_the_request(app: &TestApp) {
    let session = app.session().await;
    for events in [
        json!([system("a"), message("b")]),
        json!([message("a"), system("b"), system("c")]),
        json!([{"type": "user.interrupt"}, system("a")]),
        json!([message("a"), {"type": "system.message", "content": []}]),
        json!([message("a"), {"type": "system.message", "content": [{"type": "redacted"}]}]),
    ] {
        app.refused(&session, events).await;
    }
    assert_eq!(app.model.hits(), 0);
}

async fn se_11_while_calls_wait_it_goes_only_behind_a_result(app: &TestApp) {
    let (session, calls) = waiting(app, 1).await;
    for events in [
        json!([system("Be brief.")]),
        json!([message("and?"), system("Be brief.")]),
    ] {
        let refused = app.refused(&session, events).await;
        assert!(
            refused.contains("directly behind a tool result"),
            "{refused}"
        );
    }
    app.model.push(Reply::text("Rain."));
    let mut stream = app.stream(&session, "").await;
    app.send_all(
        &session,
        json!([result(&calls[0], "rain"), system("Be brief.")]),
    )
    .await;
    let events = stream.until_idle().await;
    assert!(kinds(&events).contains(&"agent.message"));
    let request = app.model.request(2).await;
    assert_eq!(system_turns(&request), [turn("Be brief.")]);
}

/// runtime SE-8, IN-8; security I8: no event is left unprocessed by a session at rest.
async fn se_8_one_behind_some_of_the_answers_outlives_an_interrupt(app: &TestApp) {
    let (session, calls) = waiting(app, 2).await;
    let mut stream = app.stream(&session, "").await;
    app.send_all(
        &session,
        json!([result(&calls[0], "rain"), system("Be brief.")]),
    )
    .await;
    stream.until_idle().await;
    app.send(&session, json!({"type": "user.interrupt"})).await;
    stream.until_idle().await;
    assert_eq!(app.model.hits(), 1, "it opens no turn");
    app.model.push(Reply::text("Yes?"));
    app.send(&session, message("and now?")).await;
    stream.until_idle().await;
    let request = app.model.request(2).await;
    let texts: Vec<String> = system_turns(&request)
        .into_iter()
        .map(|turn| turn.1)
        .collect();
    assert_eq!(texts, ["Be brief."]);
    let listed = app.events(&session).await;
    assert!(listed.iter().all(|event| event["processed_at"].is_string()));
}

async fn se_10_not_every_model_takes_them(app: &TestApp) {
    let session = app
        .session_of(&app.agent_of("plain-1", json!([])).await)
        .await;
    let path = format!("/v1/sessions/{session}/events");
    let body = json!({"events": [message("hi"), system("Be brief.")]});
    let answer = app.client.post(&path, &body).await;
    answer.error(400, "invalid_request_error");
    assert_eq!(
        answer.json()["error"]["details"]["error_code"],
        "model_does_not_support_mid_conversation_system"
    );
    assert_eq!(app.events(&session).await, Vec::<Value>::new());
}
