//! The bytes that go to the model over a long conversation (invariant I6, runtime CC-5, security MODEL-4).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use manyhands_testkit::model::Reply;
use serde_json::json;

use crate::bed::{Bed, custom_result};

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
