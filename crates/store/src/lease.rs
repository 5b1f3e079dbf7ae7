//! Who may wake a session now, proved by a fencing epoch (security LEASE-1).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use std::sync::OnceLock;

use manyhands_protocol::{SessionId, ThreadId, Timestamp, WorkspaceId};
use tokio::time::Instant;

use crate::db::{Scope, Tx, Value, values};
use crate::entry::Entry;
use crate::error::{AppendError, Error};
use crate::failpoint::failpoint;
use crate::log::{Draft, Stamp, json};
use crate::reserve::Purpose;
use crate::session::{Append, transition, write_drafts};
use crate::store::{Services, Store};
use crate::together::PlainAppend;

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
        let begun = Instant::now();
        let entries = self.append_unmeasured(lease, append, guard).await?;
        metrics::histogram!("manyhands_append_seconds", "by" => "brain")
            .record(begun.elapsed().as_secs_f64());
        Ok(entries)
    }

    async fn append_unmeasured(
        &self,
        lease: &Lease,
        append: Append,
        guard: Guard,
    ) -> Result<Vec<Entry>, AppendError> {
        let services = self.inner.services.clone();
        let lease = lease.clone();
        let purpose = append.purpose();
        let drafts = append
            .entries
            .into_iter()
            .map(Draft::of)
            .collect::<Result<Vec<Draft>, Error>>()?;
        let guarded = Guarded {
            count: drafts.len() as i64,
            status: append.status.map(|status| status.as_str()),
            usage: append.usage.as_ref().map(json).transpose()?,
            active_millis: append.active_millis,
            rests: matches!(guard, Guard::Rest(_)),
            read_to: guard.read_to(),
            last: guard.last(),
        };
        if let Some(together) = self.inner.db.together()
            && append.opened.is_empty()
            && append.answered.is_empty()
            && drafts.iter().all(Draft::is_plain)
        {
            return together
                .write(PlainAppend {
                    services,
                    lease,
                    guarded,
                    drafts,
                    believed: OnceLock::new(),
                })
                .await;
        }
        let bytes = drafts.iter().map(Draft::bytes).sum();
        let scope = Scope::of(lease.session.as_str())
            .with_bytes(bytes)
            .with_purpose(purpose);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    let now = services.clock.now();
                    let values = guarded.values(&lease, &services, now);
                    let row = tx.one(GUARDED_UPDATE, values).await?;
                    failpoint!("store::lease::guarded");
                    let Some(row) = row else {
                        return Err(refusal(tx, &services, &lease, &guarded).await?);
                    };
                    let thread = ThreadId::parse(row.text(1)?).map_err(|error| {
                        Error::damaged(format!("session {}", lease.session), error)
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
    /// happens when the lease is no longer valid. The other instances are told when this one does not wake any more.
    pub async fn release(&self, lease: &Lease) -> Result<(), Error> {
        let instance = self.inner.services.instance.clone();
        // An instance that wakes tries again in its own time: a session that fails must not go round at once.
        let wakes = self.inner.taken.load(Ordering::Acquire);
        let peers = (!wakes).then(|| Arc::clone(&self.inner.services.peers));
        let lease = lease.clone();
        let scope = Scope::of(lease.session.as_str()).with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
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
                    if let Some(peers) = peers {
                        tx.after_commit(move || {
                            peers.wish(&lease.workspace, &lease.session, None, None);
                        });
                    }
                    Ok(())
                })
            })
            .await
    }
}

/// What a brain's append does to the session's row.
pub(crate) struct Guarded {
    pub(crate) count: i64,
    status: Option<&'static str>,
    usage: Option<String>,
    active_millis: Option<i64>,
    pub(crate) rests: bool,
    read_to: i64,
    last: i64,
}

impl Guarded {
    /// What [`GUARDED_UPDATE`] takes.
    pub(crate) fn values(&self, lease: &Lease, services: &Services, now: Timestamp) -> Vec<Value> {
        values![
            lease.session.as_str(),
            self.count,
            now,
            self.status,
            self.usage.as_deref(),
            self.active_millis,
            lease.workspace.as_str(),
            lease.epoch,
            services.instance.as_str(),
            self.rests,
            self.read_to,
            self.last,
        ]
    }
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

/// Guard, positions, status and the end of the lease in one statement: either all of it applies or no row does. The
/// names stand for what [`GUARDED_UPDATE`] takes, in its order.
macro_rules! guarded_update {
    ($from:literal, $id:literal, $count:literal, $now:literal, $status:literal, $usage:literal, $shown:literal,
     $workspace:literal, $epoch:literal, $holder:literal, $rests:literal, $read_to:literal, $last:literal,
     $also:literal) => {
        concat!(
            "UPDATE sessions SET ",
            transition!($count, $now, $status, $usage, $shown),
            ", wants_brain = CASE WHEN ",
            $rests,
            " = 1 THEN 0 ELSE wants_brain END,
             holder = CASE WHEN ",
            $rests,
            " = 1 THEN NULL ELSE holder END ",
            $from,
            " WHERE id = ",
            $id,
            " AND workspace = ",
            $workspace,
            " AND epoch = ",
            $epoch,
            "
               AND archived_at IS NULL AND holder = ",
            $holder,
            " AND holder IN (SELECT id FROM living)
               AND input_position <= ",
            $read_to,
            " AND last_position <= ",
            $last,
            "
             RETURNING last_position, thread_id",
            $also
        )
    };
}
const GUARDED_UPDATE: &str = guarded_update!(
    "", "$1", "$2", "$3", "$4", "$5", "$6", "$7", "$8", "$9", "$10", "$11", "$12", ""
);
/// The same for many sessions, taken from arrays; each row that comes back names its place in them.
macro_rules! guarded_updates {
    ($from:literal, $at_most:literal) => {
        guarded_update!(
            $from,
            "w.session",
            "w.entries",
            "w.moment",
            "w.next_status",
            "w.next_usage",
            "w.shown",
            "w.room",
            "w.grant_epoch",
            "w.owner",
            "w.rests",
            "w.read_to",
            $at_most,
            ", w.place"
        )
    };
}
pub(crate) use {guarded_update, guarded_updates};

/// Why the guarded update met no row.
pub(crate) async fn refusal(
    tx: &mut Tx,
    services: &Services,
    lease: &Lease,
    guarded: &Guarded,
) -> Result<AppendError, Error> {
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
    // The lease holds now; an append that depends on no position was refused while it did not.
    let unread = held && (guarded.read_to < i64::MAX || guarded.last < i64::MAX);
    Ok(match (row.optional_int(0)?, unread) {
        (Some(_), _) => AppendError::Gone,
        (None, true) => AppendError::UnreadInput,
        (None, false) => AppendError::StaleEpoch { epoch: lease.epoch },
    })
}
