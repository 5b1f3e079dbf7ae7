//! What becomes of a session whose wake failed: given back to be tried again, or ended after the third same failure
//! (security LOG-4).

use std::time::Duration;

use manyhands_protocol::SessionId;
use manyhands_protocol::event::{
    EventBody, ModelUsage, RetryStatus, SessionError, SessionErrorType,
};
use manyhands_protocol::session::SessionStatus;
use manyhands_store::{Append, Error as StoreError, Lease, NewEntry, Store};

use crate::answer::span_end;
use crate::history::{self, HistoryError};
use crate::record::{RESPONSE, WAKE_FAILED, WakeFailed, private};
use crate::tools::error_result;
use crate::wake::{Shared, Stop};

/// The same failure so many times in a row ends the session.
const FAILURES: u32 = 3;

/// The result of a call that is open when its session ends.
const ENDED: &str = "The session ended before this call did; whether it took effect is unknown.";

/// Cleans up after a wake that stopped before its rest.
pub(crate) async fn after_failure(shared: &Shared, lease: &Lease, stop: &Stop) {
    match stop {
        Stop::Lost => tracing::debug!(session.id = %lease.session, "the wake ended: {stop}"),
        Stop::Store(error) => {
            tracing::warn!(session.id = %lease.session, %error, "the wake ended: the store failed");
            release(&shared.store, lease).await;
        }
        Stop::Faulty(reason) => {
            tracing::error!(session.id = %lease.session, reason, "the wake failed");
            fail(shared, lease, reason, None).await;
        }
        Stop::Stalled(doing) => {
            let reason = format!("no progress while {doing}");
            let message = format!(
                "The session did not get on: nothing happened while {doing}. It is tried again."
            );
            let error = SessionError::new(
                SessionErrorType::UnknownError,
                message,
                RetryStatus::Retrying,
            );
            fail(shared, lease, &reason, Some(error)).await;
        }
    }
}

async fn fail(shared: &Shared, lease: &Lease, reason: &str, said: Option<SessionError>) {
    metrics::counter!("manyhands_wake_failures_total").increment(1);
    // A store that never answers must not keep the wake's place.
    let limit = shared.config.watchdog.look_up;
    let written = tokio::time::timeout(limit, write_down(&shared.store, lease, reason, said));
    let error = match written.await {
        Ok(Ok(())) => return,
        Ok(Err(stop)) => stop.to_string(),
        Err(_) => "the store does not answer".to_owned(),
    };
    tracing::warn!(session.id = %lease.session, error, "the failure could not be written down");
    release(&shared.store, lease).await;
}

/// How long a lease's end is waited for. The write itself goes on without its caller.
const RELEASE: Duration = Duration::from_secs(10);

/// Gives a lease back; one that cannot be given back is found by the dispatcher's look for strays.
pub(crate) async fn release(store: &Store, lease: &Lease) {
    let error = match tokio::time::timeout(RELEASE, store.release(lease)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the store does not answer".to_owned(),
    };
    tracing::warn!(session.id = %lease.session, error, "the lease could not be given back");
}

async fn write_down(
    store: &Store,
    lease: &Lease,
    reason: &str,
    said: Option<SessionError>,
) -> Result<(), Stop> {
    let count = failures(store, lease, reason).await? + 1;
    let reason = reason.to_owned();
    let failed = private(WAKE_FAILED, &WakeFailed { reason, count });
    if count < FAILURES {
        let mut entries = vec![failed];
        entries.extend(said.map(|error| NewEntry::event(EventBody::SessionError { error })));
        let append = Append {
            entries,
            ..Append::default()
        };
        store.append(lease, append).await?;
        release(store, lease).await;
        return Ok(());
    }
    let record = store.leased_session(lease).await?.ok_or(Stop::Lost)?;
    let error = SessionError::new(
        SessionErrorType::UnknownError,
        "The session cannot be worked on: the same internal failure came three times. Its history can still be read.",
        RetryStatus::Terminal,
    );
    let terminated = EventBody::SessionThreadStatusTerminated {
        session_thread_id: record.thread_id,
        agent_name: record.agent.definition.name,
    };
    let mut append = settled(store, &lease.session, record.last_position).await;
    append.entries.extend([
        failed,
        NewEntry::event(EventBody::SessionError { error }),
        NewEntry::event(terminated),
        NewEntry::event(EventBody::SessionStatusTerminated {}),
    ]);
    append.status = Some(SessionStatus::Terminated);
    store.append_and_rest(lease, append, i64::MAX).await?;
    Ok(())
}

/// The ends of all that is open, so that nothing is left open for ever (invariant I3); nothing when the log cannot be
/// read.
async fn settled(store: &Store, session: &SessionId, last_position: i64) -> Append {
    let read = async {
        let mut transcript = history::start(store, session, last_position).await?;
        history::catch_up(store, session, &mut transcript, |_| ()).await?;
        Ok::<_, HistoryError>(transcript)
    };
    let transcript = match read.await {
        Ok(transcript) => transcript,
        Err(error) => {
            tracing::warn!(session.id = %session, %error, "what is open cannot be closed");
            return Append::default();
        }
    };
    let mut append = Append::default();
    if let Some(span) = &transcript.open_span {
        append
            .entries
            .push(span_end(span, true, ModelUsage::default()));
    }
    for (call, open) in transcript.open_calls() {
        let result = error_result(call, open.hand(), ENDED);
        if let NewEntry::Event { id, .. } = &result {
            append.answered.push((call.clone(), id.clone()));
        }
        append.entries.push(result);
    }
    let queued = transcript.queued.into_iter();
    let processed = queued.map(|queued| NewEntry::Processed {
        event_id: queued.id,
    });
    append.entries.extend(processed);
    append
}

/// How often this failure came in a row before: an answer of the model in between breaks the row.
async fn failures(store: &Store, lease: &Lease, reason: &str) -> Result<u32, StoreError> {
    let (failed, response) = tokio::join!(
        store.last_private(&lease.session, WAKE_FAILED),
        store.last_private(&lease.session, RESPONSE),
    );
    let Some(failed) = failed? else { return Ok(0) };
    // A damaged answer must not keep the session from being ended.
    let progress = response.ok().flatten().map_or(0, |entry| entry.position);
    let before: WakeFailed = match serde_json::from_str(&failed.body) {
        Ok(before) => before,
        Err(_) => return Ok(0),
    };
    let same = before.reason == reason && failed.position > progress;
    Ok(if same { before.count } else { 0 })
}
