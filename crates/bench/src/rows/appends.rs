//! Durable appends: events sent to sessions whose model keeps them waiting, so that nothing but
//! the log works.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::try_join_all;

use super::{all_wait, expect_hits, messages};
use crate::floors;
use crate::report::Row;
use crate::subject::{Chat, Setup, Subject};

/// What one group commit of the store takes at most.
const GROUP: usize = 256;
/// About what a short message takes in the log.
pub(super) const ENTRY_BYTES: usize = 300;

/// Sends for `seconds` from `sessions` sessions at once, with one event a request and with ten.
pub(crate) async fn run(setup: &Setup, sessions: usize, seconds: u64) -> Result<Vec<Row>> {
    let subject = Subject::start(setup, "silent").await?;
    let mut chats = subject.open_chats(sessions).await?;
    for chat in &mut chats {
        chat.append(messages(1)).await?;
    }
    all_wait(&subject, sessions as u64).await?;
    let mut rows = vec![];
    for events in [1, 10] {
        let (count, elapsed) = flood(&mut chats, events, Duration::from_secs(seconds)).await?;
        let group = (sessions * events).min(GROUP);
        let fsync = floors::fsync(&setup.folder, group * ENTRY_BYTES, 200)?;
        let row = Row::new(
            format!("durable appends a second, {sessions} sessions, {events} a request"),
            count as f64 / elapsed.as_secs_f64(),
            "1/s",
            count,
        )
        .floor(
            "group-committed fsync rate",
            group as f64 / fsync.median() * 1e3,
        )
        .note(format!("groups of {group} for the floor"));
        rows.push(if events == 10 {
            row.above(10_000.0)
        } else {
            row
        });
    }
    // Nobody's message may have reached the model: each session still waits for its first answer.
    expect_hits(&subject.stub, sessions as u64).await?;
    Ok(rows)
}

async fn flood(chats: &mut [Chat], events: usize, duration: Duration) -> Result<(usize, Duration)> {
    let body = messages(events);
    let started = Instant::now();
    let sent = try_join_all(chats.iter_mut().map(|chat| {
        let body = &body;
        async move {
            let mut sent = 0;
            while started.elapsed() < duration {
                chat.append(body.clone()).await?;
                sent += events;
            }
            Ok::<_, anyhow::Error>(sent)
        }
    }));
    let count = sent.await?.into_iter().sum();
    Ok((count, started.elapsed()))
}
