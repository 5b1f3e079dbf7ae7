use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::frame;

fn said(messages: &[(Lay, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (message, content) in messages {
        frame::write(&mut bytes, message).unwrap();
        bytes.extend(*content);
    }
    bytes
}

fn file(path: &str, content: &'static [u8]) -> (Lay, &'static [u8]) {
    let (path, size) = (path.to_owned(), content.len() as u64);
    let executable = path.ends_with(".sh");
    let file = Lay::File {
        path,
        size,
        executable,
    };
    (file, content)
}

fn kept(paths: &[&str]) -> (Lay, &'static [u8]) {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    (Lay::Keep { paths }, b"")
}

/// runtime FI-1, FI-4
#[test]
fn fi_4_files_are_laid_kept_and_taken_away() {
    let home = tempfile::tempdir().unwrap();
    let at = |path: &str| home.path().join(path);
    let done = (Lay::Done, &b""[..]);
    let mut answer = Vec::new();
    let first = said(&[
        kept(&[]),
        file("a/b/one", b"1"),
        file("two", b"22"),
        done.clone(),
    ]);
    lay(home.path(), &first[..], &mut answer).unwrap();
    assert_eq!(
        frame::read::<Laid>(&mut &answer[..]).unwrap(),
        Some(Laid { written: 2 })
    );
    assert_eq!(fs::read(at("a/b/one")).unwrap(), b"1");
    let mode = fs::metadata(at("two")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o444);
    let second = said(&[kept(&["two"]), file("c/three", b"3"), done]);
    lay(home.path(), &second[..], io::sink()).unwrap();
    assert!(!at("a").exists() && at("two").exists() && at("c/three").exists());
}

/// security INP-4, SBX-4
#[test]
fn inp_4_what_leads_elsewhere_or_ends_early_is_not_laid() {
    let home = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), home.path().join("link")).unwrap();
    let check = |messages: &[(Lay, &[u8])]| {
        lay(home.path(), &said(messages)[..], io::sink()).unwrap_err();
    };
    check(&[file("../up", b"x")]);
    check(&[file("/etc/x", b"x")]);
    check(&[file("", b"x")]);
    check(&[file("link/x", b"x")]);
    let short = Lay::File {
        path: "short".to_owned(),
        size: 9,
        executable: false,
    };
    check(&[(short, b"1234")]);
    let left: Vec<_> = fs::read_dir(home.path()).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "the link alone: {left:?}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

/// runtime FI-5, security SBX-4
#[test]
fn fi_5_regular_files_are_shown_and_no_link_is_followed() {
    let home = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "x").unwrap();
    fs::create_dir(home.path().join("d")).unwrap();
    fs::write(home.path().join("d/f"), "content").unwrap();
    symlink(outside.path(), home.path().join("link")).unwrap();
    symlink(outside.path().join("secret"), home.path().join("file")).unwrap();
    let mut wants = Vec::new();
    for path in ["d/f", "file", "link/secret", "../x", "none"] {
        let want = Want {
            path: path.as_bytes().to_vec(),
        };
        frame::write(&mut wants, &want).unwrap();
    }
    let mut answer = Vec::new();
    show(home.path(), &wants[..], &mut answer).unwrap();
    let mut answer = &answer[..];
    let mut next = || frame::read::<Show>(&mut answer).unwrap();
    let Some(Show::Found { path, stamp, size }) = next() else {
        panic!("nothing is found");
    };
    assert_eq!((path.as_slice(), size), (&b"d/f"[..], 7));
    assert_eq!(next(), Some(Show::All { left_out: 0 }));
    assert_eq!(next(), Some(Show::Bytes { size: 7 }));
    let (content, rest) = answer.split_at(7);
    assert_eq!(content, b"content");
    answer = rest;
    let mut next = || frame::read::<Show>(&mut answer).unwrap();
    assert_eq!(next(), Some(Show::After { stamp }));
    for _ in 0..4 {
        assert_eq!(next(), Some(Show::Gone));
    }
    assert_eq!(next(), None);
}
