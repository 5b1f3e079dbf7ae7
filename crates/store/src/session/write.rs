//! Sessions, as clients write them: created, changed and deleted under their lock.

use std::borrow::Cow;

use manyhands_protocol::event::{Event, EventBody};
use manyhands_protocol::session::SessionStatus;
use manyhands_protocol::{EventId, SessionId, Timestamp, WorkspaceId};
use tokio::sync::mpsc::OwnedPermit;
use tokio::time::Instant;

use super::read::Profile;
use super::running::transition;
use super::state::{Owner, lock_state};
use super::{Change, NewSession, SessionRecord, SessionState, UsageTotals};
use crate::audit;
use crate::body;
use crate::db::{Lock, Scope, Tx, values};
use crate::entry::Entry;
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::files::{Mount, MountRefusal, mount_all, remove_of_session};
use crate::lease::{Lease, Nudge};
use crate::log::{self, Draft, Stamp, json};
use crate::memory::{Attach, AttachRefusal, attach_all, detach_all};
use crate::quota::{self, Thing};
use crate::remains;
use crate::repositories::{NewRepository, add_all};
use crate::reserve::Purpose;
use crate::skills;
use crate::store::{Services, Store};
use crate::vault;

impl Store {
    /// Creates a session and its first entries in one transaction (runtime LC-6). The agent and the environment must
    /// still be there and not archived: false when one is not, and nothing is written.
    pub async fn create_session(&self, session: NewSession) -> Result<bool, Error> {
        let created = self
            .create_session_with(session, Belongings::default())
            .await?;
        Ok(created == Created::Done)
    }

    /// As [`create_session`](Self::create_session), with what it has from its beginning: all in one transaction.
    pub async fn create_session_with(
        &self,
        session: NewSession,
        belongings: Belongings,
    ) -> Result<Created, Error> {
        let services = self.inner.services.clone();
        let permit = self.nudge_permit();
        let scope = Scope::of(session.id.as_str());
        let created = self
            .inner
            .db
            .write(scope, move |tx| {
                Box::pin(create(tx, services, permit, session, belongings))
            })
            .await;
        match created {
            Ok(created) => Ok(created),
            Err(NotCreated::Mount(refusal)) => Ok(Created::Refused(refusal)),
            Err(NotCreated::Skill(place)) => Ok(Created::NoSkill(place)),
            Err(NotCreated::Attach(refusal)) => Ok(Created::NotAttached(refusal)),
            Err(NotCreated::Store(error)) => Err(error),
        }
    }

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

/// What a session has from its beginning, beside its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Belongings {
    /// Files that its sandbox reads.
    pub files: Vec<Mount>,
    /// Repositories that are cloned into it.
    pub repositories: Vec<NewRepository>,
    /// Memory stores (runtime ME-12).
    pub memory_stores: Vec<Attach>,
}

/// What became of a session that was to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is there.
    Done,
    /// Its agent or its environment is gone or archived.
    Gone,
    /// There is no vault with the id at this place of its list.
    NoVault(usize),
    /// The vault at this place of its list is archived (runtime VA-16).
    ArchivedVault(usize),
    /// One of its files cannot be mounted.
    Refused(MountRefusal),
    /// There is no such version of the skill at this place of the agent's list (any more).
    NoSkill(usize),
    /// One of its memory stores cannot be attached.
    NotAttached(AttachRefusal),
}

/// Why a session is not created: its writes are undone.
enum NotCreated {
    Mount(MountRefusal),
    Skill(usize),
    Attach(AttachRefusal),
    Store(Error),
}

impl From<Error> for NotCreated {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

async fn create(
    tx: &mut Tx,
    services: Services,
    permit: Option<OwnedPermit<Nudge>>,
    session: NewSession,
    belongings: Belongings,
) -> Result<Created, NotCreated> {
    for (sql, id) in [
        (
            "SELECT id FROM agents WHERE id = $1 AND workspace = $2 AND archived_at IS NULL",
            session.agent.id.as_str(),
        ),
        (
            "SELECT id FROM environments WHERE id = $1 AND workspace = $2 AND archived_at IS NULL",
            session.environment_id.as_str(),
        ),
    ] {
        let found = tx
            .locked(Lock::Share, sql, values![id, session.workspace.as_str()])
            .await?;
        if found.is_empty() {
            return Ok(Created::Gone);
        }
    }
    for (index, vault) in session.vault_ids.iter().enumerate() {
        let found = tx
            .locked(
                Lock::Share,
                "SELECT archived_at FROM vaults WHERE id = $1 AND workspace = $2",
                values![vault.as_str(), session.workspace.as_str()],
            )
            .await?;
        match found.first() {
            None => return Ok(Created::NoVault(index)),
            Some(row) if row.optional_time(0)?.is_some() => {
                return Ok(Created::ArchivedVault(index));
            }
            Some(_) => {}
        }
    }
    quota::one_more(tx, &services, &session.workspace, Thing::Session).await?;
    let now = services.clock.now();
    let record = SessionRecord {
        workspace: session.workspace,
        id: session.id,
        thread_id: session.thread_id,
        environment_id: session.environment_id,
        agent: session.agent,
        title: session.title,
        metadata: session.metadata,
        budget: session.budget,
        vault_ids: session.vault_ids,
        status: SessionStatus::Idle,
        usage: UsageTotals::default(),
        active_millis: 0,
        running_since: None,
        created_at: now,
        updated_at: now,
        archived_at: None,
        terminated_at: None,
        last_position: 0,
        input_position: 0,
        epoch: 0,
    };
    tx.run(
        "INSERT INTO sessions (id, workspace, thread_id, environment_id, agent_id, agent_version, status, usage,
             active_millis, created_at, updated_at, last_position, input_position, epoch, wants_brain, wanted_since)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $9, 0, 0, 0, 0, $9)",
        values![
            record.id.as_str(),
            record.workspace.as_str(),
            record.thread_id.as_str(),
            record.environment_id.as_str(),
            record.agent.id.as_str(),
            record.agent.version,
            record.status.as_str(),
            json(&record.usage)?,
            now,
        ],
    )
    .await?;
    let body = json(&Profile {
        agent: Cow::Borrowed(&record.agent),
        title: Cow::Borrowed(&record.title),
        metadata: Cow::Borrowed(&record.metadata),
        budget: record.budget,
        vault_ids: Cow::Borrowed(&record.vault_ids),
    })?;
    tx.run(
        "INSERT INTO session_profiles (session_id, workspace, body, checksum) VALUES ($1, $2, $3, $4)",
        values![
            record.id.as_str(),
            record.workspace.as_str(),
            body.as_str(),
            body::checksum(record.id.as_str(), &body),
        ],
    )
    .await?;
    let Belongings {
        files,
        repositories,
        memory_stores,
    } = belongings;
    mount_all(tx, &record.workspace, &record.id, files, now)
        .await?
        .map_err(NotCreated::Mount)?;
    add_all(tx, &record.workspace, &record.id, repositories, now).await?;
    let attached = attach_all(tx, &record.workspace, &record.id, memory_stores)
        .await?
        .map_err(NotCreated::Attach)?;
    let mut change = session.change;
    change.append.entries.splice(0..0, attached);
    skills::hold(
        tx,
        &record.workspace,
        &record.id,
        &record.agent.definition.skills,
    )
    .await?
    .map_err(NotCreated::Skill)?;
    failpoint!("store::session::created");
    for act in &change.acts {
        audit::append(tx, &services, act).await?;
    }
    let owner = Owner::default();
    apply(tx, &services, permit, owner, &record, change, now).await?;
    Ok(Created::Done)
}

async fn write_profile(tx: &mut Tx, record: &SessionRecord, change: &Change) -> Result<(), Error> {
    if change.title.is_none()
        && change.metadata.is_none()
        && change.agent.is_none()
        && change.budget.is_none()
    {
        return Ok(());
    }
    let body = json(&Profile {
        agent: Cow::Borrowed(change.agent.as_ref().unwrap_or(&record.agent)),
        title: Cow::Borrowed(change.title.as_ref().unwrap_or(&record.title)),
        metadata: Cow::Borrowed(change.metadata.as_ref().unwrap_or(&record.metadata)),
        budget: change.budget.unwrap_or(record.budget),
        vault_ids: Cow::Borrowed(&record.vault_ids),
    })?;
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
async fn apply(
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
