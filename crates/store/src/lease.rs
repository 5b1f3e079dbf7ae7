//! Who may wake a session now, proved by a fencing epoch (security LEASE-1).

use manyhands_protocol::{SessionId, ThreadId, WorkspaceId};

use crate::db::{Scope, Tx, values};
use crate::entry::Entry;
use crate::error::{AppendError, Error};
use crate::failpoint::failpoint;
use crate::log::{Draft, Stamp, json};
use crate::session::{Append, transition, write_drafts};
use crate::store::{Services, Store};
use crate::strays::place_of;

/// The right to write to a session as its brain. Every append carries the epoch; an older one is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Whose session it is.
    pub workspace: WorkspaceId,
    /// Which session.
    pub session: SessionId,
    /// Grows with every grant.
    pub epoch: i64,
}

/// "This session wants a brain." Carries no data that a wake depends on: losing one costs only time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nudge {
    /// Whose session it is.
    pub workspace: WorkspaceId,
    /// Which session.
    pub session: SessionId,
    /// A lease that was granted together with the write that caused the nudge, to save a transaction.
    pub lease: Option<Lease>,
}

impl Store {
    /// Sessions that want a brain and that no living instance holds, oldest wish first. The timer behind lost nudges.
    pub async fn wanting(&self, limit: u32) -> Result<Vec<Nudge>, Error> {
        let rows = self
            .inner
            .db
            .read(
                "SELECT workspace, id FROM sessions
                 WHERE wants_brain = 1 AND archived_at IS NULL
                   AND (holder IS NULL OR holder NOT IN (SELECT id FROM living))
                 ORDER BY wanted_since, id LIMIT $1",
                values![limit],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let (workspace, session) = place_of(row)?;
                Ok(Nudge {
                    workspace,
                    session,
                    lease: None,
                })
            })
            .collect()
    }

    /// Takes the lease of a session that wants a brain; `None` when a living instance (this one included) holds it or
    /// nothing is wanted.
    pub async fn claim(
        &self,
        workspace: &WorkspaceId,
        session: &SessionId,
    ) -> Result<Option<Lease>, Error> {
        let instance = self.inner.services.instance.clone();
        let (workspace, session) = (workspace.clone(), session.clone());
        self.inner
            .db
            .write(Scope::of(session.as_str()), move |tx| {
                Box::pin(async move {
                    let row = tx
                        .one(
                            "UPDATE sessions SET epoch = epoch + 1, holder = $3
                             WHERE id = $1 AND workspace = $2 AND wants_brain = 1 AND archived_at IS NULL
                               AND (holder IS NULL OR holder NOT IN (SELECT id FROM living))
                             RETURNING epoch",
                            values![session.as_str(), workspace.as_str(), instance.as_str()],
                        )
                        .await?;
                    failpoint!("store::lease::claimed");
                    let Some(row) = row else { return Ok(None) };
                    Ok(Some(Lease {
                        epoch: row.int(0)?,
                        workspace,
                        session,
                    }))
                })
            })
            .await
    }

    /// A brain's append. Refused when the epoch is not the current one.
    pub async fn append(&self, lease: &Lease, append: Append) -> Result<Vec<Entry>, AppendError> {
        self.append_guarded(lease, append, Guard::Epoch).await
    }

    /// As [`append`](Self::append), but refused with `UnreadInput` when a client's input lies after `read_to`: for
    /// appends that answer calls in the client's place.
    pub async fn append_if_read(
        &self,
        lease: &Lease,
        append: Append,
        read_to: i64,
    ) -> Result<Vec<Entry>, AppendError> {
        self.append_guarded(lease, append, Guard::Read(read_to))
            .await
    }

    /// As [`append`](Self::append), but refused with `UnreadInput` when any entry lies after `position`: for an entry
    /// that stands for all before it.
    pub async fn append_at(
        &self,
        lease: &Lease,
        append: Append,
        position: i64,
    ) -> Result<Vec<Entry>, AppendError> {
        self.append_guarded(lease, append, Guard::At(position))
            .await
    }

    /// A brain's last append: as [`append`](Self::append), and the lease ends in the same transaction. Refused with
    /// `UnreadInput` when a client's input lies after `read_to`.
    pub async fn append_and_rest(
        &self,
        lease: &Lease,
        append: Append,
        read_to: i64,
    ) -> Result<Vec<Entry>, AppendError> {
        self.append_guarded(lease, append, Guard::Rest(read_to))
            .await
    }

    async fn append_guarded(
        &self,
        lease: &Lease,
        append: Append,
        guard: Guard,
    ) -> Result<Vec<Entry>, AppendError> {
        let services = self.inner.services.clone();
        let lease = lease.clone();
        let drafts = append
            .entries
            .into_iter()
            .map(Draft::of)
            .collect::<Result<Vec<Draft>, Error>>()?;
        let guarded = Guarded {
            count: drafts.len() as i64,
            status: append.status.map(|status| status.as_str()),
            usage: append.usage.as_ref().map(json).transpose()?,
            rests: matches!(guard, Guard::Rest(_)),
            read_to: guard.read_to(),
            last: guard.last(),
        };
        let bytes = drafts.iter().map(Draft::bytes).sum();
        let scope = Scope::of(lease.session.as_str()).with_bytes(bytes);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    let now = services.clock.now();
                    let row = tx
                        .one(
                            GUARDED_UPDATE,
                            values![
                                lease.session.as_str(),
                                guarded.count,
                                now,
                                guarded.status,
                                guarded.usage.as_deref(),
                                lease.workspace.as_str(),
                                lease.epoch,
                                services.instance.as_str(),
                                guarded.rests,
                                guarded.read_to,
                                guarded.last,
                            ],
                        )
                        .await?;
                    failpoint!("store::lease::guarded");
                    let Some(row) = row else {
                        return Err(refusal(tx, &services, &lease).await?);
                    };
                    let thread = ThreadId::parse(row.text(1)?).map_err(|error| Error::Damaged {
                        item: format!("session {}", lease.session),
                        reason: error.to_string(),
                    })?;
                    let stamp = Stamp {
                        workspace: &lease.workspace,
                        session: &lease.session,
                        thread: &thread,
                        first: row.int(0)? + 1 - guarded.count,
                        now,
                        epoch: lease.epoch,
                    };
                    let (opened, answered) = (append.opened, append.answered);
                    let entries =
                        write_drafts(tx, &services, &stamp, drafts, opened, answered).await?;
                    if guarded.rests {
                        failpoint!("store::lease::rested");
                    }
                    Ok(entries)
                })
            })
            .await
    }

    /// Gives a lease back without having rested: the session still wants a brain (shutdown, failures). Nothing
    /// happens when the lease is no longer valid.
    pub async fn release(&self, lease: &Lease) -> Result<(), Error> {
        let instance = self.inner.services.instance.clone();
        let lease = lease.clone();
        self.inner
            .db
            .write(Scope::of(lease.session.as_str()), move |tx| {
                Box::pin(async move {
                    tx.run(
                        "UPDATE sessions SET holder = NULL
                         WHERE id = $1 AND workspace = $2 AND epoch = $3 AND holder = $4",
                        values![
                            lease.session.as_str(),
                            lease.workspace.as_str(),
                            lease.epoch,
                            instance.as_str(),
                        ],
                    )
                    .await?;
                    failpoint!("store::lease::released");
                    Ok(())
                })
            })
            .await
    }
}

/// What a brain's append does to the session's row.
struct Guarded {
    count: i64,
    status: Option<&'static str>,
    usage: Option<String>,
    rests: bool,
    read_to: i64,
    last: i64,
}

/// What a brain's append depends on, beside the epoch.
#[derive(Clone, Copy)]
enum Guard {
    /// Nothing.
    Epoch,
    /// All input was read, up to this position.
    Read(i64),
    /// There is nothing after this position.
    At(i64),
    /// All input was read, up to this position, and the lease ends.
    Rest(i64),
}

impl Guard {
    fn read_to(self) -> i64 {
        match self {
            Self::Epoch | Self::At(_) => i64::MAX,
            Self::Read(read_to) | Self::Rest(read_to) => read_to,
        }
    }

    fn last(self) -> i64 {
        match self {
            Self::At(position) => position,
            Self::Epoch | Self::Read(_) | Self::Rest(_) => i64::MAX,
        }
    }
}

/// Guard, positions, status and the end of the lease in one statement: either all of it applies or no row does.
const GUARDED_UPDATE: &str = concat!(
    "UPDATE sessions SET ",
    transition!(),
    ", wants_brain = CASE WHEN $9 = 1 THEN 0 ELSE wants_brain END,
     holder = CASE WHEN $9 = 1 THEN NULL ELSE holder END
     WHERE id = $1 AND workspace = $6 AND epoch = $7 AND archived_at IS NULL
       AND holder = $8 AND holder IN (SELECT id FROM living) AND input_position <= $10
       AND last_position <= $11
     RETURNING last_position, thread_id"
);

/// Why the guarded update met no row.
async fn refusal(tx: &mut Tx, services: &Services, lease: &Lease) -> Result<AppendError, Error> {
    let row = tx
        .one(
            "SELECT archived_at, epoch, holder, (SELECT COUNT(*) FROM living l WHERE l.id = holder)
             FROM sessions WHERE id = $1 AND workspace = $2",
            values![lease.session.as_str(), lease.workspace.as_str()],
        )
        .await?;
    let Some(row) = row else {
        return Ok(AppendError::Gone);
    };
    let held = row.int(1)? == lease.epoch
        && row.optional_text(2)? == Some(services.instance.as_str())
        && row.int(3)? == 1;
    Ok(match (row.optional_int(0)?, held) {
        (Some(_), _) => AppendError::Gone,
        (None, true) => AppendError::UnreadInput,
        (None, false) => AppendError::StaleEpoch { epoch: lease.epoch },
    })
}
