//! Sessions, as clients write them: changed and deleted under their lock.

use manyhands_protocol::event::{Event, EventBody};
use manyhands_protocol::session::SessionStatus;
use manyhands_protocol::{EventId, SessionId, Timestamp, WorkspaceId};
use tokio::sync::mpsc::OwnedPermit;
use tokio::time::Instant;

use super::read::Profile;
use super::running::transition;
use super::state::{Owner, lock_state};
use super::{Change, SessionRecord, SessionState};
use crate::audit;
use crate::body;
use crate::db::{Scope, Tx, values};
use crate::entry::Entry;
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::files::remove_of_session;
use crate::lease::{Lease, Nudge};
use crate::log::{self, Draft, Stamp, json};
use crate::memory::detach_all;
use crate::remains;
use crate::reserve::Purpose;
use crate::skills;
use crate::store::{Services, Store};
use crate::vault;

impl Store {
    /// A client's write: `decide` sees the session under its lock and answers with what to write and a value of its
    /// own, or refuses, and then nothing is written. `referenced` names the tool-use events whose calls `decide` wants
    /// to see even when they are answered. The outer option is empty when there is no such session.
    ///
    /// Gives the stored entries (the ones of `change.append`, in order; none when it deletes) and the value.
    pub async fn change<T: Send + 'static, R: Send + 'static>(
        &self,
        workspace: &WorkspaceId,
        id: &SessionId,
        referenced: &[EventId],
        decide: impl FnOnce(&SessionState) -> Result<(Change, T), R> + Send + 'static,
    ) -> Result<Option<Result<(Vec<Entry>, T), R>>, Error> {
        let services = self.inner.services.clone();
        let permit = self.nudge_permit();
        let (workspace, id, referenced) = (workspace.clone(), id.clone(), referenced.to_vec());
        let scope = Scope::of(id.as_str()).with_purpose(Purpose::Depends);
        let begun = Instant::now();
        let changed = self
            .inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    let now = services.clock.now();
                    let Some((state, owner)) =
                        lock_state(tx, &workspace, &id, &referenced, now).await?
                    else {
                        return Ok(None);
                    };
                    let (change, value) = match decide(&state) {
                        Ok(decided) => decided,
                        Err(refusal) => return Ok(Some(Err(refusal))),
                    };
                    tx.admit(change.purpose())?;
                    for act in &change.acts {
                        audit::append(tx, &services, act).await?;
                    }
                    let entries = if change.delete {
                        delete(tx, &services, &state.record, now).await?;
                        Vec::new()
                    } else {
                        write_profile(tx, &state.record, &change).await?;
                        apply(tx, &services, permit, owner, &state.record, change, now).await?
                    };
                    Ok(Some(Ok((entries, value))))
                })
            })
            .await?;
        if matches!(changed, Some(Ok(_))) {
            metrics::histogram!("manyhands_append_seconds", "by" => "client")
                .record(begun.elapsed().as_secs_f64());
        }
        Ok(changed)
    }
}

async fn write_profile(tx: &mut Tx, record: &SessionRecord, change: &Change) -> Result<(), Error> {
    if change.title.is_none()
        && change.metadata.is_none()
        && change.agent.is_none()
        && change.budget.is_none()
    {
        return Ok(());
    }
    let body = json(&Profile::of(record).changed(change))?;
    tx.run(
        "UPDATE session_profiles SET body = $2, checksum = $3 WHERE session_id = $1",
        values![
            record.id.as_str(),
            body.as_str(),
            body::checksum(record.id.as_str(), &body),
        ],
    )
    .await
}

/// Writes everything of a change but the profile. With a permit for a nudge, nobody holding the session and no other
/// place going first, the lease is granted along with the wish for a brain.
pub(super) async fn apply(
    tx: &mut Tx,
    services: &Services,
    permit: Option<OwnedPermit<Nudge>>,
    owner: Owner,
    record: &SessionRecord,
    change: Change,
    now: Timestamp,
) -> Result<Vec<Entry>, Error> {
    if change == Change::default() {
        return Ok(Vec::new());
    }
    let wants = change.wants_brain && !change.archive && record.archived_at.is_none();
    let peers = &services.peers;
    let here = owner
        .place
        .as_deref()
        .is_none_or(|place| place == peers.place());
    let grant = wants && permit.is_some() && owner.holder.is_none() && here;
    let append = change.append;
    let updated = tx
        .one(
            concat!(
                "UPDATE sessions SET ",
                transition!(),
                ", input_position = CASE
                     WHEN $7 = 1 AND $2 > 0 THEN last_position + $2 ELSE input_position END,
                 wanted_since = CASE WHEN $7 = 1 AND wants_brain = 0 THEN $3 ELSE wanted_since END,
                 wants_brain = CASE WHEN $8 = 1 THEN 0 WHEN $7 = 1 THEN 1 ELSE wants_brain END,
                 archived_at = CASE WHEN $8 = 1 THEN COALESCE(archived_at, $3) ELSE archived_at END,
                 epoch = CASE WHEN $8 = 1 OR $9 IS NOT NULL THEN epoch + 1 ELSE epoch END,
                 holder = CASE WHEN $8 = 1 THEN NULL ELSE COALESCE($9, holder) END,
                 place = CASE WHEN $9 IS NOT NULL THEN $11 ELSE place END,
                 agent_version = COALESCE($10, agent_version)
                 WHERE id = $1 RETURNING last_position, epoch"
            ),
            values![
                record.id.as_str(),
                append.entries.len() as i64,
                now,
                append.status.map(SessionStatus::as_str),
                append.usage.as_ref().map(json).transpose()?.as_deref(),
                append.active_millis,
                wants,
                change.archive,
                grant.then(|| services.instance.as_str()),
                change.agent.as_ref().map(|agent| i64::from(agent.version)),
                peers.place(),
            ],
        )
        .await?;
    let Some(updated) = updated else {
        return Err(Error::Invalid {
            operation: "changing a session",
            reason: format!("{} went away under its lock", record.id),
        });
    };
    failpoint!("store::session::granted");
    let epoch = updated.int(1)?;
    let stamp = Stamp {
        workspace: &record.workspace,
        session: &record.id,
        thread: &record.thread_id,
        first: updated.int(0)? + 1 - append.entries.len() as i64,
        now,
        epoch: 0,
    };
    let drafts = append
        .entries
        .into_iter()
        .map(Draft::of)
        .collect::<Result<Vec<Draft>, Error>>()?;
    let (opened, answered) = (append.opened, append.answered);
    let entries = write_drafts(tx, services, &stamp, drafts, opened, answered).await?;
    if wants {
        let lease = grant.then(|| Lease {
            workspace: record.workspace.clone(),
            session: record.id.clone(),
            epoch,
        });
        ask_for_brain(tx, services, permit, owner, record, lease);
    }
    Ok(entries)
}

/// After the commit: nudges the brain of this process, or tells the others.
fn ask_for_brain(
    tx: &mut Tx,
    services: &Services,
    permit: Option<OwnedPermit<Nudge>>,
    owner: Owner,
    record: &SessionRecord,
    lease: Option<Lease>,
) {
    let (workspace, session) = (record.workspace.clone(), record.id.clone());
    let own = owner.holder.as_deref() == Some(services.peers.instance());
    match permit {
        Some(permit) if own || lease.is_some() => tx.after_commit(move || {
            permit.send(Nudge {
                workspace,
                session,
                lease,
            });
        }),
        _ => {
            let peers = services.peers.clone();
            tx.after_commit(move || peers.wish(&workspace, &session, owner.place, owner.holder));
        }
    }
}

/// Writes the log part of a write whose place is counted already, and publishes it after the commit.
pub(crate) async fn write_drafts(
    tx: &mut Tx,
    services: &Services,
    stamp: &Stamp<'_>,
    drafts: Vec<Draft>,
    opened: Vec<(EventId, &'static str)>,
    answered: Vec<(EventId, EventId)>,
) -> Result<Vec<Entry>, Error> {
    let entries = log::insert(tx, stamp, drafts).await?;
    for (event_id, type_name) in opened {
        tx.run(
            "INSERT INTO calls (session_id, event_id, workspace, type) VALUES ($1, $2, $3, $4)",
            values![
                stamp.session.as_str(),
                event_id.as_str(),
                stamp.workspace.as_str(),
                type_name,
            ],
        )
        .await?;
    }
    for (event_id, answer) in answered {
        tx.run(
            "UPDATE calls SET answer = $3 WHERE session_id = $1 AND event_id = $2 AND answer IS NULL",
            values![stamp.session.as_str(), event_id.as_str(), answer.as_str()],
        )
        .await?;
    }
    publish_later(tx, services, stamp.session, &entries);
    Ok(entries)
}

/// Shows entries to the session's listeners once they are durable.
pub(crate) fn publish_later(
    tx: &mut Tx,
    services: &Services,
    session: &SessionId,
    entries: &[Entry],
) {
    if entries.is_empty() {
        return;
    }
    let (hub, ends) = (services.hub.clone(), services.ends.clone());
    let session = session.clone();
    let published = entries.to_vec();
    tx.after_commit(move || {
        ends.moved(&session, &published);
        hub.committed(&session, published);
    });
}

async fn delete(
    tx: &mut Tx,
    services: &Services,
    record: &SessionRecord,
    now: Timestamp,
) -> Result<(), Error> {
    let left = remains::bury(tx, record.id.as_str(), record.last_position).await?;
    for sql in [
        "DELETE FROM inbox WHERE session_id = $1",
        "DELETE FROM calls WHERE session_id = $1",
        "DELETE FROM session_profiles WHERE session_id = $1",
        "DELETE FROM sessions WHERE id = $1",
    ] {
        tx.run(sql, values![record.id.as_str()]).await?;
    }
    remove_of_session(tx, &record.id).await?;
    vault::remove_of_session(tx, &record.id).await?;
    skills::remove_of_session(tx, &record.id).await?;
    detach_all(tx, &record.id).await?;
    failpoint!("store::session::deleted");
    let event = json(&Event {
        id: EventId::generate(),
        body: EventBody::SessionDeleted {},
        processed_at: Some(now),
    })?;
    let (hub, peers) = (services.hub.clone(), services.peers.clone());
    let session = record.id.clone();
    let (purge, loosened) = (services.purge.clone(), services.loosened.clone());
    tx.after_commit(move || {
        loosened.notify_one();
        peers.deleted(&session, &event);
        hub.deleted(&session, &event);
        if left {
            purge.notify_one();
        }
    });
    Ok(())
}
