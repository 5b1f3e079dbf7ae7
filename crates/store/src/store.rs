//! The store: opening it, closing it, and what all its parts share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use manyhands_protocol::SessionId;
use manyhands_protocol::event::Preview;
use manyhands_protocol::time::SharedClock;
use secrecy::SecretString;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::db::{Db, Memory, Postgres, Scope, SharedMemory, Sqlite};
use crate::error::Error;
use crate::idempotency::Runs;
use crate::lease::Nudge;
use crate::quota::Quotas;
use crate::remains::purge_while_open;
use crate::replica::{
    Home, Outbox, Patience, Peers, Place, Renewals, Replica, Role, Teller, join, listen,
    renew_while_open, void_dead_neighbours, watch_while_open,
};
use crate::tail::{Hub, Subscription};
use crate::together::Ends;

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
    /// What this store is to others on the same database.
    pub replica: Replica,
}

impl Config {
    /// A store that is alone at its place and does everything.
    pub fn new(database: Database, clock: SharedClock) -> Self {
        Self {
            database,
            clock,
            replica: Replica::default(),
        }
    }
}

/// How many nudges may wait for the dispatcher. Beyond that sessions wait for its timer.
const NUDGES: usize = 1024;
/// How long a store that opens waits until it hears the others.
const HEARING: Duration = Duration::from_secs(4);
/// How long a store that closes waits until its last messages to other instances are sent.
const LAST_WORDS: Duration = Duration::from_secs(2);

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
    pub(crate) taken: AtomicBool,
    pub(crate) role: Role,
    /// Where this instance is, and its lock there.
    pub(crate) home: Home,
    pub(crate) renewals: Renewals,
    pub(crate) patience: Patience,
    /// Chores that end with the store: renewing this instance, listening to others, removing what deletions leave.
    chores: Mutex<Vec<JoinHandle<()>>>,
    /// The task that tells the others, and how it is ended.
    teller: Mutex<Option<JoinHandle<()>>>,
    closing: Arc<Notify>,
    /// Told when the other instances are heard.
    pub(crate) hears: Notify,
}

/// What a write needs besides its transaction.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) clock: SharedClock,
    pub(crate) hub: Arc<Hub>,
    pub(crate) peers: Arc<Peers>,
    /// Who holds the leases that this store grants.
    pub(crate) instance: Arc<String>,
    /// A deletion has left something to remove.
    pub(crate) purge: Arc<Notify>,
    /// Where the logs of sessions end that are written here.
    pub(crate) ends: Arc<Ends>,
    /// Requests that may be repeated and run in this process.
    pub(crate) runs: Arc<Runs>,
    /// What workspaces are held to, once it is said.
    pub(crate) quotas: Arc<OnceLock<Quotas>>,
    /// Something has left blobs to remove. At the start somebody may have.
    pub(crate) loosened: Arc<Notify>,
}

impl Services {
    /// What workspaces are held to.
    pub(crate) fn quotas(&self) -> Option<&Quotas> {
        self.quotas.get()
    }
}

impl Store {
    /// Opens the database, checks its durability settings (security STORE-1) and brings its schema up to date
    /// (security STORE-5). On SQLite it takes the data directory's lock and voids all older leases; in a data directory
    /// that is shared by instances on PostgreSQL it voids those of the dead.
    pub async fn open(config: Config) -> Result<Self, Error> {
        let Replica {
            place,
            role,
            instance,
            exchange,
            uptime,
            look,
        } = config.replica;
        let instance = instance.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
        let place = match &config.database {
            // The directory's lock says more.
            Database::Sqlite { .. } => Place::Alone,
            Database::Postgres { .. } | Database::Memory(_) => place,
        };
        let home = Home::take(&place, &instance)?;
        let db = match &config.database {
            Database::Sqlite { directory } => Db::Sqlite(Sqlite::open(directory).await?),
            Database::Postgres { url } => Db::Postgres(Postgres::open(url).await?),
            Database::Memory(shared) => Db::Memory(Memory::open(shared)),
        };
        let shared = db.is_shared();
        let (sender, receiver) = mpsc::channel(NUDGES);
        let (outbox, wire) = match (&exchange, db.line()) {
            (Some(exchange), _) => (Outbox::Exchange(exchange.clone()), None),
            (None, Some(line)) => {
                let (outbox, messages, lost) = Outbox::queue();
                (outbox, Some((line, messages, lost)))
            }
            (None, None) => (Outbox::Nobody, None),
        };
        let peers = Arc::new(Peers::new(instance.clone(), home.name().to_owned(), outbox));
        let inner = Arc::new_cyclic(|inner| Inner {
            db,
            services: Services {
                clock: config.clock,
                hub: Arc::new(Hub::new(Arc::clone(&peers), inner.clone())),
                peers,
                instance: Arc::new(instance.clone()),
                purge: Arc::default(),
                ends: Arc::default(),
                runs: Arc::default(),
                quotas: Arc::default(),
                loosened: Arc::default(),
            },
            nudges: sender,
            untaken: Mutex::new(Some(receiver)),
            taken: AtomicBool::new(false),
            role,
            home,
            renewals: Renewals::new(uptime),
            patience: Patience::default(),
            chores: Mutex::default(),
            teller: Mutex::default(),
            closing: Arc::default(),
            hears: Notify::new(),
        });
        let store = Self { inner };
        let inner = &store.inner;
        if shared {
            inner.renew().await?;
            store.void_dead_neighbours().await?;
            inner.keep(renew_while_open(Arc::downgrade(inner)));
            inner.keep(watch_while_open(Arc::downgrade(inner), look));
        } else if let Err(error) = inner.void_older_leases().await {
            // Whoever tries again finds nobody in the data directory.
            inner.db.close().await;
            return Err(error);
        }
        if inner.home.neighbours().is_some() {
            inner.keep(void_dead_neighbours(Arc::downgrade(inner)));
        }
        if let Some(exchange) = &exchange {
            inner.keep(join(exchange, &instance, Arc::downgrade(inner)));
        }
        if let Some((line, messages, lost)) = wire {
            inner.keep(listen(Arc::clone(&line), Arc::downgrade(inner)));
            let inner = Arc::downgrade(inner);
            let teller = Teller {
                line,
                messages,
                lost,
                inner,
            };
            let task = tokio::spawn(teller.run(Arc::clone(&store.inner.closing)));
            *lock(&store.inner.teller) = Some(task);
        }
        if inner.services.peers.are_there()
            && tokio::time::timeout(HEARING, inner.hears.notified())
                .await
                .is_err()
        {
            tracing::warn!(
                "other instances are not heard yet; their sessions and streams wait for timers"
            );
        }
        inner.keep(purge_while_open(Arc::downgrade(inner)));
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
        self.inner.closing.notify_one();
        let teller = lock(&self.inner.teller).take();
        if let Some(mut teller) = teller
            && tokio::time::timeout(LAST_WORDS, &mut teller).await.is_err()
        {
            teller.abort();
        }
        self.inner.db.close().await;
        self.inner.home.leave();
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

    /// The id of this instance, unlike all others on the database.
    pub fn instance(&self) -> &str {
        self.inner.services.peers.instance()
    }

    /// Whether all others must still believe that this instance lives, by its own clock, which goes on while it is stopped
    /// or the machine sleeps: to be asked before its brain does something that the database cannot refuse (security
    /// LEASE-1). On a database that admits one process it does not depend on being believed.
    pub fn fresh(&self) -> bool {
        !self.inner.db.is_shared() || self.inner.renewals.is_fresh()
    }

    /// How often the others may have ceased to believe in this instance, by its own clock, although it is
    /// [`fresh`](Self::fresh) again: a lease that was granted before the last time may have another owner.
    pub fn lapses(&self) -> u64 {
        self.inner.renewals.lapses()
    }

    /// Whether there is so little room on the disk that new work is refused (SQLite; security STORE-4). Looked at with
    /// each write.
    pub fn is_short_of_room(&self) -> bool {
        self.inner.db.is_short_of_room()
    }

    /// Listens to a session. Attached when it returns.
    pub fn subscribe(&self, session: &SessionId) -> Subscription {
        self.inner.services.hub.subscribe(session)
    }

    /// Whether a session has listeners, here or elsewhere, to save work on previews nobody sees.
    pub fn has_listeners(&self, session: &SessionId) -> bool {
        self.inner.services.hub.has_listeners(session)
    }

    /// Shows a preview to the session's listeners. Never stored.
    pub fn preview(&self, session: &SessionId, preview: Preview) {
        self.inner.services.hub.preview(session, preview);
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
    /// Tells this process's brain of a session, if there is one and it has room: its timer finds it as well.
    pub(crate) fn nudge(&self, nudge: Nudge) {
        if self.taken.load(Ordering::Acquire) {
            // Without room the timer does it.
            let _ = self.nudges.try_send(nudge);
        }
    }

    /// Tells whichever brain may have a session: this process's, or else the others.
    pub(crate) fn call(&self, nudge: Nudge) {
        if self.taken.load(Ordering::Acquire) {
            self.nudge(nudge);
        } else {
            let Nudge {
                workspace, session, ..
            } = nudge;
            self.services.peers.wish(&workspace, &session, None, None);
        }
    }

    fn keep(&self, chore: impl Future<Output = ()> + Send + 'static) {
        lock(&self.chores).push(tokio::spawn(chore));
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A chore that waits finds that the store is gone.
        self.services.purge.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
