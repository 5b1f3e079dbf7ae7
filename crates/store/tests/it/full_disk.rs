//! A full disk (security STORE-4), on a small file system of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use manyhands_store::{Database, Error};
use manyhands_testkit::clock::TestClock;

use crate::bed::*;

/// Set in the process that has the small file system: its mount point.
const INSIDE: &str = "MANYHANDS_STORE_SMALL_DISK";

/// The test runs itself again in a mount namespace with a tmpfs of 4 MB, where it fills the disk.
/// security STORE-2, STORE-4
#[test]
fn store_4_a_full_disk_refuses_writes_keeps_reads_and_heals_without_a_restart() {
    if let Some(disk) = std::env::var_os(INSIDE) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(fill_and_heal(PathBuf::from(disk)));
        return;
    }
    let disk = tempfile::tempdir().unwrap();
    let mut unshare = Command::new("unshare");
    unshare.arg("--mount");
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    let output = unshare
        .args(["sh", "-c"])
        .arg("mount -t tmpfs -o size=4m tmpfs \"$1\" && exec \"$2\" --exact --nocapture \"$3\"")
        .arg("sh")
        .arg(disk.path())
        .arg(std::env::current_exe().unwrap())
        .arg(
            "full_disk::store_4_a_full_disk_refuses_writes_keeps_reads_and_heals_without_a_restart",
        )
        .env(INSIDE, disk.path())
        .output()
        .expect("unshare of util-linux is installed");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains("1 passed"), "the test ran inside: {text}");
}

async fn fill_and_heal(disk: PathBuf) {
    let bed = Bed::on(
        Database::Sqlite {
            directory: disk.join("data"),
        },
        TestClock::default(),
    );
    let world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    let large = "x".repeat(20_000);
    let append = || entries(vec![manyhands_store::NewEntry::event(answered(&large))]);
    world.store.append(&lease, append()).await.unwrap();

    let ballast = disk.join("ballast");
    fill(&ballast);
    let mut acknowledged = 2;
    let error = loop {
        // Space that the log file holds already can still be used.
        match world.store.append(&lease, append()).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 1_000, "the disk never fills up");
    };
    assert!(
        matches!(
            error,
            manyhands_store::AppendError::Store(Error::NoSpace { .. })
        ),
        "{error:?}"
    );
    let together = (0..8).map(|_| world.store.append(&lease, append()));
    for again in futures::future::join_all(together).await {
        assert!(again.is_err(), "it stays full, for all of a group");
    }
    assert_eq!(world.log(&id).await.len(), acknowledged, "reads go on");

    fs::remove_file(&ballast).unwrap();
    let stored = world.store.append(&lease, append()).await.unwrap();
    let next = i64::try_from(acknowledged).unwrap() + 1;
    assert_eq!(
        positions(&stored),
        [next],
        "no restart, nothing half-written"
    );
    assert_eq!(world.log(&id).await.len(), acknowledged + 1);
    world.store.close().await;
}

fn fill(file: &Path) {
    use std::io::Write as _;
    let mut file = fs::File::create(file).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
}
