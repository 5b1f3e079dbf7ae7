//! Commands whose output nobody reads to its end.

use std::time::Duration;

use manyhands_testkit::model::Reply;

use crate::bed::{Bed, asking_bash, status};
use crate::{PROGRAM, directory, run, text};

/// The status of a command whose output, and whose words beside it where `both`, nobody reads, and what it said.
async fn unread(args: &[&str], both: bool) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = tokio::process::Command::new(PROGRAM);
    command.args(args).env_clear().kill_on_drop(true);
    for name in ["PATH", "HOME"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    if both {
        command.stderr(writer.try_clone().expect("a pipe"));
    } else {
        command.stderr(std::process::Stdio::piped());
    }
    command.stdout(writer);
    let child = command.spawn().expect("it starts");
    let ended = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await;
    let output = ended.expect("it ends").expect("it started");
    (output.status.code(), text(&output.stderr))
}

/// What was found out stays the status.
#[tokio::test]
async fn a_closed_pipe_ends_the_printing_and_not_the_command() {
    let bed = Bed::with([Reply::text("Done."), Reply::text("Done again.")]).await;
    let agent = bed.agent(asking_bash()).await;
    let asked = bed.run(&["Do it.", "--agent", &agent]).await;
    assert_eq!(status(&asked), Some(0), "{}", text(&asked.stderr));
    let session = bed.only_session().await;
    let folder = tempfile::tempdir().expect("a directory");
    let data = directory(bed.server.data_dir());
    let (file, second) = (folder.path().join("first"), folder.path().join("second"));
    let (file, second) = (directory(&file), directory(&second));
    let (target, garbage) = (folder.path().join("data"), folder.path().join("garbage"));
    std::fs::write(&garbage, "no database ".repeat(1000)).expect("written");
    let (target, garbage) = (directory(&target), directory(&garbage));
    let made = run(&["backup", file, "--data-dir", data], &[]).await;
    assert_eq!(status(&made), Some(0), "{}", text(&made.stderr));
    for (args, expected) in [
        (&["config", "--data-dir", data][..], 0),
        (&["verify", "--data-dir", data], 0),
        (&["verify", garbage], 2),
        (&["verify", garbage, "--json"], 2),
        (&["audit", "--data-dir", data], 0),
        (&["doctor", "--data-dir", data], 0),
        (&["keys", "list", "--data-dir", data], 0),
        (&["keys", "create", "laptop", "--data-dir", data], 0),
        (&["environment-keys", "list", "--data-dir", data], 0),
        (&["workspaces", "list", "--data-dir", data], 0),
        (&["egress", "log", &session, "--data-dir", data], 0),
        (&["egress", "log", &session, "--data-dir", target], 1),
        (&["backup", second, "--data-dir", data], 0),
        (&["restore", file, "--data-dir", target], 0),
        (
            &[
                "why",
                &session,
                "--url",
                bed.server.url(),
                "--data-dir",
                data,
            ],
            0,
        ),
        (&bed.words(&["Again.", "--agent", &agent]), 0),
    ] {
        let (status, said) = unread(args, false).await;
        assert_eq!(status, Some(expected), "{args:?}: {said}");
        assert!(!said.contains("panicked"), "{args:?}: {said}");
    }
    // Neither is there anybody to be told so.
    for (args, expected) in [
        (&["verify", garbage][..], 2),
        (&["backup", file, "--data-dir", data], 1),
        (&["keys", "create", "desk", "--data-dir", data], 0),
    ] {
        assert_eq!(unread(args, true).await.0, Some(expected), "{args:?}");
    }
}
