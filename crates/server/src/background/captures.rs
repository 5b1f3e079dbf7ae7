//! Outputs of sessions that have come to rest: looked for, brought among the blobs and made files (runtime FI-5).
//!
//! The wish for it is durable before a tool can write anything, and goes with a finished capture. So a server that is killed
//! in between is followed by one that captures (runtime FI-6). Only the place of a session's sandbox has its outputs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use manyhands_blobs::Blobs;
use manyhands_hands::Provider;
use manyhands_hands::provider::{Capture, Captured as Found, Seen};
use manyhands_protocol::file::{File, FileScope};
use manyhands_protocol::time::SharedClock;
use manyhands_protocol::{FileId, SessionId, Timestamp};
use manyhands_store::files::{Captured, Due};
use manyhands_store::{Error, FileRecord, Origin, Store};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::files::name;
use crate::failpoint::failpoint;

/// Between two looks, beside the nudge of a session that comes to rest.
const LOOK: Duration = Duration::from_secs(2);
/// Sessions looked for at once.
const PIECE: u32 = 64;
/// Sessions captured at once.
const BESIDE: usize = 4;
/// How long a session is left alone after a capture that failed or met files being written; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What captures are made with.
#[derive(Clone)]
pub(crate) struct Captures {
    pub(crate) store: Store,
    pub(crate) hands: Arc<dyn Provider>,
    pub(crate) blobs: Blobs,
    pub(crate) clock: SharedClock,
    /// Told when a session has come to rest.
    pub(crate) rested: Arc<Notify>,
}

/// When a session may be tried again, and how long it was left alone before that.
type Pauses = HashMap<SessionId, (Instant, Duration)>;

impl Captures {
    /// Captures until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let work = async {
            let mut pauses = Pauses::new();
            loop {
                // A nudge that comes while this works is kept.
                let _ = tokio::time::timeout(LOOK, self.rested.notified()).await;
                if let Err(error) = self.round(&mut pauses).await {
                    tracing::warn!(%error, "outputs of sessions wait");
                }
            }
        };
        // One that is cut short is done again by the next server.
        stop.run_until_cancelled(work).await;
    }

    async fn round(&self, pauses: &mut Pauses) -> Result<(), Error> {
        let now = Instant::now();
        let due = self.store.captures_due(PIECE).await?;
        pauses.retain(|session, _| due.iter().any(|due| due.session == *session));
        let ready = due.into_iter().filter(|due| {
            let pause = pauses.get(&due.session);
            pause.is_none_or(|(until, _)| *until <= now)
        });
        let ready: Vec<Due> = ready.collect();
        let captured = futures::stream::iter(ready).map(|due| async move {
            let whole = self.capture(&due).await;
            (due.session, whole)
        });
        let captured: Vec<_> = captured.buffer_unordered(BESIDE).collect().await;
        for (session, whole) in captured {
            let problem = match whole {
                Ok(true) => {
                    pauses.remove(&session);
                    continue;
                }
                Ok(false) => None,
                Err(error) => Some(error),
            };
            let last = pauses.get(&session).map(|(_, pause)| *pause);
            let pause = last.map_or(FIRST_PAUSE, |last| (last * 2).min(LONGEST_PAUSE));
            if let Some(error) = problem {
                metrics::counter!("manyhands_captures_failed_total").increment(1);
                tracing::warn!(session.id = %session, again_in = ?pause, "outputs are not captured yet: {error:#}");
            }
            pauses.insert(session, (Instant::now() + pause, pause));
        }
        Ok(())
    }

    /// Captures one session's outputs; false when something was being written and is to be looked at again.
    async fn capture(&self, due: &Due) -> anyhow::Result<bool> {
        let before = self.store.outputs(&due.session).await?;
        let seen: Vec<Seen> = before.iter().filter_map(seen).collect();
        let Capture {
            files,
            same,
            unsteady,
        } = self.hands.capture(due.session.as_str(), &seen).await?;
        failpoint!("server::captured");
        let now = self.clock.now();
        let blobs: Vec<String> = files.iter().map(|found| found.blob.clone()).collect();
        let count = files.len() as u64;
        let new = files
            .into_iter()
            .map(|found| file_of(found, &due.session, now));
        let mut records: Vec<FileRecord> = new.collect();
        records.extend(same.iter().filter_map(|same| restamped(&before, same)));
        let kept = self.store.finish_capture(due, records, !unsteady).await;
        // When it may be written all the same, the blobs stay: without rows they are swept.
        if !matches!(kept, Ok(Captured::Kept) | Err(Error::Unknown { .. })) {
            self.discard(&blobs).await;
        }
        match kept? {
            Captured::Kept => {
                metrics::counter!("manyhands_outputs_captured_total").increment(count);
                if count > 0 {
                    tracing::info!(session.id = %due.session, count, "captured outputs");
                }
                Ok(!unsteady)
            }
            Captured::Gone => Ok(true),
        }
    }

    /// Removes blobs that got no row; the sweep finds what stays.
    async fn discard(&self, blobs: &[String]) {
        for blob in blobs {
            if let Err(error) = self.blobs.delete(blob).await {
                tracing::debug!(%error, "a blob is left to the sweep");
            }
        }
    }
}

fn seen(record: &FileRecord) -> Option<Seen> {
    match &record.origin {
        Origin::Output { path, stamp } => Some(Seen {
            path: path.clone(),
            stamp: stamp.clone(),
            sha256: record.sha256.clone(),
        }),
        Origin::Upload {} | Origin::Mount {} => None,
    }
}

fn file_of(found: Found, session: &SessionId, now: Timestamp) -> FileRecord {
    let filename = name::of_output(&found.path);
    FileRecord {
        file: File {
            id: FileId::generate(),
            kind: Default::default(),
            mime_type: name::mime_type(&filename, None),
            filename,
            size_bytes: found.size,
            created_at: now,
            downloadable: true,
            expires_at: None,
            scope: Some(FileScope::Session {
                id: session.clone(),
            }),
        },
        origin: Origin::Output {
            path: found.path,
            stamp: found.stamp,
        },
        blob: found.blob,
        sha256: found.sha256,
    }
}

/// The file that was written again with what it had: it stays the file it is.
fn restamped(before: &[FileRecord], same: &Seen) -> Option<FileRecord> {
    let old = before
        .iter()
        .find(|record| seen(record).is_some_and(|seen| seen.path == same.path))?;
    Some(FileRecord {
        origin: Origin::Output {
            path: same.path.clone(),
            stamp: same.stamp.clone(),
        },
        ..old.clone()
    })
}
