//! The failpoints that the source names.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What comes before the name of a point.
const MARKS: [&str; 3] = ["failpoint!(", "failpoint::pass(", ".pass("];

/// The names of all points below `crates/*/src`.
pub(crate) fn names() -> BTreeSet<String> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut names = BTreeSet::new();
    for member in fs::read_dir(crates).expect("the crates").flatten() {
        let source = member.path().join("src");
        if source.is_dir() {
            read(&source, &mut names);
        }
    }
    names
}

fn read(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            read(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            names.extend(named_in(&text));
        }
    }
}

/// The names that follow a mark, be it on the same line or not: the first text within the parentheses.
fn named_in(text: &str) -> impl Iterator<Item = String> {
    let marks = MARKS.into_iter();
    let places =
        marks.flat_map(move |mark| text.match_indices(mark).map(move |(at, _)| at + mark.len()));
    places.filter_map(move |at| {
        let inside = text[at..].split(')').next()?;
        let name = inside.split('"').nth(1)?;
        name.contains("::").then(|| name.to_owned())
    })
}

#[test]
fn points_are_found_in_all_their_spellings() {
    let text =
        "failpoint!(\"a::b\"); self.pass(\"c::d\").await; failpoint::pass(&x, \"e::f\", &y).await;
        failpoint!(
            \"g::h\"
        ); walk.pass(1); fence.pass(\"find\")?;";
    let found: Vec<String> = named_in(text).collect();
    assert_eq!(found, ["a::b", "g::h", "e::f", "c::d"]);
}
