mod answers;
mod caps;
mod systems;

use manyhands_protocol::budget::Budget;
use manyhands_protocol::content::ContentBlock;
use manyhands_protocol::event::Confirmation;
use manyhands_protocol::model::EffortLevel;
use manyhands_store::OpenCall;

use super::*;
use crate::api::sessions::sample;

fn id(text: &str) -> EventId {
    EventId::parse(text).expect("an event id")
}

/// Knows every model; `plain` takes no system messages.
struct Any;

impl Catalog for Any {
    fn efforts(&self, _: &str) -> Option<&[EffortLevel]> {
        Some(&[])
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn is_priced(&self, _: &str) -> bool {
        true
    }

    fn takes_system_messages(&self, id: &str) -> bool {
        id != "plain"
    }
}

fn admit(state: &SessionState, events: Vec<Incoming>) -> Result<(Change, Vec<Echo>), ApiError> {
    super::admit(state, events, &Any)
}

/// With calls of custom tools: `(call, answer)`. An id that begins with `sevt_ask` is a call that asks.
fn state(status: SessionStatus, calls: &[(&str, Option<&str>)]) -> SessionState {
    let call = |&(call, answer): &(&str, Option<&str>)| OpenCall {
        event_id: id(call),
        type_name: if call.starts_with("sevt_ask") {
            "agent.tool_use".to_owned()
        } else {
            CUSTOM_TOOL_USE.to_owned()
        },
        answer: answer.map(id),
    };
    SessionState {
        calls: calls.iter().map(call).collect(),
        ..sample::state(status, "scripted")
    }
}

fn message() -> Incoming {
    Incoming::Message {
        content: vec![ContentBlock::text("hi")],
        attached: Vec::new(),
    }
}

fn interrupt() -> Incoming {
    Incoming::Interrupt { thread: None }
}

fn result(call: &str) -> Incoming {
    Incoming::CustomToolResult {
        call: id(call),
        content: None,
        is_error: None,
        attached: Vec::new(),
    }
}

fn system() -> Incoming {
    Incoming::System {
        content: vec![ContentBlock::text("be brief")],
    }
}

fn allow(call: &str) -> Incoming {
    Incoming::Confirmation {
        call: id(call),
        result: Confirmation::Allow,
        deny_message: None,
    }
}

/// A session that used up its budget.
fn at_cap(status: SessionStatus, calls: &[(&str, Option<&str>)]) -> SessionState {
    let mut state = state(status, calls);
    state.record.budget = Some(Budget::of_cents(1));
    state.record.usage.token_cost = u64::MAX;
    state
}

#[track_caller]
fn check_refused(state: &SessionState, events: Vec<Incoming>, problem: &str) -> ApiError {
    let error = admit(state, events).expect_err(problem);
    assert!(error.message().contains(problem), "{}", error.message());
    error
}

/// The entries of a change, as `type` and, for queued ones, `type?`.
fn written(change: &Change) -> Vec<String> {
    let entry = |entry: &NewEntry| match entry {
        NewEntry::Event { body, queued, .. } => {
            format!("{}{}", body.type_name(), if *queued { "?" } else { "" })
        }
        NewEntry::Processed { .. } => "processed".to_owned(),
        other => panic!("a client writes events only, not {other:?}"),
    };
    change.append.entries.iter().map(entry).collect()
}

#[track_caller]
fn check(
    state: &SessionState,
    events: Vec<Incoming>,
    entries: &[&str],
    running: bool,
    wants_brain: bool,
) -> Vec<Echo> {
    let (change, echoes) = admit(state, events).expect("admitted");
    assert_eq!(written(&change), entries);
    assert_eq!(
        change.append.status,
        running.then_some(SessionStatus::Running)
    );
    assert_eq!(change.wants_brain, wants_brain);
    echoes
}

#[test]
fn sq_1_a_message_to_an_idle_session_starts_it() {
    let running = [
        "user.message?",
        "session.thread_status_running",
        "session.status_running",
    ];
    check(
        &state(SessionStatus::Idle, &[]),
        vec![message()],
        &running,
        true,
        true,
    );
}

#[test]
fn se_5_a_message_to_a_busy_session_is_queued() {
    for status in [SessionStatus::Running, SessionStatus::Rescheduling] {
        check(
            &state(status, &[]),
            vec![message(), message()],
            &["user.message?", "user.message?"],
            false,
            true,
        );
    }
}

/// runtime SE-14: and the brain reads it, so that a rest after an interrupt does not leave it behind (security I8).
#[test]
fn se_14_a_message_is_queued_behind_pending_calls() {
    check(
        &state(SessionStatus::Idle, &[("sevt_1", None)]),
        vec![message()],
        &["user.message?"],
        false,
        true,
    );
}

const STARTED: [&str; 2] = ["session.thread_status_running", "session.status_running"];
const CONFIRMED: [&str; 2] = ["user.tool_confirmation?", "processed"];

#[test]
fn se_6_in_8_an_interrupt_is_queued_only_where_it_stops_something() {
    check(
        &state(SessionStatus::Running, &[]),
        vec![interrupt()],
        &["user.interrupt?"],
        false,
        true,
    );
    check(
        &state(SessionStatus::Idle, &[]),
        vec![interrupt()],
        &["user.interrupt"],
        false,
        false,
    );
    // A raised budget is about to let a turn go on.
    let resuming = SessionState {
        wanted: true,
        ..state(SessionStatus::Idle, &[])
    };
    check(
        &resuming,
        vec![interrupt()],
        &["user.interrupt?"],
        false,
        true,
    );
    let waiting = state(SessionStatus::Idle, &[("sevt_1", None)]);
    check(
        &waiting,
        vec![interrupt(), message()],
        &["user.interrupt?", "user.message?"],
        false,
        true,
    );
    let redirect = [
        "user.interrupt",
        "user.message?",
        "session.thread_status_running",
        "session.status_running",
    ];
    check(
        &state(SessionStatus::Idle, &[]),
        vec![interrupt(), message()],
        &redirect,
        true,
        true,
    );
    // IN-8: the turn that the last answer starts is the one that is stopped.
    let entries = [
        &["user.interrupt?", "user.custom_tool_result"][..],
        &STARTED,
    ]
    .concat();
    check(
        &waiting,
        vec![interrupt(), result("sevt_1")],
        &entries,
        true,
        true,
    );
    let foreign = Incoming::Interrupt {
        thread: ThreadId::parse("sthr_01other").ok(),
    };
    assert!(admit(&waiting, vec![foreign]).is_err());
}

#[test]
fn se_7_an_ended_session_takes_nothing() {
    assert!(admit(&state(SessionStatus::Terminated, &[]), vec![message()]).is_err());
    let mut archived = state(SessionStatus::Idle, &[]);
    archived.record.archived_at = Some(archived.now);
    assert!(admit(&archived, vec![interrupt()]).is_err());
}

#[test]
fn lc_6_initial_events_start_a_session_in_the_write_that_makes_it() {
    let thread = ThreadId::parse("sthr_01a").expect("an id");
    let change = begin(&thread, "coder", vec![message(), message()]);
    let entries = [
        "user.message?",
        "user.message?",
        "session.thread_status_running",
        "session.status_running",
    ];
    assert_eq!(written(&change), entries);
    assert_eq!(
        (change.append.status, change.wants_brain),
        (Some(SessionStatus::Running), true)
    );
    assert_eq!(begin(&thread, "coder", vec![]), Change::default());
}

/// invariant I6: what a block names elsewhere stands in the log right before its event.
#[test]
fn i_6_attached_bytes_come_directly_before_their_event() {
    let source = manyhands_protocol::content::Source::Base64 {
        media_type: "image/png".to_owned(),
        data: "cG5n".to_owned(),
    };
    let attached = Incoming::Message {
        content: vec![ContentBlock::text("hi")],
        attached: vec![Attached { block: 0, source }],
    };
    let (change, echoes) = admit(
        &state(SessionStatus::Idle, &[]),
        vec![message(), attached, message()],
    )
    .expect("admitted");
    let [first, NewEntry::Private { type_name, body }, second, ..] = &change.append.entries[..]
    else {
        panic!("{change:?}")
    };
    let (NewEntry::Event { .. }, NewEntry::Event { id, .. }) = (first, second) else {
        panic!("{change:?}")
    };
    assert_eq!(*type_name, "attached");
    assert!(
        body.contains(id.as_str()) && body.contains("cG5n"),
        "{body}"
    );
    assert_eq!(echoes, [Echo::Stored(0), Echo::Stored(2), Echo::Stored(3)]);
}
