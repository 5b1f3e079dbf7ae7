//! Rules of a turn that have no story of their own: the statuses it may pass through, and what errors look like.

use manyhands_hands::Output;
use manyhands_protocol::EventId;
use manyhands_protocol::event::{EventBody, RetryStatus, SessionError, SessionErrorType};
use manyhands_protocol::session::SessionStatus;
use manyhands_store::{Entry, EntryKind};
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::{Reply, RetryAfter};
use serde_json::json;

use crate::bed::{Bed, custom_result, interrupt};

/// The statuses that a log tells of, in order; a session begins idle.
fn statuses(entries: &[Entry]) -> Vec<SessionStatus> {
    let told = entries
        .iter()
        .filter(|entry| entry.kind == EntryKind::Event);
    let told = told.filter_map(|entry| match &*entry.type_name {
        "session.status_running" => Some(SessionStatus::Running),
        "session.status_idle" => Some(SessionStatus::Idle),
        "session.status_rescheduled" => Some(SessionStatus::Rescheduling),
        "session.status_terminated" => Some(SessionStatus::Terminated),
        _ => None,
    });
    std::iter::once(SessionStatus::Idle).chain(told).collect()
}

/// Checks that the log passes through these statuses, by legal edges alone, and that the session is where its log ends.
async fn check(bed: &Bed, expected: &[SessionStatus]) {
    use SessionStatus::{Idle, Rescheduling, Running, Terminated};
    let passed = statuses(&bed.entries().await);
    for edge in passed.windows(2) {
        let legal = matches!(
            (edge[0], edge[1]),
            (Idle, Running | Terminated | Idle)
                | (Running, Idle | Rescheduling | Terminated)
                | (Rescheduling, Running | Idle | Terminated)
        );
        assert!(legal, "{edge:?} in {:#?}", bed.log().await);
    }
    assert_eq!(passed, expected, "{:#?}", bed.log().await);
    assert_eq!(Some(&bed.record().await.status), passed.last());
}

/// runtime LC-1, LC-2, LC-3: how each kind of turn moves a session between its four statuses.
#[tokio::test]
async fn lc_2_every_kind_of_turn_takes_legal_edges() {
    use SessionStatus::{Idle, Rescheduling, Running};
    let plain = Bed::new([Reply::text("a"), Reply::text("b")]).await;
    plain.turn("1").await;
    plain.turn("2").await;
    check(&plain, &[Idle, Running, Idle, Running, Idle]).await;

    let retried = Bed::new([Reply::overloaded(), Reply::overloaded(), Reply::text("a")]).await;
    retried.turn("1").await;
    let twice = [
        Idle,
        Running,
        Rescheduling,
        Running,
        Rescheduling,
        Running,
        Idle,
    ];
    check(&retried, &twice).await;

    let exhausted = Bed::new(vec![Reply::overloaded(); 4]).await;
    exhausted.turn("1").await;
    let passed = statuses(&exhausted.entries().await);
    assert_eq!(
        passed
            .iter()
            .filter(|status| **status == Rescheduling)
            .count(),
        3
    );
    check(&exhausted, &passed).await;

    let refused = Bed::new([Reply::text("").refusal("cyber", "No.")]).await;
    refused.turn("1").await;
    check(&refused, &[Idle, Running, Idle]).await;

    let custom = Bed::new([
        Reply::tool_use("toolu_1", "ask_human", json!({"question": "?"})),
        Reply::text("a"),
    ])
    .await;
    custom.turn("1").await;
    let call = custom.events("agent.custom_tool_use").await[0]["id"].clone();
    custom
        .send(vec![custom_result(call.as_str().unwrap(), "yes")])
        .await;
    custom.idle().await;
    check(&custom, &[Idle, Running, Idle, Running, Idle]).await;
}

/// runtime LC-2, IN-2: an interrupt while a retry waits.
#[tokio::test]
async fn lc_2_an_interrupt_leads_out_of_rescheduling() {
    use SessionStatus::{Idle, Rescheduling, Running};
    let mut bed = Bed::asleep([Reply::rate_limited(RetryAfter::Seconds(30.0))]).await;
    bed.config.retries.longest = std::time::Duration::from_secs(60);
    bed.wake();
    bed.say("1").await;
    bed.until(|record, _| record.status == Rescheduling).await;
    bed.send(vec![interrupt()]).await;
    bed.idle().await;
    let passed = statuses(&bed.entries().await);
    assert_eq!(passed[..3], [Idle, Running, Rescheduling]);
    check(&bed, &passed).await;
    assert_eq!(bed.model.hits(), 1);
}

/// runtime ER-1, ER-11: what a tool could not do is for the model; the client sees a result, and no error of the session.
#[tokio::test]
async fn er_11_a_failed_tool_is_a_result_and_no_error_of_the_session() {
    let call = Reply::tool_use("toolu_1", "bash", json!({"command": "false"}));
    let mut bed = Bed::asleep([call, Reply::text("It failed.")]).await;
    bed.hands = bed
        .hands
        .with_tool("bash", |_| async { Output::error("exit 1") });
    bed.wake();
    let log = bed.turn("Go").await;
    assert!(
        log.contains(&"agent.tool_result: exit 1 (error)".to_owned()),
        "{log:#?}"
    );
    assert!(!log.iter().any(|line| line.starts_with("session.error")));
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    let results = bed.model.request(2).await.tool_results();
    assert!(results[0].is_error && results[0].text == "exit 1");
}

/// runtime CT-2, security I8: nobody serves the tool. Nothing waits for an answer but the log, and time changes nothing.
#[tokio::test]
async fn ct_2_a_custom_call_waits_for_ever() {
    let call = Reply::tool_use("toolu_1", "ask_human", json!({"question": "?"}));
    let mut bed = Bed::new([call, Reply::text("Thanks.")]).await;
    bed.turn("Go").await;
    let waiting = bed.log().await;
    assert_eq!(
        waiting.last().unwrap(),
        "session.status_idle: requires_action"
    );
    for _ in 0..3 {
        assert_eq!(
            bed.store.wanting(10).await.unwrap().len(),
            0,
            "no brain has anything to do"
        );
        bed.crash().await;
        bed.wake();
    }
    assert_eq!(bed.log().await, waiting);
    let id = bed.events("agent.custom_tool_use").await[0]["id"].clone();
    bed.send(vec![custom_result(id.as_str().unwrap(), "yes")])
        .await;
    bed.idle().await;
    assert_eq!(
        bed.log().await.last().unwrap(),
        "session.status_idle: end_turn"
    );
    assert_eq!(bed.model.request(2).await.tool_results()[0].text, "yes");
}

/// runtime SE-20, TL-4: a client's failed tool is a failed tool to the model; without content it has a text all the same.
#[tokio::test]
async fn se_20_a_failed_custom_result_is_told_as_failed() {
    let call = Reply::tool_use("toolu_1", "ask_human", json!({"question": "?"}));
    let bed = Bed::new([call, Reply::text("Pity.")]).await;
    bed.turn("Go").await;
    let id = bed.events("agent.custom_tool_use").await[0]["id"].clone();
    let failed = EventBody::UserCustomToolResult {
        custom_tool_use_id: EventId::parse(id.as_str().unwrap()).unwrap(),
        content: None,
        is_error: Some(true),
        session_thread_id: None,
    };
    bed.send(vec![failed]).await;
    bed.idle().await;
    let results = bed.model.request(2).await.tool_results();
    assert!(results[0].is_error);
    assert_eq!(results[0].text, "(no output)");
}

/// runtime SQ-2: many requests, one turn.
#[tokio::test]
async fn sq_2_one_running_event_opens_a_turn_of_many_requests() {
    let mut replies: Vec<Reply> = (0..5)
        .map(|n| Reply::tool_use(format!("toolu_{n}"), "bash", json!({"command": "ls"})))
        .collect();
    replies.push(Reply::text("Done."));
    let bed = Bed::new(replies).await;
    let log = bed.turn("Go").await;
    let count = |wanted: &str| log.iter().filter(|line| *line == wanted).count();
    assert_eq!(count("span.model_request_start"), 6);
    assert_eq!(count("session.status_running"), 1);
    assert_eq!(count("session.thread_status_running"), 1);
    assert_eq!(count("session.usage"), 1);
}

/// runtime IN-2, SQ-3: cut before the first byte, between bytes and after the last: each span is closed, no message is told.
#[tokio::test]
async fn in_2_wherever_an_answer_is_cut_its_span_is_closed() {
    for place in 0..3 {
        let gate = Gate::new();
        let reply = Reply::text("Never said.").split_into(4);
        let reply = match place {
            0 => reply.hold_headers(&gate),
            1 => reply.hold_first_token(&gate),
            _ => reply.hold_before(6, &gate),
        };
        let bed = Bed::new([reply]).await;
        bed.say("Go").await;
        gate.reached().await;
        bed.send(vec![interrupt()]).await;
        bed.idle().await;
        let log = bed.log().await;
        assert!(
            !log.iter().any(|line| line.starts_with("agent.message")),
            "{log:#?}"
        );
        let ends = log
            .iter()
            .filter(|line| line.starts_with("span.model_request_end"));
        assert_eq!(ends.count(), 1, "{log:#?}");
        assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    }
}

/// runtime ER-2, ER-3: the types of errors and what the server does next, as clients read them.
#[test]
fn er_3_errors_have_their_wire_form() {
    use SessionErrorType::*;
    let types = [
        (UnknownError, "unknown_error"),
        (ModelOverloadedError, "model_overloaded_error"),
        (ModelRateLimitedError, "model_rate_limited_error"),
        (ModelRequestFailedError, "model_request_failed_error"),
        (McpConnectionFailedError, "mcp_connection_failed_error"),
        (
            McpAuthenticationFailedError,
            "mcp_authentication_failed_error",
        ),
        (BillingError, "billing_error"),
        (
            CredentialHostUnreachableError,
            "credential_host_unreachable_error",
        ),
        (ToolUseLimitReachedError, "tool_use_limit_reached_error"),
        (
            CompactionLimitReachedError,
            "compaction_limit_reached_error",
        ),
        (
            RepositoryAuthenticationError,
            "repository_authentication_error",
        ),
        (RepositoryForbiddenError, "repository_forbidden_error"),
        (RepositoryNotFoundError, "repository_not_found_error"),
        (RepositoryCheckoutError, "repository_checkout_error"),
        (RepositoryCloneError, "repository_clone_error"),
    ];
    for (kind, name) in types {
        for (status, next) in [
            (RetryStatus::Retrying, "retrying"),
            (RetryStatus::Exhausted, "exhausted"),
            (RetryStatus::Terminal, "terminal"),
        ] {
            let error = serde_json::to_value(SessionError::new(kind, "Why.", status)).unwrap();
            let expected = json!({"type": name, "message": "Why.", "retry_status": {"type": next}});
            assert_eq!(error, expected);
        }
    }
}
