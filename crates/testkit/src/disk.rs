//! A small disk that a test can fill: a file system of its own, in memory, which nobody else sees.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Set in the process that has the small disk: its mount point.
const INSIDE: &str = "MANYHANDS_SMALL_DISK";

/// The mount point of a small disk, in the process that has it. Otherwise the test `name` of this binary runs once more, in
/// a process that has a disk of so many megabytes, and must pass there; then there is nothing left to do. Where nothing can
/// be mounted, the test says so and ends: what needs no file system of its own is tested by the power cut tests.
pub fn small(name: &str, megabytes: u32) -> Option<PathBuf> {
    if let Some(disk) = std::env::var_os(INSIDE) {
        return Some(PathBuf::from(disk));
    }
    let disk = tempfile::tempdir().expect("a directory");
    let probe = mounted(disk.path(), megabytes, &["true"]);
    if !probe.status.success() {
        let reason = String::from_utf8_lossy(&probe.stderr).into_owned();
        println!("NOT TESTED HERE: no file system can be mounted: {reason}");
        return None;
    }
    let binary = std::env::current_exe().expect("the test's own binary");
    let binary = binary.to_str().expect("a path of text");
    let again = [binary, "--exact", "--nocapture", name];
    let output = mounted(disk.path(), megabytes, &again);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains("1 passed"), "the test ran inside: {text}");
    None
}

/// Runs a command with the disk mounted, in a mount namespace of its own.
fn mounted(disk: &Path, megabytes: u32, command: &[&str]) -> Output {
    let mut unshare = Command::new("unshare");
    unshare.arg("--mount");
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    let mount = "mount -t tmpfs -o size=\"$1\"m tmpfs \"$2\" && shift 2 && exec \"$@\"";
    unshare
        .args(["sh", "-c", mount, "sh"])
        .arg(megabytes.to_string())
        .arg(disk)
        .args(command)
        .env(INSIDE, disk)
        .output()
        .expect("unshare of util-linux is installed")
}

/// Takes all room that is left on a disk. Removing the file gives it back.
pub fn fill(file: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(file).expect("a file");
    for size in [1 << 16, 1 << 12] {
        let block = vec![0; size];
        while file.write_all(&block).is_ok() {}
    }
}
