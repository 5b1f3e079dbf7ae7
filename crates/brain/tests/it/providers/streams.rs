//! Streams as they should be, and cut, bent, silent or endless.

use std::time::Duration;

use manyhands_brain::models::{BlockKind, Stop, Timeouts, Usage};
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::{self, Format, Outcome, Reply};
use serde_json::json;

use super::stage::{each, each_patient, shown};

/// A reply with a block of each kind, in several pieces.
fn reply() -> Reply {
    Reply::thinking("Let me see.", "c2ln")
        .then_text("Two files \u{1F980}, I think.")
        .then_tool_use_raw("call_1", "bash", r#"{"command" : "ls -l"}"#)
        .then_tool_use("call_2", "bash", json!({"command": "pwd"}))
        .split_into(3)
        .usage(model::Usage {
            input_tokens: 30,
            output_tokens: 9,
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: 20,
        })
}

const SHOWN: [&str; 4] = [
    "(thinking)",
    "Two files \u{1F980}, I think.",
    r#"call_1 bash {"command" : "ls -l"}"#,
    r#"call_2 bash {"command":"pwd"}"#,
];

/// security MODEL-1, runtime US-5: blocks, reason, usage and deltas are the same in each form.
#[tokio::test]
async fn model_1_a_whole_answer() {
    each_patient(async |stage| {
        let whole = reply().wire_in(stage.format, "m").len();
        for reply in [
            reply(),
            reply().in_chunks_of(1),
            reply().in_chunks_of(whole),
            reply().unknown_event(),
        ] {
            let (response, heard) = stage.ask(reply).await;
            let response = response.unwrap();
            assert_eq!(shown(&response), SHOWN);
            assert_eq!(response.stop, Stop::ToolUse);
            assert_eq!(response.model, "m");
            assert!(!response.id.is_empty());
            let expected = Usage {
                input_tokens: 30,
                output_tokens: 9,
                cache_read_input_tokens: 20,
                ..Usage::default()
            };
            assert_eq!(response.usage, expected);
            let kinds = [
                BlockKind::Thinking,
                BlockKind::Text,
                BlockKind::ToolUse,
                BlockKind::ToolUse,
            ];
            assert_eq!(heard.kinds, kinds);
            assert_eq!(heard.text, SHOWN[1]);
            assert!(heard.signs_of_life >= 8, "{}", heard.signs_of_life);
        }
        stage.server.assert_done();
    })
    .await;
}

/// runtime SQ-15, ER-2: each reason to stop means the same in each form.
#[tokio::test]
async fn sq_15_reasons_to_stop() {
    each_patient(async |stage| {
        let text = || Reply::text("Well.");
        let refused = text().refusal("bio", "No.");
        for (reply, expected) in [
            (text(), "EndTurn"),
            (Reply::empty(), "EndTurn"),
            (text().stop_reason("something_new"), "EndTurn"),
            (text().stop_reason("max_tokens"), "MaxTokens"),
            (refused, "Refusal"),
        ] {
            let response = stage.ask(reply).await.0.unwrap();
            let found = format!("{:?}", response.stop);
            assert!(found.starts_with(expected), "{found} is not {expected}");
        }
        let cut = text()
            .then_tool_use_raw("call_1", "bash", "{\"command\": \"l")
            .stop_reason("max_tokens");
        let response = stage.ask(cut).await.0.unwrap();
        assert_eq!(shown(&response), ["Well."], "the call was never made");
    })
    .await;
}

/// security MODEL-1, MODEL-2: whatever prefix of a stream arrives, it is tried again, and nothing of it is an answer.
#[tokio::test]
async fn model_1_a_stream_cut_at_any_byte_is_no_answer() {
    const SAID: &str = "Two \u{1F980}.";
    each_patient(async |stage| {
        let reply = Reply::thinking("Hm.", "c2ln")
            .then_text(SAID)
            .then_tool_use("call_1", "bash", json!({"command": "ls"}));
        let whole = reply.wire_in(stage.format, "m").len();
        for at in 0..whole {
            let (_, heard) = stage.check_retried(reply.clone().cut_at(at)).await;
            assert!(
                SAID.starts_with(&heard.text),
                "{:?} is no beginning, cut at {at}",
                heard.text
            );
        }
        assert_eq!(stage.server.hits(), whole);
        let (response, heard) = stage.ask(reply).await;
        assert_eq!(response.unwrap().blocks.len(), 3);
        assert_eq!(heard.text, SAID);
    })
    .await;
}

/// security MODEL-1, MODEL-4: streams that end early, lie about their form or never end a line.
#[tokio::test]
async fn model_4_broken_streams_are_tried_again() {
    each_patient(async |stage| {
        stage.check_retried(reply().without_message_stop()).await;
        stage.check_retried(reply().malformed_event()).await;
        stage.check_retried(reply().giant_line(9 << 20)).await;
        stage.check_retried(Reply::hang_up()).await;
        let html = Reply::raw(200, "text/html", "<p>Welcome to this hotel's network.</p>");
        stage.check_retried(html).await;
        stage
            .check_retried(Reply::raw(200, "application/json", "{}"))
            .await;
        let nameless = Reply::empty().then_tool_use("call_1", "", json!({}));
        stage.check_retried(nameless).await;
    })
    .await;
}

/// security MODEL-4: silence ends a request, before the first byte and in the middle; slowness does not.
#[tokio::test]
async fn model_4_silence_is_noticed_and_slowness_is_not() {
    let impatient = Timeouts {
        headers: Duration::from_secs(1),
        between: Duration::from_secs(1),
    };
    each(impatient, async |stage| {
        let gate = Gate::new();
        let (error, _) = stage.check_retried(reply().hold_headers(&gate)).await;
        assert!(
            error.message.contains("did not answer within 1 s"),
            "{error}"
        );
        let (error, _) = stage.check_retried(reply().hold_first_token(&gate)).await;
        assert!(error.message.contains("nothing came for 1 s"), "{error}");
        let unsent = Reply::server_error().hold_at(3, &gate);
        stage.check_retried(unsent).await;
        let slow = reply().delay_chunks(Duration::from_millis(20));
        let response = stage.ask(slow).await.0.unwrap();
        assert_eq!(shown(&response), SHOWN);
        assert_eq!(stage.model.patience(), Duration::from_secs(2));
    })
    .await;
}

/// security MODEL-4: a server that sends its headers first and reads the prompt then has as long as one that waits.
#[tokio::test]
async fn model_4_the_first_byte_may_take_as_long_as_the_headers() {
    let timeouts = Timeouts {
        headers: Duration::from_secs(20),
        between: Duration::from_millis(100),
    };
    each(timeouts, async |stage| {
        let gate = Gate::new();
        let mut asking = std::pin::pin!(stage.ask(reply().hold_at(0, &gate)));
        let early = tokio::time::timeout(Duration::from_millis(400), &mut asking).await;
        assert!(
            early.is_err(),
            "it answered or gave up before the first byte"
        );
        gate.open();
        assert_eq!(shown(&asking.await.0.unwrap()), SHOWN);
    })
    .await;
}

/// runtime IN-2: a request that is given up is cut off at once.
#[tokio::test]
async fn in_2_a_request_that_is_given_up_is_cut_off() {
    each_patient(async |stage| {
        let gate = Gate::new();
        tokio::select! {
            _ = stage.ask(reply().hold_first_token(&gate)) => panic!("it cannot answer"),
            () = gate.reached() => {}
        }
        assert_eq!(stage.server.outcome(1).await, Outcome::ClientGone);
    })
    .await;
}

/// security MODEL-5: answers and inputs of a megabyte, and a thousand calls, arrive whole.
#[tokio::test]
async fn model_5_big_answers_arrive_whole() {
    each_patient(async |stage| {
        let text = "word ".repeat(200_000);
        let input = json!({"command": "x".repeat(1 << 20)});
        let reply = Reply::text(&text)
            .then_tool_use("call_1", "bash", input.clone())
            .split_into(500);
        let (response, heard) = stage.ask(reply).await;
        let response = response.unwrap();
        assert_eq!(heard.text, text);
        assert_eq!(shown(&response)[1], format!("call_1 bash {input}"));
        let mut many = Reply::text("So:");
        for index in 0..1000 {
            many = many.then_tool_use(format!("call_{index}"), "bash", json!({"n": index}));
        }
        let response = stage.ask(many).await.0.unwrap();
        assert_eq!(response.blocks.len(), 1001);
        assert_eq!(shown(&response)[1000], r#"call_999 bash {"n":999}"#);
    })
    .await;
}

/// security MODEL-4: what an endpoint sends beyond any legal size is not kept.
#[tokio::test]
async fn model_4_an_endless_answer_is_given_up() {
    each_patient(async |stage| {
        let padding = " ".repeat(1 << 20);
        let piece = match stage.format {
            Format::Messages => format!("data: {{\"type\":\"ping\"{padding}}}\n\n"),
            Format::Chat => format!("data: {{\"choices\":[]{padding}}}\n\n"),
        };
        let endless = piece.repeat(65);
        let reply = Reply::raw(200, "text/event-stream", endless).in_chunks_of(1 << 20);
        let (error, _) = stage.check_retried(reply).await;
        assert!(
            error.message.contains("longer than any legal one"),
            "{error}"
        );
    })
    .await;
}
