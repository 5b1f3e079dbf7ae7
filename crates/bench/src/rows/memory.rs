//! What a session that rests and a stream that is open cost in memory.

use std::time::Duration;

use anyhow::Result;
use futures::future::try_join_all;
use hyper::Method;

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

    // Both against the same reading: what the connections give back, the streams use again.
    let before = read().await?;
    let connections = try_join_all((0..streams).map(|_| async {
        let mut connection = subject.connect().await?;
        connection.send(Method::GET, "/healthz", "").await?;
        Ok::<_, anyhow::Error>(connection)
    }));
    let connections = connections.await?;
    let per_connection = (read().await? - before) / streams as f64 / 1e3;
    drop(connections);
    tokio::time::sleep(REST).await;
    let open = ids[..streams].iter().map(|id| subject.open_stream(id));
    let tails = try_join_all(open).await?;
    let per_stream = (read().await? - before) / streams as f64 / 1e3;
    drop(tails);
    Ok(vec![
        Row::new("memory per idle session", per_session, "bytes", sessions)
            .below(100.0)
            .note(format!("{:.1} MB in all afterwards", after / 1e6)),
        Row::new("memory per open stream", per_stream, "KB", streams)
            .below(20.0)
            .floor("an idle connection", per_connection),
    ])
}
