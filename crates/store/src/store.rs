//! The store: opening it, closing it, and what all its parts share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use manyhands_protocol::SessionId;
use manyhands_protocol::event::Preview;
use manyhands_protocol::time::SharedClock;
use secrecy::SecretString;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::db::{Db, Memory, Postgres, Scope, SharedMemory, Sqlite, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::lease::Nudge;
use crate::remains::purge_while_open;
use crate::tail::{Hub, Subscription, TailItem};

/// Which database.
#[derive(Clone, Debug)]
pub enum Database {
    /// A file in the data directory; one process at a time.
    Sqlite {
        /// The data directory; the file is `manyhands.db` in it.
        directory: PathBuf,
    },
    /// A PostgreSQL server.
    Postgres {
        /// Its URL, which may hold a password.
        url: SecretString,
    },
    /// In memory and on the calling thread, for tests and simulations only. Several stores may share it.
    Memory(SharedMemory),
}

/// How to open a store.
#[derive(Clone)]
pub struct Config {
    /// Which database.
    pub database: Database,
    /// Where the time comes from.
    pub clock: SharedClock,
}

/// How many nudges may wait for the dispatcher. Beyond that sessions wait for its timer.
const NUDGES: usize = 1024;
/// How often a PostgreSQL instance says that it lives; it is believed for 10 s (architecture "Wakes").
const RENEWAL: Duration = Duration::from_secs(3);

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

/// What one open store consists of.
pub(crate) struct Inner {
    pub(crate) db: Db,
    pub(crate) services: Services,
    nudges: mpsc::Sender<Nudge>,
    /// The receiving end, until it is taken.
    untaken: Mutex<Option<mpsc::Receiver<Nudge>>>,
    /// Whether somebody acts on leases that are granted with a write.
    taken: AtomicBool,
    /// Chores that end with the store: renewing this instance, removing what deletions leave.
    chores: Mutex<Vec<JoinHandle<()>>>,
}

/// What a write needs besides its transaction.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) clock: SharedClock,
    pub(crate) hub: Arc<Hub>,
    /// Who holds the leases that this store grants.
    pub(crate) instance: Arc<String>,
    /// A deletion has left something to remove.
    pub(crate) purge: Arc<Notify>,
}

impl Store {
    /// Opens the database, checks its durability settings (security STORE-1) and brings its schema up to date
    /// (security STORE-5). On SQLite it takes the data directory's lock and voids all older leases.
    pub async fn open(config: Config) -> Result<Self, Error> {
        let db = match &config.database {
            Database::Sqlite { directory } => Db::Sqlite(Sqlite::open(directory).await?),
            Database::Postgres { url } => Db::Postgres(Postgres::open(url).await?),
            Database::Memory(shared) => Db::Memory(Memory::open(shared)),
        };
        let shared = db.is_shared();
        let (sender, receiver) = mpsc::channel(NUDGES);
        let store = Self {
            inner: Arc::new(Inner {
                db,
                services: Services {
                    clock: config.clock,
                    hub: Arc::default(),
                    instance: Arc::new(format!("{:032x}", rand::random::<u128>())),
                    purge: Arc::default(),
                },
                nudges: sender,
                untaken: Mutex::new(Some(receiver)),
                taken: AtomicBool::new(false),
                chores: Mutex::default(),
            }),
        };
        let begun = if shared {
            store.inner.renew().await
        } else {
            store.inner.void_older_leases().await
        };
        if let Err(error) = begun {
            // Who tries again finds nobody in the data directory.
            store.inner.db.close().await;
            return Err(error);
        }
        if shared {
            let task = tokio::spawn(renew_while_open(Arc::downgrade(&store.inner)));
            lock(&store.inner.chores).push(task);
        }
        let task = tokio::spawn(purge_while_open(Arc::downgrade(&store.inner)));
        lock(&store.inner.chores).push(task);
        Ok(store)
    }

    /// Finishes pending writes, gives this process's leases back and closes the database.
    pub async fn close(&self) {
        for task in lock(&self.inner.chores).drain(..) {
            task.abort();
        }
        if let Err(error) = self.inner.release_all().await {
            // Restarting, or their time running out, ends them as well.
            tracing::warn!(%error, "leases could not be given back");
        }
        self.inner.db.close().await;
        self.inner.services.hub.close();
    }

    /// A round trip to the database, for readiness: a read, and a transaction of the writer.
    pub async fn ping(&self) -> Result<(), Error> {
        self.inner.db.read("SELECT 1", Vec::new()).await?;
        self.inner
            .db
            .write(Scope::default(), |tx| {
                Box::pin(tx.run("SELECT 1", Vec::new()))
            })
            .await
    }

    /// Listens to a session. Attached when it returns.
    pub fn subscribe(&self, session: &SessionId) -> Subscription {
        self.inner.services.hub.subscribe(session)
    }

    /// Whether a session has listeners, to save work on previews nobody sees.
    pub fn has_listeners(&self, session: &SessionId) -> bool {
        self.inner.services.hub.has_listeners(session)
    }

    /// Shows a preview to the session's listeners. Never stored.
    pub fn preview(&self, session: &SessionId, preview: Preview) {
        self.inner
            .services
            .hub
            .publish(session, || TailItem::Preview(Arc::new(preview)));
    }

    /// The receiving end of nudges; can be taken once per store. While it is taken, writes that want a brain grant the
    /// lease to this process in the same transaction when nobody holds it.
    pub fn nudges(&self) -> Option<mpsc::Receiver<Nudge>> {
        let receiver = lock(&self.inner.untaken).take()?;
        self.inner.taken.store(true, Ordering::Release);
        Some(receiver)
    }

    /// Room for one nudge, kept before the write that may cause it: without room no lease is granted.
    pub(crate) fn nudge_permit(&self) -> Option<mpsc::OwnedPermit<Nudge>> {
        if !self.inner.taken.load(Ordering::Acquire) {
            return None;
        }
        self.inner.nudges.clone().try_reserve_owned().ok()
    }
}

impl Inner {
    /// The data directory's lock says that no other process lives: whatever was leased, no brain holds it now.
    async fn void_older_leases(&self) -> Result<(), Error> {
        let instance = Arc::clone(&self.services.instance);
        self.db
            .write(Scope::default(), move |tx| {
                Box::pin(async move {
                    tx.run(
                        "UPDATE sessions SET epoch = epoch + 1, holder = NULL WHERE holder IS NOT NULL",
                        Vec::new(),
                    )
                    .await?;
                    tx.run("DELETE FROM instances", Vec::new()).await?;
                    tx.run(
                        "INSERT INTO instances (id, expires_at) VALUES ($1, $2)",
                        values![instance.as_str(), i64::MAX],
                    )
                    .await
                })
            })
            .await
    }

    /// Says to the other instances that this one lives, by the database's clock (security LEASE-1).
    async fn renew(&self) -> Result<(), Error> {
        let instance = Arc::clone(&self.services.instance);
        let now = self.db.clock_sql();
        self.db
            .write(Scope::default(), move |tx| {
                Box::pin(async move {
                    tx.run(
                        format!(
                            "INSERT INTO instances (id, expires_at) VALUES ($1, {now} + 10000000)
                             ON CONFLICT (id) DO UPDATE SET expires_at = EXCLUDED.expires_at"
                        ),
                        values![instance.as_str()],
                    )
                    .await?;
                    failpoint!("store::lease::renewed");
                    Ok(())
                })
            })
            .await
    }

    async fn release_all(&self) -> Result<(), Error> {
        let instance = Arc::clone(&self.services.instance);
        self.db
            .write(Scope::default(), move |tx| {
                Box::pin(async move {
                    tx.run(
                        "UPDATE sessions SET holder = NULL WHERE holder = $1",
                        values![instance.as_str()],
                    )
                    .await?;
                    tx.run(
                        "DELETE FROM instances WHERE id = $1",
                        values![instance.as_str()],
                    )
                    .await
                })
            })
            .await
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A chore that waits finds that the store is gone.
        self.services.purge.notify_one();
    }
}

async fn renew_while_open(inner: Weak<Inner>) {
    let first = tokio::time::Instant::now() + RENEWAL;
    let mut ticks = tokio::time::interval_at(first, RENEWAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        if let Err(error) = inner.renew().await {
            // Past the time to live, this instance's own appends are refused by their guard.
            tracing::warn!(%error, "this instance could not be renewed");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
