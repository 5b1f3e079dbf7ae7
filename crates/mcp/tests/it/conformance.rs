//! The official conformance suite, with a baseline that names every scenario: a change either way fails.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;

use crate::peers::{modules, node, tree};

/// For one run, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// What each scenario comes to: checks that pass, and checks that fail.
type Results = BTreeMap<String, (u32, u32)>;

#[derive(Deserialize)]
struct Baseline {
    /// By run.
    runs: BTreeMap<String, Results>,
    /// The scenarios that no run has.
    not_run: BTreeMap<String, String>,
}

fn baseline() -> Baseline {
    let text = std::fs::read(tree("tests/mcp/conformance.json")).expect("the baseline");
    serde_json::from_slice(&text).expect("the baseline's form")
}

fn suite() -> Command {
    let mut command = node();
    command
        .arg(modules().join("@modelcontextprotocol/conformance/dist/index.js"))
        .stdin(Stdio::null());
    command
}

async fn output(mut command: Command) -> String {
    let done = tokio::time::timeout(PATIENCE, command.output()).await;
    let done = done.expect("the suite ends").expect("the suite runs");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Runs the scenarios that these arguments choose.
async fn check(run: &str, choice: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = suite();
    command
        .args([
            "client",
            "--command",
            env!("CARGO_BIN_EXE_mcp-conformance-client"),
        ])
        .args(["--timeout", "120000"])
        .args(choice)
        .arg("-o")
        .arg(folder.path());
    let said = output(command).await;
    let found: Results = said.lines().filter_map(result).collect();
    let expected = &baseline().runs[run];
    assert!(found == *expected, "{run}: {}", serde_json::json!(found));
}

/// `✓ tools_call: 2 passed, 0 failed`
fn result(line: &str) -> Option<(String, (u32, u32))> {
    let line = line.strip_prefix(['✓', '✗'])?.trim();
    let (scenario, counts) = line.rsplit_once(": ")?;
    let (passed, failed) = counts.split_once(" passed, ")?;
    let failed = failed.split_once(" failed")?.0;
    Some((
        scenario.to_owned(),
        (passed.parse().ok()?, failed.parse().ok()?),
    ))
}

#[tokio::test]
async fn mc_1_the_conformance_suite_at_2026_07_28() {
    check(
        "2026-07-28",
        &["--suite", "all", "--spec-version", "2026-07-28"],
    )
    .await;
}

#[tokio::test]
async fn mc_1_the_conformance_suite_at_2025_11_25() {
    check(
        "2025-11-25",
        &["--suite", "all", "--spec-version", "2025-11-25"],
    )
    .await;
}

#[tokio::test]
async fn mc_1_the_conformance_suite_at_2025_06_18() {
    check(
        "2025-06-18",
        &["--suite", "all", "--spec-version", "2025-06-18"],
    )
    .await;
}

#[tokio::test]
async fn mc_1_the_conformance_suite_at_2025_03_26() {
    check(
        "2025-03-26",
        &["--suite", "all", "--spec-version", "2025-03-26"],
    )
    .await;
}

#[tokio::test]
async fn mc_1_the_conformance_suites_extensions() {
    check("extensions", &["--suite", "extensions"]).await;
}

/// A scenario that a newer suite brings is not passed over, and what has no reason to fail does not.
#[tokio::test]
async fn the_baseline_names_every_scenario() {
    let mut command = suite();
    command.args(["list", "--client"]);
    let listed = output(command).await;
    let listed = listed
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- "));
    let listed: BTreeSet<String> = listed
        .filter_map(|line| Some(line.split_once(" [")?.0.to_owned()))
        .collect();
    assert!(listed.len() > 40, "{listed:?}");
    let baseline = baseline();
    let run: BTreeSet<String> = baseline
        .runs
        .values()
        .flat_map(|results| results.keys().cloned())
        .collect();
    let not_run: BTreeSet<String> = baseline.not_run.keys().cloned().collect();
    assert!(run.is_disjoint(&not_run));
    assert_eq!(listed, &run | &not_run);
    // Credentials come from vaults and humans are not asked: nothing else may fail.
    for (run, results) in &baseline.runs {
        for (scenario, (passed, failed)) in results {
            let may_fail = scenario.starts_with("auth/") || scenario.starts_with("elicitation-");
            assert!(
                may_fail || (*passed > 0 && *failed == 0),
                "{run}: {scenario}"
            );
        }
    }
}
