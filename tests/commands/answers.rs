//! `manyhands run`: calls that wait for an answer, by flags and from a person at a terminal.

use manyhands_testkit::model::Reply;
use serde_json::json;

use crate::bed::{Bed, asking_bash, flag, lookup, status};
use crate::terminal::Watched;
use crate::{succeeded, text};

/// runtime SQ-7, TC-7
#[tokio::test]
async fn sq_7_without_a_terminal_a_call_that_asks_ends_the_run_and_flags_answer_it() {
    let call = |id: &str| Reply::tool_use(id, "bash", json!({"command": "echo did > it"}));
    let bed = Bed::with([
        call("toolu_1"),
        call("toolu_2").then_tool_use("toolu_3", "bash", json!({"command": "cat it"})),
        Reply::text("Finished."),
    ])
    .await;
    let agent = bed.agent(asking_bash()).await;
    let asked = bed.run(&["Do it.", "--agent", &agent]).await;
    let said = text(&asked.stderr);
    assert_eq!(status(&asked), Some(3), "{said}");
    assert!(
        said.contains("waits for an answer to a tool call"),
        "{said}"
    );
    assert!(said.contains("for bash: echo did > it"), "{said}");

    let session = flag(&said, "--session ");
    let asked = bed
        .run(&[
            "--session",
            &session,
            "--deny",
            &flag(&said, "--deny "),
            "--reason",
            "Not yet.",
        ])
        .await;
    let said = text(&asked.stderr);
    assert_eq!(status(&asked), Some(3), "{said}");
    let results = bed.model.request(2).await.tool_results();
    assert!(
        results[0].is_error && results[0].text.contains("Not yet."),
        "{results:?}"
    );
    assert!(said.contains("waits for 2 answers to tool calls"), "{said}");

    // Without answers the same is said again, and nothing is sent.
    let again = bed.run(&["--session", &session, "And?"]).await;
    assert_eq!(
        (status(&again), text(&again.stderr)),
        (Some(3), said.clone())
    );

    let first = flag(&said, "--allow ");
    let partly = bed.run(&["--session", &session, "--allow", &first]).await;
    let said = text(&partly.stderr);
    assert_eq!(status(&partly), Some(3), "{said}");
    assert!(
        said.contains("for bash: cat it") && !said.contains(&first),
        "{said}"
    );

    let told = succeeded(&bed.run(&["--session", &session, "--yes"]).await);
    assert!(told.contains("Finished."), "{told}");
    let results = bed.model.request(3).await.tool_results();
    assert_eq!(results[1].text.trim(), "did", "{results:?}");
}

/// runtime SQ-10
#[tokio::test]
async fn sq_10_the_result_of_a_custom_tool_is_given_by_a_flag() {
    let bed = Bed::with([
        Reply::tool_use("toolu_1", "lookup", json!({"word": "hand"})),
        Reply::text("Found."),
    ])
    .await;
    let agent = bed.agent(lookup()).await;
    let asked = bed.run(&["Look it up.", "--agent", &agent, "--yes"]).await;
    let said = text(&asked.stderr);
    assert_eq!(status(&asked), Some(3), "{said}");
    let answer = format!("{}=five fingers", flag(&said, "--result "));
    let told = succeeded(
        &bed.run(&["--session", &flag(&said, "--session "), "--result", &answer])
            .await,
    );
    assert!(
        told.contains("│ five fingers") && told.contains("Found."),
        "{told}"
    );
    assert_eq!(
        bed.model.request(2).await.tool_results()[0].text,
        "five fingers"
    );
}

/// runtime TC-7
#[tokio::test]
async fn tc_7_a_person_at_a_terminal_is_asked() {
    let call = |id: &str, command: &str| Reply::tool_use(id, "bash", json!({"command": command}));
    let bed = Bed::with([
        call("toolu_1", "echo one"),
        call("toolu_2", "echo two"),
        call("toolu_3", "echo three"),
        Reply::text("Finished."),
    ])
    .await;
    let agent = bed.agent(asking_bash()).await;
    let mut person = Watched::on_terminal(&bed.words(&["Do it.", "--agent", &agent]));
    person.prints("allow bash: echo one?").await;
    person.types("y");
    person.prints("allow bash: echo two?").await;
    person.types("n");
    person.prints("allow bash: echo three?").await;
    person.types("there is no three");
    let (status, said) = person.ends().await;
    assert!(status.success(), "{said}");
    assert!(
        said.contains("\x1b[1;36magent\x1b[0m"),
        "colours on a terminal: {said}"
    );
    let first = bed.model.request(2).await.tool_results();
    assert_eq!((first[0].text.trim(), first[0].is_error), ("one", false));
    assert!(bed.model.request(3).await.tool_results()[0].is_error);
    let third = bed.model.request(4).await.tool_results();
    assert!(third[0].text.contains("there is no three"), "{third:?}");
}
