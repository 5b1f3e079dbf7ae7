//! A session with a long log: pages of it at any depth, and waking it after a restart.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::report::Row;
use crate::sample::Samples;
use crate::subject::{Chat, Setup, Subject, user_message};

/// Messages a turn while the log is made.
const MESSAGES: usize = 100;
/// Characters of each.
const LENGTH: usize = 300;
/// Bytes of the largest request the model takes: about 150,000 tokens. A longer one makes the server summarise.
const WINDOW: &str = "600000";
/// What tells that the context was summarised.
const SUMMARY: &str = "agent.thread_context_compacted";
/// The most events of a page.
const PAGE: usize = 1000;

/// Makes a session of `events` events through the API, walks all its pages both ways, and has `wakes` turns, each
/// with a server that has just started.
pub(crate) async fn run(setup: &Setup, events: usize, wakes: usize) -> Result<Vec<Row>> {
    let flags = ["--mode", "text", "--window", WINDOW];
    let mut subject = Subject::start_with(setup, &flags).await?;
    let mut chat = subject.open_chat().await?;
    let turn = json!({"events": vec![user_message(&"x".repeat(LENGTH)); MESSAGES]});
    let turn = bytes::Bytes::from(turn.to_string());
    let started = Instant::now();
    for _ in 0..events.div_ceil(MESSAGES) {
        chat.turn_of(turn.clone()).await?;
    }
    let made_in = started.elapsed().as_secs_f64();
    let summaries = format!("limit={PAGE}&types[]={SUMMARY}");
    let summaries = chat.page(&summaries).await?.data.len();
    ensure!(summaries > 0, "{events} events were never summarised");
    // A replay begins with the last summary: without much behind it there is nothing to read.
    while since_summary(&mut chat).await?.is_some() {
        chat.turn_of(turn.clone()).await?;
    }

    let mut pages = vec![];
    let mut ends = [0.0; 2];
    for order in ["asc", "desc"] {
        let walked = walk(&mut chat, order, events).await?;
        if order == "asc" {
            let tens = [
                &walked[..walked.len().min(10)],
                &walked[walked.len().saturating_sub(10)..],
            ];
            ends = tens.map(|ten| Samples::new(ten.to_vec()).median());
        }
        pages.extend(walked);
    }
    let pages = Samples::new(pages);

    let mut first_tokens = vec![];
    for _ in 0..wakes {
        subject.daemon.terminate().await;
        subject.daemon.restart(&[]).await;
        // The first turn of a process also opens connections: to the model, and to the database.
        subject.open_chat().await?.turn("Hello").await?;
        chat.reopen(&subject).await?;
        first_tokens.push(chat.turn("Hello").await?.first_token);
    }
    let first = Samples::new(first_tokens);
    Ok(vec![
        Row::new(
            format!("page of {PAGE} of {events} events, p99"),
            pages.percentile(99),
            "ms",
            pages.count(),
        )
        .below(150.0)
        .note(format!(
            "p50 {:.1} ms, slowest {:.1} ms; first ten {:.1} ms, last ten {:.1} ms; all pages, both ways; {:.0} events a second made them",
            pages.median(),
            pages.percentile(100),
            ends[0],
            ends[1],
            events as f64 / made_in,
        )),
        Row::new(
            format!("wake of a session of {events} events, p50"),
            first.median(),
            "ms",
            first.count(),
        )
        .below(200.0)
        .note(format!(
            "slowest {:.1} ms; send to first token after a restart; {summaries} summaries, over {PAGE} events behind the last",
            first.percentile(100)
        )),
    ])
}

/// Asks for all pages in this order, which have so many events at least; answers with how long each took.
async fn walk(chat: &mut Chat, order: &str, events: usize) -> Result<Vec<Duration>> {
    let (mut samples, mut listed) = (vec![], 0);
    let mut query = format!("limit={PAGE}&order={order}");
    loop {
        let started = Instant::now();
        let page = chat.page(&query).await?;
        samples.push(started.elapsed());
        listed += page.data.len();
        let Some(next) = page.next_page else {
            ensure!(listed >= events, "{listed} events listed, {order}");
            return Ok(samples);
        };
        ensure!(page.data.len() == PAGE, "a page in the middle is not full");
        query = format!("limit={PAGE}&order={order}&page={next}");
    }
}

/// How many events came after the last summary, unless they fill a page.
async fn since_summary(chat: &mut Chat) -> Result<Option<usize>> {
    let last = chat.page(&format!("limit={PAGE}&order=desc")).await?;
    Ok(last.data.iter().position(|event| event.kind == SUMMARY))
}
