//! The property test of a session's life: random interleavings of what clients send, what models and tools do, and
//! of stops and deaths of the server, on the real store. Whatever happens, no invariant is broken (security I1 to I6,
//! I8, I10) and there is a way out.
//!
//! `MANYHANDS_INTERLEAVINGS` sets how many cases there are on SQLite; `MANYHANDS_INTERLEAVING_SEED` repeats one case,
//! side by side with itself, for what is left to chance. A failure prints the seed, the steps and the log, and what is left
//! of the case when all is left out that it does not need to fail.

mod branches;
mod case;
mod world;

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};

use manyhands_simulation::check::Problem;
use manyhands_simulation::client::{Life, Surroundings};
use manyhands_simulation::model::lock;

use case::{Case, Step};
use world::{Settings, World};

/// Cases in all when nothing else is said.
const CASES: u64 = 10_000;
/// Cases that live side by side in one world: what befalls the server befalls all of them.
const TOGETHER: usize = 24;
/// For how long a failing case is made smaller.
const SHRINKING: Duration = Duration::from_secs(60);
/// Failures that are told in full.
const TOLD: usize = 3;
/// Failures whose seed and problem are told.
const LISTED: usize = 20;

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text:?}")),
    )
}

/// Lives the cases of one part: one in `fraction` of all.
fn explore(part: u64, fraction: u64, settings: Settings) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let count = variable("MANYHANDS_INTERLEAVINGS").unwrap_or(CASES) / fraction;
        let one = variable("MANYHANDS_INTERLEAVING_SEED");
        let begun = Instant::now();
        let seeds = (0..count).map(|index| one.unwrap_or(part * 1_000_000_000 + index));
        let (failures, counts) = live_all(seeds.map(Case::generate), settings).await;
        let mut told = format!("{settings:?}: {count} cases in {:?}\n", begun.elapsed());
        for (branch, count) in &counts {
            told.push_str(&format!("{count:>8}  {branch}\n"));
        }
        tell(&told);
        for Failure { case, log, .. } in failures.iter().take(TOLD) {
            println!("--- log of seed {}\n{log}\n{case}", case.seed);
        }
        if let Some(first) = failures.first() {
            let smallest = shrink(first.case.clone(), settings).await;
            println!("--- left of the first, as small as it was made\n{smallest}");
        }
        // Last, and without a panic whose backtrace would follow: of a long output the end is what is kept.
        let listed = failures.iter().take(LISTED).map(|failure| {
            let Failure { case, problem, .. } = failure;
            format!("\nMANYHANDS_INTERLEAVING_SEED={}: {problem}", case.seed)
        });
        let listed: String = listed.collect();
        if !failures.is_empty() {
            let failed = failures.len();
            println!("{failed} of {count} cases failed ({settings:?}){listed}");
            return ExitCode::FAILURE;
        }
        if one.is_none() && count >= branches::ENOUGH {
            let missing = branches::missing(&counts, settings);
            assert!(missing.is_empty(), "never taken: {missing:?}");
        }
        ExitCode::SUCCESS
    })
}

/// Prints past the capture of the test's output: the counts are told of good runs, too.
fn tell(text: &str) {
    let told = std::io::stdout().write_all(text.as_bytes());
    told.expect("standard output is open");
}

/// A case that broke something.
struct Failure {
    case: Case,
    /// What.
    problem: Problem,
    log: String,
}

/// Lives cases in a world of their own, and tells which branches they took.
async fn live_all(
    cases: impl Iterator<Item = Case>,
    settings: Settings,
) -> (Vec<Failure>, BTreeMap<String, u64>) {
    let (world, wishes) = World::start(settings).await;
    let lives = (0..).zip(cases).map(|(number, case)| {
        let world = Arc::clone(&world);
        tokio::spawn(async move { live(&world, case, number).await })
    });
    let lives = futures::stream::iter(lives).buffer_unordered(TOGETHER);
    let failures = lives.filter_map(async |ended| ended.expect("no panic").err());
    let failures: Vec<Failure> = tokio::select! {
        failures = failures.collect() => failures,
        () = world.keep(wishes) => unreachable!("the world holds the other end"),
    };
    let damage = world.end().await;
    // A case that fails says more.
    assert!(damage.is_empty() || !failures.is_empty(), "{damage:#?}");
    (failures, lock(&world.counts).clone())
}

/// Leaves out what a failing case does not need to fail. What is left to chance may hide a failure, so that each
/// smaller case is lived many times.
async fn shrink(mut case: Case, settings: Settings) -> Case {
    let begun = Instant::now();
    'again: loop {
        for smaller in case.smaller() {
            if begun.elapsed() > SHRINKING {
                return case;
            }
            let many = std::iter::repeat_n(smaller.clone(), 2 * TOGETHER);
            if !live_all(many, settings).await.0.is_empty() {
                case = smaller;
                continue 'again;
            }
        }
        return case;
    }
}

/// One case, from its creation to the checks.
async fn live(world: &Arc<World>, case: Case, number: u64) -> Result<(), Failure> {
    let lived = AssertUnwindSafe(through(world, &case, number)).catch_unwind();
    let lived = lived.await;
    world.scripts.remove(number);
    let lived = lived.unwrap_or_else(|_| Err(("a panic, told above".to_owned(), String::new())));
    lived.map_err(|(problem, log)| Failure { case, problem, log })
}

/// Gives what went wrong, and the log.
async fn through(world: &Arc<World>, case: &Case, number: u64) -> Result<(), (Problem, String)> {
    let around = Arc::clone(world) as Arc<dyn Surroundings>;
    let begun = Life::begin(around, &case.story, number).await;
    let mut life = begun.map_err(|problem| (problem, String::new()))?;
    match lived(world, case, &mut life).await {
        Ok(()) => {
            world.count(format!("end: {:?}", life.fate()));
            Ok(())
        }
        Err(problem) => Err((problem, life.dump().await)),
    }
}

/// Takes all steps, and judges what came of them.
async fn lived(world: &World, case: &Case, life: &mut Life) -> Result<(), Problem> {
    for step in &case.story.steps {
        match step {
            Step::Client(step) => life.step(step).await?,
            Step::Restart => {
                world.count("step: restart");
                world.restart(false).await;
            }
            Step::Crash => {
                world.count("step: crash");
                world.restart(true).await;
            }
            Step::CrashAt(point, nth) => {
                world.count(format!("step: {point}"));
                world.crash_at(life.session(), point, *nth);
            }
            Step::LoseSandbox => {
                world.count("step: lose the sandbox");
                world.hands.lose(life.session());
            }
        }
    }
    world.spare(life.session());
    life.finish().await?;
    life.look().await?;
    life.judge().await
}

/// Limits that no case meets, and a model whose window is not known.
const WIDE: Settings = Settings {
    cached: true,
    limits: (500, 128),
    window: None,
    postgres: false,
};

/// Limits and a window that many cases meet.
const NARROW: Settings = Settings {
    limits: (2, 2),
    window: Some(1700),
    ..WIDE
};

/// security I1, I2, I3, I4, I5, I6, I8, I10
#[test]
fn i_8_interleavings_with_transcripts_kept_between_wakes() -> ExitCode {
    explore(0, 4, WIDE)
}

/// security I1, I2, I3, I4, I5, I6, I8, I10
#[test]
fn i_8_interleavings_with_transcripts_folded_at_each_wake() -> ExitCode {
    let cached = false;
    explore(1, 4, Settings { cached, ..WIDE })
}

/// security I1, I2, I3, I4, I5, I6, I8, I10
#[test]
fn i_8_interleavings_with_narrow_limits() -> ExitCode {
    explore(2, 4, NARROW)
}

/// security I1, I2, I3, I4, I5, I6, I8, I10
#[test]
fn i_8_interleavings_with_narrow_limits_folded_at_each_wake() -> ExitCode {
    let (cached, limits) = (false, (3, 3));
    let settings = Settings {
        cached,
        limits,
        ..NARROW
    };
    explore(3, 4, settings)
}

/// security I1, I2, I3, I4, I5, I6, I8, I10: the other store; its commits wait for the disk.
#[test]
fn i_8_interleavings_on_postgres() -> ExitCode {
    let postgres = true;
    explore(4, 50, Settings { postgres, ..NARROW })
}
