//! The bytes that go to the model over a long conversation (invariant I6, runtime CC-5, security MODEL-4).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use manyhands_hands::Output;
use manyhands_protocol::agent::PermissionPolicy;
use manyhands_testkit::model::Reply;
use serde_json::json;

use crate::bed::{Bed, custom_result, message, system, tools_under};

/// A conversation of every kind of turn; request n gets answer n.
fn answer(number: usize) -> Reply {
    let id = |part: &str| format!("toolu_{number}_{part}");
    match number % 5 {
        0 => Reply::text(format!(
            "Answer {number}: \u{1F980} \"quoted\" \\ \u{0} done."
        )),
        1 => Reply::thinking(format!("Thought {number}\n"), format!("sig/{number}+=="))
            .then_text("Let me see.")
            .then_tool_use_raw(
                id("a"),
                "bash",
                format!("{{\"command\" :  \"echo {number}\",\n\"timeout_ms\":1e4}}"),
            )
            .then_tool_use(
                id("b"),
                "read",
                json!({"file_path": "/a", "view_range": [1, 2]}),
            ),
        2 => Reply::empty()
            .then(manyhands_testkit::model::Block::RedactedThinking {
                data: format!("opaque{number}"),
            })
            .then_text("\n")
            .then_tool_use(id("a"), "no_such_tool", json!({"z": 1, "a": 2})),
        3 => Reply::text("Asking.").then_tool_use(id("a"), "ask_human", json!({"question": "?"})),
        _ => Reply::text("So.").split_into(4),
    }
    .split_into(3)
}

async fn converse(cache: usize, restarts: bool) -> Vec<Vec<u8>> {
    let mut bed = Bed::asleep([]).await;
    bed.config.transcript_cache = cache;
    let number = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&number);
    bed.model
        .respond_with(move |_| answer(counted.fetch_add(1, Ordering::SeqCst)));
    bed.wake();
    let mut idles = 0;
    let mut answered = 0;
    while bed.model.hits() < 50 {
        let calls = bed.events("agent.custom_tool_use").await;
        if calls.len() > answered {
            let call = calls[answered]["id"].as_str().unwrap();
            bed.send(vec![custom_result(call, "because")]).await;
            answered += 1;
        } else {
            bed.say(&format!("Message {idles}")).await;
        }
        idles += 1;
        bed.seen("session.status_idle", idles).await;
        if restarts && idles % 7 == 0 {
            bed.shut_down().await;
            bed.wake();
        }
    }
    bed.model.assert_clean();
    let requests = bed.model.requests();
    assert!(requests.iter().all(|request| request.cache_marks() <= 4));
    let last = requests.last().unwrap();
    assert_eq!(
        last.cache_marks(),
        4,
        "tools, system, and the ends of the last two user turns"
    );
    bed.assert_each_call_has_one_result().await;
    // Texts of conversations differ by no id: requests of two runs can be compared.
    requests
        .iter()
        .map(|request| request.raw.to_vec())
        .collect()
}

/// The part of a request that a prompt cache reads, in its order, without marks: tools, system, messages.
fn cached_part(raw: &[u8]) -> String {
    let text = String::from_utf8(raw.to_vec()).unwrap();
    let text = text.replace(",\"cache_control\":{\"type\":\"ephemeral\"}", "");
    let from = text.find("\"tools\":").unwrap();
    text[from..].to_owned()
}

/// Runtime CC-5, invariant I6: over 50 requests with calls, results and messages that steer in their middle, each
/// request's tools, system prompt and messages are the previous ones byte for byte, and more.
#[tokio::test]
async fn cc_5_i_6_fifty_steered_requests_keep_their_prefix_byte_for_byte() {
    let mut bed = Bed::asleep([]).await;
    let number = AtomicUsize::new(0);
    bed.model.respond_with(move |request| {
        let number = number.fetch_add(1, Ordering::SeqCst);
        assert!(
            request.cache_marks() >= 3,
            "tools, system and the last turn carry marks"
        );
        for part in ["tools", "system"] {
            let last = request.body[part].as_array().unwrap().last().unwrap();
            assert_eq!(
                last["cache_control"],
                json!({"type": "ephemeral"}),
                "{part}"
            );
        }
        match number % 10 {
            9 => Reply::text(format!("Turn {number} is over.")),
            5 => Reply::tool_use(
                format!("toolu_{number}"),
                "read",
                json!({"file_path": "/a"}),
            ),
            _ => Reply::thinking("Hm.", format!("sig{number}")).then_tool_use(
                format!("toolu_{number}"),
                "bash",
                json!({"command": "steer"}),
            ),
        }
    });
    // The tool itself sends the messages that steer: they come while the turn runs, each time.
    let (sender, steers) = (bed.sender(), Arc::new(AtomicUsize::new(0)));
    bed.hands = bed.hands.with_tool("bash", move |call| {
        let (sender, steers) = (sender.clone(), Arc::clone(&steers));
        async move {
            let number = steers.fetch_add(1, Ordering::SeqCst);
            let mut events = vec![message(&format!("Steer {number}"))];
            if number.is_multiple_of(3) {
                events.push(system("Note."));
            }
            sender(events).await;
            Output::text(call.input.to_string())
        }
    });
    bed.wake();
    for turn in 1.. {
        bed.say(&format!("Turn {turn}")).await;
        bed.seen("session.status_idle", turn).await;
        if bed.model.hits() >= 50 {
            break;
        }
    }
    bed.model.assert_clean();
    let requests = bed.model.requests();
    for pair in requests.windows(2) {
        let (before, after) = (cached_part(&pair[0].raw), cached_part(&pair[1].raw));
        let before = before.strip_suffix("]}").unwrap();
        assert!(
            after.starts_with(before),
            "request {} is no extension of the one before",
            pair[1].number
        );
    }
    let steered = bed.log().await;
    let steered = steered
        .iter()
        .filter(|line| line.starts_with("user.message: Steer"));
    assert!(steered.count() >= 30);
}

#[tokio::test]
async fn i_6_each_request_extends_the_one_before_over_fifty_requests() {
    let warm = converse(1 << 20, false).await;
    let cold = converse(0, true).await;
    assert_eq!(warm.len(), cold.len());
    for (index, (warm, cold)) in warm.iter().zip(&cold).enumerate() {
        assert!(
            warm == cold,
            "request {} differs between a cached and a replayed transcript",
            index + 1
        );
    }
}

/// Runtime CC-6, UP-3: tools that are changed while the client is asked count from the next turn on, across a restart.
#[tokio::test]
async fn cc_6_up_3_new_tools_wait_for_the_next_turn() {
    for restart in [false, true] {
        let mut bed = Bed::new([
            Reply::text("Zero."),
            Reply::tool_use("toolu_1", "ask_human", json!({"question": "?"})),
            Reply::text("One."),
            Reply::text("Two."),
        ])
        .await;
        bed.config.transcript_cache = 0;
        bed.turn("0").await;
        bed.turn("1").await;
        let call = bed.events("agent.custom_tool_use").await[0]["id"].clone();
        bed.set_tools(tools_under(PermissionPolicy::AlwaysAllow {}, &[]))
            .await;
        bed.set_tools(Vec::new()).await;
        if restart {
            bed.shut_down().await;
            bed.wake();
        }
        bed.send(vec![custom_result(call.as_str().unwrap(), "yes")])
            .await;
        bed.seen("session.status_idle", 3).await;
        bed.turn("2").await;
        let tools = |number: usize| {
            let request = bed.model.requests()[number].clone();
            request.tool_names().len()
        };
        assert_eq!(tools(2), tools(1), "the open turn keeps its prefix");
        assert_eq!(tools(3), 0, "the next turn has the newest tools");
        let broken = bed.model.take_violations();
        assert!(
            broken.iter().all(|violation| violation.contains("(I6)")),
            "only the new turn begins with other bytes: {broken:?}"
        );
        assert_eq!(broken.len(), 1, "{broken:?}");
    }
}

#[tokio::test]
async fn model_4_blocks_come_back_byte_for_byte() {
    let input = "{\"command\" :  \"echo \\u00e9\",\n \"timeout_ms\":1e4}";
    let bed = Bed::new([
        Reply::thinking("Hm\u{2028}\\n", "EqQB/+==")
            .then(manyhands_testkit::model::Block::RedactedThinking {
                data: "opaque".to_owned(),
            })
            .then_text("Text \u{1F980}")
            .then_tool_use_raw("toolu_1", "bash", input)
            .split_into(5),
        Reply::text("ok"),
    ])
    .await;
    bed.turn("Hi").await;
    let second = bed.model.request(2).await;
    let raw = String::from_utf8(second.raw.to_vec()).unwrap();
    assert!(raw.contains(&format!("\"input\":{input}")), "{raw}");
    let blocks = second.messages()[1]["content"].clone();
    assert_eq!(
        blocks[0],
        json!({"type": "thinking", "thinking": "Hm\u{2028}\\n", "signature": "EqQB/+=="})
    );
    assert_eq!(
        blocks[1],
        json!({"type": "redacted_thinking", "data": "opaque"})
    );
    assert_eq!(blocks[2], json!({"type": "text", "text": "Text \u{1F980}"}));
}
