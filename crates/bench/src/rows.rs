//! The rows of the table, a file a group, each run alone against a server of its own.

pub(crate) mod appends;
pub(crate) mod bash;
pub(crate) mod create;
pub(crate) mod first_token;
pub(crate) mod memory;
pub(crate) mod start;
pub(crate) mod turns;

use anyhow::{Result, ensure};

use crate::stub::Stub;

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
