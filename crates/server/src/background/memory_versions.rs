//! Versions of memories that are so old that they may go (runtime ME-9).

use std::time::Duration;

use manyhands_store::Store;
use tokio_util::sync::CancellationToken;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(3600);

/// Drops them until `stop`, in pieces, so that nobody waits for it.
pub(crate) async fn drop_while_running(store: Store, stop: CancellationToken) {
    let work = async {
        loop {
            match store.drop_old_memory_versions().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "old versions of memories stay for now"),
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    stop.run_until_cancelled(work).await;
}
