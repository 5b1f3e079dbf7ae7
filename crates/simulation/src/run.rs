//! One world, from its beginning to the verdict.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use manyhands_protocol::id::seeded::Seeded;

use crate::check::Problem;
use crate::client::{Life, Surroundings};
use crate::plan::Plan;
use crate::world::World;

/// What came of a world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What it was made from.
    pub seed: u64,
    /// How much happened in it.
    pub steps: u64,
    /// A hash of all that happened, with its times: the same for the same seed.
    pub hash: u64,
    /// How often each branch was taken.
    pub counts: BTreeMap<String, u64>,
    /// All that happened, when it was to be told.
    pub told: String,
    /// The first thing that was wrong.
    pub violation: Option<Violation>,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// In one line.
    pub problem: String,
    /// The plan and the logs.
    pub details: String,
}

/// Lives the world of a seed. `told` keeps all that happens.
pub fn run(seed: u64, told: bool) -> Outcome {
    live(Plan::generate(seed), told)
}

/// A violation of a seed in the smallest world that was found to have one; `None` when the seed has none. Tries so many
/// smaller worlds at most.
pub fn shrink(seed: u64, mut tries: u32) -> Option<Violation> {
    let mut plan = Plan::generate(seed);
    let mut violation = live(plan.clone(), false).violation?;
    'again: loop {
        for smaller in plan.smaller() {
            if tries == 0 {
                return Some(violation);
            }
            tries -= 1;
            if let Some(found) = live(smaller.clone(), false).violation {
                (plan, violation) = (smaller, found);
                continue 'again;
            }
        }
        return Some(violation);
    }
}

fn live(plan: Plan, told: bool) -> Outcome {
    let seed = plan.seed;
    let _ids = Seeded::from(seed);
    crate::seed_jitter(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let outcome = runtime
        .map_err(|error| error.to_string())
        .and_then(|runtime| {
            let outcome = runtime.block_on(through(plan, told));
            // All that is left of the world ends here.
            drop(runtime);
            outcome
        });
    outcome.unwrap_or_else(|problem| Outcome {
        seed,
        steps: 0,
        hash: 0,
        counts: BTreeMap::new(),
        told: String::new(),
        violation: Some(Violation {
            details: String::new(),
            problem,
        }),
    })
}

async fn through(plan: Plan, told: bool) -> Result<Outcome, String> {
    let description = plan.to_string();
    let seed = plan.seed;
    let world = World::begin(plan, told).await?;
    let mut lives = Vec::new();
    let lived = AssertUnwindSafe(lived(&world, &mut lives)).catch_unwind();
    let lived = tokio::select! {
        biased;
        lived = lived => lived.unwrap_or_else(|_| Err("a client panicked, as told above".to_owned())),
        () = world.keep() => Err("there are no servers".to_owned()),
    };
    let mut logs = String::new();
    if lived.is_err() {
        for life in &mut lives {
            let _ = writeln!(logs, "{}", life.dump().await);
        }
    }
    let (hash, steps, counts, lines) = world.end().end();
    let violation = lived.err().map(|problem| {
        let details = format!("{description}{logs}");
        Violation { problem, details }
    });
    let told = lines.join("\n");
    Ok(Outcome {
        seed,
        steps,
        hash,
        counts,
        told,
        violation,
    })
}

/// Lives all sessions side by side, while the world suffers; then all of them are brought to their ends.
async fn lived(world: &Arc<World>, lives: &mut Vec<Life>) -> Result<(), Problem> {
    world.furnish().await?;
    for (number, story) in (0..).zip(&world.plan.stories) {
        lives.push(Life::begin(Arc::clone(world) as Arc<dyn Surroundings>, story, number).await?);
    }
    let sessions: Vec<String> = lives.iter().map(|life| life.session().to_owned()).collect();
    let suffering = async {
        for (after, fault) in &world.plan.faults {
            tokio::time::sleep(Duration::from_millis(*after)).await;
            world.suffer(fault, &sessions);
        }
        std::future::pending::<()>().await;
    };
    let stories = lives.iter_mut().zip(&world.plan.stories);
    let living = stories.map(|(life, story)| async {
        for step in &story.steps {
            life.step(step).await?;
        }
        Ok::<_, Problem>(())
    });
    let living = futures::future::try_join_all(living);
    tokio::select! {
        biased;
        lived = living => drop(lived?),
        () = suffering => {}
    }
    world.calm();
    futures::future::try_join_all(lives.iter_mut().map(Life::finish)).await?;
    for life in lives {
        life.look().await?;
        life.judge().await?;
        world.count(format!("end: {:?}", life.fate()));
    }
    Ok(())
}
