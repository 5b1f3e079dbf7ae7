//! Sandboxes that nobody needs any more: what deleted sessions leave on this host, at the start and from time to time.
//! Another server may have deleted them, and one that was killed may not have come to it (security SBX-8).

use std::time::Duration;

use manyhands_hands::provider::namespace::Namespace;
use manyhands_store::Store;
use tokio_util::sync::CancellationToken;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(30);

/// Makes the first sandbox start fast, then removes what deleted sessions left behind, until `stop`.
pub(crate) async fn tidy(hands: Namespace, store: Store, stop: CancellationToken) {
    let work = async {
        if let Err(error) = hands.prepare().await {
            tracing::debug!(%error, "sandboxes cannot be prepared");
        }
        loop {
            if let Err(error) = sweep(&hands, &store).await {
                tracing::warn!("what deleted sessions left behind stays for now: {error:#}");
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    // A removal that is cut short is finished by the next one.
    stop.run_until_cancelled(work).await;
}

/// The host first, then the store: whoever has something on this host was a session before, so one that the store does
/// not know then is gone for good.
async fn sweep(hands: &Namespace, store: &Store) -> anyhow::Result<()> {
    let here = hands.sessions().await?;
    let gone = store.absent_sessions(&here).await?;
    Ok(hands.sweep(&gone).await?)
}
