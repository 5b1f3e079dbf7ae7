//! Creating sessions, one after the other.

use std::time::Instant;

use anyhow::Result;

use crate::floors;
use crate::report::Row;
use crate::sample::Samples;
use crate::subject::{Setup, Subject};

/// Creations before the clock runs.
const WARM_UP: usize = 20;

/// Creates `count` sessions over one connection.
pub(crate) async fn run(setup: &Setup, count: usize) -> Result<Vec<Row>> {
    let subject = Subject::start(setup, "text").await?;
    let mut connection = subject.connect().await?;
    for _ in 0..WARM_UP {
        subject.create_session(&mut connection).await?;
    }
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        subject.create_session(&mut connection).await?;
        samples.push(started.elapsed());
    }
    let samples = Samples::new(samples);
    let fsync = floors::fsync(&setup.folder, 4096, count.min(300))?;
    let p99 = samples.percentile(99);
    Ok(vec![
        Row::new(
            "create session p50",
            samples.median(),
            "ms",
            samples.count(),
        )
        .below(2.0)
        .floor("one fsync", fsync.median())
        .note(format!("p99 {p99:.1} ms")),
    ])
}
