//! What comes out of sandboxes, and what goes into them (security SBX-4, SBX-5, INP-3, INP-4).

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use manyhands_sandboxd::archive::{self, Bounds, Owner, Top};
use manyhands_sandboxd::exchange::{self, Lay, Want};
use manyhands_sandboxd::frame::{self, Answer, Reply, Request};
use manyhands_sandboxd::journal::Journal;
use manyhands_sandboxd::output::Output;
use manyhands_sandboxd::tools::{self, Input, Place, Stop};
use rustix::fs::{CWD, Mode, OFlags, openat};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{is_one_line, pieces, text};

/// Frames are read one after the other, to the first that is none; what was read can be written and read again.
pub(crate) fn frame(bytes: &[u8]) {
    again::<Request>(bytes);
    again::<Reply>(bytes);
}

fn again<T: Serialize + DeserializeOwned>(mut bytes: &[u8]) {
    while let Ok(Some(message)) = frame::read::<T>(&mut bytes) {
        let written = frame::encode(&message).expect("it can be written");
        let again = frame::read::<T>(&mut &written[..]).expect("a frame");
        let [again, message] =
            [again, Some(message)].map(|message| serde_json::to_value(message).expect("JSON"));
        assert_eq!(again, message);
    }
}

/// A call is begun once, whatever is asked and in which order, and an owner of the past changes nothing (invariants I4, I5).
pub(crate) fn journal(bytes: &[u8]) {
    let journal = Journal::default();
    let mut highest = None;
    let mut begun: HashMap<u8, bool> = HashMap::new();
    for &[what, call, epoch] in bytes.as_chunks::<3>().0 {
        let (call, epoch) = (call % 4, i64::from(epoch % 8));
        let id = format!("call{call}");
        let stale = highest.is_some_and(|seen| epoch < seen);
        let is_stale = |answer: &Answer| matches!(answer, Answer::StaleEpoch { .. });
        match what % 4 {
            0 => {
                let waiter = Box::new(|_: &Output| {});
                let answer = journal.begin(&id, epoch, Duration::from_secs(60), waiter);
                assert_eq!(answer.as_ref().is_err_and(is_stale), stale);
                if !stale {
                    let is_new = !begun.contains_key(&call);
                    assert_eq!(matches!(answer, Ok(Some(_))), is_new, "begun once");
                    begun.entry(call).or_insert(true);
                }
            }
            1 => {
                if begun.get(&call) == Some(&true) {
                    journal.finish(&id, Output::text("done"));
                    begun.insert(call, false);
                }
                continue;
            }
            2 => {
                let answer = journal.interrupt(&id, epoch);
                assert_eq!(answer.as_ref().is_err_and(is_stale), stale);
                if let Ok(runs) = answer {
                    assert_eq!(runs, begun.get(&call) == Some(&true));
                }
            }
            _ => {
                let answer = journal.forget(&[id], epoch);
                assert_eq!(answer.is_err(), stale);
            }
        }
        highest = highest.max(Some(epoch));
    }
}

/// A new folder with `workspace` in it, as that of a tree.
fn tree() -> (TempDir, PathBuf) {
    let home = tempfile::tempdir().expect("a folder");
    let workspace = home.path().join("workspace");
    fs::create_dir(&workspace).expect("a folder");
    (home, workspace)
}

fn top(folder: &Path) -> Top<'static> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    Top {
        name: "workspace",
        folder: openat(CWD, folder, flags, Mode::empty()).expect("a folder"),
    }
}

const BOUNDS: Bounds = Bounds {
    bytes: 1 << 20,
    entries: 64,
};

/// What a stream makes is in its folder and of the kinds that are kept; packed it is a stream that makes the same.
pub(crate) fn archive(bytes: &[u8]) {
    let owner = Owner {
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
    };
    let (home, workspace) = tree();
    let unpacked = archive::unpack(&[top(&workspace)], bytes, owner, BOUNDS);
    let around: Vec<_> = fs::read_dir(home.path()).expect("a folder").collect();
    assert_eq!(around.len(), 1, "nothing beside the folder");
    let mut found = 0;
    check_tree(&workspace, &mut found);
    assert!(found <= BOUNDS.entries);
    let Ok(totals) = unpacked else { return };
    assert!(totals.entries <= BOUNDS.entries);
    let bounds = Bounds {
        bytes: 8 << 20,
        ..BOUNDS
    };
    let mut packed = Vec::new();
    archive::pack(&[top(&workspace)], &mut packed, bounds).expect("what was made can be packed");
    let (_home, other) = tree();
    archive::unpack(&[top(&other)], &*packed, owner, bounds).expect("and unpacked");
    let mut again = Vec::new();
    archive::pack(&[top(&other)], &mut again, bounds).expect("and packed");
    assert_eq!(packed, again);
}

fn check_tree(folder: &Path, found: &mut u64) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let about = fs::symlink_metadata(&path).expect("an entry");
        *found += 1;
        let kind = about.file_type();
        assert!(!kind.is_block_device() && !kind.is_char_device() && !kind.is_socket());
        if kind.is_file() {
            assert_eq!(about.mode() & 0o6000, 0, "nobody becomes another user");
        }
        if kind.is_dir() {
            check_tree(&path, found);
        }
    }
}

/// Files that are laid are in their folder, whole, and of no use to write to; what lies beside it is not touched.
pub(crate) fn lay(bytes: &[u8]) {
    let (home, workspace) = tree();
    let beside = home.path().join("beside");
    fs::write(&beside, "beside").expect("a file");
    std::os::unix::fs::symlink("../beside", workspace.join("link")).expect("a link");
    let mut answer = Vec::new();
    let laid = exchange::lay(&workspace, bytes, &mut answer);
    assert_eq!(fs::read(&beside).expect("a file"), b"beside");
    if laid.is_ok() {
        // As said, the last one of a name counts; where files and folders share names nothing is told.
        let (mut rest, mut said) = (bytes, BTreeMap::new());
        while let Ok(Some(message)) = frame::read::<Lay>(&mut rest) {
            match message {
                Lay::File { path, size, .. } => {
                    let (content, behind) = rest.split_at(usize::try_from(size).expect("small"));
                    said.insert(path, content);
                    rest = behind;
                }
                Lay::Keep { paths } => said.retain(|path, _| paths.contains(path)),
                Lay::Done => break,
            }
        }
        for (path, content) in said {
            let read = fs::read(workspace.join(&path)).expect("it is there");
            assert_eq!(read, content, "{path}");
        }
    }
}

/// Of a tree, nothing is shown that is not in it, whatever is asked for.
pub(crate) fn show(bytes: &[u8]) {
    let (home, workspace) = tree();
    fs::write(home.path().join("beside"), "BESIDE").expect("a file");
    fs::create_dir(workspace.join("d")).expect("a folder");
    fs::write(workspace.join("d/f"), "inside").expect("a file");
    std::os::unix::fs::symlink("../beside", workspace.join("link")).expect("a link");
    std::os::unix::fs::symlink("..", workspace.join("up")).expect("a link");
    // Plain lines are paths that are wanted; anything else is said as it is.
    let mut input = Vec::new();
    for path in bytes.split(|byte| *byte == b'\n') {
        let want = Want {
            path: path.to_vec(),
        };
        frame::write(&mut input, &want).expect("a frame");
    }
    for said in [&*input, bytes] {
        let mut output = Vec::new();
        drop(exchange::show(&workspace, said, &mut output));
        assert!(!output.windows(6).any(|bytes| bytes == b"BESIDE"));
    }
}

/// Text without control sequences is the same however it came; of what is shown nothing is new.
pub(crate) fn terminal(bytes: &[u8]) {
    let (pieces, whole) = pieces(bytes);
    let stripped = manyhands_sandboxd::fuzzing::stripped(&pieces);
    assert_eq!(stripped, manyhands_sandboxd::fuzzing::stripped(&[whole]));
    assert!(!stripped.contains(&0x1b));
    let mut rest = whole.iter();
    assert!(stripped.iter().all(|byte| rest.any(|other| other == byte)));
}

/// Inputs of tools are read or refused.
pub(crate) fn tool_input(bytes: &[u8]) {
    let Ok(input) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    for name in ["bash", "read", "write", "edit", "glob", "grep", "other"] {
        if let Err(refusal) = Input::parse(name, &input) {
            assert!(refusal.contains(name), "{refusal}");
        }
    }
}

/// Patterns of any kind end in time over a text that would be bad for an engine that goes back.
pub(crate) fn patterns(bytes: &[u8]) {
    let Some(pattern) = crate::text(bytes) else {
        return;
    };
    let (home, workspace) = tree();
    fs::write(workspace.join("a".repeat(200)), "a".repeat(4_000)).expect("a file");
    let place = Place {
        root: workspace,
        spill: home.path().join("spill"),
    };
    for name in ["glob", "grep"] {
        let input = Input::parse(name, &json!({"pattern": pattern})).expect("an input");
        let begun = Instant::now();
        tools::run(&input, &place, &Stop::after(Duration::from_secs(60)));
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{name} {pattern:?}"
        );
    }
}

/// What a command says of its clone decides one short line, and that a repository is there it says in its last line alone.
pub(crate) fn clone(bytes: &[u8]) {
    let Some(said) = text(bytes) else { return };
    let failed = manyhands_hands::fuzzing::clone_failure(said);
    if let Some((_, detail)) = &failed {
        assert!(is_one_line(detail), "{detail}");
        assert!(detail.chars().count() <= 300, "{detail}");
    }
    let last = said.trim_end().rsplit('\n').next().unwrap_or_default();
    let there = last
        .strip_prefix("manyhands-repository:")
        .is_some_and(|how| how.trim_start().starts_with("there"));
    assert_eq!(failed.is_none(), there, "{said:?}");
}

/// A path as it is told is one line, and no two are told alike.
pub(crate) fn output_path(bytes: &[u8]) {
    let told = manyhands_hands::fuzzing::path(bytes);
    assert!(is_one_line(&told), "{told}");
    let mut back = Vec::new();
    let mut rest = told.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte == b'%' {
            let (digits, behind) = rest.split_at(2);
            let digits = std::str::from_utf8(digits).expect("digits");
            back.push(u8::from_str_radix(digits, 16).expect("digits"));
            rest = behind;
        } else {
            back.push(byte);
        }
    }
    assert_eq!(back, bytes);
}
