//! Blobs that nobody needs any more: noted down when their last row went, or never pointed to because a server died.

use std::collections::HashSet;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt};
use manyhands_blobs::Blobs;
use manyhands_protocol::time::SharedClock;
use manyhands_store::Store;
use tokio_util::sync::CancellationToken;

use super::checkpoints::before;

/// Between two looks, beside the nudge of a removal.
const LOOK: Duration = Duration::from_secs(30);
/// Between two looks at all blobs.
const SWEEP: Duration = Duration::from_secs(6 * 3600);
/// A blob without a row that is younger may get one: its writer is about to write it.
const YOUNG: Duration = Duration::from_secs(3600);
/// Blobs removed in one go.
const PIECE: u32 = 256;

/// What is let go of by its age.
pub(crate) struct Keeps {
    /// Clones of repositories, as old as this.
    pub(crate) clones: Duration,
    pub(crate) clock: SharedClock,
}

/// Removes them until `stop`.
pub(crate) async fn remove_while_running(
    store: Store,
    blobs: Blobs,
    keeps: Keeps,
    stop: CancellationToken,
) {
    let work = async {
        let mut swept: Option<tokio::time::Instant> = None;
        loop {
            if let Err(error) = store.expire_files().await {
                tracing::warn!(%error, "files that have expired stay for now");
            }
            let oldest = before(keeps.clock.now(), keeps.clones);
            if let Err(error) = store.expire_clones(oldest).await {
                tracing::warn!(%error, "clones that are too old stay for now");
            }
            if let Err(error) = remove_loose(&store, &blobs).await {
                tracing::warn!("blobs that nobody needs stay for now: {error:#}");
            }
            if swept.is_none_or(|at| at.elapsed() >= SWEEP) {
                swept = Some(tokio::time::Instant::now());
                if let Err(error) = sweep(&store, &blobs, YOUNG).await {
                    tracing::warn!("blobs without a file stay for now: {error:#}");
                }
            }
            // A nudge that comes while this works is kept.
            let _ = tokio::time::timeout(LOOK, store.loosened()).await;
        }
    };
    // A removal that is cut short is finished by the next one.
    stop.run_until_cancelled(work).await;
}

/// Removes what was noted down.
async fn remove_loose(store: &Store, blobs: &Blobs) -> anyhow::Result<()> {
    loop {
        let loose = store.loose_blobs(PIECE).await?;
        for blob in &loose {
            blobs.delete(blob).await?;
            store.blob_removed(blob).await?;
        }
        if loose.len() < PIECE as usize {
            return Ok(());
        }
    }
}

/// Removes what a server that died has left: uploads that were not finished, and blobs that got no row.
async fn sweep(store: &Store, blobs: &Blobs, young: Duration) -> anyhow::Result<()> {
    let unfinished = blobs.sweep(young).await?;
    let mut listed = blobs
        .list("files")
        .chain(blobs.list("repositories"))
        .chain(blobs.list("skills"));
    let mut old = Vec::new();
    let mut removed = 0;
    loop {
        let next = listed.try_next().await?;
        let at_end = next.is_none();
        if let Some(blob) = next
            && blob.modified.elapsed().is_ok_and(|age| age >= young)
        {
            old.push(blob.name);
        }
        if at_end || old.len() >= PIECE as usize {
            let absent: HashSet<String> = store.absent_blobs(&old).await?.into_iter().collect();
            for blob in old.drain(..).filter(|blob| absent.contains(blob)) {
                blobs.delete(&blob).await?;
                removed += 1;
            }
        }
        if at_end {
            break;
        }
    }
    if unfinished + removed > 0 {
        tracing::info!(unfinished, removed, "removed blobs that nothing has");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use manyhands_blobs::fresh;
    use manyhands_protocol::FileId;
    use manyhands_protocol::file::File;
    use manyhands_protocol::time::{Clock as _, SystemClock};
    use manyhands_store::repositories::KeptClone;
    use manyhands_store::{Config, Database, FileRecord, Origin, SharedMemory};
    use std::sync::Arc;

    use super::*;

    /// security LOG-3: what an upload or a clone leaves whose server died before it wrote the row; what is young may still get one.
    #[tokio::test]
    async fn log_3_a_blob_that_got_no_row_is_swept() {
        let clock: manyhands_protocol::time::SharedClock = Arc::new(SystemClock);
        let database = SharedMemory::new(Arc::clone(&clock)).expect("memory");
        let store = Store::open(Config::new(Database::Memory(database), clock)).await;
        let store = store.expect("a store");
        let workspace = store.default_workspace().await.expect("a workspace");
        let blobs = Blobs::memory();
        let (kept, stray) = (fresh("files"), fresh("files"));
        let (clone, stray_clone) = (fresh("repositories"), fresh("repositories"));
        let elsewhere = fresh("checkpoints");
        let stored = blobs.put(&kept, &b"kept"[..], 10).await.expect("stored");
        for name in [&stray, &clone, &stray_clone, &elsewhere] {
            blobs.put(name, &b"stray"[..], 10).await.expect("stored");
        }
        let file = File {
            id: FileId::generate(),
            kind: Default::default(),
            filename: "a".to_owned(),
            mime_type: "text/plain".to_owned(),
            size_bytes: 4,
            created_at: SystemClock.now(),
            downloadable: false,
            expires_at: None,
            scope: None,
        };
        let record = FileRecord {
            file,
            origin: Origin::Upload {},
            blob: kept.clone(),
            sha256: stored.sha256.clone(),
        };
        let inserted = store.insert_file(&workspace, record, None).await;
        assert_eq!(inserted, Ok(true));
        let of_clone = KeptClone {
            blob: clone.clone(),
            size: 5,
            head: 1,
            sha256: stored.sha256,
        };
        let added = store.keep_clone(&workspace, "git.example.com:443/a/b", of_clone, 10);
        assert_eq!(added.await, Ok(true));
        let names = || async {
            let mut names: Vec<String> = Vec::new();
            for kind in ["files", "repositories", "checkpoints"] {
                let listed: Vec<_> = blobs.list(kind).try_collect().await.expect("listed");
                names.extend(listed.into_iter().map(|blob| blob.name));
            }
            names.sort();
            names
        };
        let mut expected = vec![
            kept.clone(),
            stray,
            clone.clone(),
            stray_clone,
            elsewhere.clone(),
        ];
        expected.sort();
        sweep(&store, &blobs, YOUNG).await.expect("swept");
        assert_eq!(names().await, expected, "an upload may be under way");
        sweep(&store, &blobs, Duration::ZERO).await.expect("swept");
        let mut expected = vec![kept, clone, elsewhere];
        expected.sort();
        assert_eq!(names().await, expected, "others sweep their own");
    }
}
