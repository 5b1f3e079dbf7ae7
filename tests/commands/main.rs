//! The program's commands, run as a person runs them.

mod answers;
mod backup;
mod bed;
mod endings;
mod pipes;
mod readings;
mod run;
mod terminal;
mod verify;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use manyhands_testkit::daemon::Daemon;
use manyhands_testkit::events::EventStream;
use manyhands_testkit::http::Client;
use serde_json::{Value, json};
use tokio::net::TcpSocket;

const PROGRAM: &str = env!("CARGO_BIN_EXE_manyhands");

async fn server() -> Daemon {
    Daemon::builder().binary(PROGRAM).start().await
}

/// Runs a command to its end, with nothing of this test's environment but what programs need.
async fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = tokio::process::Command::new(PROGRAM);
    command
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .kill_on_drop(true);
    for name in ["PATH", "HOME"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    let ended = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
    ended.expect("it ends").expect("it starts")
}

/// An address at which nobody listens. As long as this lives, only who asks for it by its number gets it.
fn reserved() -> TcpSocket {
    let place = TcpSocket::new_v4().expect("a socket");
    place.set_reuseaddr(true).expect("set");
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    place.bind(any).expect("a free port");
    place
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// What a command said that refused: an error on one line and a hint on another.
#[track_caller]
fn refused(output: &Output) -> String {
    let said = text(&output.stderr);
    assert!(!output.status.success(), "{said}");
    let lines = |start: &str| said.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!((lines("error: "), lines("hint: ")), (1, 1), "{said}");
    said
}

fn directory(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

async fn open_stream(client: &Client) -> EventStream {
    let agent = json!({"name": "a", "model": "scripted"});
    let agent = client.make("/v1/agents", &agent).await;
    let id = client.session_of(&agent).await;
    client
        .stream(&format!("/v1/sessions/{id}/events/stream"))
        .await
}

#[tokio::test]
async fn serve_shows_its_key_once_and_stops_within_two_seconds() {
    let mut server = server().await;
    let key = server.api_key();
    assert_eq!(server.output().matches(&key).count(), 1);
    assert!(
        server
            .output()
            .contains(&format!("listening on {}", server.url()))
    );
    let mut stream = open_stream(&server.client()).await;
    let began = Instant::now();
    assert!(server.interrupt().await.success());
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert!(stream.next().await.is_none());

    server.restart(&[]).await;
    assert!(!server.output().contains(&key));
    assert_eq!(
        server
            .output()
            .matches("claude-* is answered by a script")
            .count(),
        1,
        "{}",
        server.output()
    );
    let _stream = open_stream(&server.client()).await;
    let began = Instant::now();
    assert!(server.terminate().await.success());
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn serve_says_what_is_in_the_way() {
    let server = server().await;
    let data = directory(server.data_dir());
    let other = tempfile::tempdir().expect("a directory");
    let address = server.url().trim_start_matches("http://");

    let said = refused(
        &run(
            &["serve", "--listen", "127.0.0.1:0", "--data-dir", data],
            &[],
        )
        .await,
    );
    assert!(
        said.contains(&format!("process {}", server.pid())),
        "{said}"
    );

    let said = refused(
        &run(
            &[
                "serve",
                "--listen",
                address,
                "--data-dir",
                directory(other.path()),
            ],
            &[],
        )
        .await,
    );
    assert!(said.contains(&format!("{address} is in use")), "{said}");

    let url = format!(
        "postgres://me:hunter2@localhost/db?host={}",
        directory(other.path())
    );
    let env = [("MANYHANDS_DATABASE_URL", url.as_str())];
    let said = refused(
        &run(
            &[
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--data-dir",
                directory(other.path()),
            ],
            &env,
        )
        .await,
    );
    assert!(
        said.contains("PostgreSQL") && !said.contains("hunter2"),
        "{said}"
    );
}

#[tokio::test]
async fn keys_are_kept_with_and_without_a_running_server() {
    let mut server = server().await;
    let data = server.data_dir().to_owned();
    let data = directory(&data);
    let keys = async |args: &[&str]| {
        let all: Vec<&str> = ["keys"]
            .iter()
            .chain(args)
            .chain(&["--data-dir", data])
            .copied()
            .collect();
        run(&all, &[]).await
    };
    let made = succeeded(&keys(&["create", "laptop"]).await);
    let key = made.trim();
    assert!(key.starts_with("mh_key_"), "{key}");
    let client = Client::with_key(server.url(), key);
    client.get("/v1/agents").await.ok();
    let listed = succeeded(&keys(&["list"]).await);
    assert!(
        listed.contains("laptop") && !listed.contains(key),
        "{listed}"
    );
    let id = listed
        .lines()
        .find(|line| line.contains("laptop"))
        .and_then(|line| line.split_whitespace().next());
    let id = id.expect("an id").to_owned();
    succeeded(&keys(&["revoke", &id]).await);
    client
        .get("/v1/agents")
        .await
        .error(401, "authentication_error");

    server.terminate().await;
    let second = succeeded(&keys(&["create", "offline"]).await);
    assert!(!keys(&["revoke", "apikey_01none"]).await.status.success());
    let listed = succeeded(&keys(&["list"]).await);
    assert!(
        listed
            .lines()
            .any(|line| line.contains(&id) && line.contains("revoked")),
        "{listed}"
    );
    server.restart(&[]).await;
    Client::with_key(server.url(), second.trim())
        .get("/v1/agents")
        .await
        .ok();

    let nowhere = tempfile::tempdir()
        .expect("a directory")
        .path()
        .join("none");
    refused(&run(&["keys", "list", "--data-dir", directory(&nowhere)], &[]).await);
}

#[tokio::test]
async fn config_shows_what_holds_and_no_secret() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("manyhands.toml");
    let toml = "listen = '127.0.0.1:1'\n[[models]]\nid = 'm'\nprovider = 'anthropic'\nkey = { env = 'MODEL_KEY' }\n";
    std::fs::write(&file, toml).expect("written");
    let env = [
        ("MODEL_KEY", "sk-hunter2"),
        ("MANYHANDS_CONFIG", directory(&file)),
        ("MANYHANDS_LISTEN", "127.0.0.1:2"),
        (
            "MANYHANDS_DATABASE_URL",
            "postgres://me:hunter2@db.example/x",
        ),
    ];
    let shown = succeeded(&run(&["config"], &env).await);
    assert!(
        shown.contains("listen = \"127.0.0.1:2\""),
        "a variable wins over the file: {shown}"
    );
    let shown = succeeded(&run(&["config", "--listen", "127.0.0.1:3"], &env).await);
    assert!(
        shown.contains("listen = \"127.0.0.1:3\""),
        "a flag wins over both: {shown}"
    );
    assert!(
        shown.contains("key = \"(set)\"") && !shown.contains("hunter2"),
        "{shown}"
    );

    std::fs::write(&file, "listne = '127.0.0.1:1'\n").expect("written");
    let output = run(&["config"], &env).await;
    let said = text(&output.stderr);
    assert!(
        !output.status.success() && said.contains("line 1: unknown field `listne`"),
        "{said}"
    );
}

#[tokio::test]
async fn doctor_says_what_works_and_what_to_do() {
    let mut server = server().await;
    let data = server.data_dir().to_owned();
    let data = directory(&data);
    let doctor = async |env: &[(&str, &str)]| {
        let output = run(&["doctor", "--json", "--data-dir", data], env).await;
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(output.status.success(), report["ok"] == true, "{report}");
        report
    };
    fn verdict(report: &Value, name: &str) -> String {
        let checks = report["checks"].as_array().expect("a list");
        let check = checks.iter().find(|check| check["name"] == name);
        check.map_or("absent".to_owned(), |check| {
            check["verdict"].as_str().expect("a verdict").to_owned()
        })
    }
    let report = doctor(&[]).await;
    assert_eq!(verdict(&report, "server"), "ok", "{report}");
    assert_eq!(verdict(&report, "sandbox"), "ok", "{report}");
    assert_eq!(verdict(&report, "model claude-*"), "note", "{report}");
    assert_eq!(verdict(&report, "way out"), "ok", "{report}");

    server.terminate().await;
    let report = doctor(&[
        ("ANTHROPIC_API_KEY", "sk-hunter2"),
        ("MANYHANDS_ANTHROPIC_BASE_URL", "http://127.0.0.1:1"),
    ])
    .await;
    assert_eq!(
        (verdict(&report, "store"), verdict(&report, "key")),
        ("ok".to_owned(), "ok".to_owned()),
        "{report}"
    );
    assert_eq!(verdict(&report, "model claude-*"), "fail", "{report}");
    assert!(!report.to_string().contains("hunter2"), "{report}");
}

/// LOG-3: a crash while the first key is made leaves a start that works, with a key that works.
#[cfg(feature = "failpoints")]
#[tokio::test]
async fn a_crash_while_the_first_key_is_made_is_mended_by_the_next_start() {
    for place in ["server::first_key_written", "server::first_key_stored"] {
        let dir = tempfile::tempdir().expect("a directory");
        let builder = || Daemon::builder().binary(PROGRAM).data_dir(dir.path());
        let crashed = builder()
            .env("FAILPOINTS", format!("{place}=panic"))
            .try_start()
            .await;
        assert!(crashed.is_err(), "{place}");
        let server = builder().start().await;
        server.client().get("/v1/agents").await.ok();
    }
}
