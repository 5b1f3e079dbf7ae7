//! Where resources are in the sandbox: files below the folder of uploads, whatever is asked for (runtime FI-1), and what all
//! paths have in common (security INP-4).

use manyhands_protocol::file::UPLOADS;

/// The longest path, in bytes, and the longest segment.
const LONGEST: usize = 1024;
const SEGMENT: usize = 255;
/// How deep a path may be below the folder.
const DEPTH: usize = 20;

/// The path in its one form, which is what the sandbox reads: `/data.csv` is `/mnt/session/uploads/data.csv`, and what
/// begins with that folder is taken as it is. What is not canonical is refused, not repaired.
pub(crate) fn canonical(given: &str) -> Result<String, String> {
    let below = match given.strip_prefix(UPLOADS) {
        Some(rest) if rest.starts_with('/') => rest,
        _ => given,
    };
    let below = below.strip_prefix('/').unwrap_or(below);
    check(UPLOADS, below)?;
    Ok(format!("{UPLOADS}/{below}"))
}

/// Refuses a path below a folder that is not a sequence of safe segments.
pub(super) fn check(folder: &str, below: &str) -> Result<(), String> {
    if folder.len() + 1 + below.len() > LONGEST {
        return Err(format!("is longer than {LONGEST} bytes"));
    }
    if below.split('/').count() > DEPTH {
        return Err(format!("has more than {DEPTH} segments"));
    }
    for segment in below.split('/') {
        if matches!(segment, "" | "." | "..") {
            return Err("has an empty segment, . or ..".to_owned());
        }
        if segment.len() > SEGMENT {
            return Err(format!("has a segment longer than {SEGMENT} bytes"));
        }
        if segment.contains(|character: char| character.is_control() || character == '\\') {
            return Err("has a backslash or a control character".to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fi_1_paths_are_rooted_in_the_folder_of_uploads() {
        for (given, expected) in [
            ("/data.csv", "/mnt/session/uploads/data.csv"),
            ("data.csv", "/mnt/session/uploads/data.csv"),
            ("/a/b c/ü.csv", "/mnt/session/uploads/a/b c/ü.csv"),
            ("/mnt/session/uploads/x", "/mnt/session/uploads/x"),
            (
                "/mnt/session/uploadsx",
                "/mnt/session/uploads/mnt/session/uploadsx",
            ),
            ("/workspace/x", "/mnt/session/uploads/workspace/x"),
            ("/.hidden", "/mnt/session/uploads/.hidden"),
        ] {
            assert_eq!(canonical(given).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn inp_4_what_is_no_safe_path_is_refused() {
        for given in [
            "",
            "/",
            "//a",
            "a//b",
            "a/",
            "/..",
            "a/../b",
            "./a",
            "a/.",
            "a\\b",
            "a\nb",
            "a\0b",
            "/mnt/session/uploads/",
            "/mnt/session/uploads/../x",
            &"a".repeat(256),
            &"a/".repeat(21),
            &format!("{}a", "abcdefgh/".repeat(200)),
        ] {
            assert!(canonical(given).is_err(), "{given:?}");
        }
    }
}
