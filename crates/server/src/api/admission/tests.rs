use manyhands_protocol::Timestamp;
use manyhands_protocol::budget::Budget;
use manyhands_protocol::content::ContentBlock;
use manyhands_protocol::event::Confirmation;
use manyhands_protocol::model::EffortLevel;
use manyhands_protocol::{EnvironmentId, SessionId, WorkspaceId};
use manyhands_store::{OpenCall, SessionRecord, UsageTotals};
use serde_json::json;

use super::*;

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
    let now = Timestamp::from_micros(1);
    let agent = json!({"id": "agent_01a", "type": "agent", "version": 1, "name": "coder", "description": null,
        "system": null, "model": {"id": "scripted", "effort": {"type": "high"}, "speed": "standard"}, "tools": [],
        "mcp_servers": [], "skills": [], "multiagent": null, "execution_identity": {"type": "service_account"}});
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
        record: SessionRecord {
            workspace: WorkspaceId::parse("wrkspc_01a").expect("an id"),
            id: SessionId::parse("sesn_01a").expect("an id"),
            thread_id: ThreadId::parse("sthr_01a").expect("an id"),
            environment_id: EnvironmentId::parse("env_01a").expect("an id"),
            agent: serde_json::from_value(agent).expect("an agent"),
            title: None,
            metadata: Default::default(),
            status,
            budget: None,
            usage: UsageTotals::default(),
            active_millis: 0,
            running_since: None,
            created_at: now,
            updated_at: now,
            archived_at: None,
            terminated_at: None,
            last_position: 0,
            input_position: 0,
            epoch: 0,
        },
        calls: calls.iter().map(call).collect(),
        queued: 0,
        now,
    }
}

fn message() -> Incoming {
    Incoming::Message {
        content: vec![ContentBlock::text("hi")],
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

#[test]
fn se_14_a_message_is_queued_behind_pending_calls() {
    check(
        &state(SessionStatus::Idle, &[("sevt_1", None)]),
        vec![message()],
        &["user.message?"],
        false,
        false,
    );
}

#[test]
fn sq_10_the_last_result_starts_the_session_and_a_part_of_them_does_not() {
    let two = state(SessionStatus::Idle, &[("sevt_1", None), ("sevt_2", None)]);
    check(
        &two,
        vec![result("sevt_1")],
        &["user.custom_tool_result"],
        false,
        true,
    );
    let started = [
        "user.custom_tool_result",
        "user.custom_tool_result",
        "session.thread_status_running",
        "session.status_running",
    ];
    check(
        &two,
        vec![result("sevt_1"), result("sevt_2")],
        &started,
        true,
        true,
    );
    let running = state(SessionStatus::Running, &[("sevt_1", None)]);
    check(
        &running,
        vec![result("sevt_1")],
        &["user.custom_tool_result"],
        false,
        true,
    );
}

#[test]
fn se_18_a_second_result_shows_the_first_and_writes_nothing() {
    let answered = state(SessionStatus::Idle, &[("sevt_1", Some("sevt_a"))]);
    let echoes = check(&answered, vec![result("sevt_1")], &[], false, false);
    assert_eq!(echoes, [Echo::Earlier(id("sevt_a"))]);
    let open = state(SessionStatus::Running, &[("sevt_1", None)]);
    let (change, echoes) =
        admit(&open, vec![result("sevt_1"), result("sevt_1")]).expect("admitted");
    assert_eq!(written(&change), ["user.custom_tool_result"]);
    let (call, answer) = change.append.answered[0].clone();
    assert_eq!((call, change.append.answered.len()), (id("sevt_1"), 1));
    assert_eq!(echoes, [Echo::Stored(0), Echo::Earlier(answer)]);
}

#[test]
fn se_15_an_answer_to_a_call_that_never_asked_is_refused() {
    let idle = state(SessionStatus::Idle, &[("sevt_1", None)]);
    let error = admit(&idle, vec![message(), result("sevt_9")]).expect_err("refused");
    assert_eq!(
        error.message(),
        "events[1].custom_tool_use_id: the session has not called a custom tool with this id"
    );
    // Neither a call of a custom tool nor one that was allowed by its policy asks for consent.
    let refusal = "events[0].tool_use_id: no call with this id has asked for a confirmation";
    check_refused(&idle, vec![allow("sevt_1")], refusal);
    check_refused(&idle, vec![allow("sevt_ask9")], refusal);
    let asking = state(SessionStatus::Idle, &[("sevt_ask1", None)]);
    let refusal = "events[0].custom_tool_use_id: the session has not called a custom tool";
    check_refused(&asking, vec![result("sevt_ask1")], refusal);
}

const STARTED: [&str; 2] = ["session.thread_status_running", "session.status_running"];
const CONFIRMED: [&str; 2] = ["user.tool_confirmation?", "processed"];

/// runtime SQ-7, SQ-8, SE-4, SE-17
#[test]
fn sq_7_sq_8_the_last_answer_starts_the_turn_and_a_part_of_them_does_not() {
    let calls = [("sevt_ask1", None), ("sevt_ask2", None), ("sevt_3", None)];
    let three = state(SessionStatus::Idle, &calls);
    let echoes = check(&three, vec![allow("sevt_ask2")], &CONFIRMED, false, true);
    assert_eq!(echoes, [Echo::Stored(1)], "shown as processed");
    let all = vec![allow("sevt_ask1"), allow("sevt_ask2"), result("sevt_3")];
    let entries = [
        &CONFIRMED[..],
        &CONFIRMED,
        &["user.custom_tool_result"],
        &STARTED,
    ]
    .concat();
    let echoes = check(&three, all, &entries, true, true);
    assert_eq!(
        echoes,
        [Echo::Stored(1), Echo::Stored(3), Echo::Stored(4)],
        "in the order of the request"
    );
    // A confirmation that comes before the idle event is taken.
    let running = state(SessionStatus::Running, &calls);
    check(&running, vec![allow("sevt_ask1")], &CONFIRMED, false, true);
}

#[test]
fn se_18_a_second_or_late_confirmation_shows_the_first_and_writes_nothing() {
    let answered = state(SessionStatus::Idle, &[("sevt_ask1", Some("sevt_a"))]);
    let echoes = check(&answered, vec![allow("sevt_ask1")], &[], false, false);
    assert_eq!(echoes, [Echo::Earlier(id("sevt_a"))]);
    let open = state(SessionStatus::Running, &[("sevt_ask1", None)]);
    let (change, echoes) =
        admit(&open, vec![allow("sevt_ask1"), allow("sevt_ask1")]).expect("admitted");
    assert_eq!(written(&change), CONFIRMED);
    let answer = change.append.answered[0].1.clone();
    assert_eq!(echoes, [Echo::Stored(1), Echo::Earlier(answer)]);
}

/// runtime SE-8, SE-9
#[test]
fn se_8_a_system_message_waits_for_its_companion_and_a_lone_one_opens_no_turn() {
    let idle = state(SessionStatus::Idle, &[]);
    check(&idle, vec![system()], &["system.message"], false, false);
    let entries = [&["user.message?", "system.message?"][..], &STARTED].concat();
    check(&idle, vec![message(), system()], &entries, true, true);
    for status in [SessionStatus::Running, SessionStatus::Rescheduling] {
        check(
            &state(status, &[]),
            vec![system()],
            &["system.message?"],
            false,
            true,
        );
    }
    let running = state(SessionStatus::Running, &[("sevt_1", None)]);
    check(&running, vec![system()], &["system.message?"], false, true);
    // What it stands behind had no effect, so it is alone.
    let late = state(SessionStatus::Idle, &[("sevt_1", Some("sevt_a"))]);
    check(
        &late,
        vec![result("sevt_1"), system()],
        &["system.message"],
        false,
        false,
    );
}

#[test]
fn se_11_while_calls_wait_a_system_message_goes_only_behind_a_result() {
    let waiting = state(SessionStatus::Idle, &[("sevt_1", None), ("sevt_2", None)]);
    let refusal = "while calls wait for the client, system.message goes only";
    check_refused(&waiting, vec![system()], refusal);
    check_refused(&waiting, vec![message(), system()], refusal);
    let part = ["user.custom_tool_result", "system.message?"];
    check(
        &waiting,
        vec![result("sevt_1"), system()],
        &part,
        false,
        true,
    );
    let all = vec![result("sevt_1"), result("sevt_2"), system()];
    let entries = [
        &["user.custom_tool_result"; 2][..],
        &["system.message?"],
        &STARTED,
    ]
    .concat();
    check(&waiting, all, &entries, true, true);
}

#[test]
fn se_10_a_model_that_takes_no_system_messages_is_named() {
    let mut idle = state(SessionStatus::Idle, &[]);
    idle.record.agent.definition.model.id = "plain".to_owned();
    let refusal = "events[1].type: plain does not take system messages";
    let error = check_refused(&idle, vec![message(), system()], refusal);
    let code = "\"error_code\":\"model_does_not_support_mid_conversation_system\"";
    assert!(error.body(None).contains(code), "{}", error.body(None));
}

/// runtime BU-6, BU-7
#[test]
fn bu_6_at_the_cap_only_answers_and_interrupts_are_taken() {
    let refusal = "takes only user.tool_confirmation, user.tool_result, user.custom_tool_result and user.interrupt";
    for status in [SessionStatus::Idle, SessionStatus::Running] {
        let capped = at_cap(status, &[("sevt_1", None)]);
        check_refused(&capped, vec![message()], refusal);
        check_refused(&capped, vec![result("sevt_1"), message()], refusal);
        check_refused(&capped, vec![result("sevt_1"), system()], refusal);
    }
    let capped = at_cap(
        SessionStatus::Idle,
        &[("sevt_1", None), ("sevt_ask2", None)],
    );
    check(
        &capped,
        vec![result("sevt_1")],
        &["user.custom_tool_result"],
        false,
        true,
    );
    check(&capped, vec![allow("sevt_ask2")], &CONFIRMED, false, true);
    check(
        &capped,
        vec![interrupt()],
        &["user.interrupt?"],
        false,
        true,
    );
    let running = at_cap(SessionStatus::Running, &[]);
    check(
        &running,
        vec![interrupt()],
        &["user.interrupt?"],
        false,
        true,
    );
    // BU-11: a cost that is not known counts as used up; without a cap it counts for nothing.
    let mut unpriced = state(SessionStatus::Idle, &[]);
    unpriced.record.usage.unpriced_requests = 1;
    assert!(admit(&unpriced, vec![message()]).is_ok());
    unpriced.record.budget = Some(Budget::of_cents(1_000_000));
    check_refused(&unpriced, vec![message()], refusal);
}

#[test]
fn in_9_an_interrupt_at_a_full_budget_pause_leaves_no_trace() {
    let capped = at_cap(SessionStatus::Idle, &[]);
    let (change, echoes) = admit(&capped, vec![interrupt()]).expect("accepted");
    assert_eq!(change, Change::default());
    let [Echo::Unrecorded(event)] = &echoes[..] else {
        panic!("{echoes:?}")
    };
    assert_eq!(event.body.type_name(), "user.interrupt");
    assert_eq!(event.processed_at, Some(capped.now));
}

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
