//! What one of several servers on a database is to the others: who it is, where it is, and what they tell each other.
//!
//! Nothing of it is needed for correctness: leases and positions are decided in the database. It saves time (a nudge instead
//! of a timer), keeps a session near its sandbox, and brings previews to listeners elsewhere.

mod ears;
mod exchange;
mod interest;
mod message;
mod peers;
mod place;
mod placement;
mod renewal;
mod row;
mod watch;
mod wire;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use exchange::{Exchange, Parcel};
pub use message::Channel;

pub(crate) use ears::{Heard, hear, join};
pub(crate) use message::Message;
pub(crate) use peers::{Outbox, Peers};
pub(crate) use place::{Home, void_dead_neighbours};
pub(crate) use placement::Patience;
pub(crate) use renewal::{BELIEVED, Renewals, renew_while_open};
pub(crate) use watch::watch_while_open;
pub(crate) use wire::{Teller, listen};

/// What an open store is to the others on the same database.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Where its sandboxes are.
    pub place: Place,
    /// What it does.
    pub role: Role,
    /// Its id, unlike all others; `None` for a random one.
    pub instance: Option<String>,
    /// What it is told of the others through; `None` for what the database has: notifications on PostgreSQL, and
    /// nothing on SQLite, which admits one process.
    pub exchange: Option<Exchange>,
    /// How it measures its own pauses.
    pub uptime: Uptime,
    /// How often it asks the database for what listeners were not told of.
    pub look: Duration,
}

impl Default for Replica {
    fn default() -> Self {
        Self {
            place: Place::default(),
            role: Role::default(),
            instance: None,
            exchange: None,
            uptime: Uptime::default(),
            look: Duration::from_secs(1),
        }
    }
}

/// Where an instance's sandboxes are: who is at the same place can reach them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// A place of its own.
    #[default]
    Alone,
    /// A data directory, in this boot of this host. Its instances know of each other's death at once.
    Directory(PathBuf),
    /// A name, for stores that share no directory: tests and simulations.
    Named(String),
}

/// What an instance does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    #[default]
    All,
    /// Requests and streams; never a wake.
    Api,
    /// Wakes.
    Brain,
}

impl Role {
    /// As it is written in settings: `all`, `api` or `brain`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Api => "api",
            Self::Brain => "brain",
        }
    }

    /// The role of this name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::All, Self::Api, Self::Brain]
            .into_iter()
            .find(|role| role.as_str() == text)
    }

    /// Whether it wakes sessions.
    pub const fn wakes(self) -> bool {
        matches!(self, Self::All | Self::Brain)
    }
}

/// A clock that never jumps and goes on while the process, or the machine, sleeps.
#[derive(Clone)]
pub struct Uptime(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Uptime {
    /// A clock of one's own, for simulations.
    pub fn new(now: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// How long it is since a beginning that stays the same.
    pub fn now(&self) -> Duration {
        (self.0)()
    }
}

impl Default for Uptime {
    /// The time since the machine's boot, sleep included.
    fn default() -> Self {
        Self::new(|| {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
            Duration::new(
                u64::try_from(now.tv_sec).unwrap_or(0),
                u32::try_from(now.tv_nsec).unwrap_or(0),
            )
        })
    }
}

impl fmt::Debug for Uptime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Uptime")
    }
}
