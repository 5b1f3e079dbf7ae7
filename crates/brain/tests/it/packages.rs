//! Sessions whose environments list packages.

use manyhands_testkit::model::Reply;
use serde_json::json;

use crate::bed::Bed;

/// Hands that install nothing stand for a failed installation.
#[tokio::test]
async fn en_9_packages_that_cannot_be_installed_are_told_once_and_the_session_goes_on() {
    let call = |id: &str| Reply::tool_use(id, "bash", json!({"command": "ls"}));
    let mut bed = Bed::asleep([
        call("toolu_1"),
        Reply::text("Done."),
        call("toolu_2"),
        Reply::text("Done again."),
    ])
    .await;
    bed.set_packages(|packages| packages.pip.push("requests".to_owned()))
        .await;
    bed.wake();
    let log = bed.turn("Look").await;
    let error = "session.error";
    let position = |word: &str| log.iter().position(|line| line.starts_with(word));
    assert!(
        position("span.model_request_end") < position(error)
            && position(error) < position("agent.tool_result"),
        "{log:?}"
    );
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    let errors = bed.events(error).await;
    assert_eq!(errors.len(), 1);
    let told = &errors[0]["error"];
    assert_eq!(
        (&told["type"], &told["retry_status"]["type"]),
        (&json!("unknown_error"), &json!("retrying"))
    );
    let message = told["message"].as_str().unwrap();
    assert!(
        message.contains("packages are not installed") && message.contains("pip"),
        "{message}"
    );

    let results = bed.model.request(2).await.tool_results();
    assert!(!results[0].is_error);
    assert!(
        results[0].text.starts_with(&format!("[{message}]"))
            && results[0].text.ends_with("{\"command\":\"ls\"}"),
        "{}",
        results[0].text
    );
    bed.turn("Again").await;
    assert_eq!(bed.events(error).await.len(), 1, "the same is said once");
    bed.assert_each_call_has_one_result().await;
}
