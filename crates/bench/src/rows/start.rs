//! From process start to the first 200, and what an idle server keeps.

use std::time::Duration;

use anyhow::Result;

use crate::process::private_dirty;
use crate::report::Row;
use crate::sample::Samples;
use crate::subject::{Setup, Subject};

/// Idle means: nothing asked for this long.
const REST: Duration = Duration::from_secs(2);

/// Restarts the server on a data directory that exists and has had a turn.
pub(crate) async fn run(setup: &Setup, restarts: usize) -> Result<Vec<Row>> {
    let mut subject = Subject::start(setup, "text").await?;
    subject.open_chat().await?.turn("Hello").await?;
    let mut samples = vec![];
    for _ in 0..restarts {
        subject.daemon.terminate().await;
        subject.daemon.restart(&[]).await;
        samples.push(subject.daemon.ready_after());
    }
    let samples = Samples::new(samples);
    tokio::time::sleep(REST).await;
    let idle = private_dirty(subject.daemon.pid())? as f64 / 1e6;
    subject.open_chat().await?.turn("Hello again").await?;
    tokio::time::sleep(REST).await;
    let used = private_dirty(subject.daemon.pid())? as f64 / 1e6;
    let worst = samples.percentile(100);
    Ok(vec![
        Row::new(
            "start to first 200, p50",
            samples.median(),
            "ms",
            samples.count(),
        )
        .below(100.0)
        .note(format!(
            "slowest {worst:.0} ms; existing data directory, /readyz"
        )),
        Row::new("idle private memory", idle, "MB", 1)
            .below(30.0)
            .note(format!("{used:.1} MB after a first turn")),
    ])
}
