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
    let rules = Rules::parse(&read(&arguments.root.join(RULES))?).context(RULES)?;
    let mentions = Mentions::collect(&rules, scan::tests(&arguments.root)?);
    let page = page::render(&rules, &mentions);
    let mut problems = page::problems(&rules, &mentions);

    let path = arguments.root.join(PAGE);
    if !arguments.check {
        fs::write(&path, &page).with_context(|| path.display().to_string())?;
        println!("{}", page::summary(&rules, &mentions));
    } else if read(&path)? != page {
        problems.push(format!("{PAGE} is out of date: run `make coverage`"));
    }
    for problem in &problems {
        eprintln!("coverage: {problem}");
    }
    let failed = arguments.check && !problems.is_empty();
    Ok(ExitCode::from(u8::from(failed)))
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}
