//! `glob`: files by name, newest first (runtime TL-17).

use std::cmp::Reverse;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use globset::{GlobBuilder, GlobMatcher};
use ignore::WalkBuilder;

use super::{Glob, Place, Stop, file, shown};

/// The most paths returned.
const RESULTS: usize = 200;
/// The most entries looked at.
const ENTRIES: usize = 50_000;

pub(super) fn run(input: &Glob, place: &Place, stop: &Stop) -> Result<String, String> {
    let matcher = matcher(&input.pattern)?;
    let root = place.path_or_root(input.path.as_deref());
    let given = input.path.as_deref().unwrap_or(".");
    match std::fs::metadata(&root) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => {
            return Err(file::error(
                "glob",
                given,
                &std::io::ErrorKind::NotADirectory.into(),
            ));
        }
        Err(error) => return Err(file::error("glob", given, &error)),
    }
    let mut found: Vec<(Reverse<SystemTime>, PathBuf)> = Vec::new();
    let mut seen = 0;
    // An unreadable directory is passed over: the rest is still worth finding.
    for entry in WalkBuilder::new(&root)
        .standard_filters(false)
        .build()
        .flatten()
    {
        stop.check().map_err(|stopped| stopped.text("glob"))?;
        if entry.depth() == 0 {
            continue;
        }
        if seen == ENTRIES {
            break;
        }
        seen += 1;
        let relative = entry.path().strip_prefix(&root).unwrap_or(entry.path());
        if matcher.is_match(relative) {
            let modified = entry.metadata().ok().and_then(|meta| meta.modified().ok());
            found.push((
                Reverse(modified.unwrap_or(SystemTime::UNIX_EPOCH)),
                entry.into_path(),
            ));
        }
    }
    found.sort();
    let mut lines: Vec<_> = found
        .iter()
        .take(RESULTS)
        .map(|(_, path)| shown(path))
        .collect();
    if lines.is_empty() {
        lines.push("no matches".into());
    }
    if seen == ENTRIES {
        lines
            .push(format!("[stopped after {ENTRIES} entries; narrow the search with path]").into());
    }
    Ok(lines.join("\n"))
}

fn matcher(pattern: &str) -> Result<GlobMatcher, String> {
    if pattern.starts_with('/') {
        return Err(
            "glob: absolute pattern not permitted; pass a relative pattern (and optionally path)"
                .to_owned(),
        );
    }
    if Path::new(pattern)
        .components()
        .any(|part| part == Component::ParentDir)
    {
        return Err("glob: '..' is not permitted in the pattern".to_owned());
    }
    let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|error| format!("glob: invalid pattern: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tl_17_patterns() {
        #[track_caller]
        fn check(pattern: &str, path: &str, expected: bool) {
            assert_eq!(
                matcher(pattern).unwrap().is_match(path),
                expected,
                "{pattern} on {path}"
            );
        }
        check("*.py", "a.py", true);
        check("*.py", "src/a.py", false);
        check("**/*.py", "a.py", true);
        check("**/*.py", "src/deep/a.py", true);
        check("src/**/*.py", "src/a.py", true);
        check("./*.py", "a.py", true);
        check("*", ".hidden", true);
        check("*.{py,rs}", "a.rs", true);
        check("[ab].txt", "b.txt", true);
        for refused in ["/etc/*", "../*", "a/../b", "a{"] {
            assert!(
                matcher(refused).unwrap_err().starts_with("glob: "),
                "{refused}"
            );
        }
    }
}
