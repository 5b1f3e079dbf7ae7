//! A sandbox outlives the server that started it, and its calls do; servers that share a data directory share its sandboxes.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use manyhands_hands::provider::namespace::{Config, Namespace};
use manyhands_hands::{Call, Error, Output, Provider, Recipe};

use crate::host::{Host, IDLE, call, pass, program, run, text, until_given_up, until_gone};

/// Another process that starts a call in a sandbox of `host` and stays until it is killed; with its instance.
pub(crate) fn server(host: &Host, session: &str, call_id: &str, command: &str) -> (Child, String) {
    server_with(host, session, call_id, command, &[])
}

/// The same with more options.
pub(crate) fn server_with(
    host: &Host,
    session: &str,
    call_id: &str,
    command: &str,
    options: &[&str],
) -> (Child, String) {
    server_at(host.data.path(), session, call_id, command, options)
}

/// The same for a data directory.
pub(crate) fn server_at(
    data: &Path,
    session: &str,
    call_id: &str,
    command: &str,
    options: &[&str],
) -> (Child, String) {
    let mut child = Command::new(program("examples/sandbox"))
        .arg(data)
        .args([session, call_id, command, "--hold", "yes"])
        .args(options)
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
        .find("sesn_a", 2)
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
        .find("sesn_a", 3)
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
    assert!(later.find("sesn_a", 1).await.unwrap().is_none());
    until_gone(pid);
    let next = host.sandbox("sesn_a").await;
    assert_ne!(next.instance(), first.instance());
    assert_eq!(run(&next, "echo fine").await, Output::text("fine"));
}

/// A second server of the same data directory.
fn beside(host: &Host) -> Namespace {
    Namespace::new(Config::new(host.data.path()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sbx_1_servers_side_by_side_start_one_sandbox_for_a_session() {
    let host = Host::new();
    let servers: Vec<Namespace> = (0..4).map(|_| beside(&host)).collect();
    let recipe = Recipe::new("sesn_a", 1);
    let all = servers.iter().map(|server| server.provision(&recipe));
    let mut instances: Vec<String> = futures::future::join_all(all)
        .await
        .into_iter()
        .map(|sandbox| sandbox.unwrap().instance().to_owned())
        .collect();
    instances.dedup();
    assert_eq!(instances.len(), 1, "{instances:?}");
    // Ended by one, it is ended for all; started again by one, it is there for all.
    servers[0].release("sesn_a").await.unwrap();
    let next = servers[1].provision(&recipe).await.unwrap();
    assert_ne!(next.instance(), instances[0]);
    let found = servers[2].provision(&recipe).await.unwrap();
    assert_eq!(found.instance(), next.instance());
    assert_eq!(run(&found, "echo fine").await, Output::text("fine"));
}

/// security I5: an owner that was paused, and replaced by a server beside it, drives nothing and starts nothing.
#[tokio::test]
async fn lease_1_a_replaced_owner_drives_no_sandbox_and_starts_none() {
    let host = Host::new();
    let old = host.sandbox("sesn_a").await;
    let next = beside(&host);
    let new = next.find("sesn_a", 2).await.unwrap().expect("a sandbox");
    assert_eq!(new.instance(), old.instance());
    let stale = |refused: Result<Output, Error>| {
        assert!(
            matches!(refused, Err(Error::StaleEpoch { epoch: 1, seen: 2 })),
            "{refused:?}"
        );
    };
    // Before the new owner has asked for anything.
    stale(old.execute(&call("late", "touch /workspace/late")).await);
    assert!(old.kill("late", 1).await.is_err());
    assert_eq!(
        text(
            &new.execute(&Call {
                epoch: 2,
                ..call("look", "ls /workspace")
            })
            .await
            .unwrap()
        ),
        "(no output)"
    );
    let pid = host.process("sesn_a").unwrap();
    next.release("sesn_a").await.unwrap();
    until_gone(pid);
    stale(
        host.provider
            .provision(&Recipe::new("sesn_a", 1))
            .await
            .map(|_| Output::text("started")),
    );
    assert_eq!(host.process("sesn_a"), None);
}

/// An owner's clock goes on without it: what it does when it finds itself late must not hurt its successor.
#[tokio::test]
async fn lease_1_a_replaced_owner_ends_nothing_when_its_own_time_is_up() {
    let host = Host::with(|config| {
        config.idle = IDLE;
        config.grace = Duration::from_millis(100);
    });
    let old = host.sandbox("sesn_a").await;
    let next = beside(&host);
    let new = next.find("sesn_a", 2).await.unwrap().expect("a sandbox");
    let pid = host.process("sesn_a").unwrap();
    // It does not answer, and the call's time is over: a server that owns the sandbox ends it then.
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let late = Call {
        deadline: Duration::ZERO,
        ..call("late", "true")
    };
    let late = old.execute(&late).await;
    assert!(
        matches!(late, Err(Error::StaleEpoch { epoch: 1, seen: 2 })),
        "{late:?}"
    );
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    // Idle for the old owner, whose time for that is shorter: it gives the sandbox up, and the new one's call goes on.
    let busy = Call {
        epoch: 2,
        ..call("busy", "sleep 1; echo done")
    };
    let given_up = async {
        pass(IDLE).await;
        until_given_up(&old).await;
    };
    let (done, ()) = tokio::join!(new.execute(&busy), given_up);
    assert_eq!(done.unwrap(), Output::text("done"));
    assert_eq!(host.process("sesn_a"), Some(pid));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sbx_8_servers_side_by_side_sweep_at_the_same_time() {
    let host = Host::new();
    let gone: Vec<String> = (0..4).map(|number| format!("sesn_{number}")).collect();
    for session in &gone {
        let sandbox = host.sandbox(session).await;
        run(&sandbox, "mkdir -p a/b/c/d; touch a/b/file a/b/c/d/file").await;
    }
    let (first, second) = (beside(&host), beside(&host));
    let (one, other) = tokio::join!(first.sweep(&gone), second.sweep(&gone));
    one.unwrap();
    other.unwrap();
    assert_eq!(
        host.provider.sessions().await.unwrap(),
        Vec::<String>::new()
    );
    for entry in std::fs::read_dir(host.data.path().join("sandboxes"))
        .unwrap()
        .flatten()
    {
        assert_eq!(
            std::fs::read_dir(entry.path()).unwrap().count(),
            0,
            "{:?}",
            entry.path()
        );
    }
}
