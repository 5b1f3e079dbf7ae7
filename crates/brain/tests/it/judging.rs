//! The policy `auto`: a judge decides on each call (runtime TC-8, TC-9).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use manyhands_brain::{Judge, JudgeError, Judged};
use manyhands_protocol::agent::PermissionPolicy;
use manyhands_protocol::event::{Confirmation, Judgement};
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use crate::bed::{Bed, PATIENCE, confirmation, interrupt, message, system, tools_under};

/// What a judge of the stories does about a command.
#[derive(Clone, Debug)]
enum Does {
    Finds(Judgement),
    Fails,
    Hangs(Gate),
}

/// A judge that knows what to do about each command, and remembers what it was shown.
#[derive(Clone, Debug, Default)]
struct Known {
    commands: HashMap<&'static str, Does>,
    shown: Arc<Mutex<Vec<Judged>>>,
}

#[async_trait]
impl Judge for Known {
    async fn judge(&self, call: &Judged) -> Result<Judgement, JudgeError> {
        self.shown.lock().unwrap().push(call.clone());
        let command = call.input["command"].as_str().unwrap();
        match &self.commands[command] {
            Does::Finds(judgement) => Ok(judgement.clone()),
            Does::Fails => Err("out of order".into()),
            Does::Hangs(gate) => {
                gate.pass().await;
                Ok(Judgement::Allow {})
            }
        }
    }
}

fn deny(reason: &str) -> Does {
    Does::Finds(Judgement::Deny {
        reason_code: reason.to_owned(),
    })
}

/// A session whose `bash` is judged, and a model that calls it with these commands at once, then says ok.
async fn judged(judge: Option<Known>, commands: &[&str], patience: Duration) -> Bed {
    let mut calls = Reply::tool_use("toolu_0", "bash", json!({"command": commands[0]}));
    for (index, command) in commands.iter().enumerate().skip(1) {
        let id = format!("toolu_{index}");
        calls = calls.then_tool_use(id, "bash", json!({"command": command}));
    }
    let mut bed = Bed::asleep([calls, Reply::text("ok")]).await;
    bed.set_tools(tools_under(PermissionPolicy::Auto {}, &[]))
        .await;
    bed.config.judge = judge.map(|judge| Arc::new(judge) as Arc<dyn Judge>);
    bed.config.judge_patience = patience;
    bed.wake();
    bed
}

fn judge(commands: impl IntoIterator<Item = (&'static str, Does)>) -> Known {
    Known {
        commands: commands.into_iter().collect(),
        ..Known::default()
    }
}

/// What the calls' events say: the permission and the judgement inside.
async fn evaluations(bed: &Bed) -> Vec<(Value, Value)> {
    let events = bed.events("agent.tool_use").await;
    let found = events.into_iter().map(|mut event| {
        let evaluation = event["evaluation"].take();
        assert_eq!(evaluation["type"], "auto");
        let inside = evaluation["evaluated_permission"].clone();
        (event["evaluated_permission"].take(), inside)
    });
    found.collect()
}

/// runtime TC-8, TC-4: allowed calls run, denied ones do not and nobody is asked about them.
#[tokio::test]
async fn tc_8_a_judge_allows_and_denies() {
    let known = judge([
        ("ls", Does::Finds(Judgement::Allow {})),
        ("rm", deny("high_risk")),
    ]);
    let bed = judged(Some(known), &["ls", "rm"], PATIENCE).await;
    let log = bed.turn("Go").await;
    assert_eq!(
        log[5..10],
        [
            "agent.tool_use: bash {\"command\":\"ls\"} allow",
            "agent.tool_use: bash {\"command\":\"rm\"} deny",
            "span.model_request_end",
            "agent.tool_result: Permission to use bash has been denied. (error)",
            "agent.tool_result: bash: {\"command\":\"ls\"}",
        ]
    );
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    assert_eq!(
        evaluations(&bed).await,
        [
            (json!("allow"), json!({"type": "allow"})),
            (
                json!("deny"),
                json!({"type": "deny", "reason_code": "high_risk"})
            ),
        ]
    );
    assert_eq!(bed.hands.starts().len(), 1);
    bed.assert_each_call_has_one_result().await;
}

/// runtime TC-8, TC-4: no judge, a judge that fails and one that says nothing all mean that the client is asked.
#[tokio::test]
async fn tc_8_without_a_judgement_the_client_is_asked() {
    let unsure = json!({"type": "ask", "reason_code": "indeterminate"});
    let never = Gate::new();
    let known = judge([("a", Does::Fails), ("b", Does::Hangs(never))]);
    for judge in [None, Some(known)] {
        let bed = judged(judge, &["a", "b"], Duration::from_millis(200)).await;
        let log = bed.turn("Go").await;
        assert_eq!(log.last().unwrap(), "session.status_idle: requires_action");
        for found in evaluations(&bed).await {
            assert_eq!(found, (json!("ask"), unsure.clone()));
        }
        assert_eq!(bed.hands.starts().len(), 0);
        for call in bed.events("agent.tool_use").await {
            let call = call["id"].as_str().unwrap();
            bed.send(vec![confirmation(call, Confirmation::Allow, None)])
                .await;
        }
        bed.until(|_, entries| {
            let last = entries.last().unwrap();
            &*last.type_name == "session.status_idle" && last.body.contains("end_turn")
        })
        .await;
        assert_eq!(bed.hands.starts().len(), 2);
        bed.assert_each_call_has_one_result().await;
    }
}

/// runtime TC-9: results of tools, the operator and the model itself do not speak for the user.
#[tokio::test]
async fn tc_9_a_judge_sees_what_the_user_said_and_nothing_else() {
    let known = judge([("ls", Does::Finds(Judgement::Allow {}))]);
    let shown = Arc::clone(&known.shown);
    let mut bed = Bed::asleep([
        Reply::text("I will.").then_tool_use("toolu_1", "bash", json!({"command": "ls"})),
        Reply::tool_use("toolu_2", "bash", json!({"command": "ls"})),
        Reply::text("ok"),
    ])
    .await;
    bed.set_tools(tools_under(PermissionPolicy::Auto {}, &[]))
        .await;
    bed.config.judge = Some(Arc::new(known));
    bed.wake();
    bed.send(vec![
        message("List the files."),
        message("Be quick."),
        system("Allow all."),
    ])
    .await;
    bed.seen("session.status_idle", 1).await;
    let shown = shown.lock().unwrap().clone();
    assert_eq!(shown.len(), 2);
    for judged in shown {
        assert_eq!(judged.said, ["List the files.", "Be quick."]);
        assert_eq!(
            (judged.session, judged.tool.as_str()),
            (bed.session.clone(), "bash")
        );
    }
}

/// runtime IN-2, TC-8: an interrupt does not wait for a judge.
#[tokio::test]
async fn in_2_an_interrupt_ends_the_wait_for_a_judge() {
    let (reached, never) = (Gate::new(), Gate::new());
    let known = judge([
        ("a", Does::Hangs(reached.clone())),
        ("b", Does::Hangs(never)),
    ]);
    let bed = judged(Some(known), &["a", "b"], PATIENCE).await;
    bed.say("Go").await;
    reached.reached().await;
    bed.send(vec![interrupt()]).await;
    bed.idle().await;
    let log = bed.log().await;
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    assert_eq!(bed.hands.starts().len(), 0);
    bed.turn("Go on").await;
    bed.assert_each_call_has_one_result().await;
}

/// security I4, runtime TC-8: nothing was judged in the log when the process died, so it is asked and judged again.
#[tokio::test]
async fn us_7_a_crash_during_judging_asks_the_model_again() {
    let gate = Gate::new();
    let known = judge([("a", Does::Hangs(gate.clone()))]);
    let mut bed = Bed::asleep([
        Reply::tool_use("toolu_0", "bash", json!({"command": "a"})),
        Reply::tool_use("toolu_0", "bash", json!({"command": "a"})),
        Reply::text("ok"),
    ])
    .await;
    bed.set_tools(tools_under(PermissionPolicy::Auto {}, &[]))
        .await;
    bed.config.judge = Some(Arc::new(known));
    bed.wake();
    bed.say("Go").await;
    gate.reached().await;
    bed.crash().await;
    gate.open();
    bed.wake();
    bed.idle().await;
    assert_eq!(bed.hands.starts().len(), 1);
    assert_eq!(bed.events("agent.tool_use").await.len(), 1);
    bed.model.assert_done();
    bed.assert_each_call_has_one_result().await;
}
