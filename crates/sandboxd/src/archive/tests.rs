use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FileType, Mode, OFlags, XattrFlags, getxattr, mknodat, openat, setxattr};
use tar::{EntryType, Header};

use super::pax::Attributes;
use super::unpack::Owner;
use super::*;

const BOUNDS: Bounds = Bounds {
    bytes: 64 << 20,
    entries: 10_000,
};

/// The folders of a tree, made if they are missing.
fn tops(root: &Path) -> Vec<Top<'static>> {
    let tops = ["workspace", "tmp"].into_iter().map(|name| {
        fs::create_dir_all(root.join(name)).unwrap();
        Top {
            name,
            folder: handle(&root.join(name)),
        }
    });
    tops.collect()
}

fn handle(path: &Path) -> std::os::fd::OwnedFd {
    openat(
        CWD,
        path,
        OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .unwrap()
}

fn me() -> Owner {
    Owner {
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
    }
}

fn restore(stream: &[u8], into: &Path) -> io::Result<Totals> {
    unpack(&tops(into), stream, me(), BOUNDS)
}

/// runtime EN-17: a tree comes back as it was.
#[test]
fn en_17_a_tree_comes_back_as_it_was() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let workspace = from.path().join("workspace");
    fs::create_dir(&workspace).unwrap();
    fs::create_dir(from.path().join("lost+found")).unwrap();
    let deep = workspace
        .join("a folder")
        .join("x".repeat(255))
        .join("y".repeat(255));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("new\nline=é"), "deep").unwrap();
    fs::write(workspace.join("one"), "content").unwrap();
    fs::hard_link(workspace.join("one"), deep.join("other name")).unwrap();
    symlink("/etc/shadow", workspace.join("link")).unwrap();
    symlink("z".repeat(3000), workspace.join("long link")).unwrap();
    mknodat(
        CWD,
        workspace.join("queue"),
        FileType::Fifo,
        Mode::from(0o640),
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(workspace.join("socket")).unwrap();
    let sparse = fs::File::create(workspace.join("sparse")).unwrap();
    sparse.set_len(40 << 30).unwrap();
    sparse.write_all_at(b"middle", 20 << 30).unwrap();
    let past = SystemTime::UNIX_EPOCH - Duration::new(7, 250);
    let file = fs::File::options()
        .write(true)
        .open(workspace.join("one"))
        .unwrap();
    file.set_modified(past).unwrap();
    let attributed = setxattr(
        workspace.join("one"),
        "user.note",
        b"a\nb",
        XattrFlags::empty(),
    );
    fs::write(workspace.join("script"), "#!").unwrap();
    fs::set_permissions(workspace.join("script"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::create_dir(workspace.join("closed")).unwrap();
    fs::write(workspace.join("closed/file"), "hidden").unwrap();
    fs::set_permissions(
        workspace.join("closed/file"),
        fs::Permissions::from_mode(0o000),
    )
    .unwrap();
    fs::set_permissions(workspace.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();

    let mut stream = Vec::new();
    let totals = pack(&tops(from.path()), &mut stream, BOUNDS).unwrap();
    assert_eq!(totals.left_out, 1, "the socket");
    assert!(
        stream.len() < 100_000,
        "holes are not stored: {}",
        stream.len()
    );
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(
        mode(&workspace.join("closed")),
        0,
        "the tree stays as it was"
    );

    let restored = restore(&stream, to.path()).unwrap();
    assert_eq!(restored.entries, totals.entries);
    let back = to.path().join("workspace");
    assert!(!to.path().join("lost+found").exists());
    assert_eq!(mode(&back.join("closed")), 0);
    fs::set_permissions(back.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(mode(&back.join("closed/file")), 0);
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let deep = back
        .join("a folder")
        .join("x".repeat(255))
        .join("y".repeat(255));
    assert_eq!(read(&deep.join("new\nline=é")), "deep");
    assert_eq!(read(&deep.join("other name")), "content");
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(&back.join("one")), inode(&deep.join("other name")));
    let meta = fs::metadata(back.join("one")).unwrap();
    assert_eq!(meta.modified().unwrap(), past);
    if attributed.is_ok() {
        let mut value = [0; 8];
        let length = getxattr(back.join("one"), "user.note", &mut value).unwrap();
        assert_eq!(&value[..length], b"a\nb");
    }
    let link = |name: &str| fs::read_link(back.join(name)).unwrap();
    assert_eq!(link("link"), Path::new("/etc/shadow"));
    assert_eq!(link("long link").as_os_str().len(), 3000);
    let queue = fs::symlink_metadata(back.join("queue")).unwrap();
    assert_eq!(queue.mode() & 0o177_777, 0o010_640);
    assert!(!back.join("socket").exists());
    assert_eq!(mode(&back.join("script")), 0o755, "no file sets users");
    let sparse = fs::File::open(back.join("sparse")).unwrap();
    let meta = sparse.metadata().unwrap();
    assert_eq!(meta.len(), 40 << 30);
    assert!(meta.blocks() < 1000);
    let mut middle = [0; 6];
    sparse.read_exact_at(&mut middle, 20 << 30).unwrap();
    assert_eq!(&middle, b"middle");
}

/// An entry that `unpack` is shown.
struct Entry {
    kind: EntryType,
    attributes: Vec<(&'static str, String)>,
    content: Vec<u8>,
}

fn entry(kind: EntryType, path: &str) -> Entry {
    Entry {
        kind,
        attributes: vec![("path", path.to_owned()), ("mtime", "1.0".to_owned())],
        content: Vec::new(),
    }
}

impl Entry {
    fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.attributes.push((key, value.into()));
        self
    }

    fn content(mut self, content: &[u8]) -> Self {
        self.content = content.to_vec();
        self
    }
}

fn stream_of(entries: &[Entry]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut attributes = Attributes::default();
        for (key, value) in &entry.attributes {
            attributes.add(*key, value.as_str());
        }
        let attributes = attributes.encode();
        for (kind, content) in [
            (EntryType::XHeader, &attributes),
            (entry.kind, &entry.content),
        ] {
            let mut header = Header::new_ustar();
            header.set_entry_type(kind);
            header.set_mode(0o755);
            header.set_size(content.len() as u64);
            header.set_cksum();
            tar.append(&header, content.as_slice()).unwrap();
        }
    }
    tar.into_inner().unwrap()
}

/// security INP-3, SBX-4: a hostile stream makes nothing outside of the tree, and nothing that is not kept.
#[test]
fn inp_3_a_hostile_stream_is_refused() {
    #[track_caller]
    fn check(entries: &[Entry], refused: io::ErrorKind) {
        let home = tempfile::tempdir().unwrap();
        let (tree, outside) = (home.path().join("tree"), home.path().join("outside"));
        fs::create_dir(&tree).unwrap();
        fs::create_dir(&outside).unwrap();
        let error = restore(&stream_of(entries), &tree).unwrap_err();
        assert_eq!(error.kind(), refused, "{error}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2);
    }
    use EntryType as Kind;
    let invalid = io::ErrorKind::InvalidData;
    let top = || entry(Kind::Directory, "workspace");
    for path in [
        "../outside/x",
        "/workspace/x",
        "workspace/../../outside/x",
        "workspace//x",
        "workspace/./x",
        "workspace/",
        "elsewhere/x",
        "",
        "workspace/\0",
    ] {
        check(&[top(), entry(Kind::Regular, path)], invalid);
    }
    check(
        &[
            top(),
            entry(Kind::Regular, &format!("workspace/{}", "x".repeat(256))),
        ],
        invalid,
    );
    check(
        &[
            top(),
            entry(Kind::Directory, &format!("workspace{}", "/d".repeat(300))),
        ],
        invalid,
    );
    for kind in [
        Kind::Char,
        Kind::Block,
        Kind::GNULongName,
        Kind::GNUSparse,
        Kind::Continuous,
    ] {
        check(&[top(), entry(kind, "workspace/x")], invalid);
    }
    // Through a link that the stream has made itself.
    let link = || entry(Kind::Symlink, "workspace/l").with("linkpath", "../../outside");
    check(
        &[top(), link(), entry(Kind::Regular, "workspace/l/x")],
        io::ErrorKind::NotADirectory,
    );
    check(
        &[top(), link(), entry(Kind::Regular, "workspace/l")],
        io::ErrorKind::AlreadyExists,
    );
    check(
        &[top(), link(), entry(Kind::Directory, "workspace/l")],
        io::ErrorKind::AlreadyExists,
    );
    check(
        &[
            entry(Kind::Symlink, "tmp").with("linkpath", "../outside"),
            entry(Kind::Directory, "tmp"),
        ],
        invalid,
    );
    let hard = |target: &str| entry(Kind::Link, "workspace/h").with("linkpath", target);
    check(&[top(), hard("../outside")], invalid);
    check(&[top(), hard("workspace/none")], io::ErrorKind::NotFound);
    check(&[top(), entry(Kind::Link, "workspace/h")], invalid);
    check(
        &[top().with("SCHILY.xattr.security.capability", "x")],
        invalid,
    );
    check(&[top().with("mtime", "soon")], invalid);
    let holes = |map: &str| {
        let file = entry(Kind::Regular, "workspace/f").content(b"abc");
        file.with("GNU.sparse.size", "10")
            .with("GNU.sparse.map", map)
    };
    for map in ["9,3", "0", "x,1", "0,4", "18446744073709551615,2"] {
        check(&[top(), holes(map)], invalid);
    }
}

/// security SBX-3: what is beyond the bounds is refused, also where a bound is all that it is over.
#[test]
fn sbx_3_a_stream_beyond_its_bounds_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let large = [
        entry(EntryType::Directory, "workspace"),
        entry(EntryType::Regular, "workspace/f").content(&vec![0; 65 << 20]),
    ];
    let stream = stream_of(&large);
    assert!(restore(&stream, home.path()).is_err());

    let many = Bounds {
        entries: 2,
        ..BOUNDS
    };
    let home = tempfile::tempdir().unwrap();
    let stream = stream_of(&[
        entry(EntryType::Directory, "workspace"),
        entry(EntryType::Directory, "tmp"),
        entry(EntryType::Directory, "workspace/d"),
    ]);
    let refused = unpack(&tops(home.path()), stream.as_slice(), me(), many);
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    let home = tempfile::tempdir().unwrap();
    let packed = pack(&tops(home.path()), io::sink(), many);
    assert!(packed.is_ok());
    fs::write(home.path().join("workspace/x"), "x").unwrap();
    let refused = pack(&tops(home.path()), io::sink(), many);
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    let few = Bounds {
        bytes: 20_000,
        ..BOUNDS
    };
    assert!(pack(&tops(home.path()), io::sink(), few).is_ok());
    fs::write(home.path().join("workspace/x"), vec![7; 20_000]).unwrap();
    let refused = pack(&tops(home.path()), io::sink(), few);
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::FileTooLarge);
}

/// security STORE-3: a stream that was cut within an entry is no tree; who carries it knows its length.
#[test]
fn store_3_a_stream_that_was_cut_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let from = home.path().join("from");
    fs::create_dir_all(from.join("workspace")).unwrap();
    let mut file = fs::File::create(from.join("workspace/f")).unwrap();
    for number in 0..20_000_u32 {
        file.write_all(&number.wrapping_mul(2_654_435_761).to_le_bytes())
            .unwrap();
    }
    let mut stream = Vec::new();
    pack(&tops(&from), &mut stream, BOUNDS).unwrap();
    for (number, cut) in [10, 600, stream.len() / 2].into_iter().enumerate() {
        let into = home.path().join(number.to_string());
        fs::create_dir(&into).unwrap();
        assert!(restore(&stream[..cut], &into).is_err(), "cut at {cut}");
    }
}
