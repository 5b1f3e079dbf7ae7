//! A wall clock that is set while sessions run (security LEASE-1): times are shown as the clock told them, and nothing waits
//! for it or is put in order by it.

use std::time::Duration;

use manyhands_testkit::clock::TestClock;
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use crate::app::{TestApp, ids, message};

const DAY: Duration = Duration::from_secs(86_400);

/// security LEASE-1, runtime LI-4, US-4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lease_1_turns_go_on_when_the_clock_is_set_back_and_forward() {
    let clock = TestClock::default();
    let app = TestApp::by(&clock).await;
    let session = app.session().await;
    app.model.push(Reply::text("One."));
    app.turn(&session, "1").await;

    // Between turns, and within one; back by a day, and forward by a year.
    clock.set_back(DAY);
    app.model.push(Reply::text("Two."));
    app.turn(&session, "2").await;
    let jumps: [fn(&TestClock); 2] = [
        |clock| clock.set_back(DAY),
        |clock| clock.advance(365 * DAY),
    ];
    for (text, jump) in ["3", "4"].into_iter().zip(jumps) {
        let gate = Gate::new();
        app.model
            .push(Reply::text("Later.").hold_first_token(&gate));
        let mut stream = app.stream(&session, "").await;
        app.send(&session, message(text)).await;
        gate.reached().await;
        jump(&clock);
        gate.open();
        stream.until_idle().await;
    }

    let events = app.events(&session).await;
    let said: Vec<&Value> = events
        .iter()
        .filter(|event| event["type"] == "user.message")
        .map(|event| &event["content"][0]["text"])
        .collect();
    assert_eq!(said, ["1", "2", "3", "4"], "positions are the order");
    let times: Vec<&str> = events
        .iter()
        .filter_map(|event| event["processed_at"].as_str())
        .collect();
    assert!(!times.is_sorted(), "times are shown as they were");
    let active = app.retrieve(&session).await["stats"]["active_seconds"]
        .as_f64()
        .expect("seconds");
    assert!((0.0..=3_601.0).contains(&active), "{active} s");
    let pages = app.client.get("/v1/sessions").await.ok();
    assert_eq!(pages["data"][0]["id"], json!(session));
    app.end().await;
}

/// security LEASE-1, MODEL-2; runtime SQ-12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lease_1_a_retry_does_not_wait_for_a_clock_that_was_set_back() {
    let clock = TestClock::default();
    let app = TestApp::by(&clock).await;
    let session = app.session().await;
    app.model.push(Reply::overloaded());
    // Scripted before the retry, which may come while this test waits for the processor.
    app.model.push(Reply::text("There."));
    let mut stream = app.stream(&session, "").await;
    app.send(&session, message("hi")).await;
    let mut events = stream.until("session.status_rescheduled").await;
    clock.set_back(DAY);
    // The next server reads in the log when to try again.
    let app = app.restarted().await;
    let mut stream = app.stream(&session, "").await;
    let running = app.retrieve(&session).await["status"] != "idle";
    if running {
        let rest = tokio::time::timeout(Duration::from_secs(60), stream.until_idle());
        events.extend(rest.await.expect("not tomorrow"));
    }
    assert_eq!(app.retrieve(&session).await["status"], "idle");
    let listed = app.events(&session).await;
    let answers = listed
        .iter()
        .filter(|event| event["type"] == "agent.message");
    assert_eq!(answers.count(), 1);
    assert_eq!(ids(&events, "session.status_rescheduled").len(), 1);
    app.end().await;
}
