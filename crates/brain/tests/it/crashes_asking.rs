//! The process dies at every durable step of a turn that asks the client, is denied, and pauses at its budget; the
//! client goes on as if nothing had happened (security §2, LOG-3).

use manyhands_protocol::agent::PermissionPolicy;
use manyhands_protocol::event::{Confirmation, EventBody};
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::{Reply, Usage};
use serde_json::{Value, json};

use crate::bed::{
    Bed, DONE, Noted, confirmation, custom_result, hold_at, message, priced_specs, system,
    tools_under,
};
use crate::budgets::{PAUSED, bash as costly_bash, capped_asleep};
use crate::crashes::{hold_step, told};

/// What the tools did to the world outside.
type Ledger = Noted<String>;

fn bash(id: &str, command: &str) -> Reply {
    Reply::tool_use(id, "bash", json!({"command": command}))
}

/// A session that asks before it runs `bash`, whose first answer costs all it may.
async fn bed(ledger: &Ledger) -> Bed {
    let mut bed = Bed::asleep([]).await;
    bed.model
        .respond_with(|request| match request.tool_results().len() {
            0 => bash("toolu_1", "a")
                .then_tool_use("toolu_2", "bash", json!({"command": "no"}))
                .then_tool_use("toolu_3", "ask_human", json!({"question": "?"}))
                .then_tool_use("toolu_4", "read", json!({"file_path": "/a"}))
                .usage(Usage {
                    input_tokens: 10,
                    ..Usage::default()
                }),
            4 => bash("toolu_5", "b"),
            _ => Reply::text("Done."),
        });
    bed.specs = priced_specs;
    bed.set_budget(Some(10)).await;
    let ask = ("bash", PermissionPolicy::AlwaysAsk {});
    bed.set_tools(tools_under(PermissionPolicy::AlwaysAllow {}, &[ask]))
        .await;
    bed.note_commands(ledger);
    bed
}

/// The answers to all calls that the session waits for.
async fn answers(bed: &Bed, asked: &[Value]) -> Vec<EventBody> {
    let mut answers = Vec::new();
    for used in bed.events("agent.tool_use").await {
        if asked.contains(&used["id"]) {
            let (word, why) = match used["input"]["command"].as_str() {
                Some("no") => (Confirmation::Deny, Some("No.")),
                _ => (Confirmation::Allow, None),
            };
            answers.push(confirmation(used["id"].as_str().unwrap(), word, why));
        }
    }
    for used in bed.events("agent.custom_tool_use").await {
        if asked.contains(&used["id"]) {
            answers.push(custom_result(used["id"].as_str().unwrap(), "yes"));
        }
    }
    answers
}

/// The client: says something, answers what it is asked, and raises the budget, until the turn is over. With a gate,
/// the process dies once it is reached.
async fn converse(bed: &mut Bed, mut crash: Option<Gate>) {
    bed.send(vec![message("Go"), system("Be careful.")]).await;
    for idles in 1.. {
        if let Some(gate) = crash.take() {
            let died = tokio::select! {
                () = gate.reached() => true,
                () = bed.seen("session.status_idle", idles) => false,
            };
            if died {
                bed.crash().await;
                bed.config.probe = None;
                bed.wake();
                bed.seen("session.status_idle", idles).await;
            } else {
                crash = Some(gate);
            }
        } else {
            bed.seen("session.status_idle", idles).await;
        }
        let idle = bed.events("session.status_idle").await.remove(idles - 1);
        let reason = &idle["stop_reason"];
        match reason["type"].as_str().unwrap() {
            "requires_action" => {
                let asked = reason["event_ids"].as_array().unwrap();
                bed.send(answers(bed, asked).await).await;
            }
            "budget_reached" => bed.set_budget(Some(1000)).await,
            _ => break,
        }
    }
    if let Some(gate) = crash {
        gate.reached().await;
        bed.crash().await;
    }
}

/// The failpoints of a turn without crashes, in order.
async fn points() -> Vec<&'static str> {
    let mut bed = bed(&Ledger::default()).await;
    let passed = bed.note_points();
    bed.wake();
    converse(&mut bed, None).await;
    bed.shut_down().await;
    std::mem::take(&mut passed.lock().unwrap())
}

/// runtime SQ-7, SQ-9, BU-4, BU-9, SE-9; security LOG-3, I3, I4
#[tokio::test]
async fn log_3_a_crash_at_every_step_of_a_turn_that_asks_and_pauses() {
    let expected = {
        let mut bed = bed(&Ledger::default()).await;
        bed.wake();
        converse(&mut bed, None).await;
        told(&bed.log().await)
    };
    let points = points().await;
    assert!(points.len() > 25, "{points:?}");
    for (step, point) in points.into_iter().enumerate() {
        let ledger = Ledger::default();
        let mut bed = bed(&ledger).await;
        let gate = Gate::new();
        bed.config.probe = Some(hold_step(step, &gate));
        bed.wake();
        converse(&mut bed, Some(gate)).await;
        assert_eq!(told(&bed.log().await), expected, "crash {step} at {point}");
        assert_eq!(
            *ledger.lock().unwrap(),
            ["a", "b"],
            "crash {step} at {point}"
        );
        bed.assert_each_call_has_one_result().await;
        bed.model.assert_clean();
    }
}

/// runtime SQ-3, BU-4, BU-9: a request that a crash cut off ends before the session rests at a cap that was reached
/// meanwhile, and is made again once there is room.
#[tokio::test]
async fn sq_3_a_pause_at_the_budget_ends_the_request_that_a_crash_cut_off() {
    let gate = Gate::new();
    let mut bed = capped_asleep(10, []).await;
    bed.model
        .respond_with(|request| match request.tool_results().len() {
            0 => costly_bash("toolu_1", 5),
            _ => Reply::text("Done."),
        });
    bed.config.probe = Some(hold_at("brain::span_started", 2, &gate));
    bed.wake();
    bed.say("Go").await;
    gate.reached().await;
    bed.crash().await;
    bed.config.probe = None;
    let before = bed.log().await.len();
    assert_eq!(bed.log().await[before - 1], "span.model_request_start");
    bed.set_budget(Some(5)).await;
    bed.wake();
    bed.seen("session.status_idle", 1).await;
    let rest = [
        &["session.updated", "span.model_request_end (error)"][..],
        &PAUSED,
    ];
    assert_eq!(bed.log().await[before..], rest.concat());
    bed.set_budget(None).await;
    bed.seen("session.status_idle", 2).await;
    let expected = [
        &[
            "session.updated",
            "session.thread_status_running",
            "session.status_running",
        ][..],
        &DONE,
    ]
    .concat();
    assert_eq!(bed.log().await[before + 5..], expected);
}
