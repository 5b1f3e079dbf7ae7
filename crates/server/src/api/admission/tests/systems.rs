//! System messages: where they may stand, and what they start.

use super::*;

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
