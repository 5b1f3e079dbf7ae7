//! Which rule is proven by which test.
//!
//! Reads the rules (`docs/rules.toml`) and the tests of the checkout (Rust, Python, TypeScript), and writes
//! `docs/coverage.md`. A test proves the rules that its name begins with, or that its doc comment names. With `--check`
//! nothing is written: it fails when the page is out of date, when a rule that holds now has no test, or when a
//! test names a rule that is not in the list.

mod mention;
mod page;
mod rule;
mod scan;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use crate::mention::Mentions;
use crate::rule::Rules;

/// Where the rules are listed, seen from the root of the checkout.
const RULES: &str = "docs/rules.toml";
/// The page that is written.
const PAGE: &str = "docs/coverage.md";

#[derive(Parser)]
#[command(about = "Writes docs/coverage.md: which rule is proven by which test")]
struct Arguments {
    /// The root of the checkout.
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// Write nothing; fail when the page is out of date, a rule is untested or a test names an unknown rule.
    #[arg(long)]
    check: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let problems = run(&arguments.root, arguments.check)?;
    for problem in &problems {
        eprintln!("coverage: {problem}");
    }
    let failed = arguments.check && !problems.is_empty();
    Ok(ExitCode::from(u8::from(failed)))
}

/// Writes the page, or compares it; what is wrong.
fn run(root: &Path, check: bool) -> anyhow::Result<Vec<String>> {
    let rules = Rules::parse(&read(&root.join(RULES))?).context(RULES)?;
    let mentions = Mentions::collect(&rules, scan::tests(root)?);
    let page = page::render(&rules, &mentions);
    let mut problems = page::problems(&rules, &mentions);
    let path = root.join(PAGE);
    if !check {
        fs::write(&path, &page).with_context(|| path.display().to_string())?;
        println!("{}", page::summary(&rules, &mentions));
    } else if read(&path)? != page {
        problems.push(format!("{PAGE} is out of date: run `make coverage`"));
    }
    Ok(problems)
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkout_is_read_written_and_checked() {
        let root = tempfile::tempdir().unwrap();
        let file = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let rule = |id: &str| format!("{{ id = '{id}', words = 'x', state = 'now' }},");
        let rules: String = ["SQ-1", "SQ-2", "SQ-3"].map(rule).concat();
        file(
            RULES,
            &format!("[[section]]\ntitle = 'All'\nsource = 'x'\nrules = [{rules}]"),
        );
        file(PAGE, "of yesterday");
        file(".gitignore", "node_modules/\n");
        file(
            "crates/a/src/lib.rs",
            "mod tests { #[test] fn sq_1_rust() {} }",
        );
        file("src/main.rs", "fn main() {}");
        file("fuzz/src/lib.rs", "");
        file("crates/a/notes.md", "#[test] fn sq_9_no_source() {}");
        file("tests/sdk/test_a.py", "def test_sq_2_python():\n    pass\n");
        file(
            "tests/sdk/node_modules/b/b.test.ts",
            "test('SQ-9 of somebody else', () => {})",
        );
        file("elsewhere/c.rs", "#[test] fn sq_9_not_looked_at() {}");
        let out_of_date = format!("{PAGE} is out of date: run `make coverage`");
        let untested = "SQ-3 has no test: x".to_owned();
        let found = run(root.path(), true).unwrap();
        assert_eq!(found, [untested.clone(), out_of_date.clone()]);
        assert_eq!(
            fs::read_to_string(root.path().join(PAGE)).unwrap(),
            "of yesterday"
        );
        assert_eq!(
            run(root.path(), false).unwrap(),
            std::slice::from_ref(&untested)
        );
        assert_eq!(
            run(root.path(), true).unwrap(),
            [untested],
            "written, so up to date"
        );
        file("tests/sdk/c.test.ts", "test('SQ-3: the last', () => {})");
        assert_eq!(run(root.path(), true).unwrap(), [out_of_date]);
        run(root.path(), false).unwrap();
        assert_eq!(run(root.path(), true).unwrap(), Vec::<String>::new());
    }
}
