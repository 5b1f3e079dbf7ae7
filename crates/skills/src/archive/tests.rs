use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::Folder;

/// An entry as somebody hostile writes it.
#[derive(Clone)]
struct Raw {
    name: Vec<u8>,
    /// As its head says it, where that is another.
    head_name: Option<Vec<u8>>,
    mode: u32,
    flags: u16,
    content: Vec<u8>,
}

fn raw(name: &str, mode: u32, content: &str) -> Raw {
    Raw {
        name: name.into(),
        head_name: None,
        mode,
        flags: 0x800,
        content: content.into(),
    }
}

fn plain(name: &str) -> Raw {
    raw(name, 0o100_644, "x")
}

/// A zip of these entries, not packed, that says it has `count`.
fn zip(entries: &[Raw], count: Option<u16>) -> Vec<u8> {
    let (mut body, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let crc = {
            let mut hasher = flate2::Crc::new();
            hasher.update(&entry.content);
            hasher.sum()
        };
        let size = entry.content.len() as u32;
        let about = |name: &[u8]| {
            let mut about = Vec::new();
            about.extend(20u16.to_le_bytes());
            about.extend(entry.flags.to_le_bytes());
            about.extend([0; 2]);
            about.extend([0, 0, 0x21, 0]);
            about.extend(crc.to_le_bytes());
            about.extend(size.to_le_bytes());
            about.extend(size.to_le_bytes());
            about.extend((name.len() as u16).to_le_bytes());
            about.extend([0; 2]);
            about
        };
        let start = body.len() as u32;
        let head = entry.head_name.as_ref().unwrap_or(&entry.name);
        body.extend(b"PK\x03\x04");
        body.extend(about(head));
        body.extend(head);
        body.extend(&entry.content);
        directory.extend(b"PK\x01\x02");
        // Made on Unix, so that the mode counts.
        directory.extend([20, 3]);
        directory.extend(about(&entry.name));
        directory.extend([0; 6]);
        directory.extend((entry.mode << 16).to_le_bytes());
        directory.extend(start.to_le_bytes());
        directory.extend(&entry.name);
    }
    let count = count.unwrap_or(entries.len() as u16);
    let (size, start) = (directory.len() as u32, body.len() as u32);
    body.extend(directory);
    body.extend(b"PK\x05\x06\0\0\0\0");
    body.extend(count.to_le_bytes());
    body.extend(count.to_le_bytes());
    body.extend(size.to_le_bytes());
    body.extend(start.to_le_bytes());
    body.extend([0; 2]);
    body
}

fn open(bytes: &[u8]) -> Result<Folder, Problem> {
    Folder::new(read(bytes)?)
}

const HEAD: &str = "---\nname: a\ndescription: b\n---\n";

#[test]
fn sk_1_an_archive_is_read_with_its_execute_bits() {
    let folder = open(&zip(
        &[
            raw("a/", 0o040_755, ""),
            raw("a/SKILL.md", 0o100_644, HEAD),
            raw("a/run", 0o104_755, "binary"),
            raw("a/lib.sh", 0o100_644, "#!/bin/sh"),
            raw("a/unknown.sh", 0, "#!/bin/sh"),
        ],
        None,
    ))
    .expect("a skill");
    let is = |path: &str| folder.files()[path].executable;
    assert!(is("run") && is("unknown.sh"));
    assert!(!is("lib.sh") && !is("SKILL.md"));
}

#[test]
fn inp_3_hostile_archives_are_refused() {
    #[track_caller]
    fn check(more: &[Raw], problem: &str) {
        let mut entries = vec![raw("a/SKILL.md", 0o100_644, HEAD)];
        entries.extend_from_slice(more);
        let error = open(&zip(&entries, None)).expect_err(problem).to_string();
        assert!(error.contains(problem), "{error}");
    }
    check(&[plain("a/../../etc/passwd")], "not a path below");
    check(&[plain("../a/x")], "not a path below");
    check(&[plain("/etc/passwd")], "not a relative path");
    check(&[plain("a\\..\\x")], "backslash");
    check(&[plain("C:/x")], "colon");
    check(&[plain("a/x\0y")], "control character");
    check(&[raw("a/../../x/", 0o040_755, "")], "not a path below");
    check(
        &[raw("a/link", 0o120_777, "/etc/passwd")],
        "neither a plain file",
    );
    check(&[raw("a/device", 0o020_666, "")], "neither a plain file");
    check(&[raw("a/disk", 0o060_666, "")], "neither a plain file");
    check(&[raw("a/pipe", 0o010_666, "")], "neither a plain file");
    check(&[raw("a/socket", 0o140_666, "")], "neither a plain file");
    check(&[raw("a/x/", 0o100_644, "")], "neither a plain file");
    check(&[raw("a/x", 0o040_755, "")], "neither a plain file");
    check(&[plain("a/x"), plain("a/x")], "two entries of one name");
    check(&[plain("a/x"), plain("a/X")], "could land on the name");
    check(
        &[plain("a/\u{fc}"), plain("a/u\u{308}")],
        "could land on the name",
    );
    check(&[plain("a/x"), plain("a/x/y")], "could land on the name");
    check(&[plain("b/x")], "is not in the folder");
    let encrypted = Raw {
        flags: 0x801,
        ..plain("a/x")
    };
    assert!(open(&zip(&[encrypted], None)).is_err());
    let otherwise = Raw {
        head_name: Some(b"a/y".to_vec()),
        ..plain("a/x")
    };
    check(&[otherwise], "cannot be read");
}

#[test]
fn inp_1_what_says_more_than_it_has_is_refused() {
    let skill = raw("a/SKILL.md", 0o100_644, HEAD);
    for bytes in [
        &b""[..],
        b"PK\x03\x04",
        b"PK\x05\x06",
        b"no zip at all",
        &[0; 100],
    ] {
        assert!(read(bytes).is_err());
    }
    // An empty archive is one, but no skill.
    let empty = zip(&[], None);
    assert_eq!(read(&empty), Ok(Vec::new()));
    assert!(open(&empty).is_err());
    for count in [0, 2, 4_000, 4_001, u16::MAX] {
        assert!(
            read(&zip(std::slice::from_ref(&skill), Some(count))).is_err(),
            "{count}"
        );
    }
    let many: Vec<Raw> = (0..=ENTRIES).map(|n| plain(&format!("a/{n}"))).collect();
    let error = read(&zip(&many, None)).expect_err("too many").to_string();
    assert!(error.contains("4001 entries"), "{error}");
    // Two last records: readers may take either.
    let mut twice = zip(std::slice::from_ref(&skill), None);
    let end = twice.len() - 22;
    let record = twice[end..].to_vec();
    twice[end + 20..].copy_from_slice(&22u16.to_le_bytes());
    twice.extend(record);
    assert!(read(&twice).is_err());
}

#[test]
fn inp_1_bombs_are_given_up_on() {
    let pack = |bytes: usize| {
        let mut files = BTreeMap::new();
        let skill = Entry {
            bytes: HEAD.into(),
            executable: false,
        };
        files.insert("SKILL.md".to_owned(), skill);
        let zeros = Entry {
            bytes: vec![0; bytes].into(),
            executable: false,
        };
        files.insert("zeros".to_owned(), zeros);
        write("a", &files).expect("written")
    };
    assert!(open(&pack(FREE / 2)).is_ok(), "a little of it is no bomb");
    // 10 MB from 10 kB.
    assert_eq!(open(&pack(10 << 20)), Err(Problem::TooLarge));
    assert_eq!(open(&pack(TOTAL + 1)), Err(Problem::TooLarge));
    assert_eq!(read(&vec![0; ARCHIVE + 1]), Err(Problem::TooLarge));
}

#[test]
fn sk_1_the_largest_skill_goes_through_its_archive() {
    // Nothing that packs.
    let mut state = 1u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(TOTAL - HEAD.len())
    .collect();
    let folder = Folder::new([
        File::plain("a/SKILL.md".to_owned(), HEAD.into()),
        File::plain("a/noise".to_owned(), noise.into()),
    ])
    .expect("as large as may be");
    let archive = folder.archive().expect("an archive");
    assert_eq!(open(&archive).as_ref(), Ok(&folder));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What is written is read again as it was, and equal folders have equal archives.
    #[test]
    fn sk_1_archives_keep_folders(
        files in prop::collection::btree_map("[a-z]{1,8}(/[a-z]{1,4})?\\.[a-z]", (any::<Vec<u8>>(), any::<bool>()), 0..20)
    ) {
        let files: Vec<File> = files
            .into_iter()
            .map(|(path, (bytes, executable))| File { path: format!("a/{path}"), bytes: Bytes::from(bytes), executable })
            .chain([File::plain("a/SKILL.md".to_owned(), HEAD.into())])
            .collect();
        let folder = Folder::new(files.clone()).expect("a skill");
        let archive = folder.archive().expect("an archive");
        prop_assert_eq!(open(&archive), Ok(folder));
        let again = Folder::new(files.into_iter().rev()).expect("a skill").archive();
        prop_assert_eq!(again, Ok(archive));
    }

    /// security INP-6: whatever comes, the reader answers.
    #[test]
    fn inp_6_no_bytes_break_the_reader(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = zip(&[raw("a/SKILL.md", 0o100_644, HEAD), plain("a/x")], None);
        for (index, byte) in flips {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(files) = read(&bytes) {
            prop_assert!(files.len() <= 2);
        }
    }
}
