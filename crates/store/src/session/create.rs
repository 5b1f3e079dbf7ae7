//! Sessions as they are made: their row, their profile and all that they have from the beginning, in one transaction.

use manyhands_protocol::Timestamp;
use manyhands_protocol::session::SessionStatus;
use tokio::sync::mpsc::OwnedPermit;

use super::read::Profile;
use super::state::Owner;
use super::write::apply;
use super::{Change, NewSession, SessionRecord, UsageTotals};
use crate::audit;
use crate::body;
use crate::db::{Lock, Scope, Tx, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::files::{Mount, MountRefusal, mount_all};
use crate::lease::Nudge;
use crate::log::json;
use crate::memory::{Attach, AttachRefusal, attach_all};
use crate::quota::{self, Thing};
use crate::repositories::{NewRepository, add_all};
use crate::skills;
use crate::store::{Services, Store};

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
}

impl NewSession {
    /// Its row before anything happened in it, made at `now`, and what is to be written with it.
    pub fn begin(self, now: Timestamp) -> (SessionRecord, Change) {
        let record = SessionRecord {
            workspace: self.workspace,
            id: self.id,
            thread_id: self.thread_id,
            environment_id: self.environment_id,
            agent: self.agent,
            title: self.title,
            metadata: self.metadata,
            budget: self.budget,
            vault_ids: self.vault_ids,
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
        (record, self.change)
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
    let (record, mut change) = session.begin(now);
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
    let body = json(&Profile::of(&record))?;
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
