//! Messages of the operator in mid-conversation (runtime SE-8, SE-9).

use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::{Reply, Request};
use serde_json::json;

use crate::bed::{Bed, custom_result, interrupt, message, system};

fn bash(id: &str) -> Reply {
    Reply::tool_use(id, "bash", json!({"command": "ls"}))
}

/// The conversation of a request: who speaks, and the texts.
fn conversation(request: &Request) -> Vec<String> {
    let messages = request.body["messages"].as_array().unwrap();
    let line = |message: &serde_json::Value| {
        let blocks = message["content"].as_array().unwrap();
        let texts: Vec<_> = blocks
            .iter()
            .map(|block| block["text"].as_str().or(block["type"].as_str()).unwrap())
            .collect();
        format!("{}: {}", message["role"].as_str().unwrap(), texts.join("|"))
    };
    messages.iter().map(line).collect()
}

/// runtime SE-9, SE-3, CONFLICT-15: it is processed with the message it came with, and stays where it was said.
#[tokio::test]
async fn se_9_a_system_message_is_a_turn_behind_its_companion() {
    let bed = Bed::new([Reply::text("a"), Reply::text("b")]).await;
    bed.send(vec![message("1"), system("Be brief.")]).await;
    bed.seen("session.status_idle", 1).await;
    assert_eq!(
        bed.log().await[..7],
        [
            "user.message: 1",
            "system.message: Be brief.",
            "session.thread_status_running",
            "session.status_running",
            "user.message processed",
            "system.message processed",
            "span.model_request_start",
        ]
    );
    bed.turn("2").await;
    assert_eq!(
        conversation(&*bed.model.request(1).await),
        ["user: 1", "system: Be brief."]
    );
    let second = bed.model.request(2).await;
    assert_eq!(
        conversation(&second),
        ["user: 1", "system: Be brief.", "assistant: a", "user: 2"]
    );
    let own = &second.body["system"][0]["text"];
    assert_eq!(own, "You help.", "the agent's own prompt is not replaced");
}

/// runtime SE-8: alone on an idle session it opens no turn; the next one has it.
#[tokio::test]
async fn se_8_a_lone_system_message_opens_no_turn() {
    let bed = Bed::new([Reply::text("a"), Reply::text("b")]).await;
    bed.send(vec![system("Speak French.")]).await;
    bed.turn("1").await;
    bed.send(vec![system("Speak German.")]).await;
    bed.turn("2").await;
    let log = bed.log().await;
    let turns = log.iter().filter(|line| *line == "session.status_running");
    assert_eq!(turns.count(), 2, "{log:?}");
    let second = bed.model.request(2).await;
    assert_eq!(
        conversation(&second),
        [
            "user: 1",
            "system: Speak French.",
            "assistant: a",
            "user: 2",
            "system: Speak German."
        ],
        "the first entry of a conversation is a user's"
    );
    bed.model.assert_done();
}

#[tokio::test]
async fn se_9_a_system_message_during_a_call_joins_the_next_request() {
    let gate = Gate::new();
    let mut bed = Bed::asleep([bash("toolu_1"), Reply::text("ok")]).await;
    bed.hold_bash(&gate, "files");
    bed.wake();
    bed.say("Go").await;
    gate.reached().await;
    bed.send(vec![system("Be brief.")]).await;
    bed.send(vec![message("Hurry.")]).await;
    gate.open();
    bed.idle().await;
    assert_eq!(
        conversation(&*bed.model.request(2).await)[2..],
        ["user: tool_result|Hurry.", "system: Be brief."]
    );
    bed.model.assert_done();
}

/// runtime SE-8: one that no request takes is read with the end of the turn.
#[tokio::test]
async fn se_8_a_system_message_during_the_last_answer_is_read_when_the_turn_ends() {
    let gate = Gate::new();
    let bed = Bed::new([
        Reply::text("Never mind.")
            .split_into(4)
            .hold_before(4, &gate),
        Reply::text("b"),
    ])
    .await;
    bed.say("1").await;
    gate.reached().await;
    bed.send(vec![system("Be brief.")]).await;
    gate.open();
    bed.idle().await;
    let log = bed.log().await;
    assert_eq!(
        log[log.len() - 5..],
        [
            "span.model_request_end",
            "system.message processed",
            "session.thread_status_idle: end_turn",
            "session.usage",
            "session.status_idle: end_turn",
        ]
    );
    assert_eq!(bed.model.hits(), 1, "it opens no turn");
    bed.turn("2").await;
    assert_eq!(
        conversation(&*bed.model.request(2).await),
        [
            "user: 1",
            "assistant: Never mind.",
            "user: 2",
            "system: Be brief."
        ]
    );
}

/// runtime SE-8, IN-3: an interrupt ends the turn; what the operator said stays in force.
#[tokio::test]
async fn se_8_an_interrupt_leaves_system_messages_in_force() {
    let gate = Gate::new();
    let bed = Bed::new([Reply::text("x").hold_headers(&gate), Reply::text("b")]).await;
    bed.say("1").await;
    gate.reached().await;
    bed.send(vec![system("Be brief.")]).await;
    bed.send(vec![interrupt()]).await;
    bed.idle().await;
    let log = bed.log().await;
    assert_eq!(
        log[log.len() - 5..],
        [
            "user.interrupt processed",
            "system.message processed",
            "session.thread_status_idle: end_turn",
            "session.usage",
            "session.status_idle: end_turn",
        ]
    );
    bed.turn("2").await;
    assert_eq!(
        conversation(&*bed.model.request(2).await),
        ["user: 1|2", "system: Be brief."]
    );
}

/// runtime SE-8, SE-11: behind a tool result it joins the request that carries the result.
#[tokio::test]
async fn se_11_a_system_message_comes_with_a_custom_result() {
    let ask = |id: &str| Reply::tool_use(id, "ask_human", json!({"question": "?"}));
    let bed = Bed::new([
        ask("toolu_1").then_tool_use("toolu_2", "ask_human", json!({"question": "??"})),
        Reply::text("ok"),
    ])
    .await;
    bed.turn("Ask").await;
    let calls = bed.events("agent.custom_tool_use").await;
    let id = |at: usize| calls[at]["id"].as_str().unwrap().to_owned();
    bed.send(vec![custom_result(&id(0), "yes"), system("Be brief.")])
        .await;
    bed.seen("session.status_idle", 2).await;
    let log = bed.log().await;
    assert!(
        !log.contains(&"system.message processed".to_owned()),
        "it waits with the turn: {log:?}"
    );
    bed.send(vec![custom_result(&id(1), "no")]).await;
    bed.seen("session.status_idle", 3).await;
    assert_eq!(
        conversation(&*bed.model.request(2).await)[2..],
        ["user: tool_result|tool_result", "system: Be brief."]
    );
    bed.model.assert_done();
}

/// runtime SQ-13, SE-9: a dead turn takes queued ones with it, and keeps what the model was told before.
#[tokio::test]
async fn sq_13_a_dead_turn_flushes_queued_system_messages_only() {
    let gate = Gate::new();
    let bed = Bed::new([
        Reply::error(401, "authentication_error", "no").hold_headers(&gate),
        Reply::text("ok"),
    ])
    .await;
    bed.send(vec![message("1"), system("Be brief.")]).await;
    gate.reached().await;
    bed.send(vec![system("Lost.")]).await;
    gate.open();
    bed.idle().await;
    bed.turn("2").await;
    assert_eq!(
        conversation(&*bed.model.request(2).await),
        ["user: 1|2", "system: Be brief."]
    );
}

/// runtime SE-9: a message that the provider refuses takes no system message with it.
#[tokio::test]
async fn se_9_a_refused_message_takes_no_system_message_away() {
    let bed = Bed::new([
        Reply::bad_request("cannot read the image"),
        Reply::text("ok"),
    ])
    .await;
    bed.send(vec![message("refused"), system("Be brief.")])
        .await;
    bed.seen("session.status_idle", 1).await;
    bed.turn("2").await;
    assert_eq!(
        conversation(&*bed.model.request(2).await),
        ["user: 2", "system: Be brief."]
    );
}

/// invariant I6, runtime SE-9: a restart builds the same requests.
#[tokio::test]
async fn i_6_system_turns_are_replayed_byte_for_byte() {
    let mut bed = Bed::new([
        Reply::text("a"),
        bash("toolu_1"),
        Reply::text("c"),
        Reply::text("d"),
    ])
    .await;
    bed.send(vec![message("1"), system("Be brief.")]).await;
    bed.seen("session.status_idle", 1).await;
    bed.crash().await;
    bed.send(vec![system("And kind.")]).await;
    bed.wake();
    bed.turn("2").await;
    bed.crash().await;
    bed.wake();
    bed.turn("3").await;
    let last = bed.model.request(4).await;
    assert_eq!(
        conversation(&last),
        [
            "user: 1",
            "system: Be brief.",
            "assistant: a",
            "user: 2",
            "system: And kind.",
            "assistant: tool_use",
            "user: tool_result",
            "assistant: c",
            "user: 3",
        ]
    );
    bed.model.assert_clean();
}
