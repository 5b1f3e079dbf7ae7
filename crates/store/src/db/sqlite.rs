//! SQLite: one writer that commits waiting jobs together, readers beside it, one process per data directory.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::OpenFlags;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, test_kill_process};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::{mpsc, watch};

use super::direct::{self, Direct};
use super::readers::Readers;
use super::{Job, Row, Sql, Value, migration_error, sort_error, writer};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::folder::make_folder;
use crate::reserve::Reserve;

pub(super) const CORRUPT: u32 = 11;
pub(super) const FULL: u32 = 13;
/// The wal-index could not grow: there is no room for it.
pub(super) const SHARED_MEMORY_SIZE: u32 = 4874;
pub(super) const NOT_A_DATABASE: u32 = 26;

pub(super) static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/sqlite");

/// How many jobs may wait for the writer; more wait in their callers.
const WAITING_JOBS: usize = 1024;
/// Writer and readers wait so long for each other before a statement fails.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A SQLite database in a data directory that this process holds.
pub(crate) struct Sqlite {
    /// Empty once closed.
    jobs: Mutex<Option<mpsc::Sender<Box<dyn Job>>>>,
    /// Turns true when the writer has ended.
    ended: watch::Receiver<bool>,
    readers: Readers,
    reserve: Arc<Reserve>,
}

impl Sqlite {
    /// Takes the directory's lock, opens or creates the database, verifies its settings and migrates it.
    pub(crate) async fn open(directory: &Path) -> Result<Self, Error> {
        let lock = take_lock(directory, LEFT_BEHIND)?;
        let reserve = Arc::new(Reserve::open(directory));
        let file = directory.join("manyhands.db");
        make_private(&file).map_err(|error| Error::Setup {
            operation: "making the database",
            reason: format!("{}: {error}", file.display()),
        })?;
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true);
        let migrated = migrate(options).await?;
        // The writer's connection comes before the other goes, which else would be the last and remove SQLite's log.
        let connection = connect(&file);
        close(migrated).await?;
        let connection = connection?;

        let readers = Readers::new(file.clone());
        let (sender, receiver) = mpsc::channel(WAITING_JOBS);
        let (end, ended) = watch::channel(false);
        let runtime = tokio::runtime::Handle::current();
        let looked_after = Arc::clone(&reserve);
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || {
                // What happens after a commit may start tasks.
                let _runtime = runtime.enter();
                writer::run(receiver, &file, connection, &looked_after);
                drop(lock);
                let _ = end.send(true);
            })
            .map_err(|error| Error::Setup {
                operation: "starting the database writer",
                reason: error.to_string(),
            })?;
        Ok(Self {
            jobs: Mutex::new(Some(sender)),
            ended,
            readers,
            reserve,
        })
    }

    pub(super) fn is_short_of_room(&self) -> bool {
        self.reserve.is_short()
    }

    pub(super) async fn submit(&self, job: Box<dyn Job>) -> Result<(), Error> {
        let jobs = self
            .jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let closed = || Error::Unavailable {
            operation: "writing",
            reason: "the store is closed".to_owned(),
        };
        let jobs = jobs.ok_or_else(closed)?;
        jobs.send(job).await.map_err(|_| closed())
    }

    pub(super) async fn read(&self, sql: Sql, values: Vec<Value>) -> Result<Vec<Row>, Error> {
        self.readers.read(sql, values).await
    }

    pub(super) async fn close(&self) {
        // Readers first: the last connection moves the log into the database, and it shall be the lock's holder.
        self.readers.close().await;
        drop(
            self.jobs
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let mut ended = self.ended.clone();
        // An error means the writer is gone, which is what is waited for.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

/// A data directory that this process holds, without a database that is open.
pub(crate) struct Held {
    _lock: Lock,
}

impl Held {
    /// Makes the directory when there is none, and takes its lock.
    pub(crate) fn take(directory: &Path) -> Result<Self, Error> {
        let _lock = take_lock(directory, LEFT_BEHIND)?;
        Ok(Self { _lock })
    }

    /// Brings the schema of a file, which no server has opened, up to date.
    pub(crate) async fn migrate(&self, file: &Path) -> Result<(), Error> {
        close(migrate(SqliteConnectOptions::new().filename(file)).await?).await
    }
}

/// Makes an empty database for its owner alone, when there is none; SQLite gives its log the same mode.
fn make_private(file: &Path) -> std::io::Result<()> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file);
    match made {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop),
    }
}

/// Brings the schema up to date. Returns the connection that did it, still open.
async fn migrate(options: SqliteConnectOptions) -> Result<SqliteConnection, Error> {
    let mut connection = options
        .synchronous(SqliteSynchronous::Full)
        .disable_statement_logging()
        .connect()
        .await
        .map_err(|error| sort_error("opening the database", &error))?;
    failpoint!("store::migrate::before");
    MIGRATIONS
        .run(&mut connection)
        .await
        .map_err(|error| migration_error(&MIGRATIONS, error))?;
    failpoint!("store::migrate::after");
    Ok(connection)
}

async fn close(connection: SqliteConnection) -> Result<(), Error> {
    connection
        .close()
        .await
        .map_err(|error| sort_error("closing the database", &error))
}

/// One checkpoint for some 16 MB of log pages, and a log file that shrinks back after a burst.
const SETTINGS: &str = "PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA foreign_keys = ON;
    PRAGMA wal_autocheckpoint = 4000;
    PRAGMA journal_size_limit = 67108864";

/// Opens a database that exists for writing, and verifies that it keeps what it acknowledges (security STORE-1).
pub(super) fn connect(file: &Path) -> Result<Direct, Error> {
    let connection = open(file, SETTINGS)?;
    for (pragma, wanted) in [("journal_mode", "wal"), ("synchronous", "2")] {
        let sql = format!("SELECT CAST({pragma} AS TEXT) FROM pragma_{pragma}");
        let rows = connection
            .fetch(&sql, &[])
            .map_err(|error| direct::sort_error("reading the durability settings", &error))?;
        let found = rows.first().map_or(Ok(""), |row| row.text(0))?;
        if found != wanted {
            return Err(Error::Setup {
                operation: "checking the durability settings",
                reason: format!(
                    "SQLite's {pragma} is \"{found}\" where \"{wanted}\" is needed; put the data directory on a local disk"
                ),
            });
        }
    }
    begin_anew(&connection)?;
    Ok(connection)
}

/// Moves all that SQLite's log holds into the database, so that the log begins anew.
///
/// What a sync has failed to keep, the system shows all the same until it forgets it, and no later sync speaks of it. An
/// opening may have taken such writes for committed, and what is written behind them would be lost with them. In the
/// database they are written and synced once more (security STORE-2).
fn begin_anew(connection: &Direct) -> Result<(), Error> {
    let rows = connection
        .fetch("PRAGMA wal_checkpoint(TRUNCATE)", &[])
        .map_err(|error| direct::sort_error("moving SQLite's log into the database", &error))?;
    if rows.first().map_or(Ok(0), |row| row.int(0))? != 0 {
        // Whoever reads it has had it open all along: nothing was taken for committed just now.
        tracing::debug!("a reader keeps SQLite's log from beginning anew");
    }
    Ok(())
}

/// Opens a database that exists for reading beside the writer.
pub(super) fn connect_reader(file: &Path) -> Result<Direct, Error> {
    open(file, "PRAGMA query_only = ON")
}

fn open(file: &Path, settings: &str) -> Result<Direct, Error> {
    let open = || {
        // Not created: a file that has vanished under a running server is no empty store.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = rusqlite::Connection::open_with_flags(file, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let connection = Direct::new(connection);
        connection.batch(settings)?;
        Ok(connection)
    };
    open().map_err(|error| direct::sort_error("opening the database", &error))
}

/// How long a child of a killed server may still hold the lock: it does so from its fork to its exec.
const LEFT_BEHIND: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(5);

/// Whether the text is the id of a process that is no more, or of one that has been killed and is not taken down yet:
/// its threads may still wait for the disk, and hold its files.
fn is_dead(pid: &str) -> bool {
    let Some(process) = pid.parse().ok().and_then(Pid::from_raw) else {
        return false;
    };
    // One that is being taken down has no memory any more, hence no command line.
    let command = std::fs::read(format!("/proc/{pid}/cmdline"));
    test_kill_process(process) == Err(rustix::io::Errno::SRCH)
        || command.is_ok_and(|command| command.is_empty())
}

/// A data directory's lock.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child of this process holds it, too, from its fork to its exec.
        if let Err(error) = flock(&self.0, FlockOperation::Unlock) {
            tracing::warn!(%error, "the data directory's lock is let go of with its file");
        }
    }
}

/// One process per data directory: the lock ends with the process, whatever ends it.
fn take_lock(directory: &Path, patience: Duration) -> Result<Lock, Error> {
    let setup = |error: std::io::Error| Error::Setup {
        operation: "opening the data directory",
        reason: format!("{}: {error}", directory.display()),
    };
    make_folder(directory).map_err(setup)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(directory.join("lock"))
        .map_err(setup)?;
    let began = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(setup(error.into())),
        }
        let mut holder = [0; 32];
        // The holder may be about to write its id; then it is unknown.
        let read = file.read_at(&mut holder, 0).unwrap_or_default();
        let holder = String::from_utf8_lossy(&holder[..read]);
        let pid = holder.trim();
        if !is_dead(pid) || began.elapsed() > patience {
            return Err(Error::InUse {
                directory: directory.display().to_string(),
                pid: if pid.is_empty() { "unknown" } else { pid }.to_owned(),
            });
        }
        std::thread::sleep(RETRY);
    }
    // Over the old one: on a full disk there is no room for another.
    let holder = format!("{:<15}\n", std::process::id());
    let lock = Lock(file);
    lock.0.write_all_at(holder.as_bytes(), 0).map_err(setup)?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_1_the_lock_of_a_killed_server_is_waited_for_that_of_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let held = take_lock(folder.path(), Duration::ZERO).unwrap();
        let check = |holder: u32, patience: Duration| {
            let began = Instant::now();
            let refused = take_lock(folder.path(), patience).unwrap_err();
            let named = matches!(&refused, Error::InUse { pid, .. } if *pid == holder.to_string());
            assert!(named, "{refused}");
            began.elapsed()
        };
        let long = Duration::from_secs(600);
        assert!(check(std::process::id(), long) < long);

        assert!(!is_dead(&std::process::id().to_string()));

        // As left by a killed server that nobody has waited for yet.
        let mut killed = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = killed.id();
        killed.kill().unwrap();
        // It stays until it is waited for.
        let exited =
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        let id = rustix::process::WaitId::Pid(Pid::from_raw(pid as i32).unwrap());
        rustix::process::waitid(id, exited).unwrap();
        assert!(is_dead(&pid.to_string()));
        killed.wait().unwrap();

        // As left by a killed server whose child is between its fork and its exec: the holder is dead, its lock held.
        let mut dead = std::process::Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        held.0.set_len(0).unwrap();
        held.0
            .write_all_at(dead.id().to_string().as_bytes(), 0)
            .unwrap();
        let short = Duration::from_millis(50);
        assert!(check(dead.id(), short) >= short);

        let directory = folder.path().to_owned();
        let waiting = std::thread::spawn(move || take_lock(&directory, long));
        drop(held);
        waiting.join().unwrap().unwrap();
    }

    /// security STORE-5: a restored directory can be opened at once, whatever this process starts meanwhile.
    #[test]
    fn lease_1_a_lock_that_is_let_go_of_is_free_whoever_has_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let held = take_lock(folder.path(), Duration::ZERO).unwrap();
        // As a child has it between its fork and its exec.
        let _left = held.0.try_clone().unwrap();
        drop(held);
        take_lock(folder.path(), Duration::ZERO).unwrap();
    }
}
