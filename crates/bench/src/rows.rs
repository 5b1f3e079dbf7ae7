//! The rows of the table, a file a group, each run alone against a server of its own.

pub(crate) mod appends;
pub(crate) mod bash;
pub(crate) mod create;
pub(crate) mod fan_out;
pub(crate) mod first_token;
pub(crate) mod lazy;
pub(crate) mod long;
pub(crate) mod memory;
pub(crate) mod memory_store;
pub(crate) mod proxy;
pub(crate) mod recovery;
pub(crate) mod sandboxes;
pub(crate) mod start;
pub(crate) mod store;
pub(crate) mod turns;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::stub::Stub;
use crate::subject::{Subject, user_message};

/// How long all sessions may take to reach the model.
const PATIENCE: Duration = Duration::from_secs(30);

/// Compares what the stub was asked with what the turns had to ask: an answer that did not come
/// from the model, or a request sent twice, spoils the figures.
async fn expect_hits(stub: &Stub, expected: u64) -> Result<()> {
    let stats = stub.stats().await?;
    ensure!(
        stats.hits == expected && stats.refused == 0,
        "the model stub was asked {} times and refused {}; the turns account for {expected}",
        stats.hits,
        stats.refused
    );
    Ok(())
}

/// Waits until this many sessions stand before the silent model.
async fn all_wait(subject: &Subject, sessions: u64) -> Result<()> {
    let waiting = async {
        while subject.stub.stats().await?.hits < sessions {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.context("not all sessions reached the model")?
}

/// The body of a request that sends `count` short messages.
fn messages(count: usize) -> bytes::Bytes {
    let events = vec![user_message("One more thing to keep in mind."); count];
    bytes::Bytes::from(json!({"events": events}).to_string())
}
