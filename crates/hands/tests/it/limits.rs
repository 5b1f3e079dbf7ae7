//! What a sandbox may use at most, security SBX-3.

use std::process::Command;

use manyhands_hands::{Limits, Output, Provider, Recipe};
use serde_json::json;

use crate::host::{Host, call_with, program, run, text};

async fn limited(host: &Host, limits: Limits) -> std::sync::Arc<dyn manyhands_hands::Sandbox> {
    host.provider
        .provision(&Recipe {
            limits,
            ..Recipe::new("sesn_a", 1)
        })
        .await
        .unwrap()
}

#[tokio::test]
async fn sbx_3_memory_ends_the_command_and_not_the_sandbox() {
    let host = Host::new();
    let sandbox = limited(
        &host,
        Limits {
            memory_bytes: 96 << 20,
            ..Limits::default()
        },
    )
    .await;
    let greedy = run(
        &sandbox,
        "python3 -c 'x = bytearray(300 << 20); print(len(x))'",
    )
    .await;
    assert!(
        greedy.is_error && !text(&greedy).contains("314572800"),
        "{greedy:?}"
    );
    assert_eq!(run(&sandbox, "echo alive").await, Output::text("alive"));
}

#[tokio::test]
async fn sbx_3_processes_end_the_call_and_not_the_sandbox() {
    let host = Host::new();
    let sandbox = limited(
        &host,
        Limits {
            processes: 40,
            ..Limits::default()
        },
    )
    .await;
    let bomb = json!({"command": "while :; do sleep 1000 & done", "timeout_ms": 1500});
    let output = sandbox.execute(&call_with("bomb", bomb)).await.unwrap();
    assert!(
        text(&output).contains("Resource temporarily unavailable"),
        "{output:?}"
    );
    assert_eq!(run(&sandbox, "echo alive").await, Output::text("alive"));
}

#[tokio::test]
async fn sbx_3_files_and_descriptors() {
    let host = Host::new();
    let sandbox = limited(
        &host,
        Limits {
            disk_bytes: 1 << 20,
            open_files: 128,
            ..Limits::default()
        },
    )
    .await;
    assert!(
        run(&sandbox, "head -c 2000000 /dev/zero > big")
            .await
            .is_error
    );
    assert_eq!(
        run(&sandbox, "stat -c %s big; ulimit -n").await,
        Output::text("1048576\n128")
    );
}

/// The data directory is on a file system of one megabyte, in name spaces of the test's own.
#[test]
fn store_4_a_full_disk_is_a_typed_error() {
    let data = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=1m full {0} && exec {1} {0} sesn_a call true --sandboxd {2}",
        data.path().display(),
        program("examples/sandbox").display(),
        program("manyhands-sandboxd").display(),
    );
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .output();
    let said = String::from_utf8_lossy(&output.unwrap().stderr).into_owned();
    assert!(said.contains("NoSpace"), "{said}");
}
