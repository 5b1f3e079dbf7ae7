//! `manyhands run`: tasks, what is printed for people and for machines, and what can be in the way.

use manyhands_testkit::events::PLAIN_TURN;
use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use crate::bed::{Bed, status};
use crate::{PROGRAM, directory, reserved, run, succeeded, text};

#[tokio::test]
async fn a_task_is_run_and_told_and_the_next_one_uses_the_same_agent() {
    let bed = Bed::with([
        Reply::text("It is done.").split_into(3),
        Reply::text("Again."),
        Reply::text("Elsewhere."),
    ])
    .await;
    let told = succeeded(&bed.run(&["Do it."]).await);
    for part in [
        "you        Do it.",
        "agent      It is done.",
        "idle       done:",
        "sesn_",
    ] {
        assert!(told.contains(part), "{told}");
    }
    assert!(!told.contains('\x1b'), "no colours on a pipe: {told}");
    succeeded(&bed.run(&["Do it again.", "--system", "Be brief."]).await);
    assert!(bed.model.request(2).await.system().contains("Be brief."));
    for path in ["/v1/agents", "/v1/environments"] {
        let page = bed.server.client().get(path).await.ok();
        assert_eq!(page["data"].as_array().map(Vec::len), Some(1), "{page}");
    }
    let agent = bed.agent(json!([])).await;
    let told = succeeded(&bed.run(&["Now you.", "--agent", &agent]).await);
    assert!(told.contains("Elsewhere."), "{told}");
}

#[tokio::test]
async fn json_is_the_session_and_then_its_events_one_a_line() {
    let bed = Bed::with([Reply::text("It is done.").split_into(3)]).await;
    let told = succeeded(&bed.run(&["Do it.", "--json"]).await);
    let lines: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let kinds: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["type"].as_str())
        .collect();
    let (first, turn) = kinds.split_first().expect("lines");
    assert_eq!((*first, turn), ("session", &PLAIN_TURN[..]));
    assert_eq!(lines[0]["title"], "Do it.");
}

#[tokio::test]
async fn a_task_can_come_from_standard_input() {
    let bed = Bed::with([Reply::text("Read.")]).await;
    let words = bed.words(&["-"]).join(" ");
    let shell = format!("echo 'From a pipe.' | '{PROGRAM}' {words}");
    let output = tokio::process::Command::new("/bin/sh")
        .args(["-c", &shell])
        .env_remove("MANYHANDS_API_KEY")
        .output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(60), output).await;
    let told = succeeded(&output.expect("it ends").expect("it starts"));
    assert!(told.contains("Read."), "{told}");
    assert_eq!(bed.model.request(1).await.last_user_text(), "From a pipe.");
}

#[tokio::test]
async fn what_is_in_the_way_is_named() {
    let bed = Bed::with([]).await;
    let place = reserved();
    let nobody = format!("http://{}", place.local_addr().expect("its address"));
    let data = directory(bed.server.data_dir());
    let absent = bed.run(&["x", "--model", "nobody"]).await;
    assert_eq!(status(&absent), Some(1));
    assert!(
        text(&absent.stderr).contains("known models"),
        "{}",
        text(&absent.stderr)
    );
    let output = run(&["run", "x", "--url", &nobody, "--data-dir", data], &[]).await;
    assert!(
        text(&output.stderr).contains("manyhands serve"),
        "{}",
        text(&output.stderr)
    );
    let wrong = [("MANYHANDS_API_KEY", "wrong")];
    let output = run(&["run", "x", "--url", bed.server.url()], &wrong).await;
    assert!(
        text(&output.stderr).contains("401"),
        "{}",
        text(&output.stderr)
    );
    let agent = bed.agent(json!([])).await;
    let client = bed.server.client();
    let session = client.session_of(&agent).await;
    let idle = bed.run(&["--session", &session]).await;
    assert!(
        text(&idle.stderr).contains("nothing to do"),
        "{}",
        text(&idle.stderr)
    );
    client
        .post_empty(&format!("/v1/sessions/{session}/archive"))
        .await
        .ok();
    let ended = bed.run(&["--session", &session]).await;
    assert!(
        text(&ended.stderr).contains("has ended"),
        "{}",
        text(&ended.stderr)
    );
    let usage = bed.run(&[]).await;
    assert_eq!(status(&usage), Some(2));
    let fresh = bed.run(&["--session", "sesn_01none"]).await;
    assert!(
        text(&fresh.stderr).contains("404"),
        "{}",
        text(&fresh.stderr)
    );
}
