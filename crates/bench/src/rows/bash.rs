//! A turn with one isolated `bash` call, in a sandbox that is there and in one that is not.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::expect_hits;
use crate::floors;
use crate::report::Row;
use crate::sample::Samples;
use crate::subject::{Chat, Setup, Subject};

/// Has `warm` turns in one session and the first turns of `cold` others.
pub(crate) async fn run(setup: &Setup, warm: usize, cold: usize) -> Result<Vec<Row>> {
    let subject = Subject::start(setup, "bash").await?;
    let mut chat = subject.open_chat().await?;
    chat.turn("run: echo hello").await?;
    check(&subject, &chat).await?;
    let mut samples = vec![];
    for _ in 0..warm {
        samples.push(chat.turn("run: echo hello").await?.whole);
    }
    let warm = Samples::new(samples);
    let mut samples = vec![];
    for _ in 0..cold {
        let mut chat = subject.open_chat().await?;
        samples.push(chat.turn("run: echo hello").await?.whole);
    }
    let cold = Samples::new(samples);
    // Two requests a turn: the call, and what is said of its result.
    expect_hits(&subject.stub, 2 * (1 + warm.count() + cold.count()) as u64).await?;
    let spawn = floors::bubblewrap(cold.count())?;
    let row = |name, samples: &Samples, limit| {
        Row::new(name, samples.median(), "ms", samples.count())
            .below(limit)
            .floor("spawning bubblewrap alone", spawn.median())
            .note(format!("p95 {:.1} ms", samples.percentile(95)))
    };
    Ok(vec![
        row("turn with a bash call, warm p50", &warm, 30.0),
        row("turn with a bash call, cold p50", &cold, 80.0),
    ])
}

/// The first turn must really have run the command.
async fn check(subject: &Subject, chat: &Chat) -> Result<()> {
    let events = subject.events(chat).await?;
    let last_text = |kind: &str| -> Option<&str> {
        let event = events.iter().rev().find(|event| event["type"] == kind)?;
        let error = event["is_error"] == Value::Bool(true);
        event["content"][0]["text"].as_str().filter(|_| !error)
    };
    let result = last_text("agent.tool_result").unwrap_or_default();
    let message = last_text("agent.message").unwrap_or_default();
    ensure!(
        result.contains("hello") && message.starts_with("done: ") && message.contains("hello"),
        "the bash call did not run: {events:#?}"
    );
    Ok(())
}
