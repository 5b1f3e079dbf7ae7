//! The policy `auto` with a model as its judge (runtime TC-8, TC-9).

use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use crate::app::{TestApp, sqlite};

const GUARD: &str = "claude-haiku-5-5";

/// runtime TC-8, TC-9, TC-4
#[tokio::test]
async fn tc_8_a_model_judges_each_call() {
    let app = TestApp::with(|config| config.judge = Some(GUARD.to_owned())).await;
    app.model.respond_with(|request| {
        let asked = request.last_user_text();
        if request.model() != GUARD {
            let call =
                |id: &str, command: &str| Reply::tool_use(id, "bash", json!({"command": command}));
            return match request.tool_results().len() {
                0 => {
                    call("toolu_1", "ls").then_tool_use("toolu_2", "bash", json!({"command": "rm"}))
                }
                _ => Reply::text("Done."),
            };
        }
        let question: Value = serde_json::from_str(&asked).expect("a question");
        assert_eq!(question["user"], json!(["List them."]));
        Reply::text(if question["call"]["input"]["command"] == "ls" {
            "allow"
        } else {
            "deny"
        })
    });
    let tools = json!([{"type": "agent_toolset_20260401",
        "default_config": {"permission_policy": {"type": "auto"}}}]);
    let session = app.session_of(&app.agent_with(tools).await).await;
    let events = app.turn(&session, "List them.").await;
    let of_kind = |kind: &str| -> Vec<Value> {
        let found = events.iter().filter(|event| event.kind() == kind);
        found.map(|event| event.data.clone()).collect()
    };
    let found: Vec<Value> = of_kind("agent.tool_use")
        .into_iter()
        .map(|mut used| used["evaluation"].take())
        .collect();
    assert_eq!(
        found,
        [
            json!({"type": "auto", "evaluated_permission": {"type": "allow"}}),
            json!({"type": "auto", "evaluated_permission": {"type": "deny", "reason_code": "high_risk"}}),
        ]
    );
    let denied = "Permission to use bash has been denied.";
    let results = of_kind("agent.tool_result");
    assert!(
        results
            .iter()
            .any(|result| result["content"][0]["text"] == denied)
    );
    assert_eq!(app.hands.starts().len(), 1);
    let usage = &app.retrieve(&session).await["usage"]["input_tokens"];
    assert_eq!(
        *usage, 24,
        "two requests of the agent; the judge's are the operator's"
    );
    app.end().await;
}

/// runtime TC-8: a judge that cannot be asked is said at the start, not at the first call.
#[tokio::test]
async fn tc_8_a_judge_without_a_model_stops_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let model = manyhands_testkit::model::ModelServer::start().await;
    let mut config = crate::app::config(&dir, sqlite(&dir), &model);
    config.judge = Some("nobody".to_owned());
    let started = manyhands_server::Server::start(config, Default::default()).await;
    let error = started.err().expect("refused").to_string();
    assert!(error.contains("permissions.judge"), "{error}");
}
