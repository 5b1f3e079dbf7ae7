//! A server that ends at any durable step of a sandbox's life leaves something the next one can go on from.

use std::process::Command;
use std::sync::Arc;

use manyhands_hands::provider::Origin;
use manyhands_hands::{FAILPOINTS, Output, Provider, Recipe, Sandbox};
use rustix::process::Pid;

use crate::host::{Host, program, run, until_gone};
use crate::pool::{groups, users, waiting};

/// How the example ends at a failpoint.
const STOPPED: i32 = 77;

/// Another server of `host`, with one more option, starts a sandbox and is stopped at `point`.
fn stop_at(host: &Host, point: &str, option: Option<&str>) {
    let mut command = Command::new(program("examples/sandbox"));
    command
        .arg(host.data.path())
        .args(["sesn_a", "call", "echo line >> ledger"]);
    command.env("STOP_AT", point);
    if let Some(option) = option {
        command.args([option, "1"]);
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(STOPPED), "{point}: {output:?}");
}

/// The six failpoints on the way to a sandbox that was made for its session, or to one that has waited for it.
fn starting(waited: bool) -> Vec<&'static str> {
    let points = FAILPOINTS.iter().copied();
    let points = points.take_while(|point| *point != "hands::before_end");
    let points = points.filter(|point| point.starts_with("hands::pool_") == waited);
    let points: Vec<_> = points.collect();
    assert_eq!(points.len(), 6);
    points
}

/// The next server goes on with what a start at `point` has left, and no call has been run.
async fn go_on(host: &Host, left: Option<Pid>, point: &str) -> Arc<dyn Sandbox> {
    let sandbox = host.sandbox("sesn_a").await;
    assert!(
        left.is_none_or(|left| host.process("sesn_a") == Some(left)),
        "{point}"
    );
    assert_eq!(
        run(&sandbox, "cat ledger 2>/dev/null || echo none").await,
        Output::text("none"),
        "{point}"
    );
    sandbox
}

#[tokio::test]
async fn log_3_a_start_that_was_cut_short_anywhere_is_picked_up() {
    for point in starting(false) {
        let host = Host::new();
        stop_at(&host, point, None);
        let left = host.process("sesn_a");
        let started = matches!(point, "hands::after_spawn" | "hands::after_attach");
        assert_eq!(left.is_some(), started, "{point}");
        // What was started is found and not started again.
        let found = host.provider.find("sesn_a", 1).await.unwrap();
        assert_eq!(found.is_some(), started, "{point}");
        let sandbox = go_on(&host, left, point).await;
        assert!(
            found.is_none_or(|found| found.instance() == sandbox.instance()),
            "{point}"
        );
    }
}

/// runtime EN-19: files that were lost are not taken for kept because a server ended when it had made new ones.
#[tokio::test]
async fn en_19_a_tree_that_was_just_made_is_not_taken_for_the_one_before() {
    let host = Host::new();
    run(&host.sandbox("sesn_a").await, "echo kept > f").await;
    host.provider.release("sesn_a").await.unwrap();
    for name in ["disk", "writable"] {
        let path = host.folder("sesn_a").join(name);
        if path.exists() {
            std::fs::rename(&path, host.data.path().join(name)).unwrap();
        }
    }
    stop_at(&host, "hands::after_tree", None);
    let sandbox = host.provider.provision(&Recipe::new("sesn_a", 2)).await;
    let origin = sandbox.unwrap().origin();
    assert_eq!(origin, Some(Origin::Kept { epoch: 0 }), "nobody's");
}

#[tokio::test]
async fn log_3_a_removal_that_was_cut_short_anywhere_is_finished() {
    for point in ["hands::before_end", "hands::after_discard"] {
        assert!(FAILPOINTS.contains(&point));
        let host = Host::new();
        stop_at(&host, point, Some("--destroy"));
        let left = host.process("sesn_a");
        assert_eq!(left.is_some(), point == "hands::before_end", "{point}");
        let gone = host.provider.sessions().await.unwrap();
        assert_eq!(gone.is_empty(), point == "hands::after_discard", "{point}");
        host.provider.sweep(&gone).await.unwrap();
        left.into_iter().for_each(until_gone);
        for entry in std::fs::read_dir(host.data.path().join("sandboxes"))
            .unwrap()
            .flatten()
        {
            assert_eq!(
                std::fs::read_dir(entry.path()).unwrap().count(),
                0,
                "{point}: {:?}",
                entry.path()
            );
        }
    }
}

/// security SBX-8, LEASE-1: a sandbox that waited is the session's or nobody's, at whatever step its server ends.
#[tokio::test]
async fn log_3_a_sandbox_that_was_being_given_to_a_session_is_its_own_or_removed() {
    for point in starting(true) {
        let host = Host::new();
        stop_at(&host, point, Some("--warm"));
        let given = point == "hands::pool_taken";
        let waits = waiting(&host);
        assert_eq!(waits.len(), usize::from(!given), "{point}: {waits:?}");
        let left = host.process("sesn_a");
        assert_eq!(left.is_some(), given, "{point}");
        // The next server clears up what is nobody's and goes on with what is the session's.
        let ended = waits.iter().filter_map(|name| host.process(name));
        let ended: Vec<_> = ended.collect();
        assert_eq!(ended.len(), waits.len(), "{point}");
        host.provider.sweep(&[]).await.unwrap();
        ended.into_iter().for_each(until_gone);
        assert_eq!(waiting(&host), [""; 0], "{point}");
        assert_eq!(groups(&host).len(), usize::from(given), "{point}");
        assert_eq!(users(&host), usize::from(given), "{point}");
        go_on(&host, left, point).await;
        host.provider.destroy("sesn_a").await.unwrap();
        assert_eq!(groups(&host), [""; 0], "{point}");
        assert_eq!(users(&host), 0, "{point}");
    }
}
