use super::folders::aside;
use super::watch::serve;
use super::*;
use crate::frame;
use rustix::fs::mkdirat;
use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

struct Bed {
    home: tempfile::TempDir,
    folders: Folders,
}

impl Bed {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        for name in ["memory", "tmp"] {
            fs::create_dir(home.path().join(name)).unwrap();
        }
        fs::write(home.path().join("secret"), "the host's").unwrap();
        let open = |name: &str| directory(rustix::fs::CWD, path(&home.path().join(name)));
        let folders = Folders::new(open("memory").unwrap(), open("tmp").unwrap(), None);
        folders.make("notes", true).unwrap();
        Self { home, folders }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.home.path().join("memory/notes").join(path)
    }

    fn look(&self) -> Seen {
        match self.folders.answer(&Ask::Look {
            folder: "notes".to_owned(),
            writable: true,
            first: true,
        }) {
            Answer::Seen(seen) => seen,
            other => panic!("{other:?}"),
        }
    }

    fn stamp(&self, path: &str) -> Stamp {
        let seen = self.look().files.into_iter();
        let mut found = seen.filter(|(found, _)| found == path);
        found.next().expect("a file").1
    }

    fn put(&self, path: &str, text: &str, over: Over) -> Answer {
        self.folders.answer(&Ask::Put {
            folder: "notes".to_owned(),
            path: path.to_owned(),
            text: text.to_owned(),
            over,
        })
    }

    fn read(&self, path: &str) -> Answer {
        self.folders.answer(&Ask::Read {
            folder: "notes".to_owned(),
            path: path.to_owned(),
            most: 16,
        })
    }

    fn clear(&self, path: &[u8]) -> Answer {
        self.folders.answer(&Ask::Clear {
            folder: "notes".to_owned(),
            path: path.to_owned(),
        })
    }

    fn remove(&self, path: &str, stamp: Stamp) -> Answer {
        self.folders.answer(&Ask::Remove {
            folder: "notes".to_owned(),
            path: path.to_owned(),
            stamp,
        })
    }

    /// The texts of the regular files.
    fn texts(&self) -> BTreeMap<String, String> {
        let files = self.look().files.into_iter();
        files
            .map(|(path, _)| {
                let text = fs::read_to_string(self.at(&path)).unwrap();
                (path, text)
            })
            .collect()
    }

    /// The texts that are kept, in order.
    fn kept(&self) -> Vec<String> {
        let entries = fs::read_dir(self.home.path().join("tmp")).unwrap();
        let texts = entries.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
        let mut texts: Vec<String> = texts.collect();
        texts.sort();
        texts
    }
}

fn path(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

fn texts(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pair = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
    of.iter().map(pair).collect()
}

/// runtime ME-15: a file is laid where there is nothing, or in the place of the file that was expected.
#[test]
fn me_15_a_file_is_laid_over_what_was_expected_alone() {
    let bed = Bed::new();
    let put = bed.put("a/b/one.md", "1", Over::Nothing);
    assert!(
        matches!(put, Answer::Put { stamp: Some(stamp) } if stamp == bed.stamp("a/b/one.md")),
        "{put:?}"
    );
    assert_eq!(bed.put("a/b/one.md", "2", Over::Nothing), Answer::Changed);
    let seen = bed.stamp("a/b/one.md");
    let over = Over::File { stamp: seen };
    assert!(matches!(
        bed.put("a/b/one.md", "22", over),
        Answer::Put { stamp: Some(_) }
    ));
    assert_eq!(bed.texts(), texts(&[("a/b/one.md", "22")]));

    // Written by a tool since it was seen: both are there.
    fs::write(bed.at("a/b/one.md"), "the tool's").unwrap();
    let aside = bed.put("a/b/one.md", "333", over);
    assert!(
        matches!(&aside, Answer::Aside { name, stamp: Some(_) } if name.ends_with("-one.md")),
        "{aside:?}"
    );
    assert_eq!(bed.texts(), texts(&[("a/b/one.md", "333")]));
    assert_eq!(bed.kept(), ["the tool's"]);

    // Removed by a tool since: it stays removed.
    fs::remove_file(bed.at("a/b/one.md")).unwrap();
    assert_eq!(bed.put("a/b/one.md", "4", over), Answer::Changed);
    assert_eq!(bed.texts(), texts(&[]));
    fs::create_dir(bed.at("a/b/one.md")).unwrap();
    assert!(
        matches!(
            bed.put("a/b/one.md", "5", Over::Kept),
            Answer::Put { stamp: Some(_) }
        ),
        "an empty folder is nothing"
    );
}

#[test]
fn me_15_a_file_is_removed_as_it_was_seen_alone() {
    let bed = Bed::new();
    bed.put("a/b/one.md", "1", Over::Nothing);
    bed.put("a/two.md", "2", Over::Nothing);
    let seen = bed.stamp("a/b/one.md");
    fs::write(bed.at("a/b/one.md"), "the tool's").unwrap();
    assert_eq!(bed.remove("a/b/one.md", seen), Answer::Changed);
    assert_eq!(
        bed.texts(),
        texts(&[("a/b/one.md", "the tool's"), ("a/two.md", "2")])
    );
    let seen = bed.stamp("a/b/one.md");
    assert_eq!(bed.remove("a/b/one.md", seen), Answer::Done);
    assert!(!bed.at("a/b").exists(), "empty folders go too");
    assert_eq!(bed.texts(), texts(&[("a/two.md", "2")]));
    assert_eq!(bed.remove("a/b/one.md", seen), Answer::Changed);
}

/// runtime ME-17: what is no memory is seen as that, and goes; files are kept.
#[test]
fn me_17_what_is_no_memory_is_seen_and_cleared() {
    let bed = Bed::new();
    symlink(bed.home.path().join("secret"), bed.at("link")).unwrap();
    symlink(bed.home.path(), bed.at("up")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, bed.at("pipe"), Mode::RWXU).unwrap();
    let odd = OsStr::from_bytes(b"\xff.md");
    fs::write(bed.at("").join(odd), "odd").unwrap();
    fs::write(bed.at("fine"), "fine").unwrap();
    let mut seen = bed.look().odd;
    seen.sort_by(|one, other| one.path.cmp(&other.path));
    let kinds: Vec<(&[u8], Oddity)> = seen.iter().map(|it| (&*it.path, it.what)).collect();
    assert_eq!(
        kinds,
        [
            (&b"link"[..], Oddity::Link),
            (b"pipe", Oddity::Special),
            (b"up", Oddity::Link),
            (b"\xff.md", Oddity::NoText)
        ]
    );
    for odd in &seen {
        let cleared = bed.clear(&odd.path);
        assert!(
            matches!(cleared, Answer::Done | Answer::Aside { .. }),
            "{cleared:?}"
        );
    }
    assert_eq!(bed.look().odd, []);
    assert_eq!(bed.kept(), ["odd"]);
    assert!(bed.home.path().join("secret").exists());
    assert_eq!(bed.texts(), texts(&[("fine", "fine")]));
}

/// security SBX-4, INP-4: nothing is read, written or removed by way of a link, or outside.
#[test]
fn sbx_4_no_link_leads_anywhere() {
    let bed = Bed::new();
    symlink(bed.home.path(), bed.at("up")).unwrap();
    symlink(bed.home.path().join("secret"), bed.at("link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, bed.at("pipe"), Mode::RWXU).unwrap();
    let stamp = {
        bed.put("fine", "1", Over::Nothing);
        bed.stamp("fine")
    };
    for path in [
        "up/secret",
        "link",
        "pipe",
        "",
        "up",
        "../../secret",
        "/etc/passwd",
        "a//b",
    ] {
        let refused = |answer: Answer| {
            assert!(
                matches!(answer, Answer::Changed | Answer::Failed { .. }),
                "{path:?}: {answer:?}"
            );
        };
        refused(bed.read(path));
        refused(bed.put(path, "x", Over::Kept));
        refused(bed.put(path, "x", Over::File { stamp }));
        refused(bed.remove(path, stamp));
    }
    for outside in ["..", "a/b", "", "."] {
        let answer = bed.folders.answer(&Ask::Look {
            folder: outside.to_owned(),
            writable: true,
            first: true,
        });
        assert!(matches!(answer, Answer::Failed { .. }), "{answer:?}");
    }
    assert!(matches!(bed.clear(b"up/secret"), Answer::Changed));
    let secret = fs::read_to_string(bed.home.path().join("secret")).unwrap();
    assert_eq!(secret, "the host's");
    let left = fs::read_dir(bed.home.path()).unwrap().count();
    assert_eq!(left, 3);
}

#[test]
fn me_2_only_text_of_the_right_size_is_read() {
    let bed = Bed::new();
    for (name, content, expected) in [
        ("empty", &b""[..], Some("")),
        ("most", b"0123456789abcdef", Some("0123456789abcdef")),
        ("more", b"0123456789abcdefg", None),
        ("bytes", b"\xff\xfe", None),
    ] {
        fs::write(bed.at(name), content).unwrap();
        let text = match bed.read(name) {
            Answer::Text { text, .. } => Some(text),
            Answer::NoText { large, .. } => {
                assert_eq!(large, name == "more");
                None
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(text.as_deref(), expected, "{name}");
    }
}

/// security I10: however much is in it, a look ends, and says so.
#[test]
fn i10_a_look_says_what_it_has_left_out() {
    let bed = Bed::new();
    let mut at = directory(rustix::fs::CWD, path(&bed.at(""))).unwrap();
    for _ in 0..40 {
        mkdirat(&at, "d", Mode::RWXU).unwrap();
        at = directory(&at, b"d").unwrap();
    }
    let cut = bed.look().cut;
    assert!(
        cut.as_deref().is_some_and(|cut| cut.contains("too deep")),
        "{cut:?}"
    );
}

/// What somebody who ended in between has left is no memory.
#[test]
fn log_3_what_is_not_in_place_is_cleared_away() {
    let bed = Bed::new();
    fs::write(bed.at(&aside()), "half").unwrap();
    assert_eq!(bed.look().files, []);
    assert_eq!(fs::read_dir(bed.at("")).unwrap().count(), 0);
    let put = bed.put(&aside(), "a memory of that name", Over::Nothing);
    assert!(
        matches!(&put, Answer::Failed { why, full: false } if why.contains("reserved")),
        "{put:?}"
    );
}

/// runtime ME-15: changes are heard, also in folders that a look has found since.
#[test]
fn me_15_changes_are_heard_after_each_look() {
    let bed = Bed::new();
    let (input, mut asks) = rustix::pipe::pipe()
        .map(|(read, write)| (read, File::from(write)))
        .unwrap();
    let (answers, output) = rustix::pipe::pipe()
        .map(|(read, write)| (File::from(read), write))
        .unwrap();
    let mut answers = answers;
    let Bed { home, folders } = bed;
    let notes = home.path().join("memory/notes");
    let served = std::thread::spawn(move || serve(&folders, input, output));
    let mut ask = |ask: &Ask| frame::write(&mut asks, ask).unwrap();
    let mut next = || frame::read::<Answer>(&mut answers).unwrap();
    let look = Ask::Look {
        folder: "notes".to_owned(),
        writable: true,
        first: true,
    };
    ask(&look);
    assert!(matches!(next(), Some(Answer::Seen(seen)) if seen.files.is_empty()));
    fs::create_dir(notes.join("d")).unwrap();
    assert_eq!(next(), Some(Answer::Stirred));
    ask(&look);
    assert!(matches!(next(), Some(Answer::Seen(_))));
    fs::write(notes.join("d/one.md"), "1").unwrap();
    assert_eq!(next(), Some(Answer::Stirred));
    ask(&look);
    let found = |answer| matches!(answer, Some(Answer::Seen(seen)) if seen.files.len() == 1);
    assert!(found(next()));
    drop(asks);
    served.join().unwrap().unwrap();
}
