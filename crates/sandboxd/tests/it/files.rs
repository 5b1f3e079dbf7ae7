//! The file tools, runtime TL-3, TL-14 to TL-19 and TL-22.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use manyhands_sandboxd::output::{Block, Output, Source};
use manyhands_sandboxd::tools::{self, Input, Place, Stop};
use serde_json::{Value, json};

use crate::supervisor::text;

struct Room {
    _directory: tempfile::TempDir,
    place: Place,
}

impl Room {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("workspace");
        fs::create_dir(&root).unwrap();
        let place = Place {
            root,
            spill: directory.path().join("spill"),
        };
        Self {
            _directory: directory,
            place,
        }
    }

    fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.place.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn content(&self, path: &str) -> String {
        fs::read_to_string(self.place.path(path)).unwrap()
    }

    fn run(&self, name: &str, input: Value) -> Output {
        self.run_with(name, input, &Stop::after(Duration::from_secs(60)))
    }

    fn run_with(&self, name: &str, input: Value, stop: &Stop) -> Output {
        tools::run(&Input::parse(name, &input).unwrap(), &self.place, stop)
    }

    #[track_caller]
    fn ok(&self, name: &str, input: Value, expected: &str) {
        assert_eq!(self.run(name, input), Output::text(expected));
    }

    #[track_caller]
    fn fails(&self, name: &str, input: Value, expected: &str) {
        assert_eq!(self.run(name, input), Output::error(expected));
    }

    /// A path below the working directory, as outputs show it.
    fn shown(&self, path: &str) -> String {
        self.place.path(path).display().to_string()
    }
}

#[test]
fn tl_14_read_text() {
    let room = Room::new();
    room.file("a.txt", "one\ntwo\nthree\n")
        .file("empty", "")
        .file("sub/b", "below");
    room.ok("read", json!({"file_path": "a.txt"}), "one\ntwo\nthree\n");
    room.ok("read", json!({"file_path": room.shown("sub/b")}), "below");
    room.ok(
        "read",
        json!({"file_path": "a.txt", "view_range": [2, 3]}),
        "two\nthree",
    );
    room.ok(
        "read",
        json!({"file_path": "a.txt", "view_range": [2, -1]}),
        "two\nthree\n",
    );
    room.ok("read", json!({"file_path": "empty"}), "(no output)");
    room.fails(
        "read",
        json!({"file_path": "a.txt", "view_range": [1]}),
        "read: view_range must be [start_line, end_line]",
    );
}

#[test]
fn tl_14_read_is_capped_at_256_kib() {
    let room = Room::new();
    let limit = 256 * 1024;
    room.file("big", "0123456\n".repeat(limit / 8 + 1))
        .file("fits", "x".repeat(99_000));
    assert_eq!(
        text(&room.run("read", json!({"file_path": "fits"}))).len(),
        99_000
    );
    let output = room.run("read", json!({"file_path": "big"}));
    assert!(output.is_error);
    assert!(
        text(&output).starts_with("read: big is 262152 bytes, exceeds 262144-byte limit."),
        "{output:?}"
    );
    assert!(text(&output).contains("view_range"));
    room.ok(
        "read",
        json!({"file_path": "big", "view_range": [32768, 32768]}),
        "0123456",
    );
    let output = room.run("read", json!({"file_path": "big", "view_range": [1, 0]}));
    assert!(
        output.is_error && text(&output).contains("Use a smaller view_range"),
        "{output:?}"
    );
}

#[test]
fn tl_14_read_pictures_and_documents() {
    let room = Room::new();
    let limit = 5 * 1024 * 1024 / 4 * 3;
    room.file("a.PNG", b"\x89PNG")
        .file("b.jpeg", b"\xff")
        .file("c.pdf", b"%PDF");
    room.file("edge.webp", vec![0; limit])
        .file("over.gif", vec![0; limit + 1]);
    let source = |media_type: &str, bytes: &[u8]| Source::Base64 {
        media_type: media_type.to_owned(),
        data: base64::engine::general_purpose::STANDARD.encode(bytes),
    };
    let image = |media, bytes| {
        Output::block(Block::Image {
            source: source(media, bytes),
        })
    };
    assert_eq!(
        room.run("read", json!({"file_path": "a.PNG"})),
        image("image/png", b"\x89PNG")
    );
    assert_eq!(
        room.run("read", json!({"file_path": "b.jpeg"})),
        image("image/jpeg", b"\xff")
    );
    let document = Output::block(Block::Document {
        source: source("application/pdf", b"%PDF"),
    });
    assert_eq!(room.run("read", json!({"file_path": "c.pdf"})), document);
    assert!(!room.run("read", json!({"file_path": "edge.webp"})).is_error);
    room.fails(
        "read",
        json!({"file_path": "over.gif"}),
        "read: over.gif is 3932161 bytes, exceeds 3932160-byte limit for image/PDF files.",
    );
    room.fails(
        "read",
        json!({"file_path": "c.pdf", "view_range": [1, 2]}),
        "read: view_range is not supported for image/PDF files",
    );
}

#[test]
fn tl_14_and_tl_22_read_errors() {
    let room = Room::new();
    room.file("binary", b"\xff\xfe\x00").file("file", "x");
    symlink("loop", room.place.path("loop")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        room.place.path("pipe"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    room.fails(
        "read",
        json!({"file_path": "none"}),
        "read: none: no such file or directory",
    );
    room.fails(
        "read",
        json!({"file_path": "file/x"}),
        "read: file/x: not a directory",
    );
    room.fails("read", json!({"file_path": "."}), "read: .: is a directory");
    room.fails(
        "read",
        json!({"file_path": "pipe"}),
        "read: pipe: not a regular file",
    );
    room.fails(
        "read",
        json!({"file_path": "loop"}),
        "read: loop: too many levels of symbolic links",
    );
    room.fails(
        "read",
        json!({"file_path": "binary"}),
        "read: binary: not valid UTF-8 text (of binary files only images and PDFs can be read)",
    );
}

#[test]
fn tl_15_write() {
    let room = Room::new();
    room.ok(
        "write",
        json!({"file_path": "a/b/c.txt", "content": "grüße\n"}),
        "wrote 8 bytes to a/b/c.txt",
    );
    assert_eq!(room.content("a/b/c.txt"), "grüße\n");
    let script = room.place.path("a/run.sh");
    room.file("a/run.sh", "old");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    symlink("a/run.sh", room.place.path("link")).unwrap();
    room.ok(
        "write",
        json!({"file_path": "link", "content": ""}),
        "wrote 0 bytes to link",
    );
    assert_eq!(room.content("a/run.sh"), "", "through the link");
    assert_eq!(
        fs::metadata(&script).unwrap().permissions().mode() & 0o777,
        0o755,
        "the mode stays"
    );
    assert!(
        fs::symlink_metadata(room.place.path("link"))
            .unwrap()
            .is_symlink()
    );
    room.ok(
        "write",
        json!({"file_path": "/dev/null", "content": "x"}),
        "wrote 1 bytes to /dev/null",
    );
    room.fails(
        "write",
        json!({"file_path": "a", "content": "x"}),
        "write: a: is a directory",
    );
    room.fails(
        "write",
        json!({"file_path": "link/x", "content": "x"}),
        "write: link/x: file already exists",
    );
}

#[test]
fn tl_16_edit() {
    let room = Room::new();
    room.file("a", "one two one\n").file("binary", b"\xff");
    let edit = |old: &str, new: &str, all: bool| json!({"file_path": "a", "old_string": old, "new_string": new, "replace_all": all});
    room.fails(
        "edit",
        edit("three", "x", false),
        "edit: old_string not found in a",
    );
    room.fails(
        "edit",
        edit("one", "x", false),
        "edit: old_string appears 2 times in a (must be unique)",
    );
    room.fails(
        "edit",
        edit("", "x", true),
        "edit: old_string must not be empty",
    );
    room.ok(
        "edit",
        edit("two", "2 $1 \\1", false),
        "edited a (1 replacement(s))",
    );
    assert_eq!(room.content("a"), "one 2 $1 \\1 one\n");
    room.ok(
        "edit",
        edit("one", "1", true),
        "edited a (2 replacement(s))",
    );
    assert_eq!(room.content("a"), "1 2 $1 \\1 1\n");
    room.fails(
        "edit",
        json!({"file_path": "binary", "old_string": "a", "new_string": "b"}),
        "edit: binary: not valid UTF-8 text (cannot edit binary files)",
    );
    room.fails(
        "edit",
        json!({"file_path": "none", "old_string": "a", "new_string": "b"}),
        "edit: none: no such file or directory",
    );
}

#[test]
fn tl_17_glob_newest_first() {
    let room = Room::new();
    room.file("old.py", "")
        .file("sub/new.py", "")
        .file("sub/.hidden.py", "")
        .file("other.rs", "");
    let set = |path: &str, age: u64| {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age);
        fs::File::options()
            .write(true)
            .open(room.place.path(path))
            .unwrap()
            .set_modified(time)
            .unwrap();
    };
    set("old.py", 30);
    set("sub/new.py", 10);
    set("sub/.hidden.py", 20);
    let all = ["sub/new.py", "sub/.hidden.py", "old.py"]
        .map(|path| room.shown(path))
        .join("\n");
    room.ok("glob", json!({"pattern": "**/*.py"}), &all);
    room.ok("glob", json!({"pattern": "*.py"}), &room.shown("old.py"));
    room.ok(
        "glob",
        json!({"pattern": "new.*", "path": "sub"}),
        &room.shown("sub/new.py"),
    );
    room.ok("glob", json!({"pattern": "*.txt"}), "no matches");
    room.fails(
        "glob",
        json!({"pattern": "../*"}),
        "glob: '..' is not permitted in the pattern",
    );
    room.fails(
        "glob",
        json!({"pattern": "*", "path": "none"}),
        "glob: none: no such file or directory",
    );
    room.fails(
        "glob",
        json!({"pattern": "*", "path": "old.py"}),
        "glob: old.py: not a directory",
    );
}

#[test]
fn tl_17_glob_is_bounded_and_follows_no_links() {
    let room = Room::new();
    for number in 0..250 {
        room.file(&format!("many/{number}"), "");
    }
    assert_eq!(
        text(&room.run("glob", json!({"pattern": "many/*"})))
            .lines()
            .count(),
        200
    );
    symlink("/etc", room.place.path("link")).unwrap();
    room.ok("glob", json!({"pattern": "link/*"}), "no matches");
    room.ok("glob", json!({"pattern": "link"}), &room.shown("link"));
}

#[test]
fn tl_18_grep() {
    let room = Room::new();
    room.file("a.txt", "one\nneedle here\r\n")
        .file("sub/b.txt", "needle\n\nneedle 2")
        .file("c.bin", b"needle\0");
    room.file(".hidden", "needle\n")
        .file(".git/config", "needle\n");
    let expected = [
        ".hidden:1:needle",
        "a.txt:2:needle here",
        "sub/b.txt:1:needle",
        "sub/b.txt:3:needle 2",
    ];
    room.ok(
        "grep",
        json!({"pattern": "needle"}),
        &expected.map(|line| room.shown(line)).join("\n"),
    );
    let one = room.shown("a.txt:2:needle here");
    room.ok(
        "grep",
        json!({"pattern": "^need.e h", "path": "a.txt"}),
        &one,
    );
    room.ok("grep", json!({"pattern": "nothing"}), "no matches");
    room.fails(
        "grep",
        json!({"pattern": "x", "path": "none"}),
        "grep: none: no such file or directory",
    );
    let output = room.run("grep", json!({"pattern": "a(b"}));
    assert!(
        output.is_error && text(&output).starts_with("grep: invalid regex: "),
        "{output:?}"
    );
}

#[test]
fn tl_18_grep_skips_what_git_ignores_and_links() {
    let room = Room::new();
    room.file(".gitignore", "skipped\n")
        .file("skipped", "needle")
        .file("kept", "needle");
    fs::create_dir(room.place.path(".git")).unwrap();
    symlink("kept", room.place.path("link")).unwrap();
    room.ok(
        "grep",
        json!({"pattern": "needle"}),
        &room.shown("kept:1:needle"),
    );
    room.ok(
        "grep",
        json!({"pattern": "needle", "path": "skipped"}),
        &room.shown("skipped:1:needle"),
    );
}

#[test]
fn tl_18_grep_cuts_lines_and_output() {
    let room = Room::new();
    room.file("long", "x".repeat(5000))
        .file("many/lines", format!("{}\n", "y".repeat(500)).repeat(1000));
    let output = room.run("grep", json!({"pattern": "x", "path": "long"}));
    assert_eq!(
        text(&output),
        format!("{}:1:{}", room.shown("long"), "x".repeat(2000))
    );
    let output = room.run("grep", json!({"pattern": "y", "path": "many"}));
    assert!(!output.is_error);
    // Its own cap of 100 KiB lies above the 100,000 characters of TL-3, so both notes can appear.
    assert!(text(&output).contains("[output truncated"), "{output:?}");
    let spilled = fs::read_dir(&room.place.spill)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let spilled = fs::read_to_string(spilled).unwrap();
    assert!(spilled.ends_with("\n[output truncated at 102400 bytes]") && spilled.len() <= 102_500);
}

#[test]
fn tl_20_a_search_ends_when_it_is_told_to() {
    let room = Room::new();
    room.file("a", "x");
    let stop = Stop::after(Duration::from_secs(60));
    stop.interrupt();
    for name in ["grep", "glob"] {
        let output = room.run_with(name, json!({"pattern": "x"}), &stop);
        assert_eq!(
            output,
            Output::error(format!("tool '{name}' was interrupted"))
        );
        let output = room.run_with(name, json!({"pattern": "x"}), &Stop::after(Duration::ZERO));
        assert_eq!(output, Output::error(format!("tool '{name}' timed out")));
    }
}

#[test]
fn tl_3_over_long_output_goes_to_a_file() {
    let room = Room::new();
    room.file("fits", "ü".repeat(100_000))
        .file("over", "ü".repeat(100_001));
    assert_eq!(
        text(&room.run("read", json!({"file_path": "fits"}))),
        "ü".repeat(100_000)
    );
    let output = room.run("read", json!({"file_path": "over"}));
    let (preview, rest) = text(&output).split_once('\n').unwrap();
    assert_eq!(preview, "ü".repeat(20_000));
    let path = rest
        .strip_prefix("[output truncated]\n[full output: 100001 characters, in ")
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap();
    assert_eq!(fs::read_to_string(path).unwrap(), "ü".repeat(100_001));
}

#[test]
fn tl_19_other_absolute_paths_are_left_to_the_system() {
    let room = Room::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("file").display().to_string();
    room.ok(
        "write",
        json!({"file_path": path, "content": "x"}),
        &format!("wrote 1 bytes to {path}"),
    );
    room.ok("read", json!({"file_path": path}), "x");
}
