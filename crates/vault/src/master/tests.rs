use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

/// security CRED-1, CRED-2
#[test]
fn cred_1_a_master_key_is_exactly_32_bytes_and_never_shown() {
    let zeros = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let key = MasterKey::parse(&format!(" {zeros}\n")).expect("a key");
    assert_eq!(*key.bytes, [0; 32]);
    assert!(!format!("{key:?}").contains("AAAA") && !format!("{key:?}").contains("0, 0"));
    for broken in [
        "",
        "AAAA",
        "x",
        &zeros.replace('=', ""),
        &zeros.replacen('A', "", 4),
        &format!("AAAA{zeros}"),
        &"A".repeat(10_000),
    ] {
        let refused = MasterKey::parse(broken).expect_err("refused");
        assert!(matches!(refused, NoKey::Form), "{broken:.20}");
        assert!(!refused.to_string().contains("AAAA"));
    }
}

/// security CRED-1
#[test]
fn cred_1_fingerprints_tell_keys_apart_and_nothing_else() {
    let one = MasterKey::generate().expect("a key");
    let other = MasterKey::generate().expect("a key");
    assert_ne!(one.fingerprint(), other.fingerprint());
    assert_eq!(one.fingerprint().len(), 32);
    let again = MasterKey::of(one.bytes.clone());
    assert_eq!(again.fingerprint(), one.fingerprint());
}

/// security CRED-1: a key that others can read is not used.
#[test]
fn cred_1_the_file_of_a_key_is_for_its_owner_alone() {
    let folder = folder();
    let path = folder.path().join("master-key");
    assert!(matches!(MasterKey::read(&path), Err(NoKey::Missing { .. })));
    let key = MasterKey::generate().expect("a key");
    key.write(&path, false).expect("written");
    assert_eq!(mode(&path), 0o600);
    let read = MasterKey::read(&path).expect("read");
    assert_eq!(read.bytes, key.bytes);
    for exposed in [0o640, 0o604, 0o660, 0o644] {
        fs::set_permissions(&path, fs::Permissions::from_mode(exposed)).expect("set");
        let refused = MasterKey::read(&path).expect_err("refused");
        assert!(matches!(refused, NoKey::Exposed { .. }), "{exposed:o}");
    }
    let refused = MasterKey::read(folder.path()).expect_err("a folder");
    assert!(matches!(refused, NoKey::File { .. }));
}

/// security CRED-1
#[test]
fn cred_1_a_key_that_is_there_is_not_overwritten_by_accident() {
    let folder = folder();
    let path = folder.path().join("master-key");
    let (one, other) = (
        MasterKey::generate().expect("a key"),
        MasterKey::generate().expect("a key"),
    );
    one.write(&path, false).expect("written");
    let refused = other.write(&path, false).expect_err("refused");
    assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(MasterKey::read(&path).expect("read").bytes, one.bytes);
    other.write(&path, true).expect("replaced");
    assert_eq!(MasterKey::read(&path).expect("read").bytes, other.bytes);
    let left: Vec<_> = fs::read_dir(folder.path()).expect("a folder").collect();
    assert_eq!(left.len(), 1, "nothing is left beside it: {left:?}");
}

/// security CRED-1: of several servers that start at once in a directory one makes the key, and all have it.
#[test]
fn cred_1_servers_that_start_at_once_have_one_key() {
    let folder = folder();
    let path = folder.path().join("master-key");
    let start = std::sync::Barrier::new(8);
    let prints: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    let source = Source::File {
                        path: path.clone(),
                        make: true,
                    };
                    let found = find(&source, None).expect("a key");
                    found.fingerprint().to_owned()
                })
            })
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.map(|print| print.expect("a fingerprint")).collect()
    });
    assert!(prints.iter().all(|print| *print == prints[0]), "{prints:?}");
}

/// security CRED-1: what a source gives, by what is in the file, beside it, and in the store.
#[test]
fn cred_1_a_source_gives_the_key_in_use_or_none() {
    let keys = || {
        (
            MasterKey::generate().expect("a key"),
            MasterKey::generate().expect("a key"),
        )
    };
    struct Case {
        file: bool,
        beside: bool,
        make: bool,
        /// 0 none, 1 the file's key, 2 the key beside it, 3 another.
        in_use: u8,
        /// Which key is found, and whether it is in the file then.
        found: Option<u8>,
    }
    #[track_caller]
    fn check(keys: &(MasterKey, MasterKey), case: Case) {
        let folder = folder();
        let path = folder.path().join("master-key");
        if case.file {
            keys.0.write(&path, false).expect("written");
        }
        if case.beside {
            keys.1.write(&aside(&path), false).expect("written");
        }
        let source = Source::File {
            path: path.clone(),
            make: case.make,
        };
        let in_use = match case.in_use {
            0 => None,
            1 => Some(keys.0.fingerprint()),
            2 => Some(keys.1.fingerprint()),
            _ => Some("ffffffffffffffffffffffffffffffff"),
        };
        let found = find(&source, in_use);
        match case.found {
            None => {
                let why = found.err().expect("no key");
                assert!(!why.is_empty());
                assert_eq!(path.exists(), case.file, "nothing is made");
            }
            Some(expected) => {
                let found = found.expect("a key");
                let in_file = MasterKey::read(&path).expect("in the file");
                assert_eq!(found.fingerprint(), in_file.fingerprint());
                match expected {
                    1 => assert_eq!(found.fingerprint(), keys.0.fingerprint()),
                    2 => assert_eq!(found.fingerprint(), keys.1.fingerprint()),
                    _ => assert!(
                        ![keys.0.fingerprint(), keys.1.fingerprint()]
                            .contains(&found.fingerprint())
                    ),
                }
            }
        }
    }
    let keys = keys();
    let case = |file, beside, make, in_use, found| Case {
        file,
        beside,
        make,
        in_use,
        found,
    };
    // The first start.
    check(&keys, case(false, false, true, 0, Some(3)));
    check(&keys, case(false, false, false, 0, None));
    check(&keys, case(true, false, true, 0, Some(1)));
    check(&keys, case(true, false, false, 0, Some(1)));
    // A later one.
    check(&keys, case(true, false, true, 1, Some(1)));
    check(&keys, case(true, false, true, 3, None));
    check(&keys, case(false, false, true, 3, None));
    // A rotation that was cut short: before its commit, after it, and with a key that is neither.
    check(&keys, case(true, true, true, 1, Some(1)));
    check(&keys, case(true, true, true, 2, Some(2)));
    check(&keys, case(false, true, true, 2, Some(2)));
    check(&keys, case(true, true, true, 3, None));
    // What lies beside means nothing to an installation that never had a key.
    check(&keys, case(false, true, false, 0, None));
}

/// security CRED-1
#[test]
fn cred_1_a_key_in_text_and_none_at_all() {
    let key = MasterKey::generate().expect("a key");
    let text = BASE64_STANDARD.encode(key.bytes.as_slice());
    let source = Source::Text(SecretString::from(text));
    let found = find(&source, Some(key.fingerprint())).expect("the key");
    assert_eq!(found.fingerprint(), key.fingerprint());
    assert!(find(&source, Some("other")).is_err());
    let broken = Source::Text(SecretString::from("c2VjcmV0"));
    let why = find(&broken, None).err().expect("no key");
    assert!(!why.contains("c2VjcmV0"), "{why}");
    assert!(find(&Source::Nowhere, None).is_err());
}
