//! Whole sessions with a model of chat completions: nothing but the wire differs.

use std::time::Duration;

use manyhands_brain::models::{ModelSpec, ProviderSpec, Timeouts};
use manyhands_testkit::model::{Format, Reply};
use serde_json::json;

use crate::bed::Bed;

fn chat(url: &str) -> Vec<ModelSpec> {
    let patience = Duration::from_secs(20);
    let provider = ProviderSpec::OpenAi {
        base_url: Some(url.parse().unwrap()),
        key: Some("test-key".into()),
        output_limit: None,
        timeouts: Timeouts {
            headers: patience,
            between: patience,
        },
    };
    vec![ModelSpec::new("claude-*", provider)]
}

/// runtime SQ-1, SQ-5: calls, results and failures, as with a Messages endpoint; invariants I3 and I6 hold on the wire.
#[tokio::test]
async fn sq_5_a_session_with_a_model_of_chat_completions() {
    let mut bed = Bed::asleep([
        Reply::thinking("Hm.", "")
            .then_text("I look.")
            .then_tool_use("call_1", "bash", json!({"command": "ls"}))
            .then_tool_use_raw("call_2", "bash", "no JSON")
            .split_into(2),
        Reply::overloaded(),
        Reply::text("Half").cut_at(300),
        Reply::text("Done."),
        Reply::text("Again."),
    ])
    .await;
    bed.specs = chat;
    bed.wake();
    let log = bed.turn("Go").await;
    let said: Vec<&str> = log
        .iter()
        .map(String::as_str)
        .filter(|line| line.starts_with("agent.") || line.starts_with("session.error"))
        .collect();
    let errors = said.iter().filter(|line| line.starts_with("session.error"));
    assert_eq!(errors.count(), 2, "{said:?}");
    assert!(said[0].starts_with("agent.thinking"), "{said:?}");
    assert_eq!(said[1], "agent.message: I look.");
    assert_eq!(*said.last().unwrap(), "agent.message: Done.");
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    assert_eq!(bed.hands.starts().len(), 1, "the other call was none");
    bed.turn("And again").await;
    let last = bed.model.request(5).await;
    assert_eq!(last.format, Format::Chat);
    assert_eq!(last.last_user_text(), "And again");
    let second = bed.model.request(2).await;
    let results = second.tool_results();
    assert!(results[0].text.contains("bash: {"), "{results:?}");
    assert!(
        results[1].text.contains("the input must be a JSON object"),
        "{results:?}"
    );
    bed.model.assert_done();
}
