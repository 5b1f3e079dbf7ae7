//! Sandboxes that are not what they were, and those that are made ahead (runtime EN-18, EN-19, AR-3).

use manyhands_brain::Provisioning;
use manyhands_hands::provider::Origin;
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::Reply;
use serde_json::json;

use crate::bed::{Bed, PATIENCE, hold_at};

fn call(id: &str) -> Reply {
    Reply::tool_use(id, "bash", json!({"command": "ls"}))
}

/// Runs two turns with a call each; `between` is what becomes of the sandbox. What the model reads of the second.
async fn second_result(between: impl AsyncFnOnce(&Bed)) -> String {
    let replies = [
        call("toolu_1"),
        Reply::text("Done."),
        call("toolu_2"),
        Reply::text("Done."),
        call("toolu_3"),
        Reply::text("Done."),
    ];
    let mut bed = Bed::asleep(replies).await;
    bed.hands.start_from(Origin::New { expired: false });
    bed.wake();
    bed.turn("Look").await;
    let first = bed.model.request(2).await.tool_results();
    assert_eq!(
        first[0].text, "bash: {\"command\":\"ls\"}",
        "there was nothing to lose"
    );
    between(&bed).await;
    bed.turn("Again").await;
    let second = bed.model.request(4).await.tool_results();
    assert!(
        second[0].text.ends_with("{\"command\":\"ls\"}"),
        "{}",
        second[0].text
    );
    bed.turn("Again").await;
    let third = bed.model.request(6).await.tool_results();
    assert_eq!(
        third[0].text, "bash: {\"command\":\"ls\"}",
        "it is said once"
    );
    second[0].text.clone()
}

/// security TOOL-3.
#[tokio::test]
async fn en_19_a_model_is_told_that_its_files_are_gone() {
    let told = second_result(async |bed| bed.hands.lose(bed.session.as_str())).await;
    assert!(told.contains("was lost, with all files in it"), "{told}");
}

/// runtime EN-18, LC-17: the sandbox's state is gone after its time, and the session goes on with its history.
#[tokio::test]
async fn en_18_a_model_is_told_that_its_sandbox_was_too_old() {
    let told = second_result(async |bed| {
        bed.hands.lose(bed.session.as_str());
        bed.hands.start_from(Origin::New { expired: true });
    });
    let told = told.await;
    assert!(told.contains("too old to go on with"), "{told}");
}

/// Another host had the files before, and a call was begun since.
#[tokio::test]
async fn en_19_a_model_is_told_that_its_newest_files_may_be_missing() {
    let told = second_result(async |bed| {
        bed.hands.lose(bed.session.as_str());
        bed.hands.start_from(Origin::Kept { epoch: 0 });
    });
    let told = told.await;
    assert!(
        told.contains("files written since then may be missing"),
        "{told}"
    );
}

#[tokio::test]
async fn en_19_where_nothing_can_be_missing_nothing_is_said() {
    let told = second_result(async |bed| {
        bed.hands.lose(bed.session.as_str());
        bed.hands.start_from(Origin::Kept { epoch: i64::MAX });
    });
    assert_eq!(told.await, "bash: {\"command\":\"ls\"}");
}

/// security LOG-2, invariant I4: an intent that names the living sandbox is no sign of another host, though nothing of it has run.
#[tokio::test]
async fn log_2_a_call_that_was_intended_for_the_living_sandbox_runs_there() {
    let mut bed = Bed::asleep([]).await;
    bed.model
        .respond_with(|request| match request.messages().len() {
            1 => call("toolu_1"),
            _ => Reply::text("Done."),
        });
    bed.hands.start_from(Origin::Kept { epoch: 0 });
    let gate = Gate::new();
    bed.config.probe = Some(hold_at("brain::intended", 1, &gate));
    bed.die_on("Look", &gate).await;
    bed.idle().await;
    let results = bed.events("agent.tool_result").await;
    assert_eq!(results.len(), 1);
    assert_eq!(
        results[0]["content"][0]["text"],
        "bash: {\"command\":\"ls\"}"
    );
    assert_eq!(bed.hands.starts().len(), 1);
}

/// runtime AR-3: a sandbox that takes long to start delays no answer, whether it is made for a call or ahead.
#[tokio::test]
async fn ar_3_no_request_waits_for_a_sandbox() {
    for provisioning in [Provisioning::AtFirstCall, Provisioning::BesideFirstRequest] {
        let mut bed =
            Bed::asleep([Reply::text("Hello."), call("toolu_1"), Reply::text("Done.")]).await;
        bed.config.provisioning = provisioning;
        let held = bed.hands.hold_starts().await;
        bed.wake();
        let log = bed.turn("Hi").await;
        assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
        assert_eq!(bed.hands.provisions(), 0);
        drop(held);
        let ahead = async {
            while bed.hands.provisions() == 0 {
                tokio::task::yield_now().await;
            }
        };
        if provisioning == Provisioning::BesideFirstRequest {
            tokio::time::timeout(PATIENCE, ahead)
                .await
                .expect("it is made without a call");
        }
        bed.turn("Look").await;
        assert_eq!(bed.hands.provisions(), 1);
    }
}

/// For comparison only: the first request comes after the sandbox.
#[tokio::test]
async fn ar_3_provisioning_first_makes_the_first_request_wait() {
    let mut bed = Bed::asleep([Reply::text("Hello.")]).await;
    bed.config.provisioning = Provisioning::BeforeFirstRequest;
    let gate = Gate::new();
    bed.config.probe = Some(hold_at("brain::provision", 1, &gate));
    bed.wake();
    bed.say("Hi").await;
    gate.reached().await;
    assert!(bed.model.requests().is_empty(), "it waits for the sandbox");
    gate.open();
    bed.idle().await;
    assert_eq!(bed.hands.provisions(), 1);
    assert_eq!(bed.model.requests().len(), 1);
}
