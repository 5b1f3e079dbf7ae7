//! What a session that rests and a stream that is open cost in memory.

use std::time::Duration;

use anyhow::Result;
use futures::future::try_join_all;

use crate::process::private_dirty;
use crate::report::Row;
use crate::subject::{Setup, Subject};

/// Sessions before the first reading, so that caches and pools have their size.
const WARM_UP: usize = 1000;
/// How long the server may tidy up before a reading.
const REST: Duration = Duration::from_secs(2);

/// Creates `sessions` sessions and opens `streams` streams, reading memory between.
pub(crate) async fn run(setup: &Setup, sessions: usize, streams: usize) -> Result<Vec<Row>> {
    let subject = Subject::start(setup, "text").await?;
    let read = async || {
        tokio::time::sleep(REST).await;
        Ok::<_, anyhow::Error>(private_dirty(subject.daemon.pid())? as f64)
    };
    let ids = subject.create_sessions(WARM_UP.max(streams)).await?;
    let before = read().await?;
    subject.create_sessions(sessions).await?;
    let after = read().await?;
    let per_session = (after - before) / sessions as f64;

    let open = || try_join_all(ids[..streams].iter().map(|id| subject.open_stream(id)));
    let before = read().await?;
    let tails = open().await?;
    let after = read().await?;
    drop(tails);
    let per_stream = (after - before) / streams as f64 / 1e3;
    Ok(vec![
        Row::new("memory per idle session", per_session, "bytes", sessions)
            .below(100.0)
            .note(format!("{:.1} MB in all afterwards", after / 1e6)),
        Row::new("memory per open stream", per_stream, "KB", streams).below(20.0),
    ])
}
