use std::time::Duration;

use manyhands_protocol::agent::SessionAgent;
use manyhands_protocol::budget::Budget;
use manyhands_protocol::{AgentId, EnvironmentId, SessionId, ThreadId, WorkspaceId};
use manyhands_store::UsageTotals;
use serde_json::json;

use super::*;
use crate::testing::{Log, agent, event_id, mcp_agent};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn record(status: SessionStatus) -> SessionRecord {
    SessionRecord {
        workspace: WorkspaceId::generate(),
        id: SessionId::generate(),
        thread_id: ThreadId::generate(),
        environment_id: EnvironmentId::generate(),
        agent: SessionAgent {
            id: AgentId::generate(),
            kind: Default::default(),
            version: 1,
            definition: agent(),
        },
        title: None,
        metadata: Default::default(),
        status,
        budget: None,
        vault_ids: Vec::new(),
        usage: UsageTotals::default(),
        active_millis: 0,
        running_since: None,
        created_at: at(1),
        updated_at: at(2),
        archived_at: None,
        terminated_at: None,
        last_position: 9,
        input_position: 0,
        epoch: 1,
    }
}

struct Case {
    record: SessionRecord,
    log: Log,
    live: Option<Doing>,
    held: bool,
}

fn case(status: SessionStatus, log: Log) -> Case {
    Case {
        record: record(status),
        log,
        live: None,
        held: false,
    }
}

fn live(doing: Doing, log: Log) -> Case {
    Case {
        live: Some(doing),
        held: true,
        ..case(SessionStatus::Running, log)
    }
}

/// The answer at second 100; the status changed at second 5, the live activity began at second 50 and may go on for 30 s.
fn explained(case: &Case) -> Why {
    explain(&Facts {
        record: &case.record,
        transcript: &case.log.fold(),
        changed: at(5),
        live: case.live.clone().map(|doing| Look {
            doing,
            since: at(50),
            left: Some(Duration::from_secs(30)),
        }),
        held: case.held,
        now: at(100),
    })
}

#[track_caller]
fn check(case: Case, state: State, party: Party, since: i64, until: Option<i64>, sentence: &str) {
    let found = explained(&case);
    assert_eq!(
        (found.state, found.waiting_for, found.since, found.until),
        (state, party, at(since), until.map(at)),
        "{found:?}"
    );
    assert_eq!(found.sentence, sentence);
}

fn asked() -> Log {
    Log::default().asked("a", "hi")
}

const END: fn() -> serde_json::Value = || json!({"type": "end_turn"});

/// Security I8: each state has a way out, and it is said whose.
#[test]
fn i_8_sessions_that_wait_for_the_client() {
    let done = || asked().said("x").idle(END());
    let answer = "The session waits for a message: its last turn is over.";
    check(
        case(SessionStatus::Idle, done()),
        State::AwaitingMessage,
        Party::Client,
        5,
        None,
        answer,
    );
    let custom = asked()
        .called("custom", &["x", "y"])
        .idle(json!({"type": "requires_action", "event_ids": [event_id("x"), event_id("y")]}));
    check(
        case(SessionStatus::Idle, custom.clone()),
        State::AwaitingAnswers,
        Party::Client,
        5,
        None,
        "The session waits for the client's result of bash (sevt_x) and bash (sevt_y).",
    );
    check(
        case(SessionStatus::Idle, custom.custom_result("x", "rx")),
        State::AwaitingAnswers,
        Party::Client,
        5,
        None,
        "The session waits for the client's result of bash (sevt_y).",
    );
    let five = ["a1", "a2", "a3", "a4", "a5"];
    check(
        case(SessionStatus::Idle, asked().called("asked", &five)),
        State::AwaitingAnswers,
        Party::Client,
        5,
        None,
        "The session waits for the client to allow or deny bash (sevt_a1), bash (sevt_a2), bash (sevt_a3) and 2 more calls.",
    );
    let mut capped = case(SessionStatus::Idle, done());
    capped.record.budget = Some(Budget::of_cents(1));
    capped.record.active_millis = 3_600_000;
    check(
        capped,
        State::AwaitingBudget,
        Party::Client,
        5,
        None,
        "The session's budget is used up: it goes on when the budget is raised or removed.",
    );
}

#[test]
fn bu_7_answers_are_asked_for_before_a_budget() {
    let mut case = case(SessionStatus::Idle, asked().called("custom", &["x"]));
    case.record.budget = Some(Budget::of_cents(1));
    case.record.active_millis = 3_600_000;
    assert_eq!(explained(&case).state, State::AwaitingAnswers);
}

#[test]
fn i_8_sessions_that_wait_for_the_server() {
    let wanting = "The session has work and waits for the server to take it up, which happens within a second or two.";
    for case in [
        case(SessionStatus::Running, asked()),
        case(SessionStatus::Idle, Log::default().message("a", "hi")),
        case(
            SessionStatus::Idle,
            asked().said("x").idle(END()).interrupt("i"),
        ),
        case(SessionStatus::Rescheduling, asked()),
    ] {
        check(case, State::AwaitingBrain, Party::Server, 5, None, wanting);
    }
    let queueing = live(Doing::Queueing, asked());
    check(
        queueing,
        State::AwaitingBrain,
        Party::Server,
        50,
        Some(130),
        "The session waits for a place among the sessions at work: the server has as many as its limit allows.",
    );
    let working = "The server is reading and writing the session's log.";
    check(
        live(Doing::Working, asked()),
        State::Working,
        Party::Server,
        50,
        Some(130),
        working,
    );
    let elsewhere = Case {
        held: true,
        ..case(SessionStatus::Running, asked().said("x"))
    };
    // Its span is closed and no call is open: another server is between two steps.
    check(elsewhere, State::Working, Party::Server, 5, None, working);
}

#[test]
fn sq_12_a_retry_says_when_and_which() {
    let retry = |attempt: u32, until: i64| {
        asked()
            .private(
                "retry",
                json!({"attempt": attempt, "until": until * 1_000_000, "wait": 70_000_000}),
            )
            .event("re", "session.status_rescheduled", json!({}))
    };
    check(
        case(SessionStatus::Rescheduling, retry(1, 160)),
        State::AwaitingRetry,
        Party::Server,
        5,
        Some(160),
        "The last request to the model failed; the next try is in 60 s.",
    );
    let waiting = Doing::Waiting { until: at(160) };
    let third = Case {
        live: Some(waiting),
        ..case(SessionStatus::Rescheduling, retry(3, 160))
    };
    let found = explained(&third);
    assert_eq!(found.details.attempt, Some(3));
    check(
        third,
        State::AwaitingRetry,
        Party::Server,
        50,
        Some(160),
        "The last 3 requests to the model failed; the next try is in 60 s.",
    );
    // The wake is between writing that it waits and waiting, or behind the wait.
    let between = |until| Case {
        live: Some(Doing::Working),
        ..case(SessionStatus::Rescheduling, retry(1, until))
    };
    check(
        between(160),
        State::AwaitingRetry,
        Party::Server,
        5,
        Some(160),
        "The last request to the model failed; the next try is in 60 s.",
    );
    assert_eq!(explained(&between(90)).state, State::Working);
    // The clock was set back by hours: the wait is what it was.
    check(
        case(SessionStatus::Rescheduling, retry(1, 9_000)),
        State::AwaitingRetry,
        Party::Server,
        5,
        Some(170),
        "The last request to the model failed; the next try is in 70 s.",
    );
    let due = case(SessionStatus::Rescheduling, retry(1, 90));
    assert_eq!(explained(&due).state, State::AwaitingBrain);
}

#[test]
fn i_8_sessions_that_wait_for_a_model_a_sandbox_or_a_judge() {
    let model = "The session waits for the answer of the model m.";
    check(
        live(Doing::Asking, asked()),
        State::AskingModel,
        Party::Model,
        50,
        Some(130),
        model,
    );
    let elsewhere = Case {
        held: true,
        ..case(SessionStatus::Running, asked())
    };
    assert_eq!(
        explained(&elsewhere).details.model.as_deref(),
        Some("m"),
        "the log of a session that another server has tells it too"
    );
    check(elsewhere, State::AskingModel, Party::Model, 5, None, model);
    check(
        live(Doing::Compacting, asked()),
        State::Summarising,
        Party::Model,
        50,
        Some(130),
        "The session waits for the model m to summarise the conversation, which has become too long for it.",
    );
    check(
        live(Doing::Judging, asked()),
        State::JudgingCalls,
        Party::Judge,
        50,
        Some(130),
        "The session waits for the judge that decides whether the model's calls may run.",
    );
    check(
        live(Doing::Provisioning, asked()),
        State::StartingSandbox,
        Party::Sandbox,
        50,
        Some(130),
        "The session waits for its sandbox to start.",
    );
    let called = || asked().called("sandbox", &["x", "y"]).result("y", "ry");
    let running = Doing::Running(vec![event_id("x"), event_id("y")]);
    check(
        live(running, called()),
        State::RunningTools,
        Party::Sandbox,
        50,
        Some(130),
        "The session waits for bash (sevt_x) to end.",
    );
    let started = called().private(
        "tool_started",
        json!({"call": event_id("x"), "instance": "i", "attempt": 1}),
    );
    let elsewhere = Case {
        held: true,
        ..case(SessionStatus::Running, started)
    };
    check(
        elsewhere,
        State::RunningTools,
        Party::Sandbox,
        5,
        None,
        "The session waits for bash (sevt_x) to end.",
    );
}

/// runtime MC-4, MC-8
#[test]
fn i_8_sessions_that_wait_for_mcp_servers() {
    let of = |case: Case, servers: &[&str]| {
        let mut case = case;
        case.record.agent.definition = mcp_agent(servers);
        case
    };
    let begun = || Log::default().message("a", "hi").running();
    check(
        of(live(Doing::Listing, begun()), &["docs"]),
        State::ListingTools,
        Party::McpServers,
        50,
        Some(130),
        "The session waits for the MCP server docs to list its tools.",
    );
    check(
        of(live(Doing::Listing, begun()), &["docs", "wiki", "mail"]),
        State::ListingTools,
        Party::McpServers,
        50,
        Some(130),
        "The session waits for the MCP server docs or one of 2 others to list its tools.",
    );
    let called = asked().called_mcp("sandbox", "x", "docs", "read");
    let running = live(Doing::Running(vec![event_id("x")]), called);
    check(
        running,
        State::RunningTools,
        Party::McpServers,
        50,
        Some(130),
        "The session waits for read of docs (sevt_x) to end.",
    );
    let asking = asked()
        .called_mcp("asked", "x", "docs", "read")
        .idle(json!({"type": "requires_action", "event_ids": [event_id("x")]}));
    check(
        case(SessionStatus::Idle, asking),
        State::AwaitingAnswers,
        Party::Client,
        5,
        None,
        "The session waits for the client to allow or deny read of docs (sevt_x).",
    );
}

#[test]
fn i_8_sessions_that_have_ended_say_so() {
    let mut archived = case(SessionStatus::Terminated, asked());
    archived.record.archived_at = Some(at(7));
    check(
        archived,
        State::Ended,
        Party::Nobody,
        7,
        None,
        "The session was archived: nothing more happens, its history can still be read.",
    );
    let mut terminated = case(SessionStatus::Terminated, asked());
    terminated.record.terminated_at = Some(at(8));
    check(
        terminated,
        State::Ended,
        Party::Nobody,
        8,
        None,
        "The session was terminated: nothing more happens, its history can still be read.",
    );
}

#[test]
fn the_answer_is_plain_json() {
    let asked = asked()
        .called("asked", &["x"])
        .idle(json!({"type": "requires_action", "event_ids": [event_id("x")]}))
        .message("b", "meanwhile");
    let found = explained(&case(SessionStatus::Idle, asked));
    assert_eq!(
        serde_json::to_value(&found).unwrap(),
        json!({
            "state": "awaiting_answers",
            "waiting_for": "client",
            "since": at(5),
            "details": {
                "calls": [{"event_id": "sevt_x", "name": "bash", "needs": "confirmation"}],
                "queued": 1,
            },
            "sentence": "The session waits for the client to allow or deny bash (sevt_x).",
        })
    );
}
