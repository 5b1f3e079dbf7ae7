//! Many sessions at once: turns a second, processor time a turn, and how long the slow ones wait.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::try_join_all;

use super::expect_hits;
use crate::floors;
use crate::process::cpu;
use crate::report::Row;
use crate::sample::{Samples, millis};
use crate::subject::{Setup, Subject};

/// Has `each` turns in each of `sessions` sessions at once, as fast as they go; then lets `crowd`
/// sessions start a turn in the same moment, `rounds` times.
pub(crate) async fn run(
    setup: &Setup,
    sessions: usize,
    each: usize,
    crowd: usize,
    rounds: usize,
) -> Result<Vec<Row>> {
    let subject = Subject::start(setup, "text").await?;
    let mut rows = throughput(&subject, sessions, each).await?;
    let before = subject.stub.stats().await?.hits;

    let mut chats = subject.open_chats(crowd).await?;
    let mut samples = vec![];
    for _ in 0..rounds {
        let turns = try_join_all(chats.iter_mut().map(|chat| chat.turn("Hello"))).await?;
        samples.extend(turns.into_iter().map(|turn| turn.whole));
    }
    expect_hits(&subject.stub, before + (crowd * rounds) as u64).await?;
    let samples = Samples::new(samples);
    rows.push(
        Row::new(
            format!("{crowd} sessions at once, turn p95"),
            samples.percentile(95),
            "ms",
            samples.count(),
        )
        .below(500.0)
        .note(format!("p50 {:.0} ms", samples.median())),
    );
    Ok(rows)
}

async fn throughput(subject: &Subject, sessions: usize, each: usize) -> Result<Vec<Row>> {
    let mut chats = subject.open_chats(sessions).await?;
    try_join_all(chats.iter_mut().map(|chat| chat.turn("Hello"))).await?;
    let used = Used::until_now(subject)?;
    let started = Instant::now();
    let turns = try_join_all(chats.iter_mut().map(|chat| async {
        let mut turns = Vec::with_capacity(each);
        for _ in 0..each {
            turns.push(chat.turn("Hello").await?.whole);
        }
        Ok::<_, anyhow::Error>(turns)
    }))
    .await?;
    let elapsed = started.elapsed();
    let used = Used::until_now(subject)?.since(&used);
    expect_hits(&subject.stub, (sessions * (each + 1)) as u64).await?;
    drop(chats);

    let turns = Samples::new(turns.concat());
    let count = turns.count() as f64;
    let stats = subject.stub.stats().await?;
    let body = usize::try_from(stats.received_bytes / stats.hits)?;
    let direct = floors::stub_rate(&subject.stub, body, sessions).await?;
    // The rate above has asked the stub too; later rows count from there.
    let share = |used: Duration| 100.0 * used.as_secs_f64() / elapsed.as_secs_f64();
    let per_turn = millis(used.server) / count;
    Ok(vec![
        Row::new(
            format!("turns a second, {sessions} sessions at once"),
            count / elapsed.as_secs_f64(),
            "1/s",
            turns.count(),
        )
        .above(1000.0)
        .floor("stub's own rate, same generator", direct)
        .note(format!(
            "turn p50 {:.0} ms, p95 {:.0} ms; one core is 100 %: server {:.0} %, generator {:.0} %, stub {:.0} %",
            turns.median(),
            turns.percentile(95),
            share(used.server),
            share(used.generator),
            share(used.stub),
        )),
        Row::new("server CPU per turn", per_turn, "ms", turns.count()).below(1.0),
    ])
}

/// Processor time of the three that share the machine.
struct Used {
    server: Duration,
    generator: Duration,
    stub: Duration,
}

impl Used {
    fn until_now(subject: &Subject) -> Result<Self> {
        Ok(Self {
            server: cpu(subject.daemon.pid())?,
            generator: cpu(std::process::id())?,
            stub: cpu(subject.stub.pid()?)?,
        })
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            server: self.server.saturating_sub(before.server),
            generator: self.generator.saturating_sub(before.generator),
            stub: self.stub.saturating_sub(before.stub),
        }
    }
}
