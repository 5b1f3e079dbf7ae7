use serde_json::json;

use super::*;
use crate::plan::{self, Call, Step};

/// When the n-th event of the log below happened.
fn at(second: usize) -> String {
    format!("2026-11-21T12:00:{second:02}.000000Z")
}

/// A turn with one `bash` call and an answer, as a list shows it.
fn turn() -> Vec<Value> {
    let say = |message, step| json!([{"type": "text", "text": plan::said(message, step)}]);
    let (_, input) = Call::Say {
        before: 1,
        after: 1,
    }
    .input("c1-0-0");
    let end = |start: &str, tokens: u64| json!({"type": "span.model_request_end", "model_request_start_id": start, "model_usage": {"output_tokens": tokens}});
    let mut events = vec![
        json!({"type": "session.status_running"}),
        json!({"type": "user.message", "content": [{"type": "text", "text": plan::message_text(1)}]}),
        json!({"type": "span.model_request_start"}),
        json!({"type": "agent.message", "content": say(1, 0)}),
        json!({"type": "agent.tool_use", "name": "bash", "input": input, "evaluated_permission": "allow"}),
        end("e2", plan::tokens(1, 0)),
        json!({"type": "agent.tool_result", "tool_use_id": "e4", "is_error": false, "content": [{"type": "text", "text": "ran c1-0-0\n"}]}),
        json!({"type": "span.model_request_start"}),
        json!({"type": "agent.message", "content": say(1, 1)}),
        end("e7", plan::tokens(1, 1)),
        json!({"type": "session.usage", "usage": {"output_tokens": plan::tokens(1, 0) + plan::tokens(1, 1)}}),
        json!({"type": "session.status_idle", "stop_reason": {"type": "end_turn"}}),
    ];
    for (index, event) in events.iter_mut().enumerate() {
        event["id"] = format!("e{index}").into();
        event["processed_at"] = at(index).into();
    }
    events
}

/// What a test spoils.
struct Told {
    sent: Vec<Sent>,
    denied: Vec<String>,
    listed: Vec<Value>,
    frames: Vec<Frame>,
    lines: Lines,
    harms: Vec<Harm>,
}

fn told() -> Told {
    let listed = turn();
    let mut body = listed[1].clone();
    for member in ["id", "processed_at"] {
        body.as_object_mut().unwrap().remove(member);
    }
    Told {
        sent: vec![Sent {
            id: "e1".to_owned(),
            body,
        }],
        denied: vec![],
        frames: stream_of(&listed),
        lines: Lines::from([("c1-0-0".to_owned(), 1)]),
        harms: vec![],
        listed,
    }
}

fn stream_of(listed: &[Value]) -> Vec<Frame> {
    let mut queued = listed[1].clone();
    queued["processed_at"] = Value::Null;
    let all = [&queued].into_iter().chain(listed);
    all.zip(1..)
        .map(|(data, position)| Frame {
            position,
            data: data.clone(),
        })
        .collect()
}

fn look(told: &Told) -> Result<Counts, Violation> {
    let step = |calls| Step {
        calls,
        fault: None,
        think: std::time::Duration::ZERO,
    };
    let steps = vec![
        step(vec![Call::Say {
            before: 1,
            after: 1,
        }]),
        step(vec![]),
    ];
    check(&Story {
        sent: &told.sent,
        denied: &told.denied,
        listed: &told.listed,
        frames: &told.frames,
        plans: &HashMap::from([(1, Plan { steps })]),
        lines: &told.lines,
        harms: &told.harms,
    })
}

/// Spoils the list and tells it on the stream as well.
#[track_caller]
fn spoiled(spoil: impl FnOnce(&mut Vec<Value>), expected: &str) {
    let mut told = told();
    spoil(&mut told.listed);
    // What was repeated is an event of its own.
    let mut ids = std::collections::HashSet::new();
    for event in &mut told.listed {
        while !ids.insert(event["id"].to_string()) {
            event["id"] = format!("{}'", text(event, "id")).into();
        }
    }
    told.frames = told
        .listed
        .iter()
        .zip(1..)
        .map(|(data, position)| Frame {
            position,
            data: data.clone(),
        })
        .collect();
    found(&told, expected);
}

#[track_caller]
fn found(told: &Told, expected: &str) {
    match look(told) {
        Ok(counts) => panic!("{expected} was not found: {counts:?}"),
        Err(violation) => assert!(violation.contains(expected), "{violation}"),
    }
}

/// A result in place of the call's own.
fn result(told: &mut Told, text: &str) {
    told.listed[6]["content"][0]["text"] = text.into();
    told.listed[6]["is_error"] = true.into();
    told.frames = stream_of(&told.listed);
}

const UNKNOWN: &str = "The sandbox is gone: whether the call took effect is unknown.";

#[test]
fn a_whole_story_is_counted() {
    let counts = look(&told()).unwrap();
    let expected = [
        ("answers", 2),
        ("calls", 1),
        ("calls that succeeded", 1),
        ("messages", 1),
        ("messages answered", 1),
    ];
    assert_eq!(counts.iter().collect::<Vec<_>>(), expected);
}

/// security I1
#[test]
fn i1_what_is_lost_changed_or_moved_is_found() {
    spoiled(|listed| drop(listed.remove(1)), "I1: the acknowledged");
    spoiled(
        |listed| listed[1]["content"][0]["text"] = "other".into(),
        "I1: the acknowledged",
    );
    let before = turn();
    let mut now = before.clone();
    now.push(json!({"id": "e12", "processed_at": at(12)}));
    assert_eq!(goes_on(&before, &now), Ok(()));
    now.swap(3, 4);
    assert!(goes_on(&before, &now).is_err());
    assert!(goes_on(&before, &before[..11]).is_err());
    let sent = |id: &str| Sent {
        id: id.to_owned(),
        body: json!({"type": "user.message"}),
    };
    let listed = [
        json!({"id": "a", "type": "user.message"}),
        json!({"id": "b", "type": "user.message"}),
    ];
    assert_eq!(kept(&[sent("a"), sent("b")], &listed), Ok(()));
    assert!(kept(&[sent("b"), sent("a")], &listed).is_err());
}

/// security I2
#[test]
fn i2_a_stream_that_lacks_repeats_or_adds_is_found() {
    #[track_caller]
    fn of_frames(spoil: impl FnOnce(&mut Vec<Frame>)) {
        let mut told = told();
        spoil(&mut told.frames);
        found(&told, "I2: ");
    }
    of_frames(|frames| drop(frames.remove(5)));
    of_frames(|frames| drop(frames.pop()));
    of_frames(|frames| frames.insert(5, frames[5].clone()));
    of_frames(|frames| frames[5].data["name"] = "other".into());
    of_frames(|frames| {
        frames.push(Frame {
            position: 99,
            data: json!({"id": "e99", "processed_at": at(50)}),
        })
    });
}

/// security I3
#[test]
fn i3_calls_without_or_with_two_results_are_found() {
    spoiled(|listed| drop(listed.remove(6)), "has no result");
    spoiled(
        |listed| listed.insert(7, listed[6].clone()),
        "has two results",
    );
    spoiled(|listed| listed.swap(4, 6), "comes before the call");
}

/// security I4
#[test]
fn i4_the_ledger_is_believed_and_not_the_result() {
    let with = |lines: u32| {
        let mut told = told();
        told.lines.insert("c1-0-0".to_owned(), lines);
        told
    };
    found(&with(2), "it ran twice");
    found(&with(0), "says that it ran");
    let mut told = with(0);
    result(&mut told, UNKNOWN);
    found(&told, "its sandbox was left alone");
    let harm = |second| vec![Harm(Timestamp::parse(&at(second)).unwrap())];
    told.harms = harm(5);
    assert_eq!(look(&told).unwrap().get("calls with unknown outcome"), 1);
    told.harms = harm(8);
    found(&told, "its sandbox was left alone");
    result(
        &mut told,
        "Tool execution was interrupted before completion. Please retry.",
    );
    found(&told, "nobody interrupted");
    let mut told = with(0);
    told.denied.push("e4".to_owned());
    found(&told, "it was denied");
    result(&mut told, "The user rejected this tool call.");
    assert_eq!(look(&told).unwrap().get("calls denied"), 1);
}

/// security I8
#[test]
fn i8_messages_without_an_answer_or_with_two_are_found() {
    spoiled(|listed| listed[8] = listed[3].clone(), "said twice");
    spoiled(
        |listed| drop(listed.remove(8)),
        "has no answer and nothing says why",
    );
    spoiled(
        |listed| {
            let mut message = listed.remove(1);
            message["processed_at"] = Value::Null;
            listed.push(message);
        },
        "waits in a session at rest",
    );
    spoiled(
        |listed| listed[11]["stop_reason"]["type"] = "requires_action".into(),
        "rests with",
    );
    spoiled(|listed| drop(listed.pop()), "rests with");
    let mut told = told();
    told.listed.remove(8);
    told.listed[8]["model_usage"]["output_tokens"] = 0.into();
    told.listed[9]["usage"]["output_tokens"] = plan::tokens(1, 0).into();
    let interrupt = json!({"type": "user.interrupt", "id": "e20", "processed_at": at(20)});
    told.listed.insert(9, interrupt);
    told.frames = stream_of(&told.listed);
    assert_eq!(look(&told).unwrap().get("messages interrupted"), 1);
}

/// runtime US-7
#[test]
fn us_7_what_is_counted_twice_or_not_at_all_is_found() {
    spoiled(
        |listed| listed[5]["model_usage"]["output_tokens"] = 1.into(),
        "US-7: ",
    );
    spoiled(
        |listed| listed[10]["usage"]["output_tokens"] = 0.into(),
        "US-7: ",
    );
    spoiled(|listed| drop(listed.remove(9)), "US-7: ");
    spoiled(|listed| listed.insert(6, listed[5].clone()), "US-7: ");
}
