//! What is taken at the cost cap.

use super::*;

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
