use super::*;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::provider::namespace::files::open_directory;

/// A tree with everything in it that a sandbox can make, beside a secret of the host.
fn hostile() -> (tempfile::TempDir, Tree) {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("secret"), "the host's").unwrap();
    let tree = home.path().join("writable");
    std::fs::create_dir_all(tree.join("outputs/folder")).unwrap();
    std::fs::write(tree.join("outputs/plain"), "plain").unwrap();
    std::fs::write(tree.join("outputs/folder/new\nline"), "odd").unwrap();
    symlink(home.path().join("secret"), tree.join("outputs/link")).unwrap();
    symlink("../../secret", tree.join("outputs/relative")).unwrap();
    symlink(home.path(), tree.join("outputs/up")).unwrap();
    symlink("/proc/self/root", tree.join("outputs/magic")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, tree.join("outputs/pipe"), Mode::RWXU).unwrap();
    std::os::unix::net::UnixListener::bind(tree.join("outputs/socket")).unwrap();
    let opened = Tree {
        root: open_directory(&tree).unwrap(),
        uid: 0,
        bounded: false,
    };
    (home, opened)
}

#[test]
fn sbx_4_only_regular_files_beneath_the_handle_are_opened() {
    let (home, tree) = hostile();
    let check = |path: &str, expected: Option<&str>| {
        let found = tree.open_file(Path::new(path));
        let found = found
            .and_then(|(file, _)| std::io::read_to_string(file))
            .ok();
        assert_eq!(found.as_deref(), expected, "{path}");
    };
    check("outputs/plain", Some("plain"));
    check("outputs/folder/new\nline", Some("odd"));
    check("outputs/folder/../plain", Some("plain"));
    for path in [
        "",
        ".",
        "outputs",
        "outputs/link",
        "outputs/relative",
        "outputs/up/secret",
        "outputs/magic/etc/passwd",
        // Opened without a writer, and refused at once.
        "outputs/pipe",
        "outputs/socket",
        "../secret",
        "outputs/../../secret",
        "/etc/passwd",
        "outputs/absent",
        &"d/".repeat(3000),
    ] {
        check(path, None);
    }
    let secret = home.path().join("secret");
    check(&secret.display().to_string(), None);
    let planted = tree.create_beneath(
        Path::new("outputs/link"),
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC,
        Mode::RUSR,
    );
    assert!(planted.is_err());
    assert_eq!(std::fs::read_to_string(secret).unwrap(), "the host's");
}

#[test]
fn sbx_4_a_walk_follows_no_link_and_ends_when_it_is_told_to() {
    let (_home, tree) = hostile();
    let mut found = BTreeSet::new();
    let walked = tree.walk(Path::new("outputs"), |entry| {
        found.insert((entry.path, entry.kind == FileType::RegularFile));
        Ok(ControlFlow::Continue(()))
    });
    assert_eq!(walked.unwrap(), Walked { left_out: 0 });
    let expected = [
        ("folder", false),
        ("folder/new\nline", true),
        ("link", false),
        ("magic", false),
        ("pipe", false),
        ("plain", true),
        ("relative", false),
        ("socket", false),
        ("up", false),
    ];
    let expected = expected.map(|(name, file)| (Path::new("outputs").join(name), file));
    assert_eq!(found, BTreeSet::<(PathBuf, bool)>::from(expected));

    let mut seen = 0;
    let ended = tree.walk(Path::new("outputs"), |_| {
        seen += 1;
        Ok(ControlFlow::Break(()))
    });
    assert_eq!((ended.unwrap().left_out, seen), (0, 1));
    let link = tree.walk(Path::new("outputs/up"), |_| Ok(ControlFlow::Continue(())));
    assert!(link.is_err());
}

#[test]
fn sbx_4_a_walk_leaves_out_what_is_too_deep() {
    let (_home, tree) = hostile();
    let mut at = tree
        .open_beneath(Path::new("outputs/folder"), OFlags::DIRECTORY)
        .unwrap();
    for _ in 0..1000 {
        rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
        at = directory(&at, "d").unwrap();
    }
    let walked = tree.walk(Path::new(""), |_| Ok(ControlFlow::Continue(())));
    assert_eq!(walked.unwrap(), Walked { left_out: 1 });
}

/// Folders of sessions that the former edition has laid out are gone on with.
#[test]
fn en_17_the_layout_of_an_earlier_edition_is_adopted() {
    let home = tempfile::tempdir().unwrap();
    for (name, _) in FOLDERS {
        std::fs::create_dir(home.path().join(name)).unwrap();
        std::fs::write(home.path().join(name).join("file"), name).unwrap();
    }
    let session = open_directory(home.path()).unwrap();
    assert!(open(&session).unwrap().is_none());
    adopt(&session).unwrap();
    adopt(&session).unwrap();
    let tree = open(&session).unwrap().expect("a tree");
    assert!(!tree.is_bounded());
    assert_eq!(tree.uid(), rustix::process::getuid().as_raw());
    for (name, _) in FOLDERS {
        let (file, _) = tree.open_file(&Path::new(name).join("file")).unwrap();
        assert_eq!(std::io::read_to_string(file).unwrap(), name);
    }
}
