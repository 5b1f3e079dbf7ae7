use serde_json::json;

use super::*;

#[track_caller]
fn refused(event: Value, message: &str) {
    let error = read_events(&[json!({"type": "user.interrupt"}), event]).expect_err("refused");
    assert!(error.message().starts_with(message), "{}", error.message());
}

fn message(block: Value) -> Value {
    json!({"type": "user.message", "content": [block]})
}

#[test]
fn se_1_se_12_se_13_what_cannot_be_sent_is_refused_by_name() {
    refused(json!("hello"), "events[1]: expected an object");
    refused(json!({"content": []}), "events[1].type: is required");
    refused(
        json!({"type": "user.shout"}),
        "events[1].type: \"user.shout\" is not an event that clients send",
    );
    refused(
        json!({"type": "agent.message", "content": []}),
        "events[1].type: \"agent.message\" is not",
    );
    refused(
        json!({"type": "user.message", "content": []}),
        "events[1].content: must not be empty",
    );
    refused(
        json!({"type": "user.message"}),
        "events[1]: missing field `content`",
    );
    refused(
        json!({"type": "user.message", "content": "hi"}),
        "events[1].content: invalid type: string",
    );
    refused(
        message(json!({"type": "text", "text": " \n"})),
        "events[1].content[0].text: must not be empty",
    );
    refused(message(json!({"type": "hologram"})), "events[1].content[0]");
    refused(
        message(json!({"type": "redacted"})),
        "events[1].content[0].type: clients cannot send redacted",
    );
    let search = json!({"type": "search_result", "source": "s", "title": "t", "content": []});
    refused(
        message(search),
        "events[1].content[0].type: a message holds text",
    );
    let url = json!({"type": "image", "source": {"type": "url", "url": "ftp://example.com/a.png"}});
    refused(
        message(url),
        "events[1].content[0].source.url: expected an http or https URL",
    );
    let file = json!({"type": "document", "source": {"type": "file", "file_id": "env_01"}});
    refused(message(file), "events[1].content[0].source.file_id:");
    let odd = json!({"type": "image", "source": {"type": "base64", "media_type": "image/tiff", "data": "aGk="}});
    refused(
        message(odd),
        "events[1].content[0].source.media_type: \"image/tiff\" is not one of",
    );
    let broken = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "a"}});
    refused(
        message(broken),
        "events[1].content[0].source.data: is not base64",
    );
    refused(
        json!({"type": "user.tool_result", "tool_use_id": "sevt_01a"}),
        "events[1].type: only sessions in",
    );
    refused(
        json!({"type": "user.define_outcome"}),
        "events[1].type: user.define_outcome is not supported",
    );
    refused(
        json!({"type": "system.message"}),
        "events[1]: missing field `content`",
    );
}

#[test]
fn id_4_a_result_names_an_event() {
    let result = json!({"type": "user.custom_tool_result", "custom_tool_use_id": "toolu_01"});
    refused(
        result,
        "events[1].custom_tool_use_id: expected an id that starts with \"sevt_\"",
    );
}

fn confirmation(result: &str) -> Value {
    json!({"type": "user.tool_confirmation", "tool_use_id": "sevt_01a", "result": result,
        "session_thread_id": "sthr_01old"})
}

#[test]
fn se_16_a_deny_message_goes_only_with_a_denial() {
    let mut event = confirmation("allow");
    event["deny_message"] = json!("no");
    refused(event.clone(), "events[1].deny_message: goes only with");
    event["result"] = json!("deny");
    let expected = Incoming::Confirmation {
        call: EventId::parse("sevt_01a").expect("an id"),
        result: Confirmation::Deny,
        deny_message: Some("no".to_owned()),
    };
    assert_eq!(read_events(&[event]).expect("accepted"), [expected]);
    refused(confirmation("maybe"), "events[1].result: unknown variant");
}

#[test]
fn se_19_replies_name_a_call_and_no_thread() {
    let read = read_events(&[confirmation("allow")]).expect("an old client's thread id is ignored");
    assert!(matches!(&read[..], [Incoming::Confirmation { .. }]));
}

/// security API-5
#[test]
fn api_5_a_call_is_not_allowed_and_denied_by_one_request() {
    let error = read_events(&[confirmation("allow"), confirmation("deny")]).expect_err("refused");
    assert!(error.message().starts_with("events[1].result: "));
    read_events(&[confirmation("deny"), confirmation("deny")]).expect("said twice");
}

#[test]
fn se_8_a_system_message_is_the_last_and_stands_alone_or_behind_what_it_accompanies() {
    let system =
        json!({"type": "system.message", "content": [{"type": "text", "text": "Be brief."}]});
    let user = message(json!({"type": "text", "text": "hi"}));
    let result = json!({"type": "user.custom_tool_result", "custom_tool_use_id": "sevt_01a"});
    let interrupt = json!({"type": "user.interrupt"});
    for before in [vec![], vec![user.clone()], vec![interrupt.clone(), result]] {
        let count = before.len() + 1;
        let events = [before, vec![system.clone()]].concat();
        assert_eq!(read_events(&events).expect("accepted").len(), count);
    }
    for (events, problem) in [
        (
            vec![system.clone(), system.clone()],
            "events[1]: a request holds at most one system.message",
        ),
        (
            vec![system.clone(), user.clone()],
            "events[0]: system.message must be the last event",
        ),
        (
            vec![user.clone(), interrupt, system.clone()],
            "events[2]: system.message stands alone or directly behind",
        ),
        (
            vec![confirmation("allow"), system.clone()],
            "events[1]: system.message stands alone or directly behind",
        ),
    ] {
        let error = read_events(&events).expect_err(problem);
        assert!(error.message().starts_with(problem), "{}", error.message());
    }
    let text = json!({"type": "text", "text": "x"});
    let with = |content: Value| json!({"type": "system.message", "content": content});
    read_events(&[with(Value::from(vec![text.clone(); 1000]))]).expect("a thousand fit");
    for (content, problem) in [
        (json!([]), "events[1].content: has 0 blocks; 1 to 1000"),
        (
            Value::from(vec![text; 1001]),
            "events[1].content: has 1001 blocks",
        ),
        (
            json!([{"type": "text", "text": ""}]),
            "events[1].content[0].text: must not be empty",
        ),
        (
            json!([{"type": "redacted"}]),
            "events[1].content[0].type: clients cannot send redacted",
        ),
        (
            json!([{"type": "image", "source": {"type": "base64", "data": "aGk=", "media_type": "image/png"}}]),
            "events[1].content[0].type: a system message holds text",
        ),
    ] {
        refused(with(content), problem);
    }
}

#[test]
fn se_13_images_and_documents_come_by_base64_and_text() {
    let source = |kind: &str, media_type: &str| json!({"type": kind, "data": "aGk=", "media_type": media_type});
    for block in [
        json!({"type": "image", "source": source("base64", "image/png")}),
        json!({"type": "image", "source": source("base64", "image/jpeg")}),
        json!({"type": "image", "source": source("base64", "image/gif")}),
        json!({"type": "image", "source": source("base64", "image/webp")}),
        json!({"type": "document", "source": source("base64", "application/pdf"), "title": "t", "context": "c"}),
        json!({"type": "document", "source": source("text", "text/plain"), "title": null}),
    ] {
        read_events(&[message(block)]).expect("accepted");
    }
    for (block, problem) in [
        (
            json!({"type": "document", "source": source("base64", "image/png")}),
            "source.media_type: \"image/png\" is not one of application/pdf",
        ),
        (
            json!({"type": "document", "source": source("text", "text/html")}),
            "source.media_type: expected \"text/plain\"",
        ),
        (
            json!({"type": "image", "source": source("text", "text/plain")}),
            "source.type: an image has no text source",
        ),
        (
            json!({"type": "document", "source": {"type": "url", "url": format!("https://example.com/{}", "a".repeat(2048))}}),
            "source.url: has more than 2048 bytes",
        ),
    ] {
        refused(message(block), &format!("events[1].content[0].{problem}"));
    }
    for source in [
        json!({"type": "url", "url": "https://example.com/a.pdf"}),
        json!({"type": "file", "file_id": "file_01abc"}),
    ] {
        for kind in ["image", "document"] {
            read_events(&[message(json!({"type": kind, "source": source}))]).expect("accepted");
        }
    }
}

#[test]
fn lc_6_initial_events_are_messages_and_at_most_fifty() {
    let one = json!({"type": "user.message", "content": [{"type": "text", "text": "hi"}]});
    assert_eq!(
        read_initial_events(&vec![one.clone(); 50])
            .expect("fifty fit")
            .len(),
        50
    );
    let error = read_initial_events(&vec![one.clone(); 51]).expect_err("refused");
    assert_eq!(
        error.message(),
        "initial_events: has 51 events; at most 50 are allowed"
    );
    let error =
        read_initial_events(&[one, json!({"type": "user.interrupt"})]).expect_err("refused");
    assert!(
        error
            .message()
            .starts_with("initial_events[1].type: a session starts with")
    );
    assert_eq!(read_initial_events(&[]).expect("empty equals omitted"), []);
}

#[test]
fn se_20_a_result_may_be_empty_and_failed() {
    let event = json!({"type": "user.custom_tool_result", "custom_tool_use_id": "sevt_01a", "is_error": true,
        "session_thread_id": "sthr_01old"});
    let expected = Incoming::CustomToolResult {
        call: EventId::parse("sevt_01a").expect("an id"),
        content: None,
        is_error: Some(true),
        attached: Vec::new(),
    };
    assert_eq!(read_events(&[event]).expect("accepted"), [expected]);
}
