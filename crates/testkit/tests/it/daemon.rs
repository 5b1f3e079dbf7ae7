//! A server that does not come up says why. (Servers that do are the stories of other crates.)

use std::path::PathBuf;
use std::process::Command;

use manyhands_testkit::daemon::Daemon;

/// A program that fails as a server would, having printed its arguments.
fn program(folder: &tempfile::TempDir) -> PathBuf {
    let [words, path] = ["words", "server"].map(|name| folder.path().join(name));
    let text = "#!/bin/sh\necho \"args $*\"\necho \"key ${ANTHROPIC_API_KEY-none}\" >&2\nexit 3\n";
    std::fs::write(&words, text).unwrap();
    // By another process: a child that a test beside this one forks would hold what is written open, and that cannot be run.
    let mut install = Command::new("install");
    let installed = install.args([&words, &path]).status().unwrap();
    assert!(installed.success());
    path
}

#[tokio::test]
async fn a_server_that_ends_early_is_an_error_with_its_words() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let builder = Daemon::builder().binary(program(&folder)).data_dir(&data);
    let failed = builder.arg("--verbose").try_start().await.unwrap_err();
    assert_eq!(failed.status.code(), Some(3));
    let args = format!(
        "args serve --listen 127.0.0.1:0 --data-dir {} --verbose\n",
        data.display()
    );
    assert!(failed.output.contains(&args), "{failed}");
    assert!(failed.output.contains("key none\n"), "{failed}");
}

#[tokio::test]
#[should_panic(expected = "key stub")]
async fn start_panics_with_what_was_said() {
    let folder = tempfile::tempdir().unwrap();
    let builder = Daemon::builder().binary(program(&folder));
    builder.model("http://127.0.0.1:1").start().await;
}
