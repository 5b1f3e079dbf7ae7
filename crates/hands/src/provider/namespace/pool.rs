//! Sandboxes that wait started, so that a session need not wait for a start (`[environments] warm`).
//!
//! Each waits under a name of its own, in a folder that its server keeps locked, with a shell and without a session: it may
//! reach nothing and nobody has used it (security SBX-8). A session that has nothing here yet takes one as it is: the folder
//! gets the session's name in one step, when all that is in it says so. Whatever waits in a folder that nobody has locked was
//! left by a server that ended, and is removed.

mod fill;
mod left;
mod table;
mod take;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use manyhands_protocol::environment::Packages;
use tokio::sync::Notify;

use super::host::Held;
use super::is_root;
use super::live::Live;
use crate::provider::{Limits, Recipe};
use table::Table;

/// What names of waiting sandboxes begin with. No session can be called so, since a session's id has no dot.
const PREFIX: &str = ".pool-";

/// So many environments have sandboxes that wait: those whose sessions wanted one last.
const ENVIRONMENTS: usize = 16;

/// The sandboxes of an environment whose sessions wanted none for so long are removed.
const UNWANTED: Duration = Duration::from_secs(3600);

/// How long a waiting sandbox may take to say that it is there.
const ANSWER: Duration = Duration::from_secs(2);

/// All that wait in this server.
pub(super) struct Pool {
    table: Mutex<Table<Member>>,
    /// Told when nothing is being started any more.
    rested: Notify,
}

/// What makes one as good as the other, as long as it has no session. What it may reach is said when it gets one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kind {
    limits: Limits,
    packages: Packages,
}

/// One that waits.
struct Member {
    name: String,
    held: Held,
    live: Live,
}

impl Pool {
    /// With so many for each environment.
    pub(super) fn new(each: usize) -> Self {
        Self {
            table: Mutex::new(Table::new(each, ENVIRONMENTS)),
            rested: Notify::new(),
        }
    }

    /// Whether there are to be any.
    pub(super) fn is_on(&self) -> bool {
        self.table().each() > 0
    }

    fn table(&self) -> MutexGuard<'_, Table<Member>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how many wait (security OPS-1).
    fn count(&self) {
        let waiting = u32::try_from(self.table().count()).unwrap_or(u32::MAX);
        metrics::gauge!("manyhands_sandboxes_waiting").set(f64::from(waiting));
    }

    /// Those of environments that are not used any more.
    fn unwanted(&self) -> Vec<Member> {
        let now = Instant::now();
        let oldest = now.checked_sub(UNWANTED);
        oldest.map_or_else(Vec::new, |oldest| self.table().unwanted(oldest))
    }
}

/// Whether something waits under this name, if it is there.
pub(super) fn is_name(name: &str) -> bool {
    let number = name.strip_prefix(PREFIX);
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Whose waiting sandboxes a recipe can be met by: the environment, and of which kind they must be. None of them where the
/// session's files are elsewhere.
fn fitting(recipe: &Recipe) -> Option<(&str, Kind)> {
    // All members are named, so that a new one is thought about here.
    let Recipe {
        session: _,
        epoch: _,
        limits,
        network: _,
        packages,
        // Said to a shell that runs, as to every other.
        variables: _,
        uploads: _,
        memory,
        checkpoint,
        environment_id,
        // They are laid into what is taken.
        skills: _,
    } = recipe;
    let kind = Kind {
        limits: limits.clone(),
        packages: packages.clone(),
    };
    match checkpoint {
        Some(_) => None,
        // Their folders are shown from the start, unless they are told apart by their owners.
        None if !memory.is_empty() && !is_root() => None,
        None => Some((environment_id.as_deref()?, kind)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{Checkpoint, Network};
    use manyhands_protocol::Timestamp;
    use manyhands_protocol::environment::Networking;

    /// runtime EN-17, EN-3: a session with files elsewhere takes none, and what it may reach does not matter.
    #[test]
    fn en_17_only_sessions_without_files_take_what_waits() {
        let plain = Recipe {
            environment_id: Some("env_a".to_owned()),
            ..Recipe::new("sesn_a", 7)
        };
        let kind = |recipe: &Recipe| {
            let (environment, kind) = fitting(recipe)?;
            assert_eq!(environment, "env_a");
            Some(kind)
        };
        let usual = kind(&plain).expect("it fits");
        let limited = Recipe {
            network: Network {
                networking: Networking::Unrestricted {},
                mcp_hosts: vec!["mcp.example.com".to_owned()],
            },
            ..plain.clone()
        };
        assert_eq!(kind(&limited), Some(usual.clone()));
        let packages = Recipe {
            packages: Packages {
                pip: vec!["six".to_owned()],
                ..Packages::default()
            },
            ..plain.clone()
        };
        assert!(kind(&packages).is_some_and(|other| other != usual));
        let small = Recipe {
            limits: Limits {
                memory_bytes: 1 << 30,
                ..Limits::default()
            },
            ..plain.clone()
        };
        assert!(kind(&small).is_some_and(|other| other != usual));
        let kept = Recipe {
            checkpoint: Some(Checkpoint {
                blob: "checkpoints/a".to_owned(),
                size: 1,
                sha256: String::new(),
                epoch: 3,
                sandbox_created_at: Timestamp::from_micros(0),
            }),
            ..plain.clone()
        };
        assert_eq!(kind(&kept), None);
        let nobodys = Recipe {
            environment_id: None,
            ..plain
        };
        assert_eq!(kind(&nobodys), None);
    }
}
