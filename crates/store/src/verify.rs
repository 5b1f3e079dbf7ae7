//! Reading a whole store for damage (security STORE-3), beside a running server or on a copy.
//!
//! Nothing is written and no lock is taken. Each session is looked at in one snapshot, its log page by page, so memory
//! stays bounded and what a server writes meanwhile is no damage. One damaged item does not hide another.

mod memory;
mod resources;
mod session;

use std::path::PathBuf;

use serde::Serialize;

use crate::db::{Beside, Reader, Schema};
use crate::error::Error;
use crate::store::Database;

/// Rows that are in memory at a time.
const PAGE: i64 = 64;

/// What to look at.
#[derive(Clone, Debug)]
pub enum Source {
    /// A server's database. The server may be running.
    Database(Database),
    /// A SQLite file that nobody writes to, such as a backup.
    File(PathBuf),
}

/// What was looked at so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Sessions.
    pub sessions: u64,
    /// Log entries.
    pub entries: u64,
    /// Workspaces, API keys, agents, their versions, and environments.
    pub resources: u64,
    /// Items that are damaged.
    pub damaged: u64,
}

/// One damaged item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Which, such as `entry 3 of sesn_…`.
    pub item: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What is told while the store is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// An item is damaged.
    Damage(Damage),
    /// So much has been read.
    Progress(Counts),
}

/// Reads all of a store and tells each damaged item as it is found.
///
/// # Errors
/// When the store cannot be read to its end: it is absent, of another schema, or out of reach.
pub async fn verify(source: &Source, tell: &mut (dyn FnMut(Told) + Send)) -> Result<Counts, Error> {
    let mut reader = match source {
        Source::Database(Database::Sqlite { directory }) => {
            Reader::sqlite(&directory.join("manyhands.db"), Beside::Writers).await?
        }
        Source::Database(Database::Postgres { url }) => Reader::postgres(url).await?,
        Source::Database(Database::Memory(shared)) => Reader::memory(shared),
        Source::File(file) => Reader::sqlite(file, Beside::Nobody).await?,
    };
    reader.require(Schema::Same).await?;
    let mut verifier = Verifier {
        reader,
        counts: Counts::default(),
        tell,
    };
    verifier.all().await?;
    let counts = verifier.counts;
    verifier.reader.close().await?;
    Ok(counts)
}

struct Verifier<'t> {
    reader: Reader,
    counts: Counts,
    tell: &'t mut (dyn FnMut(Told) + Send),
}

/// The next id that any table knows a session by. Each part is one step in an index.
macro_rules! next_session {
    ($beyond:literal) => {
        concat!(
            "SELECT MIN(id) FROM (SELECT MIN(id) AS id FROM sessions WHERE id ",
            $beyond,
            " $1 UNION ALL SELECT MIN(session_id) FROM session_profiles WHERE session_id ",
            $beyond,
            " $1 UNION ALL SELECT MIN(session_id) FROM log WHERE session_id ",
            $beyond,
            " $1 UNION ALL SELECT MIN(session_id) FROM inbox WHERE session_id ",
            $beyond,
            " $1 UNION ALL SELECT MIN(session_id) FROM calls WHERE session_id ",
            $beyond,
            " $1) AS known"
        )
    };
}

impl Verifier<'_> {
    async fn all(&mut self) -> Result<(), Error> {
        self.progress();
        let integrity = self.reader.integrity().await;
        for reason in self
            .heed("the database file", integrity)?
            .unwrap_or_default()
        {
            self.damaged("the database file", reason);
        }
        resources::verify(self).await?;
        let mut beyond = (next_session!(">="), String::new());
        loop {
            let next = self
                .reader
                .one(beyond.0, vec![beyond.1.as_str().into()])
                .await;
            let item = format!("the list of sessions after {:?}", beyond.1);
            let Some(Some(row)) = self.heed(&item, next)? else {
                return Ok(());
            };
            let Some(id) = row.optional_text(0)?.map(str::to_owned) else {
                return Ok(());
            };
            session::verify(self, &id).await?;
            self.progress();
            beyond = (next_session!(">"), id);
        }
    }

    fn damaged(&mut self, item: impl Into<String>, reason: impl Into<String>) {
        self.counts.damaged += 1;
        (self.tell)(Told::Damage(Damage {
            item: item.into(),
            reason: reason.into(),
        }));
    }

    fn progress(&mut self) {
        (self.tell)(Told::Progress(self.counts));
    }

    /// Tells damage that came up while something was read; other errors go on to the caller.
    fn heed<T>(&mut self, item: &str, read: Result<T, Error>) -> Result<Option<T>, Error> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(Error::Damaged { reason, .. }) => {
                self.damaged(item, reason);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
