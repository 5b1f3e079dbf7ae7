//! What the server adds to the model's own time to the first token.

use anyhow::{Result, ensure};

use super::expect_hits;
use crate::floors;
use crate::report::Row;
use crate::sample::Samples;
use crate::subject::{Setup, Subject};

/// Turns of one session; a few, so that the context stays about the same.
const TURNS: usize = 10;

/// Has `count` turns, one after the other, in sessions of ten.
pub(crate) async fn run(setup: &Setup, count: usize) -> Result<Vec<Row>> {
    ensure!(count >= 100, "a p99 takes at least 100 samples");
    let subject = Subject::start(setup, "text").await?;
    let mut turns = vec![];
    for session in 0..=count.div_ceil(TURNS) {
        let mut chat = subject.open_chat().await?;
        for _ in 0..TURNS {
            let turn = chat.turn("Hello").await?;
            // The first session warms everything up.
            if session > 0 {
                turns.push(turn);
            }
        }
    }
    let asked = (count.div_ceil(TURNS) + 1) * TURNS;
    expect_hits(&subject.stub, asked as u64).await?;
    let stats = subject.stub.stats().await?;
    let body = usize::try_from(stats.received_bytes / stats.hits)?;
    let direct = floors::direct_first_token(&subject.stub, body, count).await?;
    let fsync = floors::fsync(&setup.folder, 4096, 200)?.median();
    let first = Samples::new(turns.iter().map(|turn| turn.first_token).collect());
    let whole = Samples::new(turns.iter().map(|turn| turn.whole).collect());
    let added = |percent| first.percentile(percent) - direct.median();
    let generator = direct.percentile(99);
    Ok(vec![
        Row::new(
            "added time to first token p50",
            added(50),
            "ms",
            first.count(),
        )
        .below(5.0)
        .floor("direct call to the stub p50", direct.median())
        .note(format!(
            "whole turn p50 {:.1} ms; the send is durable first, one fsync is {fsync:.1} ms",
            whole.median()
        )),
        Row::new(
            "added time to first token p99",
            added(99),
            "ms",
            first.count(),
        )
        .below(20.0)
        .floor("direct call to the stub p50", direct.median())
        .note(format!(
            "direct call p99 {generator:.1} ms; requests of {body} bytes"
        )),
    ])
}
