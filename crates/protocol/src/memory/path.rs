//! What a memory's path may be (runtime ME-3, security INP-4).

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use unicode_normalization::is_nfc;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

/// A path has at most so many bytes …
const BYTES: usize = 1024;
/// … and so many segments.
const SEGMENTS: usize = 20;

/// The path of a memory: whoever has one, has a valid one. Compared, and sorted, by its bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct MemoryPath(String);

/// Why a text is not the path of a memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    /// It is relative.
    #[error("a path starts with /")]
    Relative,
    /// It has too many bytes.
    #[error("a path has at most {BYTES} bytes")]
    Long,
    /// It has too many segments.
    #[error("a path has at most {SEGMENTS} segments")]
    Deep,
    /// Two slashes beside each other, or one at the end.
    #[error("no segment of a path is empty")]
    EmptySegment,
    /// `.` or `..`
    #[error("no segment of a path is . or ..")]
    Dots,
    /// A character that is not seen.
    #[error("a path has no control or format characters and no line or paragraph separators")]
    Unseen,
    /// Another text for the same characters is the normal one.
    #[error("a path is in Unicode normalization form C")]
    NotNormal,
}

impl MemoryPath {
    /// Checks a text.
    ///
    /// # Errors
    /// When it breaks one of the rules of ME-3.
    pub fn parse(text: &str) -> Result<Self, PathProblem> {
        if text.len() > BYTES {
            return Err(PathProblem::Long);
        }
        let Some(segments) = text.strip_prefix('/') else {
            return Err(PathProblem::Relative);
        };
        for (index, segment) in segments.split('/').enumerate() {
            match segment {
                "" => return Err(PathProblem::EmptySegment),
                "." | ".." => return Err(PathProblem::Dots),
                _ if index == SEGMENTS => return Err(PathProblem::Deep),
                _ => {}
            }
        }
        if text.chars().any(is_unseen) {
            return Err(PathProblem::Unseen);
        }
        if !is_nfc(text) {
            return Err(PathProblem::NotNormal);
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The paths above it, without the root.
    pub fn ancestors(&self) -> impl Iterator<Item = &str> {
        let slashes = self.0.match_indices('/').skip(1);
        slashes.map(|(slash, _)| &self.0[..slash])
    }
}

fn is_unseen(character: char) -> bool {
    matches!(
        character.general_category(),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    )
}

impl fmt::Display for MemoryPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for MemoryPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

/// A text.
impl JsonSchema for MemoryPath {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "MemoryPath".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn me_3_paths_are_checked_segment_by_segment() {
        use PathProblem::{Deep, Dots, EmptySegment, Long, NotNormal, Relative, Unseen};
        #[track_caller]
        fn check(text: &str, expected: Result<(), PathProblem>) {
            let found = MemoryPath::parse(text).map(|path| assert_eq!(path.as_str(), text));
            assert_eq!(found, expected, "{text:?}");
        }
        for fine in [
            "/a",
            "/projects/foo/notes.md",
            "/A b/…/.hidden/a..b/...",
            "/日本/caf\u{e9}",
            "/\\/C:/*?\"<>|",
            "/\u{1f600}",
            &"/s".repeat(20),
            &format!("/{}", "x".repeat(1023)),
        ] {
            check(fine, Ok(()));
        }
        check("", Err(Relative));
        check("a/b", Err(Relative));
        check("/", Err(EmptySegment));
        check("//a", Err(EmptySegment));
        check("/a//b", Err(EmptySegment));
        check("/a/", Err(EmptySegment));
        check("/.", Err(Dots));
        check("/a/../b", Err(Dots));
        check("/a/..", Err(Dots));
        check(&"/s".repeat(21), Err(Deep));
        check(&format!("/{}", "x".repeat(1024)), Err(Long));
        check(&format!("/{}", "\u{e9}".repeat(512)), Err(Long));
        check("/a\0b", Err(Unseen));
        check("/a\nb", Err(Unseen));
        check("/a\u{7f}", Err(Unseen));
        check("/a\u{85}", Err(Unseen));
        check("/a\u{200b}", Err(Unseen));
        check("/a\u{202e}b", Err(Unseen));
        check("/\u{feff}a", Err(Unseen));
        check("/a\u{2028}b", Err(Unseen));
        check("/a\u{2029}b", Err(Unseen));
        check("/cafe\u{301}", Err(NotNormal));
        check("/\u{212b}", Err(NotNormal));
    }

    #[test]
    fn me_3_what_lies_above_a_path() {
        let path = MemoryPath::parse("/a/b/c").expect("a path");
        assert_eq!(path.ancestors().collect::<Vec<_>>(), ["/a", "/a/b"]);
        let path = MemoryPath::parse("/a").expect("a path");
        assert_eq!(path.ancestors().count(), 0);
    }

    #[test]
    fn inp_4_a_stored_path_is_checked_again() {
        assert!(serde_json::from_str::<MemoryPath>("\"/a\"").is_ok());
        assert!(serde_json::from_str::<MemoryPath>("\"/../a\"").is_err());
    }
}
