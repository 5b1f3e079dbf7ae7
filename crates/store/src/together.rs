//! Appends of brains that PostgreSQL takes many at a time. Appends that do more (take queued events, open or answer
//! calls) go alone.
//!
//! When it is known where their logs end, one statement does it all and commits by itself: it guards and moves the
//! rows of the sessions and inserts the entries of those that it moved. The others need a transaction, because an
//! entry's checksum covers its position.

mod ends;

use std::sync::OnceLock;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use manyhands_protocol::{ThreadId, Timestamp};

pub(crate) use ends::{End, Ends};

use crate::db::{Scope, Together, Tx, Value, values};
use crate::entry::Entry;
use crate::error::{AppendError, Error};
use crate::failpoint::failpoint;
use crate::lease::{Guarded, Lease, guarded_update, guarded_updates, refusal};
use crate::log::{Draft, Stamp, log_columns, row_values};
use crate::session::{publish_later, transition};
use crate::store::Services;

/// A brain's append of entries and nothing else.
pub(crate) struct PlainAppend {
    pub(crate) services: Services,
    pub(crate) lease: Lease,
    pub(crate) guarded: Guarded,
    pub(crate) drafts: Vec<Draft>,
    /// Its entries, behind the end of the log as it was believed to be at the first attempt.
    pub(crate) believed: OnceLock<Option<Believed>>,
}

/// Where an append goes if its log ends where it is believed to.
pub(crate) struct Believed {
    end: End,
    now: Timestamp,
    entries: Vec<Entry>,
}

impl Together for PlainAppend {
    type Done = Vec<Entry>;
    type Refused = AppendError;

    fn scope(&self) -> Scope {
        let bytes = self.drafts.iter().map(Draft::bytes).sum();
        Scope::of(self.lease.session.as_str()).with_bytes(bytes)
    }

    fn write_at_once<'t>(
        tx: &'t mut Tx,
        group: &'t [&'t Self],
        again: bool,
    ) -> BoxFuture<'t, Result<Vec<Option<Vec<Entry>>>, Error>> {
        write_at_once(tx, group, again).boxed()
    }

    fn write<'t>(
        tx: &'t mut Tx,
        group: &'t [&'t Self],
    ) -> BoxFuture<'t, Result<Vec<Result<Vec<Entry>, AppendError>>, Error>> {
        write(tx, group).boxed()
    }
}

/// Guards and moves all rows, and inserts the entries of those that moved from where their log was believed to end.
const ALL_AT_ONCE: &str = concat!(
    "WITH moved AS (",
    guarded_updates!(
        "FROM unnest($1::TEXT[], $2::BIGINT[], $3::BIGINT[], $4::TEXT[], $5::TEXT[], $6::BIGINT[], $7::TEXT[],
             $8::BIGINT[], $9::TEXT[], $10::BIGINT[], $11::BIGINT[], $12::BIGINT[], $13::BIGINT[], $14::BIGINT[])
             AS w(session, entries, moment, next_status, next_usage, shown, room, grant_epoch, owner, rests, read_to,
                 at_most, place, believed)",
        "w.at_most AND last_position = w.believed"
    ),
    "), written AS (INSERT INTO log (",
    log_columns!(),
    ") SELECT ",
    log_columns!(),
    " FROM unnest($15::TEXT[], $16::BIGINT[], $17::TEXT[], $18::BIGINT[], $19::TEXT[], $20::TEXT[], $21::TEXT[],
         $22::BIGINT[], $23::TEXT[], $24::BIGINT[], $25::BIGINT[], $26::BIGINT[], $27::BIGINT[], $28::BIGINT[])
         AS e(",
    log_columns!(),
    ", place) WHERE e.place IN (SELECT m.place FROM moved m)) SELECT place FROM moved"
);

/// The same in two steps, for logs whose end is not known.
const MOVE: &str = guarded_updates!(
    "FROM unnest($1::TEXT[], $2::BIGINT[], $3::BIGINT[], $4::TEXT[], $5::TEXT[], $6::BIGINT[], $7::TEXT[],
         $8::BIGINT[], $9::TEXT[], $10::BIGINT[], $11::BIGINT[], $12::BIGINT[], $13::BIGINT[])
         AS w(session, entries, moment, next_status, next_usage, shown, room, grant_epoch, owner, rests, read_to,
             at_most, place)",
    "w.at_most"
);
const INSERT: &str = concat!(
    "INSERT INTO log (",
    log_columns!(),
    ") SELECT * FROM unnest($1::TEXT[], $2::BIGINT[], $3::TEXT[], $4::BIGINT[], $5::TEXT[], $6::TEXT[], $7::TEXT[],
         $8::BIGINT[], $9::TEXT[], $10::BIGINT[], $11::BIGINT[], $12::BIGINT[], $13::BIGINT[])"
);

/// Which of the entries that were perhaps written are there.
const FOUND: &str = "SELECT w.place
    FROM unnest($1::BIGINT[], $2::TEXT[], $3::BIGINT[], $4::TEXT[]) AS w(place, session, position, event)
    JOIN log l ON l.session_id = w.session AND l.position = w.position AND l.event_id = w.event";

/// Writes those whose log's end is known and right; nothing of the others.
///
/// Doing it again is harmless: a log ends only once where it was believed to end. So either this attempt moves the
/// session, or one before it has, and then its entries are there; or neither can any more.
async fn write_at_once(
    tx: &mut Tx,
    group: &[&PlainAppend],
    again: bool,
) -> Result<Vec<Option<Vec<Entry>>>, Error> {
    let mut done: Vec<Option<Vec<Entry>>> = group.iter().map(|_| None).collect();
    let mut rows: Vec<Vec<Value>> = Vec::new();
    let mut entry_rows: Vec<Vec<Value>> = Vec::new();
    for (place, append) in (0_i64..).zip(group) {
        let Some(believed) = append.believed() else {
            continue;
        };
        rows.push(append.row(believed.now, [place, believed.end.position]));
        let stamp = append.stamp(
            &believed.end.thread,
            believed.end.position + 1,
            believed.now,
        );
        entry_rows.extend(believed.entries.iter().map(|entry| {
            let mut values: Vec<Value> = row_values(&stamp, entry, None).into();
            values.push(place.into());
            values
        }));
    }
    if rows.is_empty() {
        return Ok(done);
    }
    let mut moved = tx.many(ALL_AT_ONCE, &rows, &entry_rows).await?;
    failpoint!("store::lease::at_once");
    if again && moved.len() < rows.len() {
        let firsts = (0_i64..).zip(group).filter_map(|(place, append)| {
            let first = append.believed()?.entries.first()?;
            let session = append.lease.session.as_str();
            Some(values![
                place,
                session,
                first.position,
                first.event_id.as_str()
            ])
        });
        moved = tx.many(FOUND, &firsts.collect::<Vec<_>>(), &[]).await?;
    }
    for row in moved {
        let place = usize::try_from(row.int(0)?).unwrap_or(usize::MAX);
        let Some(append) = group.get(place) else {
            continue;
        };
        let Some(believed) = append.believed() else {
            continue;
        };
        append.written(tx, &believed.entries);
        done[place] = Some(believed.entries.clone());
    }
    Ok(done)
}

/// Writes all, or says why not.
async fn write(
    tx: &mut Tx,
    group: &[&PlainAppend],
) -> Result<Vec<Result<Vec<Entry>, AppendError>>, Error> {
    let moved = move_rows(tx, group).await?;
    failpoint!("store::lease::guarded");
    let mut rows: Vec<Vec<Value>> = Vec::new();
    let mut results = Vec::with_capacity(group.len());
    for (append, moved) in group.iter().zip(moved) {
        let Some(moved) = moved else {
            append.services.ends.forget(&append.lease.session);
            let refused = refusal(tx, &append.services, &append.lease, &append.guarded);
            results.push(Err(refused.await?));
            continue;
        };
        let first = moved.last + 1 - append.guarded.count;
        let stamp = append.stamp(&moved.thread, first, moved.now);
        let entries = append.entries(&stamp);
        rows.extend(
            entries
                .iter()
                .map(|entry| row_values(&stamp, entry, None).into()),
        );
        append.written(tx, &entries);
        append.know(tx, moved);
        if append.guarded.rests {
            failpoint!("store::lease::rested");
        }
        results.push(Ok(entries));
    }
    if !rows.is_empty() {
        tx.many(INSERT, &rows, &[]).await?;
    }
    failpoint!("store::log::inserted");
    Ok(results)
}

/// Where the guarded update put a session.
struct Moved {
    last: i64,
    thread: ThreadId,
    now: Timestamp,
}

/// Guards and moves the rows of all sessions; nothing for the ones whose guard does not hold.
async fn move_rows(tx: &mut Tx, group: &[&PlainAppend]) -> Result<Vec<Option<Moved>>, Error> {
    let mut times: Vec<Timestamp> = Vec::with_capacity(group.len());
    let mut rows: Vec<Vec<Value>> = Vec::with_capacity(group.len());
    for (place, append) in (0_i64..).zip(group) {
        let now = append.services.clock.now();
        times.push(now);
        rows.push(append.row(now, [place]));
    }
    let mut moved: Vec<Option<Moved>> = group.iter().map(|_| None).collect();
    for row in tx.many(MOVE, &rows, &[]).await? {
        let place = usize::try_from(row.int(2)?).unwrap_or(usize::MAX);
        let (Some(slot), Some(append)) = (moved.get_mut(place), group.get(place)) else {
            continue;
        };
        *slot = Some(Moved {
            last: row.int(0)?,
            thread: ThreadId::parse(row.text(1)?).map_err(|error| {
                Error::damaged(format!("session {}", append.lease.session), error)
            })?,
            now: times[place],
        });
    }
    Ok(moved)
}

impl PlainAppend {
    /// Nothing when it is not known where the log ends, and for appends without entries: there would be none to find.
    fn believed(&self) -> Option<&Believed> {
        let believe = || {
            let end = self.services.ends.of(&self.lease.session)?;
            let now = self.services.clock.now();
            let entries = self.entries(&self.stamp(&end.thread, end.position + 1, now));
            (!entries.is_empty()).then_some(Believed { end, now, entries })
        };
        self.believed.get_or_init(believe).as_ref()
    }

    fn row<const N: usize>(&self, now: Timestamp, more: [i64; N]) -> Vec<Value> {
        let mut values = self.guarded.values(&self.lease, &self.services, now);
        values.extend(more.map(Value::from));
        values
    }

    fn stamp<'a>(&'a self, thread: &'a ThreadId, first: i64, now: Timestamp) -> Stamp<'a> {
        Stamp {
            workspace: &self.lease.workspace,
            session: &self.lease.session,
            thread,
            first,
            now,
            epoch: self.lease.epoch,
        }
    }

    fn entries(&self, stamp: &Stamp<'_>) -> Vec<Entry> {
        let drafts = self.drafts.iter().enumerate();
        drafts.map(|(at, draft)| draft.entry(stamp, at)).collect()
    }

    /// What is to be done once it is durable.
    fn written(&self, tx: &mut Tx, entries: &[Entry]) {
        publish_later(tx, &self.services, &self.lease.session, entries);
        if self.guarded.rests {
            let (ends, session) = (self.services.ends.clone(), self.lease.session.clone());
            tx.after_commit(move || ends.forget(&session));
        }
    }

    /// Remembers where the log ends, once it does.
    fn know(&self, tx: &mut Tx, moved: Moved) {
        if self.guarded.rests {
            return;
        }
        let (ends, session) = (self.services.ends.clone(), self.lease.session.clone());
        let end = End {
            position: moved.last,
            thread: moved.thread,
        };
        tx.after_commit(move || ends.learn(&session, end));
    }
}
