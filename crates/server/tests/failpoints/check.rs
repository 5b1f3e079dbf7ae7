//! What must be true of a story that has come to its end.

use serde_json::Value;

use crate::model::{BAD, GREET, HANG, LONG, TOUCH, WAIT, WORK, done};
use crate::story::Story;

/// All that was acknowledged is there (security I1); each call has exactly one result (I3); each message is answered
/// once, or its end explained.
pub(crate) fn check(story: &Story, list: &[Value]) {
    let name = &story.name;
    for event in &story.acknowledged {
        let there = list.iter().filter(|listed| listed["id"] == event["id"]);
        assert_eq!(
            there.count(),
            1,
            "{name}: {event} was acknowledged: {list:#?}"
        );
    }
    for call in list.iter().filter(|event| is_call(event)) {
        let results = list.iter().filter(|event| {
            let kind = event["type"].as_str().unwrap_or_default();
            let answered = ["tool_use_id", "custom_tool_use_id"]
                .iter()
                .any(|member| event[*member] == call["id"]);
            answered && kind != "user.tool_confirmation"
        });
        assert_eq!(results.count(), 1, "{name}: results of {call}: {list:#?}");
    }
    for word in [WORK, TOUCH, GREET, LONG] {
        let said = said(list, "user.message", &story.words(word));
        assert!(said <= 1, "{name}: {word} was said {said} times: {list:#?}");
        let answered = self::said(list, "agent.message", &done(&story.words(word)));
        assert_eq!(answered, said, "{name}: answers to {word}: {list:#?}");
    }
    for word in [HANG, WAIT] {
        let stopped = said(list, "user.message", &story.words(word)) == 0
            || of_type(list, "user.interrupt") == 1;
        let answered = said(list, "agent.message", &done(&story.words(word)));
        assert!(stopped && answered == 0, "{name}: {word}: {list:#?}");
    }
    let refused = said(list, "user.message", &story.words(BAD));
    let explained = of_type(list, "session.error") >= refused;
    assert!(explained, "{name}: {list:#?}");
}

fn is_call(event: &Value) -> bool {
    matches!(
        event["type"].as_str(),
        Some("agent.tool_use" | "agent.custom_tool_use")
    )
}

fn of_type(list: &[Value], kind: &str) -> usize {
    list.iter().filter(|event| event["type"] == kind).count()
}

fn said(list: &[Value], kind: &str, text: &str) -> usize {
    let events = list.iter().filter(|event| event["type"] == kind);
    let texts = events.filter(|event| event["content"][0]["text"] == text);
    texts.count()
}
