//! The tests of the checkout.

mod python;
mod rust;
mod typescript;

use std::fs;
use std::path::Path;

use anyhow::Context;
use ignore::WalkBuilder;

/// Where tests are, seen from the root of the checkout.
const PLACES: [&str; 4] = ["crates", "fuzz", "src", "tests"];

/// A test that runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Test {
    /// The file, seen from the root of the checkout.
    pub(crate) file: String,
    /// The function, or the title in TypeScript.
    pub(crate) name: String,
    /// Its doc comment.
    pub(crate) comment: String,
}

/// All tests below the root, sorted; what git ignores is left out.
pub(crate) fn tests(root: &Path) -> anyhow::Result<Vec<Test>> {
    let mut found = Vec::new();
    for place in PLACES {
        // Also in a copy of the sources that is no repository.
        for entry in WalkBuilder::new(root.join(place))
            .require_git(false)
            .build()
        {
            let entry = entry?;
            let path = entry.path();
            let read: fn(&str) -> anyhow::Result<Vec<Named>> =
                match path.extension().and_then(|end| end.to_str()) {
                    Some("rs") => rust::tests,
                    Some("py") => |source| Ok(python::tests(source)),
                    Some("ts") => |source| Ok(typescript::tests(source)),
                    _ => continue,
                };
            let file = path.strip_prefix(root)?.display().to_string();
            let source = fs::read_to_string(path).with_context(|| file.clone())?;
            for Named { name, comment } in read(&source).with_context(|| file.clone())? {
                let file = file.clone();
                found.push(Test {
                    file,
                    name,
                    comment,
                });
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A test within its file.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    name: String,
    comment: String,
}

#[cfg(test)]
fn named(tests: &[(&str, &str)]) -> Vec<Named> {
    let own = |(name, comment): &(&str, &str)| Named {
        name: (*name).to_owned(),
        comment: (*comment).to_owned(),
    };
    tests.iter().map(own).collect()
}
