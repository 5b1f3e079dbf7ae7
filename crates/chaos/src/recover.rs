//! Many sessions in flight, `kill -9`, a restart: how soon each is driven on, or says what it waits for.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use futures::stream::{self, StreamExt};
use hyper::Method;
use manyhands_testkit::daemon;
use manyhands_testkit::gate::Gate;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::fleet::Database;
use crate::plan::{self, Call, Plan};
use crate::world::World;

/// How long all sessions may take to get into their phases, sandboxes and all.
const PREPARATION: Duration = Duration::from_secs(300);
/// How long they may take to be driven on.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the harness looks at its own books, where the exact times are.
const LOOK: Duration = Duration::from_millis(50);
/// Requests at once.
const CONNECTIONS: usize = 16;

#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// Sessions in flight, a quarter in each phase
    #[arg(long, default_value_t = 1000)]
    sessions: usize,
    /// Where they are kept
    #[arg(long, value_enum, default_value = "sqlite")]
    database: Database,
    /// The server's program; by default the one that was built
    #[arg(long, env = "MANYHANDS_BIN")]
    bin: Option<PathBuf>,
    /// Where data directories are made: a folder on a disk, not in memory
    #[arg(long, default_value = "/var/tmp")]
    folder: PathBuf,
    /// Print the figures as one JSON object
    #[arg(long)]
    json: bool,
}

/// What a session does when the server dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Phase {
    /// The model was asked and thinks. Driven on when it is asked again.
    Model,
    /// A command runs, and ends while the server is down. Driven on when the model is shown its result.
    Bash,
    /// The same, and a message waits behind it. Driven on when the model is shown both.
    Queued,
    /// A call waits for the client. Explained when the server says so.
    Waiting,
}

const PHASES: [Phase; 4] = [Phase::Model, Phase::Bash, Phase::Queued, Phase::Waiting];

/// One session in flight.
#[derive(Debug)]
struct Flight {
    phase: Phase,
    session: String,
    /// The message that it works on.
    message: u32,
    /// The message that waits, of phase [`Phase::Queued`].
    behind: Option<u32>,
}

/// Seconds from the kill until sessions were driven on.
#[derive(Debug, Serialize)]
struct Figures {
    /// `None` for all of them.
    phase: Option<Phase>,
    sessions: usize,
    p50: f64,
    p99: f64,
    longest: f64,
}

/// Measures, and prints a line for each phase and one for all.
pub(crate) async fn run(flags: Flags) -> Result<ExitCode> {
    let program = flags.bin.clone().unwrap_or_else(daemon::binary);
    let folder = flags.folder.canonicalize().context("--folder")?;
    let room = tempfile::Builder::new()
        .prefix("manyhands-recover-")
        .tempdir_in(folder)?;
    let world = World::start(&program, flags.database, room.path(), "", false).await?;
    let gate = Gate::new();
    let began = Instant::now();
    let making = stream::iter(0..flags.sessions).map(|index| {
        let (world, gate) = (&world, &gate);
        async move { make(world, gate, PHASES[index % PHASES.len()]).await }
    });
    let made: Vec<Result<Flight>> = making.buffered(CONNECTIONS).collect().await;
    let flights: Vec<Flight> = made.into_iter().collect::<Result<_>>()?;
    let ready = timeout(PREPARATION, fly(&world, &flights)).await;
    ready.context("the sessions do not get into their phases")??;
    eprintln!(
        "recover: {} sessions in flight after {:.1} s",
        flights.len(),
        began.elapsed().as_secs_f64()
    );

    let killed = Instant::now();
    world.fleet.kill(0).await;
    world.ledger.let_go();
    let start = world.fleet.restart(0, None).await;
    let times = timeout(PATIENCE, driven(&world, &flights, killed)).await;
    let times =
        times.with_context(|| format!("I8: not all were driven on within {PATIENCE:?}"))??;
    gate.open();
    let figures = figures(&flights, &times);
    if flags.json {
        println!(
            "{}",
            json!({"start": start.map(|start| start.as_secs_f64()), "figures": figures})
        );
    } else {
        println!(
            "recover: ready {:.3} s after its start",
            start.unwrap_or_default().as_secs_f64()
        );
        for row in &figures {
            println!("{}", line(row));
        }
    }
    afterwards(&world, &flights).await?;
    Ok(ExitCode::SUCCESS)
}

/// Makes a session in this phase.
async fn make(world: &World, gate: &Gate, phase: Phase) -> Result<Flight> {
    let message = world.next_message();
    let calls = match phase {
        Phase::Model => vec![],
        _ => vec![Call::Say {
            before: 0,
            after: 0,
        }],
    };
    world.model.learn(message, Plan::of_calls(calls));
    if phase == Phase::Model {
        world.model.hold(message, gate);
    }
    let behind = (phase == Phase::Queued).then(|| world.next_message());
    if let Some(behind) = behind {
        world.model.learn(behind, Plan::of_calls(vec![]));
    }
    let agent = match phase {
        Phase::Waiting => &world.agents.asking,
        _ => &world.agents.free,
    };
    let body = json!({
        "agent": agent,
        "environment_id": world.agents.environment,
        "initial_events": [user_message(message)],
    });
    let made = world
        .insist(0, Method::POST, "/v1/sessions", Some(&body))
        .await;
    let made = made.map_err(|error| anyhow!(error))?;
    ensure!(made.status == 200, "{made}");
    let session = made.json()["id"].as_str().unwrap_or_default().to_owned();
    Ok(Flight {
        phase,
        session,
        message,
        behind,
    })
}

fn user_message(message: u32) -> Value {
    json!({"type": "user.message", "content": [{"type": "text", "text": plan::message_text(message)}]})
}

/// Waits until all sessions are in their phases, and says what is to wait behind the commands.
async fn fly(world: &World, flights: &[Flight]) -> Result<()> {
    for flight in flights {
        while !flies(world, flight).await? {
            sleep(LOOK).await;
        }
        if let Some(behind) = flight.behind {
            let path = format!("/v1/sessions/{}/events", flight.session);
            let body = json!({"events": [user_message(behind)]});
            let sent = world.insist(0, Method::POST, &path, Some(&body)).await;
            let sent = sent.map_err(|error| anyhow!(error))?;
            ensure!(sent.status == 200, "{sent}");
        }
    }
    Ok(())
}

async fn flies(world: &World, flight: &Flight) -> Result<bool> {
    Ok(match flight.phase {
        Phase::Model => !world.model.asked(flight.message, 0).is_empty(),
        Phase::Bash | Phase::Queued => {
            let key = plan::key(flight.message, 0, 0);
            world.ledger.has(&key)
        }
        Phase::Waiting => waits(world, flight).await?,
    })
}

/// Whether the server says that the session waits for the client.
async fn waits(world: &World, flight: &Flight) -> Result<bool> {
    let listed = world.list(0, &flight.session).await;
    let listed = listed.map_err(|error| anyhow!(error))?;
    let listed = listed.with_context(|| format!("I1: {} is gone", flight.session))?;
    let last = listed.last();
    Ok(last.is_some_and(|event| event["stop_reason"]["type"] == "requires_action"))
}

/// How long after the kill each session was driven on.
async fn driven(world: &World, flights: &[Flight], killed: Instant) -> Result<Vec<Duration>> {
    let few = Semaphore::new(CONNECTIONS);
    let times = flights.iter().map(|flight| {
        let few = &few;
        async move {
            if flight.phase == Phase::Waiting {
                let _one = few.acquire().await?;
                ensure!(
                    waits(world, flight).await?,
                    "I8: {flight:?} does not wait any more"
                );
                return Ok(killed.elapsed());
            }
            let (message, step) = match (flight.phase, flight.behind) {
                (_, Some(behind)) => (behind, 0),
                (Phase::Model, None) => (flight.message, 0),
                (_, None) => (flight.message, 1),
            };
            loop {
                let asked = world.model.asked(message, step);
                if let Some(time) = asked.iter().find(|time| **time > killed) {
                    return Ok(*time - killed);
                }
                sleep(LOOK).await;
            }
        }
    });
    futures::future::try_join_all(times).await
}

fn figures(flights: &[Flight], times: &[Duration]) -> Vec<Figures> {
    let phases = PHASES.into_iter().map(Some).chain([None]);
    let rows = phases.filter_map(|phase| {
        let of_phase = flights.iter().zip(times);
        let of_phase =
            of_phase.filter(|(flight, _)| phase.is_none_or(|phase| flight.phase == phase));
        let mut seconds: Vec<f64> = of_phase.map(|(_, time)| time.as_secs_f64()).collect();
        seconds.sort_by(f64::total_cmp);
        let longest = *seconds.last()?;
        let part = |percent: usize| seconds[(seconds.len() * percent).div_ceil(100).max(1) - 1];
        Some(Figures {
            phase,
            sessions: seconds.len(),
            p50: part(50),
            p99: part(99),
            longest,
        })
    });
    rows.collect()
}

fn line(row: &Figures) -> String {
    let Figures {
        phase,
        sessions,
        p50,
        p99,
        longest,
    } = row;
    let name = phase.map_or("all".to_owned(), |phase| {
        format!("{phase:?}").to_lowercase()
    });
    format!(
        "recover: {name:<8} {sessions:>5} sessions: p50 {p50:.2} s, p99 {p99:.2} s, longest {longest:.2} s"
    )
}

/// Everybody comes to rest, what ran has run once, and the store is whole.
async fn afterwards(world: &World, flights: &[Flight]) -> Result<()> {
    let rest = async {
        for flight in flights
            .iter()
            .filter(|flight| flight.phase != Phase::Waiting)
        {
            let path = format!("/v1/sessions/{}", flight.session);
            loop {
                let answer = world.insist(0, Method::GET, &path, None).await;
                if answer.map_err(|error| anyhow!(error))?.json()["status"] == "idle" {
                    break;
                }
                sleep(LOOK).await;
            }
        }
        Ok::<_, anyhow::Error>(())
    };
    timeout(PATIENCE, rest)
        .await
        .context("I8: not all came to rest")??;
    for flight in flights {
        let key = plan::key(flight.message, 0, 0);
        let expected = u32::from(matches!(flight.phase, Phase::Bash | Phase::Queued));
        let lines = world.ledger.lines().get(&key).copied().unwrap_or(0);
        ensure!(
            lines == expected,
            "I4: {flight:?} has {lines} lines in the ledger"
        );
    }
    let refused = world.model.violations();
    ensure!(refused.is_empty(), "I6: the model refuses {refused:?}");
    world.fleet.verify().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_told_for_each_phase_and_for_all() {
        let flights: Vec<Flight> = (0..200)
            .map(|index| Flight {
                phase: PHASES[index % 2],
                session: String::new(),
                message: 0,
                behind: None,
            })
            .collect();
        let times: Vec<Duration> = (1..=200).map(Duration::from_secs).collect();
        let rows = figures(&flights, &times);
        let told: Vec<_> = rows
            .iter()
            .map(|row| (row.phase, row.sessions, row.p50, row.p99, row.longest))
            .collect();
        let expected = [
            (Some(Phase::Model), 100, 99.0, 197.0, 199.0),
            (Some(Phase::Bash), 100, 100.0, 198.0, 200.0),
            (None, 200, 100.0, 198.0, 200.0),
        ];
        assert_eq!(told, expected);
    }
}
