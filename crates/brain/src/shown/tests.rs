use serde_json::json;
use url::Url;

use super::*;
use crate::testing::{Log, event_id};

/// A page named in each place where one can be.
fn log() -> Log {
    let called = |log: Log, id: &str, kind: &str, name: &str| {
        log.event(id, kind, json!({"name": name, "input": {}}))
    };
    let log = Log::default()
        .message("1", "look at https://example.com/message please")
        .event(
            "2",
            "agent.message",
            json!({"content": [{"type": "text", "text": "https://example.com/agent"}]}),
        );
    let log = called(log, "3", "agent.custom_tool_use", "lookup")
        .custom_result("3", "https://example.com/lookup");
    let log =
        called(log, "4", "agent.tool_use", "web_search").result("4", "https://example.com/search");
    let log =
        called(log, "5", "agent.tool_use", "web_fetch").result("5", "https://example.com/fetch");
    called(log, "6", "agent.tool_use", "bash")
        .result("6", "https://example.com/bash")
        .event(
            "7",
            "agent.tool_result",
            json!({"tool_use_id": event_id("4"), "content": [{"type": "search_result", "source": "https://example.com/source",
                "title": "t", "content": [{"type": "text", "text": "https://example.com/block"}]}]}),
        )
}

#[track_caller]
fn check(sources: serde_json::Value, expected: &[&str]) {
    let sources: UrlSources = serde_json::from_value(sources).expect("sources");
    let log = log();
    let mut reader = Reader::new(&sources);
    log.entries().iter().for_each(|entry| reader.read(entry));
    let places = [
        "message", "agent", "lookup", "search", "source", "block", "fetch", "bash",
    ];
    let shown = places.into_iter().filter(|place| {
        let url = Url::parse(&format!("https://example.com/{place}")).expect("a URL");
        reader.shown.contains(&url)
    });
    assert_eq!(shown.collect::<Vec<_>>(), expected);
}

/// runtime WB-8
#[test]
fn wb_8_messages_custom_results_and_web_results_show_urls() {
    check(
        json!({}),
        &["message", "lookup", "search", "source", "block", "fetch"],
    );
}

#[test]
fn wb_7_each_source_can_be_narrowed() {
    let reference = |name: &str| json!([{"type": "tool_reference", "name": name}]);
    check(
        json!({"user_input": "none"}),
        &["lookup", "search", "source", "block", "fetch"],
    );
    check(
        json!({"client_tool_results": "none"}),
        &["message", "search", "source", "block", "fetch"],
    );
    check(
        json!({"client_tool_results": {"type": "except", "tools": reference("lookup")}}),
        &["message", "search", "source", "block", "fetch"],
    );
    check(
        json!({"server_tool_results": {"type": "only", "tools": reference("web_fetch")}}),
        &["message", "lookup", "fetch"],
    );
    check(
        json!({"server_tool_results": "none", "client_tool_results": "none"}),
        &["message"],
    );
}
