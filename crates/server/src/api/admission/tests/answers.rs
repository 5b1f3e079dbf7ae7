//! Answers to calls: results and confirmations.

use super::*;

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
