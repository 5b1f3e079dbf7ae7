//! Turns without tools: exact sequences, previews, usage, messages that come in between.

use manyhands_protocol::event::{Preview, PreviewDelta};
use manyhands_protocol::session::SessionStatus;
use manyhands_store::TailItem;
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::{Reply, Usage};
use serde_json::json;

use crate::bed::{Bed, message};

const END: [&str; 3] = [
    "session.thread_status_idle: end_turn",
    "session.usage",
    "session.status_idle: end_turn",
];

/// runtime SQ-1, SQ-4, SQ-17
#[tokio::test]
async fn sq_1_plain_turn() {
    let bed = Bed::new([Reply::thinking("hm", "sig").then_text("Hello.")]).await;
    let log = bed.turn("Hi").await;
    let mut expected = vec![
        "user.message: Hi",
        "session.thread_status_running",
        "session.status_running",
        "user.message processed",
        "span.model_request_start",
        "agent.thinking",
        "agent.message: Hello.",
        "span.model_request_end",
    ];
    expected.extend(END);
    assert_eq!(log, expected);
    assert_eq!(bed.record().await.status, SessionStatus::Idle);
    let request = bed.model.request(1).await;
    assert_eq!(request.last_user_text(), "Hi");
    assert!(request.system().starts_with("You help."));
    assert_eq!(
        request.tool_names(),
        [
            "bash",
            "read",
            "write",
            "edit",
            "glob",
            "web_fetch",
            "web_search",
            "ask_human"
        ]
    );
}

#[tokio::test]
async fn sq_3_sq_18_spans_pair_and_thread_events_name_the_primary() {
    let bed = Bed::new([Reply::text("a"), Reply::text("b")]).await;
    bed.turn("1").await;
    bed.turn("2").await;
    let starts = bed.events("span.model_request_start").await;
    let ends = bed.events("span.model_request_end").await;
    for (start, end) in starts.iter().zip(&ends) {
        assert_eq!(start["id"], end["model_request_start_id"]);
        assert_eq!(end["is_error"], false);
    }
    assert_eq!((starts.len(), ends.len()), (2, 2));
    let thread = bed.record().await.thread_id;
    for type_name in [
        "session.thread_status_running",
        "session.thread_status_idle",
    ] {
        for event in bed.events(type_name).await {
            assert_eq!(event["session_thread_id"], thread.as_str());
            assert_eq!(event["agent_name"], "helper");
        }
    }
}

#[tokio::test]
async fn us_1_us_5_usage_is_counted_per_request_and_summed() {
    let usage = Usage {
        input_tokens: 10,
        output_tokens: 3,
        cache_creation_input_tokens: 7,
        cache_read_input_tokens: 100,
    };
    let bed = Bed::new([Reply::text("a").usage(usage), Reply::text("b").usage(usage)]).await;
    bed.turn("1").await;
    bed.turn("2").await;
    let end = &bed.events("span.model_request_end").await[1];
    assert_eq!(
        end["model_usage"],
        json!({"input_tokens": 10, "output_tokens": 3, "cache_creation_input_tokens": 7, "cache_read_input_tokens": 100})
    );
    let said = &bed.events("session.usage").await[1]["usage"];
    assert_eq!(said["input_tokens"], 20);
    assert_eq!(said["output_tokens"], 6);
    assert_eq!(said["cache_read_input_tokens"], 200);
    assert_eq!(said["cache_creation"]["ephemeral_5m_input_tokens"], 14);
    assert!(said["active_seconds"].as_f64().unwrap() > 0.0);
    let kept = bed.record().await.usage;
    assert_eq!((kept.input_tokens, kept.output_tokens), (20, 6));
}

#[tokio::test]
async fn st_10_st_11_previews_announce_the_ids_and_add_up() {
    let reply = Reply::thinking("hm", "sig")
        .then_text("\n")
        .then_tool_use("toolu_1", "bash", json!({"command": "true"}))
        .split_into(3);
    let last = Reply::text("One two three.").split_into(5);
    let bed = Bed::new([reply, last]).await;
    let mut tail = bed.store.subscribe(&bed.session);
    bed.turn("Hi").await;
    let mut started = Vec::new();
    let mut text = String::new();
    let mut stored = Vec::new();
    let mut spans = 0;
    loop {
        match tail.recv().await.unwrap() {
            TailItem::Preview(preview) => {
                assert!(spans > 0, "previews come after the start of their span");
                match &*preview {
                    Preview::EventStart { event } => started.push(event.id.clone()),
                    Preview::EventDelta { event_id, delta } => {
                        assert_eq!(Some(event_id), started.last());
                        let PreviewDelta::ContentDelta { index, content } = delta;
                        assert_eq!(*index, 0);
                        text.push_str(
                            serde_json::to_value(content).unwrap()["text"]
                                .as_str()
                                .unwrap(),
                        );
                    }
                }
            }
            TailItem::Entries(entries) => {
                for entry in entries.iter() {
                    match &*entry.type_name {
                        "agent.thinking" | "agent.message" => stored.push(entry.event_id.clone()),
                        "span.model_request_start" => spans += 1,
                        _ => {}
                    }
                }
                if entries
                    .iter()
                    .any(|entry| &*entry.type_name == "session.status_idle")
                {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        started, stored,
        "blank text is no message, and every id comes true"
    );
    assert_eq!(text, "One two three.");
}

/// runtime SE-5, CONFLICT-12
#[tokio::test]
async fn se_5_messages_sent_during_a_turn_open_the_next_one_together() {
    let gate = Gate::new();
    let bed = Bed::new([Reply::text("a").hold_first_token(&gate), Reply::text("b")]).await;
    bed.say("1").await;
    gate.reached().await;
    bed.say("2").await;
    bed.say("3").await;
    gate.open();
    bed.seen("session.status_idle", 2).await;
    let log = bed.log().await;
    let mut expected = vec![
        "user.message: 1",
        "session.thread_status_running",
        "session.status_running",
        "user.message processed",
        "span.model_request_start",
        "user.message: 2",
        "user.message: 3",
        "agent.message: a",
        "span.model_request_end",
    ];
    expected.extend(END);
    expected.extend([
        "session.thread_status_running",
        "session.status_running",
        "user.message processed",
        "user.message processed",
        "span.model_request_start",
        "agent.message: b",
        "span.model_request_end",
    ]);
    expected.extend(END);
    assert_eq!(log, expected);
    assert_eq!(bed.model.request(2).await.last_user_text(), "2\n3");
}

#[tokio::test]
async fn several_messages_of_one_send_are_one_turn() {
    let bed = Bed::new([Reply::text("a")]).await;
    bed.send(vec![message("1"), message("2")]).await;
    bed.idle().await;
    assert_eq!(bed.model.request(1).await.last_user_text(), "1\n2");
    bed.model.assert_done();
}

#[tokio::test]
async fn sq_15_a_refusal_is_a_stop_reason_and_leaves_the_context() {
    let bed = Bed::new([
        Reply::text("I").refusal("cyber", "No."),
        Reply::text("Sure."),
    ])
    .await;
    let log = bed.turn("Hack it").await;
    assert_eq!(log.last().unwrap(), "session.status_idle: refusal");
    let idle = &bed.events("session.status_idle").await[0];
    assert_eq!(
        idle["stop_details"],
        json!({"type": "refusal", "category": "cyber", "explanation": "No."})
    );
    bed.turn("Something else").await;
    let second = bed.model.request(2).await;
    assert_eq!(second.messages().len(), 1);
    assert_eq!(second.last_user_text(), "Hack it\nSomething else");
    let idle = &bed.events("session.status_idle").await[1];
    assert_eq!(idle["stop_details"], serde_json::Value::Null);
}

#[tokio::test]
async fn an_answer_cut_at_its_limit_is_shown_and_said_to_be_cut() {
    let bed = Bed::new([
        Reply::text("Half an").stop_reason("max_tokens"),
        Reply::text("answer."),
    ])
    .await;
    let log = bed.turn("Tell").await;
    assert_eq!(
        log[5..],
        [
            "agent.message: Half an",
            "span.model_request_end",
            "session.error: model_request_failed_error exhausted",
            "session.thread_status_idle: retries_exhausted",
            "session.usage",
            "session.status_idle: retries_exhausted",
        ]
    );
    bed.turn("Go on").await;
    assert_eq!(bed.model.request(2).await.messages().len(), 3);
}

#[tokio::test]
async fn an_empty_answer_and_a_pause_end_the_turn() {
    let bed = Bed::new([
        Reply::empty(),
        Reply::text("wait").stop_reason("pause_turn"),
        Reply::text("b"),
    ])
    .await;
    let log = bed.turn("1").await;
    assert_eq!(log[5..8], ["span.model_request_end", END[0], END[1]]);
    let log = bed.turn("2").await;
    assert_eq!(log.last().unwrap(), END[2]);
    bed.turn("3").await;
    let third = bed.model.request(3).await;
    assert_eq!(third.messages().len(), 3, "the empty answer is no turn");
}

/// runtime AR-2
#[tokio::test]
async fn a_session_goes_on_after_a_shutdown_with_the_cache_and_without() {
    for cache in [0, 1 << 20] {
        let mut bed = Bed::asleep([Reply::text("a"), Reply::text("b"), Reply::text("c")]).await;
        bed.config.transcript_cache = cache;
        bed.wake();
        bed.turn("1").await;
        bed.turn("2").await;
        bed.shut_down().await;
        bed.wake();
        bed.turn("3").await;
        let third = bed.model.request(3).await;
        assert_eq!(third.messages().len(), 5, "cache of {cache}");
        bed.model.assert_done();
    }
}
