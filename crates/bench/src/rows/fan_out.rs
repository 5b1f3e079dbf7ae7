//! One session's events to many open streams.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::try_join_all;

use super::{all_wait, messages};
use crate::floors;
use crate::report::Row;
use crate::subject::{Setup, Subject};
use crate::tail::Name;

/// Events a request; the next one goes out when every stream has them all.
const BATCH: usize = 10;

/// Opens `streams` streams of one session and sends for `seconds`.
pub(crate) async fn run(setup: &Setup, streams: usize, seconds: u64) -> Result<Vec<Row>> {
    let subject = Subject::start(setup, "silent").await?;
    let mut chat = subject.open_chat().await?;
    chat.append(messages(1)).await?;
    all_wait(&subject, 1).await?;
    let mut tails = vec![];
    for _ in 0..streams {
        tails.push(subject.open_stream(chat.session()).await?);
    }
    let started = Instant::now();
    let mut rounds = 0;
    while started.elapsed() < Duration::from_secs(seconds) {
        chat.append(messages(BATCH)).await?;
        try_join_all(tails.iter_mut().map(|tail| async {
            for _ in 0..BATCH {
                tail.until(Name::Message).await?;
            }
            Ok::<_, anyhow::Error>(())
        }))
        .await?;
        rounds += 1;
    }
    let delivered = rounds * BATCH * streams;
    let rate = delivered as f64 / started.elapsed().as_secs_f64();
    let bare = floors::bare_streams(&subject.stub, streams).await?;
    let name = format!("events delivered a second to {streams} streams");
    Ok(vec![
        Row::new(name, rate, "1/s", delivered)
            .above(50_000.0)
            .floor("bare SSE server", bare)
            .note(format!(
                "{BATCH} events a request, the next when all streams have them"
            )),
    ])
}
