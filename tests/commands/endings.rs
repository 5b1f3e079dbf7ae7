//! `manyhands run`: how a run ends, by Ctrl-C, a budget, a failure; and what does not end it.

use manyhands_testkit::daemon::Daemon;
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::{ModelServer, Reply, Usage};
use serde_json::{Value, json};

use crate::bed::{Bed, flag, status};
use crate::terminal::Watched;
use crate::{PROGRAM, directory, reserved, run, succeeded, text};

/// runtime IN-2, IN-3
#[tokio::test]
async fn in_2_ctrl_c_interrupts_the_session_and_the_run_waits_for_its_rest() {
    let gate = Gate::new();
    let bed = Bed::with([Reply::text("Never said.").hold_first_token(&gate)]).await;
    let run = Watched::on_pipes(&bed.words(&["Do it."]));
    gate.reached().await;
    run.ctrl_c();
    let (status, said) = run.ends().await;
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(
        said.contains("idle") && said.contains("was interrupted"),
        "{said}"
    );
    assert!(!said.contains("Never said."), "{said}");
    let session = bed.only_session().await;
    assert_eq!(bed.session(&session).await["status"], "idle");
}

/// A second Ctrl-C leaves the session to itself.
#[tokio::test]
async fn a_second_ctrl_c_leaves_at_once() {
    let bed = Bed::with([Reply::tool_use(
        "toolu_1",
        "bash",
        json!({"command": "trap '' INT TERM; mkfifo gate; cat gate"}),
    )])
    .await;
    let mut run = Watched::on_pipes(&bed.words(&["Do it."]));
    run.prints("mkfifo gate").await;
    run.ctrl_c();
    run.prints("Ctrl-C again leaves it to itself").await;
    run.ctrl_c();
    let (status, said) = run.ends().await;
    assert_eq!(status.code(), Some(130), "{said}");
}

/// runtime ST-2: the run goes on where the stream broke, with the same server at the same address.
#[tokio::test]
async fn st_2_a_run_outlives_a_restart_of_the_server() {
    let gate = Gate::new();
    let model = ModelServer::with([
        Reply::text("Never said.").hold_first_token(&gate),
        Reply::text("Said after the restart."),
    ])
    .await;
    let place = reserved();
    let address = place.local_addr().expect("its address").to_string();
    let builder = Daemon::builder().binary(PROGRAM).model(&model.url());
    let mut bed = Bed {
        server: builder.listen(&address).start().await,
        model,
    };
    let mut run = Watched::on_pipes(&bed.words(&["Do it.", "--json"]));
    gate.reached().await;
    // It has the answer to its message, which is not sent a second time.
    run.prints("session.status_running").await;
    bed.server.kill9().await;
    bed.server.restart(&[]).await;
    let (status, said) = run.ends().await;
    assert!(status.success(), "{said}");
    assert_eq!(said.matches("Said after the restart.").count(), 1, "{said}");
    assert!(!said.contains("Never said."), "{said}");
}

/// runtime SE-5: a message to a session at work joins its turn or opens the next, and the run ends after that one.
#[tokio::test]
async fn se_5_a_task_for_a_session_at_work_is_waited_for() {
    let gate = Gate::new();
    let bed = Bed::with([
        Reply::text("The first.").hold_first_token(&gate),
        Reply::text("The second."),
    ])
    .await;
    let first = Watched::on_pipes(&bed.words(&["Do it."]));
    gate.reached().await;
    let session = bed.only_session().await;
    let mut second = Watched::on_pipes(&bed.words(&["--session", &session, "And this."]));
    second.prints("And this.").await;
    let mut stream = bed
        .server
        .client()
        .stream(&format!("/v1/sessions/{session}/events/stream"))
        .await;
    let listed = async || {
        let path = format!("/v1/sessions/{session}/events?types[]=user.message");
        let page = bed.server.client().get(&path).await.ok();
        page["data"].as_array().map_or(0, Vec::len)
    };
    if listed().await < 2 {
        stream.until("user.message").await;
    }
    gate.open();
    let (status, said) = second.ends().await;
    assert!(status.success() && said.contains("The second."), "{said}");
    let (status, said) = first.ends().await;
    assert!(status.success() && said.contains("The first."), "{said}");
}

/// runtime SQ-13, SQ-15
#[tokio::test]
async fn sq_13_sq_15_a_turn_that_fails_and_a_refusal_have_their_own_exit_statuses() {
    let bed = Bed::with([
        Reply::bad_request("no such thing"),
        Reply::text("No.").refusal("cyber", "not that"),
    ])
    .await;
    let failed = bed.run(&["Do it."]).await;
    let said = text(&failed.stderr);
    assert_eq!(status(&failed), Some(5), "{said}");
    let session = flag(&said, "--session ");
    let refused = bed.run(&["--session", &session, "Do that."]).await;
    assert_eq!(status(&refused), Some(6), "{}", text(&refused.stderr));
}

/// runtime BU-1, SQ-16
#[tokio::test]
async fn sq_16_a_budget_that_is_reached_has_an_exit_status_of_its_own() {
    // 400 tokens of output at $25 a million are exactly one cent.
    let dear = Usage {
        output_tokens: 400,
        ..Usage::default()
    };
    let model = ModelServer::with([Reply::text("Dear.").usage(dear)]).await;
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("manyhands.toml");
    let toml = format!(
        "[[models]]\nid = 'priced'\nprovider = 'anthropic'\nbase_url = '{}'\nkey = {{ env = 'MODEL_KEY' }}\n\
         prices = {{ input = 5, output = 25, cache_read = 0.5, cache_write = 6.25 }}\n",
        model.url()
    );
    std::fs::write(&file, toml).expect("written");
    let builder = Daemon::builder().binary(PROGRAM);
    let builder = builder
        .env("MANYHANDS_CONFIG", &file)
        .env("MODEL_KEY", "stub");
    let server = builder.start().await;
    let bed = Bed { server, model };
    let agent = bed.agent_of("priced", json!([])).await;
    let reached = bed
        .run(&["Do it.", "--agent", &agent, "--budget", "0.01"])
        .await;
    let said = text(&reached.stderr);
    assert_eq!(status(&reached), Some(4), "{said}");
    let told = text(&reached.stdout);
    assert!(told.contains("Dear.") && told.contains("$0.01"), "{told}");

    let why = |json: bool| {
        let session = flag(&said, "session ");
        let server = [bed.server.url(), directory(bed.server.data_dir())];
        let mut words = vec!["why".to_owned(), session];
        words.extend(["--url".to_owned(), server[0].to_owned()]);
        words.extend(["--data-dir".to_owned(), server[1].to_owned()]);
        words.extend(json.then(|| "--json".to_owned()));
        words
    };
    let told = run_words(&why(false)).await;
    assert!(
        told.lines().count() == 1 && told.contains("budget"),
        "{told}"
    );
    let body: Value = serde_json::from_str(&run_words(&why(true)).await).expect("JSON");
    assert_eq!(
        (body["waiting_for"].as_str(), body["sentence"].as_str()),
        (Some("client"), Some(told.trim())),
        "{body}"
    );
}

async fn run_words(words: &[String]) -> String {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    succeeded(&run(&words, &[]).await)
}
