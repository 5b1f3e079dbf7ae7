//! What a sandbox may use at most, security SBX-3.

use std::process::Command;

use manyhands_hands::provider::Holds;
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
    // Until there can be no more, however long that takes.
    let bomb = r#"python3 -c '
import os, time
children = []
try:
    while child := os.fork():
        children.append(child)
    time.sleep(1000)
except OSError as error:
    print(error.strerror)
    print(*children, file=open("children", "w"))
'"#;
    let output = run(&sandbox, bomb).await;
    let expected = Output::text("Resource temporarily unavailable");
    assert_eq!(output, expected);
    assert_eq!(run(&sandbox, "echo alive").await, Output::text("alive"));
    // The shell's own words need no process.
    let end = "read children < children; kill -9 $children; echo ended";
    assert_eq!(run(&sandbox, end).await, Output::text("ended"));
}

/// Whether this host bounds the disk of a sandbox as a whole, as the probe says it.
async fn bounds_disk(host: &Host) -> bool {
    let limits = host.provider.probe().await.limits;
    let disk = limits.iter().find(|limit| limit.name == "disk");
    disk.expect("a word on the disk").holds == Holds::Hard
}

#[tokio::test]
async fn sbx_3_files_and_descriptors() {
    let host = Host::new();
    let sandbox = limited(
        &host,
        Limits {
            disk_bytes: 8 << 20,
            open_files: 128,
            ..Limits::default()
        },
    )
    .await;
    // One file, by the limit of each, and where there is one by the size of the disk.
    let big = run(&sandbox, "head -c 20000000 /dev/zero > big").await;
    assert!(big.is_error, "{big:?}");
    let size = run(&sandbox, "stat -c %s big; rm big").await;
    assert!(text(&size).parse::<u64>().unwrap() <= 8 << 20, "{size:?}");
    assert_eq!(run(&sandbox, "ulimit -n").await, Output::text("128"));
    let open = "python3 -c 'x = [open(\"/dev/null\") for _ in range(200)]'";
    let open = run(&sandbox, open).await;
    assert!(
        open.is_error && text(&open).contains("Too many open files"),
        "{open:?}"
    );
    assert_eq!(run(&sandbox, "echo alive").await, Output::text("alive"));
}

/// Only a root server on a host with loop devices can: others say "soft", see `bounds_disk`.
#[tokio::test]
async fn sbx_3_bytes_and_files_of_the_whole_sandbox_are_bounded() {
    let host = Host::new();
    assert_eq!(
        bounds_disk(&host).await,
        rustix::process::geteuid().is_root(),
        "root on a host as scripts/setup makes it"
    );
    if !bounds_disk(&host).await {
        return;
    }
    let limits = Limits {
        disk_bytes: 8 << 20,
        ..Limits::default()
    };
    let sandbox = limited(&host, limits).await;
    // Many files in all the folders: together they have the room, and none of them alone is too large.
    let fill = "(for n in 1 2 3; do for f in /workspace /tmp ~ /mnt/session/outputs; do \
        head -c 1000000 /dev/zero > $f/part$n || exit 1; done; done)";
    let full = run(&sandbox, fill).await;
    assert!(
        full.is_error && text(&full).contains("No space left on device"),
        "{full:?}"
    );
    let empty = "rm /workspace/part* /tmp/part* ~/part* /mnt/session/outputs/part*; echo free";
    let freed = run(&sandbox, empty).await;
    assert!(text(&freed).ends_with("free"), "{freed:?}");
    // As many names as there is room for, without a byte in them.
    let names = "mkdir n; (for i in $(seq 2000); do : > n/$i || exit 1; done)";
    let full = run(&sandbox, names).await;
    assert!(
        full.is_error && text(&full).contains("No space left on device"),
        "{full:?}"
    );
    let again = run(&sandbox, "rm -r n; echo more > file; cat file").await;
    assert_eq!(again, Output::text("more"));
    // What is deleted inside is given back outside.
    let disk = host.folder("sesn_a").join("disk");
    let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(disk).unwrap());
    assert!(blocks * 512 <= 9 << 20, "{blocks}");
}

/// security TOOL-1
#[tokio::test]
async fn sbx_3_time_ends_the_call_and_not_the_sandbox() {
    let host = Host::new();
    let sandbox = host.sandbox("sesn_a").await;
    let endless = json!({"command": "while :; do :; done", "timeout_ms": 300});
    let output = sandbox.execute(&call_with("slow", endless)).await.unwrap();
    assert!(
        output.is_error && text(&output).contains("timed out"),
        "{output:?}"
    );
    assert_eq!(run(&sandbox, "echo alive").await, Output::text("alive"));
}

#[tokio::test]
async fn sbx_3_the_probe_tells_of_every_limit() {
    let host = Host::new();
    let limits = host.provider.probe().await.limits;
    let mut names: Vec<_> = limits.iter().map(|limit| limit.name).collect();
    names.sort_unstable();
    let expected = ["cpu", "disk", "memory", "open files", "processes"];
    assert_eq!(names, expected);
    assert!(limits.iter().all(|limit| !limit.by.is_empty()));
    let cpu = limits.iter().find(|limit| limit.name == "cpu");
    let cpu = cpu.is_some_and(|limit| limit.holds == Holds::Hard);
    host.sandbox("sesn_a").await;
    let pid = host.process("sesn_a").expect("a live sandbox");
    let groups = format!("/proc/{}/cgroup", pid.as_raw_nonzero());
    let groups = std::fs::read_to_string(groups).unwrap();
    let quotas = groups.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let file = match controllers {
            "" => format!("/sys/fs/cgroup{path}/cpu.max"),
            _ => format!("/sys/fs/cgroup/{controllers}{path}/cpu.cfs_quota_us"),
        };
        std::fs::read_to_string(file).ok()
    });
    let bounded = quotas
        .filter(|quota| quota.starts_with(|c: char| c.is_ascii_digit()))
        .count();
    assert_eq!(bounded > 0, cpu, "what is said holds");
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
