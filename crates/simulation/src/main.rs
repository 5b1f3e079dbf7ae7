//! `manyhands-sim`: lives one world and tells of it, or many and adds up what came of them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use manyhands_simulation::{Campaign, Totals, branches, run, shrink};
use serde_json::{Value, json};

/// Lives seeded worlds of servers, clients, models and faults; the same seed gives the same world.
#[derive(Parser)]
#[command(name = "manyhands-sim")]
struct Args {
    /// The one world to live and to tell of.
    #[arg(long, conflicts_with_all = ["seeds", "from", "state"])]
    seed: Option<u64>,
    /// How many worlds to live.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed of many.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Threads; each world has one to itself.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// A file that keeps what was reached, so that a run that was broken off goes on from there.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Tells all that happens in the one world.
    #[arg(long, requires = "seed")]
    trace: bool,
}

/// Seeds between two writes of the state.
const CHUNK: u64 = 2_000;
/// Violations that are listed at the end.
const LISTED: usize = 20;
/// Smaller worlds that are tried for a violation.
const TRIES: u32 = 2_000;

fn main() -> ExitCode {
    let args = Args::parse();
    let told = match args.seed {
        Some(seed) => one(seed, args.trace),
        None => many(&args),
    };
    match told {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("manyhands-sim: {problem}");
            ExitCode::from(2)
        }
    }
}

/// Lives one world. Whether it is as it must be.
fn one(seed: u64, trace: bool) -> Result<bool, String> {
    let outcome = run(seed, trace);
    let mut text = String::new();
    if trace {
        text.push_str(&outcome.told);
    }
    if outcome.violation.is_some()
        && let Some(smallest) = shrink(seed, TRIES)
    {
        text.push_str(&format!(
            "--- left of it, as small as it was made: {}\n{}\n",
            smallest.problem, smallest.details
        ));
    }
    text.push_str(&format!(
        "seed {seed}: {} steps, trace {:016x}\n",
        outcome.steps, outcome.hash
    ));
    if let Some(violation) = &outcome.violation {
        text.push_str(&format!("seed {seed}: {}\n", violation.problem));
    }
    tell(&text)?;
    Ok(outcome.violation.is_none())
}

/// Lives many worlds. Whether all are as they must be, and together took every branch.
fn many(args: &Args) -> Result<bool, String> {
    let begun = Instant::now();
    let (mut next, mut totals) = match &args.state {
        Some(path) => resume(path, args)?,
        None => (args.from, Totals::default()),
    };
    let end = args.from + args.seeds;
    let before = totals.worlds;
    while next < end {
        let campaign = Campaign {
            from: next,
            seeds: CHUNK.min(end - next),
            threads: args.threads,
        };
        totals.join(campaign.run());
        next += campaign.seeds;
        if let Some(path) = &args.state {
            keep(path, args, next, &totals)?;
        }
    }
    let mut text = String::new();
    for (branch, count) in &totals.counts {
        text.push_str(&format!("{count:>10}  {branch}\n"));
    }
    let missing = match totals.worlds >= branches::ENOUGH {
        true => branches::missing(&totals.counts),
        false => Vec::new(),
    };
    for branch in &missing {
        text.push_str(&format!("never taken: {branch}\n"));
    }
    for (seed, problem) in totals.violations.iter().take(LISTED) {
        text.push_str(&format!("seed {seed}: {problem}\n"));
    }
    let seconds = begun.elapsed().as_secs_f64();
    text.push_str(&format!(
        "{} worlds from seed {} ({} of them in {seconds:.1} s, {:.0} a second), {} steps, {} violations\n",
        totals.worlds,
        args.from,
        totals.worlds - before,
        (totals.worlds - before) as f64 / seconds.max(0.001),
        totals.steps,
        totals.violations.len(),
    ));
    tell(&text)?;
    Ok(totals.violations.is_empty() && missing.is_empty())
}

fn tell(text: &str) -> Result<(), String> {
    let told = std::io::stdout().lock().write_all(text.as_bytes());
    told.map_err(|error| format!("standard output: {error}"))
}

/// What an earlier run of the same seeds had reached.
fn resume(path: &Path, args: &Args) -> Result<(u64, Totals), String> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok((args.from, Totals::default()));
        }
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let wrong = || format!("{} is of another run; remove it", path.display());
    let state: Value = serde_json::from_str(&text).map_err(|_| wrong())?;
    if state["from"] != args.from || state["seeds"] != args.seeds {
        return Err(wrong());
    }
    let number = |name: &str| state[name].as_u64().ok_or_else(wrong);
    let members = |name: &str| state[name].as_object().ok_or_else(wrong);
    let mut totals = Totals {
        worlds: number("worlds")?,
        steps: number("steps")?,
        ..Totals::default()
    };
    for (branch, count) in members("counts")? {
        let count = count.as_u64().ok_or_else(wrong)?;
        totals.counts.insert(branch.clone(), count);
    }
    for (seed, problem) in members("violations")? {
        let seed = seed.parse().map_err(|_| wrong())?;
        let problem = problem.as_str().ok_or_else(wrong)?;
        totals.violations.insert(seed, problem.to_owned());
    }
    Ok((number("next")?, totals))
}

fn keep(path: &Path, args: &Args, next: u64, totals: &Totals) -> Result<(), String> {
    let state = json!({
        "from": args.from, "seeds": args.seeds, "next": next, "worlds": totals.worlds, "steps": totals.steps,
        "counts": totals.counts, "violations": totals.violations,
    });
    let new = path.with_extension("new");
    let written = fs::write(&new, state.to_string()).and_then(|()| fs::rename(&new, path));
    written.map_err(|error| format!("{}: {error}", path.display()))
}
