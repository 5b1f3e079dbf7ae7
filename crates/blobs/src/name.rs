//! Names of blobs: what they are for, then chance.

use object_store::path::Path;

use crate::Error;

/// The longest name.
const LONGEST: usize = 256;

/// A new blob's name below `kind`, unlike all others: `files/3f/3f…`. The second part keeps folders small.
pub fn fresh(kind: &str) -> String {
    let chance = format!("{:032x}", rand::random::<u128>());
    format!("{kind}/{}/{chance}", &chance[..2])
}

/// The place of a blob. Names are made by [`fresh`] and kept in rows; anything else is refused, not repaired (security
/// INP-4).
pub(crate) fn place(name: &str) -> Result<Path, Error> {
    let safe = |segment: &str| {
        let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        !segment.is_empty() && segment.bytes().all(plain)
    };
    if name.len() > LONGEST || !name.split('/').all(safe) {
        return Err(Error::Invalid {
            operation: "naming a blob",
            reason: format!(
                "{:?} is no name of a blob",
                name.chars().take(LONGEST).collect::<String>()
            ),
        });
    }
    Ok(Path::from(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_new_and_are_names() {
        let (one, other) = (fresh("files"), fresh("files"));
        assert_ne!(one, other);
        assert_eq!(place(&one).expect("a name").as_ref(), one);
        assert!(one.starts_with("files/"));
    }

    #[test]
    fn inp_4_what_is_no_name_is_refused() {
        for name in [
            "",
            "/",
            "/files/x",
            "files/",
            "files//x",
            "files/../x",
            ".",
            "a#1",
            "a%2fb",
            "A",
            "a\0b",
            "ä",
            &"a".repeat(257),
        ] {
            assert!(
                matches!(place(name), Err(Error::Invalid { .. })),
                "{name:?}"
            );
        }
    }
}
