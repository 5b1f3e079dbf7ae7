//! What a session that rests and a stream that is open cost in memory.

use std::time::Duration;

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};
use hyper::Method;
use manyhands_testkit::http::Connection;

use crate::process::private_dirty;
use crate::report::Row;
use crate::subject::{Setup, Subject};
use crate::tail::Tail;

/// Sessions before the first reading, so that caches and pools have their size: SQLite's of some megabytes fill slowly.
const WARM_UP: usize = 10_000;
/// Streams before the first reading, which stay open.
const FIRST: usize = 100;
/// How many requests are under way at once while streams are opened.
const ABREAST: usize = 16;
/// How long the server may tidy up before a reading.
const REST: Duration = Duration::from_secs(2);

/// Creates `sessions` sessions and opens `streams` streams, reading memory between.
pub(crate) async fn run(setup: &Setup, sessions: usize, streams: usize) -> Result<Vec<Row>> {
    let mut subject = Subject::start(setup, "text").await?;
    let ids = subject
        .create_sessions(WARM_UP.max(FIRST + streams))
        .await?;
    let before = memory(&subject).await?;
    subject.create_sessions(sessions).await?;
    let after = memory(&subject).await?;
    let per_session = (after - before) / sessions as f64;

    let mut growth = [0.0; 3];
    let ways = [Way::Idle, Way::Streams, Way::Burst];
    for (way, growth) in ways.into_iter().zip(&mut growth) {
        // Afresh: what others gave back would be used again, and not count.
        subject.daemon.terminate().await;
        subject.daemon.restart(&[]).await;
        let (first, rest) = ids[..FIRST + streams].split_at(FIRST);
        let _first = way.open(&subject, first).await?;
        let before = memory(&subject).await?;
        let _rest = way.open(&subject, rest).await?;
        *growth = (memory(&subject).await? - before) / streams as f64 / 1e3;
    }
    let [idle, each, burst] = growth;
    Ok(vec![
        Row::new("memory per idle session", per_session, "bytes", sessions)
            .below(100.0)
            .note(format!("{:.1} MB in all afterwards", after / 1e6)),
        Row::new("memory per open stream", each, "KB", streams)
            .below(20.0)
            .floor("an idle connection", idle)
            .note(format!(
                "each on a session of its own, {ABREAST} opened at a time; all at once leaves {burst:.1} KB each"
            )),
    ])
}

/// What is opened, and how.
#[derive(Clone, Copy)]
enum Way {
    /// Connections that have had one answer.
    Idle,
    /// Streams, a few at a time.
    Streams,
    /// Streams, all in the same moment.
    Burst,
}

/// What is held open; never read.
enum Held {
    Idle { _connection: Connection },
    Stream { _tail: Tail },
}

impl Way {
    async fn open(self, subject: &Subject, sessions: &[String]) -> Result<Vec<Held>> {
        let abreast = match self {
            Self::Burst => sessions.len(),
            _ => ABREAST,
        };
        let opening = stream::iter(sessions).map(|session| self.open_one(subject, session));
        opening.buffer_unordered(abreast).try_collect().await
    }

    async fn open_one(self, subject: &Subject, session: &str) -> Result<Held> {
        Ok(match self {
            Self::Idle => {
                let mut connection = subject.connect().await?;
                connection.send(Method::GET, "/healthz", "").await?;
                Held::Idle {
                    _connection: connection,
                }
            }
            Self::Streams | Self::Burst => Held::Stream {
                _tail: subject.open_stream(session).await?,
            },
        })
    }
}

/// Private memory of the server at rest, in bytes.
async fn memory(subject: &Subject) -> Result<f64> {
    tokio::time::sleep(REST).await;
    Ok(private_dirty(subject.daemon.pid())? as f64)
}
