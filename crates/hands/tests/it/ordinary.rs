//! Memory stores and skills where the server is an ordinary user of the host: the tests of both once more, as one.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::Command;

use crate::host::program;

/// The tests, by the beginnings of their names, and how many they are.
const TESTS: [(&str, usize); 6] = [
    ("memory::of_namespace::", 5),
    ("memory::of_waiting::", 5),
    ("memory::me_15_", 1),
    ("memory::en_17_", 1),
    ("skills::sk_3_skills_are_there_", 1),
    ("skills::sk_3_a_sandbox_that_waited_", 1),
];

const ORDINARY: u32 = 60002;

/// runtime ME-13 to ME-15, EN-17, SK-3, security INP-7
#[test]
fn inp_7_an_ordinary_users_sandboxes_have_memories_and_skills_too() {
    let room = tempfile::tempdir().unwrap();
    let at = |name: &str| room.path().join(name);
    for folder in ["deps", "tmp"] {
        fs::create_dir(at(folder)).unwrap();
    }
    fs::set_permissions(room.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if rustix::process::geteuid().is_root() {
        chown(at("tmp"), Some(ORDINARY), Some(ORDINARY)).unwrap();
    }
    let own = std::env::current_exe().unwrap();
    // By another process: a child that a test beside this one forks would hold what is written open, and that cannot be run.
    for (from, to) in [
        (own, at("deps/it")),
        (program("manyhands-sandboxd"), at("manyhands-sandboxd")),
    ] {
        let copied = Command::new("cp").arg(from).arg(to).status().unwrap();
        assert!(copied.success());
    }
    let id = ORDINARY.to_string();
    let mut tests = match rustix::process::geteuid().is_root() {
        true => {
            let mut other = Command::new("setpriv");
            other.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
            other.arg(at("deps/it"));
            other
        }
        false => Command::new(at("deps/it")),
    };
    tests
        .args(TESTS.map(|(name, _)| name))
        .env("TMPDIR", at("tmp"))
        .env_remove("HOME")
        .current_dir(at("tmp"));
    let output = tests.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let count: usize = TESTS.iter().map(|(_, count)| count).sum();
    assert!(
        said.contains(&format!(" {count} passed; 0 failed;")),
        "{said}"
    );
}
