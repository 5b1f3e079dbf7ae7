//! The property test of a session's life: random interleavings of what clients send, what models and tools do, and
//! of stops and deaths of the server, on the real store. Whatever happens, no invariant is broken (security I1 to I6,
//! I8, I10) and there is a way out.
//!
//! `MANYHANDS_INTERLEAVINGS` sets how many cases there are in all; `MANYHANDS_INTERLEAVING_SEED` repeats one case,
//! side by side with itself, for what is left to chance. A failure prints the seed, the steps and the log.

mod branches;
mod case;
mod check;
mod drive;
mod heard;
mod model;
mod world;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::{FutureExt, StreamExt};

use case::Case;
use drive::Life;
use model::lock;
use world::{Settings, World};

/// Cases in all when nothing else is said.
const CASES: u64 = 10_000;
/// The parts of the whole: one test each.
const PARTS: u64 = 4;
/// Cases that live side by side in one world: what befalls the server befalls all of them.
const TOGETHER: usize = 24;
/// Failures that are told in full.
const TOLD: usize = 3;

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text:?}")),
    )
}

/// Lives the cases of one part of the whole.
fn explore(part: u64, settings: Settings) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let count = variable("MANYHANDS_INTERLEAVINGS").unwrap_or(CASES) / PARTS;
        let one = variable("MANYHANDS_INTERLEAVING_SEED");
        let begun = std::time::Instant::now();
        let (world, wishes) = World::start(settings).await;
        let lives = (0..count).map(|index| {
            let seed = one.unwrap_or(part * 1_000_000_000 + index);
            let world = Arc::clone(&world);
            tokio::spawn(async move { live(&world, seed, index).await })
        });
        let lives = futures::stream::iter(lives).buffer_unordered(TOGETHER);
        let problems = lives.filter_map(async |ended| ended.expect("no panic").err());
        let problems: Vec<String> = tokio::select! {
            problems = problems.collect() => problems,
            () = world.keep(wishes) => unreachable!("the world holds the other end"),
        };
        world.end().await;
        let counts = lock(&world.counts).clone();
        println!("{settings:?}: {count} cases in {:?}", begun.elapsed());
        for (branch, count) in &counts {
            println!("{count:>8}  {branch}");
        }
        for problem in problems.iter().take(TOLD) {
            println!("{problem}");
        }
        if one.is_none() && count >= branches::ENOUGH {
            let missing = branches::missing(&counts, settings);
            assert!(missing.is_empty(), "never taken: {missing:?}");
        }
        assert!(
            problems.is_empty(),
            "{} of {count} cases failed",
            problems.len()
        );
    });
}

/// One case, from its creation to the checks.
async fn live(world: &Arc<World>, seed: u64, number: u64) -> Result<(), String> {
    let case = Case::generate(seed);
    let lived = AssertUnwindSafe(through(world, &case, number)).catch_unwind();
    let lived = lived
        .await
        .unwrap_or_else(|_| Err("a panic, told above".to_owned()));
    world.scripts.remove(number);
    lived.map_err(|problem| {
        let steps: Vec<String> = case.steps.iter().map(|step| format!("  {step:?}")).collect();
        let replies: Vec<String> = case.replies.iter().map(|reply| format!("  {reply:?}")).collect();
        format!(
            "--- MANYHANDS_INTERLEAVING_SEED={} ({} initial messages, budget {:?})\nreplies\n{}\nsteps\n{}\n{problem}",
            case.seed,
            case.initial,
            case.budget,
            replies.join("\n"),
            steps.join("\n"),
        )
    })
}

async fn through(world: &Arc<World>, case: &Case, number: u64) -> Result<(), String> {
    let mut life = Life::begin(world, case, number).await;
    let lived = async {
        for step in &case.steps {
            life.step(step).await?;
        }
        life.finish().await?;
        check::check(&life).await
    };
    match lived.await {
        Ok(()) => {
            world.count(format!("end: {:?}", life.fate));
            Ok(())
        }
        Err(problem) => Err(format!(
            "problem\n  {problem}\nlog\n{}",
            check::dump(&life).await
        )),
    }
}

/// security I1, I2, I3, I4, I5, I6, I8, I10
#[test]
fn i_8_interleavings_with_transcripts_kept_between_wakes() {
    let (limits, window) = ((500, 128), None);
    let cached = true;
    explore(
        0,
        Settings {
            cached,
            limits,
            window,
        },
    );
}

/// security I1, I2, I3, I4, I5, I6, I8, I10
#[test]
fn i_8_interleavings_with_transcripts_folded_at_each_wake() {
    let (limits, window) = ((500, 128), None);
    let cached = false;
    explore(
        1,
        Settings {
            cached,
            limits,
            window,
        },
    );
}

/// security I1, I2, I3, I4, I5, I6, I8, I10
#[test]
fn i_8_interleavings_with_narrow_limits() {
    let (limits, window) = ((2, 2), Some(1700));
    let cached = true;
    explore(
        2,
        Settings {
            cached,
            limits,
            window,
        },
    );
}

/// security I1, I2, I3, I4, I5, I6, I8, I10
#[test]
fn i_8_interleavings_with_narrow_limits_folded_at_each_wake() {
    let (limits, window) = ((3, 3), Some(1700));
    let cached = false;
    explore(
        3,
        Settings {
            cached,
            limits,
            window,
        },
    );
}
