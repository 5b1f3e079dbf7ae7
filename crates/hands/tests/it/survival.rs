//! A sandbox outlives the server that started it, and its calls do.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use manyhands_hands::provider::namespace::{Config, Namespace};
use manyhands_hands::{Call, Output, Provider};

use crate::host::{Host, call, program, run, until_gone};

/// Another process that starts a call in a sandbox of `host` and stays until it is killed; with its instance.
fn server(host: &Host, session: &str, call_id: &str, command: &str) -> (Child, String) {
    let mut child = Command::new(program("examples/sandbox"))
        .arg(host.data.path())
        .args([session, call_id, command, "--hold", "yes"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let instance = line
        .split(' ')
        .nth(1)
        .unwrap_or_else(|| panic!("{line}"))
        .to_owned();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    (child, instance)
}

#[tokio::test]
async fn i4_a_call_survives_kill_9_of_the_server_and_runs_once() {
    let host = Host::new();
    let command = "echo line >> ledger; sleep 0.5; wc -l < ledger";
    let (mut child, instance) = server(&host, "sesn_a", "call", command);
    child.kill().unwrap();
    child.wait().unwrap();

    let sandbox = host
        .provider
        .find("sesn_a")
        .await
        .unwrap()
        .expect("the sandbox lives");
    assert_eq!(sandbox.instance(), instance);
    let again = Call {
        epoch: 2,
        ..call("call", command)
    };
    assert_eq!(sandbox.execute(&again).await.unwrap(), Output::text("1"));
    // A third server gets the stored result.
    let third = Namespace::new(Config::new(host.data.path()));
    let sandbox = third
        .find("sesn_a")
        .await
        .unwrap()
        .expect("the sandbox lives");
    assert_eq!(
        sandbox.execute(&Call { epoch: 3, ..again }).await.unwrap(),
        Output::text("1")
    );
}

#[tokio::test]
async fn a_server_that_comes_later_can_end_what_another_started() {
    let host = Host::new();
    let (mut child, _) = server(&host, "sesn_a", "call", "sleep 100000");
    child.kill().unwrap();
    child.wait().unwrap();
    let pid = host.process("sesn_a").unwrap();
    host.provider.destroy("sesn_a").await.unwrap();
    until_gone(pid);
    assert!(!host.folder("sesn_a").exists());
}

#[tokio::test]
async fn a_record_of_another_start_is_not_taken_for_this_one() {
    let host = Host::new();
    let first = host.sandbox("sesn_a").await;
    let pid = host.process("sesn_a").unwrap();
    // As if the server had ended between writing the next record and starting what it is about.
    let path = host.folder("sesn_a").join("record.json");
    let record = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, record.replace(first.instance(), "another")).unwrap();
    let later = Namespace::new(Config::new(host.data.path()));
    assert!(later.find("sesn_a").await.unwrap().is_none());
    until_gone(pid);
    let next = host.sandbox("sesn_a").await;
    assert_ne!(next.instance(), first.instance());
    assert_eq!(run(&next, "echo fine").await, Output::text("fine"));
}
