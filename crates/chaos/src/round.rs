//! One round: a world of its own, sessions in all phases, and kills until there were enough.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use hyper::Method;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::check::{self, Harm, Violation};
use crate::counts::Counts;
use crate::fleet::Database;
use crate::life;
use crate::victims;
use crate::world::{Past, World, lock};

/// Sandboxes that nobody uses end while a round lasts.
const SETTINGS: &str = "[sandbox]\nidle_seconds = 15\n";

/// What a round is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(crate) seed: u64,
    pub(crate) database: Database,
    pub(crate) kills: u64,
    /// Sessions at once.
    pub(crate) sessions: u64,
    /// The longest time between a recovery and the next kill, in milliseconds.
    pub(crate) calm: u64,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    pub(crate) violation: Option<Violation>,
    /// After a violation: where the sessions are.
    pub(crate) data: Option<String>,
    pub(crate) took: Duration,
}

/// Plays a round in this folder, to its end or to the first violation.
pub(crate) async fn play(order: Order, program: &Path, folder: &Path) -> Result<Outcome> {
    let began = Instant::now();
    let world = World::start(program, order.database, folder, SETTINGS, true).await?;
    let mut clients = JoinSet::new();
    for slot in 0..order.sessions {
        clients.spawn(client(Arc::clone(&world), order.seed, slot));
    }
    let told = async {
        kills(&world, order).await?;
        world.ending.send_replace(true);
        while let Some(ended) = clients.join_next().await {
            ended.map_err(|error| format!("a client failed: {error}"))?;
        }
        finish(&world).await
    };
    let outcome = tokio::select! {
        biased;
        () = world.breaks() => Ok(()),
        told = told => told,
    };
    if let Err(violation) = outcome {
        world.violated(violation);
    }
    let mut counts = lock(&world.counts).clone();
    counts.add("model requests", world.model.requests());
    counts.add(
        "ledger lines",
        world.ledger.lines().values().map(|n| u64::from(*n)).sum(),
    );
    let violation = world.violation();
    let data = match violation {
        Some(_) => Some(world.fleet.keep().await),
        None => None,
    };
    Ok(Outcome {
        counts,
        violation,
        data,
        took: began.elapsed(),
    })
}

/// A client has one session after the other.
async fn client(world: Arc<World>, seed: u64, slot: u64) {
    let mut dice = StdRng::seed_from_u64(seed ^ (slot + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    while !*world.ending.borrow() {
        if let Err(violation) = life::live(&world, &mut dice).await {
            return world.violated(violation);
        }
    }
}

/// Kills, one after the other, at random instants.
async fn kills(world: &Arc<World>, order: Order) -> Result<(), Violation> {
    let mut dice = StdRng::seed_from_u64(order.seed);
    let mut done = 0;
    while done < order.kills {
        sleep(Duration::from_millis(dice.random_range(0..=order.calm))).await;
        if dice.random_bool(0.4) && kill_in_a_sandbox(world, &mut dice) {
            done += 1;
            continue;
        }
        done += kill_servers(world, &mut dice).await;
        life::look_at_all(world).await?;
        world.count("recoveries");
    }
    Ok(())
}

/// Kills one process of one sandbox; false when there is none.
fn kill_in_a_sandbox(world: &World, dice: &mut StdRng) -> bool {
    let victims = victims::find(world.fleet.data());
    let lives = lock(&world.lives).clone();
    let part = [
        victims::Part::Bubblewrap,
        victims::Part::Supervisor,
        victims::Part::Command,
    ][dice.random_range(0..3)];
    let of_a_life = |victim: &&victims::Victim| {
        victim.part == part && lives.iter().any(|life| life.session == victim.session)
    };
    let victims: Vec<_> = victims.iter().filter(of_a_life).collect();
    if victims.is_empty() {
        return false;
    }
    let victim = victims[dice.random_range(0..victims.len())];
    let life = lives.iter().find(|life| life.session == victim.session);
    let Some(life) = life else {
        return false;
    };
    life.harm(Harm(world.now()));
    victim.kill();
    world.count("kills");
    world.count(&format!("kills of a sandbox: {}", part.name()));
    world.count(&format!("phase at a sandbox's kill: {}", life.phase()));
    true
}

/// Kills one server, at times all, and starts them again; says how many kills that were.
async fn kill_servers(world: &World, dice: &mut StdRng) -> u64 {
    let first = dice.random_range(0..world.fleet.len());
    let many = if dice.random_bool(0.2) {
        world.fleet.len()
    } else {
        1
    };
    let doomed: Vec<usize> = (0..many)
        .map(|next| (first + next) % world.fleet.len())
        .collect();
    let lives = lock(&world.lives).clone();
    let mut kills = 0;
    for server in &doomed {
        for life in &lives {
            world.count(&format!("phase at a server's kill: {}", life.phase()));
        }
        world.fleet.kill(*server).await;
        world.count("kills of a server");
        kills += 1;
    }
    for server in doomed {
        let soon = dice
            .random_bool(0.1)
            .then(|| Duration::from_millis(dice.random_range(0..100)));
        if soon.is_some() && world.fleet.restart(server, soon).await.is_none() {
            world.count("kills of a server that starts");
            kills += 1;
        } else if soon.is_some() {
            continue;
        }
        world.fleet.restart(server, None).await;
    }
    lock(&world.counts).add("kills", kills);
    kills
}

/// What is left when all clients are done: nobody's session has changed, and the store is whole.
async fn finish(world: &World) -> Result<(), Violation> {
    let past = std::mem::take(&mut *lock(&world.past));
    for past in &past {
        remains(world, past).await?;
    }
    if let Some((key, lines)) = world.ledger.lines().iter().find(|(_, lines)| **lines > 1) {
        return Err(format!("I4: {key} is {lines} times in the ledger"));
    }
    if let Some(refused) = world.model.violations().first() {
        return Err(format!("I6: the model refuses {refused}"));
    }
    world
        .fleet
        .verify()
        .await
        .map_err(|error| format!("{error:#}"))
}

async fn remains(world: &World, past: &Past) -> Result<(), Violation> {
    match past {
        Past::Deleted { session } => match world.list(0, session).await? {
            None => Ok(()),
            Some(_) => Err(format!("I1: the deleted session {session} is back")),
        },
        Past::Kept {
            session,
            archived,
            listed,
        } => {
            let now = world.list(0, session).await?;
            let now = now.ok_or_else(|| format!("I1: the session {session} is gone"))?;
            check::goes_on(listed, &now)?;
            if now.len() > listed.len() {
                let more = &now[listed.len()..];
                return Err(format!("I1: after the end of {session} came {more:?}"));
            }
            let path = format!("/v1/sessions/{session}");
            let answer = world.insist(0, Method::GET, &path, None).await?;
            match answer.json()["archived_at"].is_null() != *archived {
                true => Ok(()),
                false => Err(format!("I1: the archival of {session} is lost: {answer}")),
            }
        }
    }
}
