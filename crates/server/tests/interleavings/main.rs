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

/// How often which branch was taken.
type Counts = BTreeMap<String, u64>;

/// How many cases there are on SQLite.
fn cases() -> u64 {
    variable("MANYHANDS_INTERLEAVINGS").unwrap_or(CASES)
}

/// The one case that is to be repeated.
fn seed() -> Option<u64> {
    variable("MANYHANDS_INTERLEAVING_SEED")
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text:?}")),
    )
}

/// Lives the cases of one part. Gives how often which branch was taken, or which cases failed.
fn explore(part: u64, count: u64, settings: Settings) -> Result<Counts, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let begun = Instant::now();
        let seeds = (0..count).map(|index| seed().unwrap_or(part * 1_000_000_000 + index));
        let (failures, counts) = live_all(seeds.map(Case::generate), settings).await;
        let mut told = format!("{settings:?}: {count} cases in {:?}\n", begun.elapsed());
        for (branch, count) in &counts {
            told.push_str(&format!("{count:>8}  {branch}\n"));
        }
        tell(&told);
        for Failure { case, log, .. } in failures.iter().take(TOLD) {
            println!("--- log of seed {}\n{log}\n{case}", case.seed);
        }
        let Some(first) = failures.first() else {
            return Ok(counts);
        };
        let smallest = shrink(first.case.clone(), settings).await;
        println!("--- left of the first, as small as it was made\n{smallest}");
        let listed = failures.iter().take(LISTED).map(|failure| {
            let Failure { case, problem, .. } = failure;
            format!("\nMANYHANDS_INTERLEAVING_SEED={}: {problem}", case.seed)
        });
        let (failed, listed) = (failures.len(), listed.collect::<String>());
        Err(format!(
            "{failed} of {count} cases failed ({settings:?}){listed}"
        ))
    })
}

/// The end of a test: what failed, last and without a panic whose backtrace would follow, as of a long output the end is
/// what is kept.
fn conclude(explored: Result<(), String>) -> ExitCode {
    let Err(problem) = explored else {
        return ExitCode::SUCCESS;
    };
    println!("{problem}");
    ExitCode::FAILURE
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
async fn live_all(cases: impl Iterator<Item = Case>, settings: Settings) -> (Vec<Failure>, Counts) {
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

/// The parts: transcripts are kept between wakes or folded at each wake, limits are met or not.
const PARTS: [Settings; 4] = [
    WIDE,
    Settings {
        cached: false,
        ..WIDE
    },
    NARROW,
    Settings {
        cached: false,
        limits: (3, 3),
        ..NARROW
    },
];

/// Parts that are lived one after the other, beside those of the other lane.
const LANES: [[usize; 2]; 2] = [[0, 2], [1, 3]];

/// security I1, I2, I3, I4, I5, I6, I8, I10: and the cases of all parts together take every branch. One part alone takes
/// some of them a few times only, and in an unlucky run not once.
#[test]
fn i_8_interleavings_on_sqlite() -> ExitCode {
    let count = cases();
    let explore = |part: usize| {
        let (number, settings) = (part as u64, PARTS[part]);
        explore(number, count / PARTS.len() as u64, settings)
    };
    let explored: Vec<_> = std::thread::scope(|scope| {
        let lanes = LANES.map(|lane| scope.spawn(move || lane.map(explore)));
        let ended = lanes.map(|lane| lane.join().expect("no panic"));
        ended.into_iter().flatten().collect()
    });
    conclude(judge(count, explored))
}

/// Whether all parts went well, and took every branch where there were enough cases.
fn judge(count: u64, explored: Vec<Result<Counts, String>>) -> Result<(), String> {
    let mut taken = Counts::new();
    let mut problems = Vec::new();
    for part in explored {
        match part {
            Ok(counts) => counts.into_iter().for_each(|(branch, count)| {
                *taken.entry(branch).or_default() += count;
            }),
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        return Err(problems.join("\n"));
    }
    let missing = branches::missing(&taken);
    if seed().is_none() && count >= branches::ENOUGH && !missing.is_empty() {
        return Err(format!("never taken: {missing:?}"));
    }
    Ok(())
}

/// security I1, I2, I3, I4, I5, I6, I8, I10: the other store; its commits wait for the disk.
#[test]
fn i_8_interleavings_on_postgres() -> ExitCode {
    let postgres = true;
    let settings = Settings { postgres, ..NARROW };
    conclude(explore(4, cases() / 50, settings).map(drop))
}
