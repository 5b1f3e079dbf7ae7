//! Checkpoints of sandboxes that have come to rest: packed into a blob, written down, and removed when nobody needs them
//! (runtime EN-17, EN-18, EN-20).
//!
//! The row comes before the blob and goes after it, so that no blob is ever without one, whenever a server dies. What is
//! unsaved is told by the sandboxes' folders: the next server of the data directory goes on with it.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use manyhands_blobs::Blobs;
use manyhands_brain::TOOL_STARTED;
use manyhands_hands::Provider;
use manyhands_hands::provider::Checkpoints;
use manyhands_hands::provider::checkpoint::Unsaved;
use manyhands_protocol::time::SharedClock;
use manyhands_protocol::{SessionId, Timestamp};
use manyhands_store::Store;
use manyhands_store::checkpoints::{Claim, Kept};
use tokio_util::sync::CancellationToken;

use crate::failpoint::failpoint;

/// Between two looks, beside the nudge of a sandbox that comes to rest.
const LOOK: Duration = Duration::from_secs(60);
/// Packed at once: each takes a processor.
const BESIDE: usize = 2;
/// One that was begun so long ago and is not finished was begun by a server that died; and a newer one has taken the place of
/// those before it for so long that nobody restores them any more.
const ABANDONED: Duration = Duration::from_secs(6 * 3600);
/// Rows looked at in one go.
const PIECE: u32 = 256;

/// What checkpoints are made with.
pub(crate) struct Keeper {
    pub(crate) store: Store,
    pub(crate) hands: Arc<dyn Provider>,
    pub(crate) blobs: Blobs,
    pub(crate) clock: SharedClock,
    /// How long after it was made a sandbox is gone on with.
    pub(crate) retention: Duration,
    /// Below this much free space, files at rest that a checkpoint holds are removed.
    pub(crate) spare: u64,
}

impl Keeper {
    /// Makes and removes checkpoints until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let work = async {
            loop {
                if let Some(checkpoints) = self.hands.checkpoints() {
                    self.keep(checkpoints).await;
                }
                if let Err(error) = self.remove_useless().await {
                    tracing::warn!("checkpoints that nobody needs stay for now: {error:#}");
                }
                let rested = async {
                    match self.hands.checkpoints() {
                        // A nudge that comes while this works is kept.
                        Some(checkpoints) => checkpoints.rested().await,
                        None => std::future::pending().await,
                    }
                };
                let _ = tokio::time::timeout(LOOK, rested).await;
            }
        };
        // One that is cut short is made by the next server.
        stop.run_until_cancelled(work).await;
    }

    /// Makes those that are due, and room for more.
    async fn keep(&self, checkpoints: &dyn Checkpoints) {
        let unsaved = match checkpoints.unsaved().await {
            Ok(unsaved) => unsaved,
            Err(error) => {
                tracing::warn!(%error, "sandboxes at rest cannot be listed");
                return;
            }
        };
        let saved =
            futures::stream::iter(unsaved).for_each_concurrent(BESIDE, |unsaved| async move {
                if let Err(error) = self.save(checkpoints, &unsaved).await {
                    metrics::counter!("manyhands_checkpoints_total", "outcome" => "failed")
                        .increment(1);
                    tracing::warn!(
                        session.id = unsaved.session,
                        "a sandbox is not kept yet: {error:#}"
                    );
                }
            });
        saved.await;
        if let Err(error) = checkpoints.shed(self.spare).await {
            tracing::warn!(%error, "files that are kept could not make room");
        }
    }

    /// Makes the checkpoint of one sandbox, unless it is wanted meanwhile or is not the session's any more.
    async fn save(&self, checkpoints: &dyn Checkpoints, unsaved: &Unsaved) -> anyhow::Result<()> {
        // What is left of a session that is gone is removed by others.
        let Ok(session) = SessionId::parse(&unsaved.session) else {
            return Ok(());
        };
        let claim = Claim {
            session: &session,
            epoch: unsaved.epoch,
            intent: TOOL_STARTED,
        };
        let blob = manyhands_blobs::fresh("checkpoints");
        let Some(begun) = self.store.begin_checkpoint(claim, &blob).await? else {
            return Ok(());
        };
        failpoint!("server::checkpoint_begun");
        let Some(saved) = checkpoints.save(unsaved, &blob).await? else {
            self.store
                .forget_checkpoint(session.as_str(), begun.number)
                .await?;
            metrics::counter!("manyhands_checkpoints_total", "outcome" => "gave_way").increment(1);
            return Ok(());
        };
        failpoint!("server::checkpoint_packed");
        let kept = Kept {
            size: saved.size,
            sha256: saved.sha256,
            sandbox_created_at: saved.sandbox_created_at,
        };
        let counts = self
            .store
            .finish_checkpoint(claim, begun.number, kept)
            .await?;
        failpoint!("server::checkpoint_finished");
        if counts {
            metrics::counter!("manyhands_checkpoints_total", "outcome" => "made").increment(1);
            checkpoints.saved(unsaved).await?;
        } else {
            metrics::counter!("manyhands_checkpoints_total", "outcome" => "replaced").increment(1);
            self.remove(session.as_str(), begun.number, &blob).await?;
        }
        Ok(())
    }

    /// Removes the checkpoints of sessions that are gone, those that are too old and those that were replaced.
    async fn remove_useless(&self) -> anyhow::Result<()> {
        let now = self.clock.now();
        loop {
            let (expired, abandoned) = (before(now, self.retention), before(now, ABANDONED));
            let useless = self
                .store
                .useless_checkpoints(expired, abandoned, PIECE)
                .await?;
            for checkpoint in &useless {
                self.remove(&checkpoint.session, checkpoint.number, &checkpoint.blob)
                    .await?;
            }
            if useless.len() < PIECE as usize {
                return Ok(());
            }
        }
    }

    async fn remove(&self, session: &str, number: i64, blob: &str) -> anyhow::Result<()> {
        self.blobs.delete(blob).await?;
        Ok(self.store.forget_checkpoint(session, number).await?)
    }
}

/// So long before.
pub(super) fn before(now: Timestamp, duration: Duration) -> Timestamp {
    let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.as_micros().saturating_sub(micros))
}
