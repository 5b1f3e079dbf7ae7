//! Sandboxes that nobody needs any more: what deleted sessions leave on this host, at the start and from time to time.
//! Another server may have deleted them, and one that was killed may not have come to it (security SBX-8).

use std::sync::Arc;
use std::time::Duration;

use manyhands_hands::Provider;
use manyhands_store::Store;
use tokio_util::sync::CancellationToken;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(30);

/// How many looks there are to one at packages: what they take is space, and they are slow to come back.
const FURNITURE: u32 = 20;

/// Makes the first sandbox start fast, then removes what deleted sessions left behind, until `stop`.
pub(crate) async fn tidy(hands: Arc<dyn Provider>, store: Store, stop: CancellationToken) {
    let work = async {
        if let Err(error) = hands.prepare().await {
            tracing::debug!(%error, "sandboxes cannot be prepared");
        }
        for round in 0_u32.. {
            if let Err(error) = sweep(&*hands, &store).await {
                tracing::warn!("what deleted sessions left behind stays for now: {error:#}");
            }
            if round % FURNITURE == 0
                && let Err(error) = unfurnish(&*hands, &store).await
            {
                tracing::warn!("packages that no environment wants stay for now: {error:#}");
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    // A removal that is cut short is finished by the next one.
    stop.run_until_cancelled(work).await;
}

/// The host first, then the store: whoever has something on this host was a session before, so one that the store does
/// not know then is gone for good.
async fn sweep(hands: &dyn Provider, store: &Store) -> anyhow::Result<()> {
    let here = hands.sessions().await?;
    let gone = store.absent_sessions(&here).await?;
    Ok(hands.sweep(&gone).await?)
}

/// Removes installed packages that neither an environment nor a session wants any more (runtime EN-7).
async fn unfurnish(hands: &dyn Provider, store: &Store) -> anyhow::Result<()> {
    let wanted = store.wanted_packages().await?;
    Ok(hands.unfurnish(&wanted).await?)
}
