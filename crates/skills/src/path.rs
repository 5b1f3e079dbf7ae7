//! Names of a skill's files: relative, of safe segments, in one canonical form (security INP-3, INP-4).

use unicode_normalization::UnicodeNormalization as _;

use crate::Problem;

/// The longest path, in bytes.
const LONGEST: usize = 1024;
/// The longest segment, in bytes: what file systems take.
const SEGMENT: usize = 255;
/// The deepest path, in segments.
const DEEPEST: usize = 20;

/// The canonical form of a relative path.
pub(crate) fn canonical(given: &str) -> Result<String, Problem> {
    if given.len() > LONGEST {
        return Err(Problem::at(
            given,
            "is too long for the name of a skill's file",
        ));
    }
    let path: String = given.nfc().collect();
    if path.len() > LONGEST {
        return Err(Problem::at(
            given,
            "is too long for the name of a skill's file",
        ));
    }
    if path.starts_with('/') {
        return Err(Problem::at(given, "is not a relative path"));
    }
    if path.contains('\\') {
        return Err(Problem::at(
            given,
            "has a backslash; folders are divided by \"/\"",
        ));
    }
    if path.chars().any(is_unsafe) {
        return Err(Problem::at(given, "has a control character"));
    }
    let segments: Vec<&str> = path.split('/').collect();
    if segments.len() > DEEPEST {
        return Err(Problem::at(
            given,
            "is too deep: at most 20 folders are allowed",
        ));
    }
    for segment in segments {
        if matches!(segment, "" | "." | "..") {
            return Err(Problem::at(given, "is not a path below the skill's folder"));
        }
        if segment.len() > SEGMENT {
            return Err(Problem::at(
                given,
                "has a name of more than 255 bytes in it",
            ));
        }
        // What Windows reads as a drive or a stream.
        if segment.contains(':') {
            return Err(Problem::at(given, "has a colon"));
        }
    }
    Ok(path)
}

/// What two names share that a file system without case could take for one (security INP-3).
pub(crate) fn folded(path: &str) -> String {
    path.to_lowercase().nfkc().collect()
}

/// Control characters, and those that only steer how others are shown: a name with them reads as another.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inp_4_paths_are_safe_segments_in_one_form() {
        #[track_caller]
        fn check(given: &str, expected: Option<&str>) {
            assert_eq!(canonical(given).ok().as_deref(), expected, "{given:?}");
        }
        check("a", Some("a"));
        check("a/b c/d-ü.md", Some("a/b c/d-ü.md"));
        check("a/.hidden", Some("a/.hidden"));
        check("a/u\u{308}", Some("a/ü"));
        check("a/...", Some("a/..."));
        for refused in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/..",
            "../a",
            "a/../b",
            "a/./b",
            "a\\b",
            "C:/a",
            "a:b",
            "a\nb",
            "a\0b",
            "a/\u{202e}b",
            "a/\u{200b}",
        ] {
            check(refused, None);
        }
        check(&"a".repeat(256), None);
        check(
            &format!("{}a", "a/".repeat(19)),
            Some(&format!("{}a", "a/".repeat(19))),
        );
        check(&format!("{}a", "a/".repeat(20)), None);
        check(
            &format!("{}a", format!("{}/", "a".repeat(250)).repeat(5)),
            None,
        );
    }

    #[test]
    fn inp_3_names_that_could_land_on_one_are_found() {
        for (one, other) in [
            ("a/README.md", "a/readme.MD"),
            ("ﬁ", "fi"),
            ("É", "e\u{301}"),
        ] {
            assert_eq!(folded(one), folded(other));
        }
        assert_ne!(folded("a"), folded("b"));
    }
}
