//! What the server adds to the model's own time to the first token.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::try_join_all;

use super::expect_hits;
use crate::floors;
use crate::report::Row;
use crate::sample::Samples;
use crate::subject::{Setup, Subject};

/// Turns of one session; a few, so that the context stays about the same.
const TURNS: usize = 10;
/// How long the model thinks in each turn of the sessions that run at once.
const THINKING: Duration = Duration::from_millis(500);

/// Has `count` turns, one after the other, in sessions of ten; then as many or more in `sessions` sessions that run all
/// the time, with a model that thinks before it answers.
pub(crate) async fn run(setup: &Setup, count: usize, sessions: usize) -> Result<Vec<Row>> {
    ensure!(
        count >= 100 && sessions >= 1,
        "a p99 takes at least 100 samples"
    );
    let mut rows = alone(setup, count).await?;
    rows.extend(together(setup, count.max(sessions * TURNS), sessions).await?);
    Ok(rows)
}

async fn alone(setup: &Setup, count: usize) -> Result<Vec<Row>> {
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
    let body = body_bytes(&subject, asked).await?;
    let direct = floors::direct_first_token(&subject.stub, body, count).await?;
    let fsync = floors::fsync(&setup.folder, 4096, 200)?.median();
    let first = Samples::new(turns.iter().map(|turn| turn.first_token).collect());
    let whole = Samples::new(turns.iter().map(|turn| turn.whole).collect());
    Ok(vec![
        Row::new(
            "added time to first token, one session, p50",
            first.median() - direct.median(),
            "ms",
            first.count(),
        )
        .below(5.0)
        .floor("direct call to the stub p50", direct.median())
        .note(format!(
            "p99 {:.1} ms; whole turn p50 {:.1} ms; the send is durable first, one fsync is {fsync:.1} ms",
            first.percentile(99) - direct.median(),
            whole.median()
        )),
    ])
}

async fn together(setup: &Setup, count: usize, sessions: usize) -> Result<Vec<Row>> {
    let delay = THINKING.as_millis().to_string();
    let flags = ["--mode", "text", "--delay", delay.as_str()];
    let subject = Subject::start_with(setup, &flags).await?;
    let mut chats = subject.open_chats(sessions).await?;
    let each = count.div_ceil(sessions);
    let running = chats
        .iter_mut()
        .enumerate()
        .map(|(index, chat)| async move {
            // Spread over the first turn, as people are; the turns drift apart from there.
            tokio::time::sleep(THINKING * index as u32 / sessions as u32).await;
            let mut first_tokens = Vec::with_capacity(each);
            for turn in 0..=each {
                let first_token = chat.turn("Hello").await?.first_token;
                // In the first round not all sessions run yet.
                if turn > 0 {
                    first_tokens.push(first_token);
                }
            }
            Ok::<_, anyhow::Error>(first_tokens)
        });
    let first = Samples::new(try_join_all(running).await?.concat());
    let body = body_bytes(&subject, sessions * (each + 1)).await?;
    let direct = floors::direct_first_token(&subject.stub, body, 20).await?;
    let row = |percent: usize, limit| {
        Row::new(
            format!("added time to first token, {sessions} sessions running, p{percent}"),
            first.percentile(percent) - direct.median(),
            "ms",
            first.count(),
        )
        .below(limit)
        .floor("direct call to the stub p50", direct.median())
        .note(format!("the model thinks for {} ms", THINKING.as_millis()))
    };
    Ok(vec![row(50, 5.0), row(99, 20.0)])
}

/// The mean size of the requests, when there were as many as expected.
async fn body_bytes(subject: &Subject, expected: usize) -> Result<usize> {
    expect_hits(&subject.stub, expected as u64).await?;
    let stats = subject.stub.stats().await?;
    Ok(usize::try_from(stats.received_bytes / stats.hits)?)
}
