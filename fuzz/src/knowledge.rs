//! Skills that are uploaded, and paths of memories (security INP-1, INP-3, INP-4).

use std::collections::HashSet;

use manyhands_protocol::memory::MemoryPath;
use manyhands_skills::{DESCRIPTION, FILES, Folder, NAME, TOTAL, front_matter, read};

use crate::{is_one_line, text};

/// An archive that is taken is a folder of plain files, within its bounds; written and read again it is the same.
pub(crate) fn skill_archive(bytes: &[u8]) {
    let Ok(files) = read(bytes) else { return };
    let total: usize = files.iter().map(|file| file.bytes.len()).sum();
    assert!(total <= TOTAL, "{total}");
    let Ok(folder) = Folder::new(files) else {
        return;
    };
    assert!(folder.files().len() <= FILES);
    let mut folded = HashSet::new();
    for path in folder.files().keys() {
        let safe = |segment: &str| !matches!(segment, "" | "." | "..");
        assert!(path.split('/').all(safe) && is_one_line(path), "{path}");
        assert!(
            !path.contains('\\') && folded.insert(path.to_lowercase()),
            "{path}"
        );
    }
    let packed = folder.archive().expect("what was read can be written");
    let again = Folder::new(read(&packed).expect("and read")).expect("and is a skill");
    assert_eq!(again, folder);
}

/// What a skill says of itself is short, and its name is plain.
pub(crate) fn front(bytes: &[u8]) {
    match front_matter(bytes) {
        Ok(skill) => {
            let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
            assert!((1..=NAME).contains(&skill.name.len()) && skill.name.bytes().all(plain));
            assert!((1..=DESCRIPTION).contains(&skill.description.chars().count()));
        }
        Err(problem) => assert!(problem.to_string().chars().count() <= 400, "{problem}"),
    }
}

/// The path of a memory is safe segments, and so are the paths above it.
pub(crate) fn memory_path(bytes: &[u8]) {
    let Some(Ok(path)) = text(bytes).map(MemoryPath::parse) else {
        return;
    };
    let below = path.as_str().strip_prefix('/').expect("from the root");
    let safe = |segment: &str| !matches!(segment, "" | "." | "..");
    assert!(below.split('/').all(safe) && is_one_line(below), "{below}");
    assert!(path.as_str().len() <= 1024 && below.split('/').count() <= 20);
    for above in path.ancestors() {
        assert!(path.as_str()[above.len()..].starts_with('/'), "{above}");
        assert_eq!(MemoryPath::parse(above).expect("a path").as_str(), above);
    }
}
