//! The contract of a sandbox: provision, execute, release. All providers pass one suite.

mod builds;
pub mod checkpoint;
pub mod container;
mod door;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
mod hold;
mod laid;
mod link;
mod live;
mod lodge;
mod measure;
pub mod namespace;
mod outputs;
mod places;
mod probe;
mod progress;
mod recipe;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use manyhands_protocol::environment::Packages;

use crate::Error;
use crate::memory::Memories;
use crate::packages::Manager;
pub use checkpoint::{Checkpoint, Checkpoints, Origin};
pub use manyhands_sandboxd::frame::Variables;
pub use manyhands_sandboxd::output::{Block, Output, Source};
pub use outputs::{Capture, Captured, Join, Joined, Seen};
pub use probe::{Helper, Holds, Limit, Missing, Probe, Strength};
pub use recipe::{Limits, Network, Recipe, Upload};

/// The guarded way out of sandboxes (security NET-1). Without one there is none.
pub trait Gate: Send + Sync + 'static {
    /// Answers the connections of this session's sandbox on `socket` by this policy, until the door is dropped. A
    /// second door of the session takes the first one's place.
    ///
    /// # Errors
    /// When the socket cannot be served: the sandbox then has no way out.
    fn open(
        &self,
        session: &str,
        network: &Network,
        socket: std::os::unix::net::UnixListener,
    ) -> std::io::Result<Door>;

    /// The certificate that clients inside have to trust, as PEM: of the authority whose leaves the gate shows.
    fn authority(&self) -> String;
}

impl std::fmt::Debug for dyn Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}

/// An open way out. Dropping it closes it.
pub type Door = Box<dyn Send + Sync>;

/// Who waits for packages hears of it here.
pub type Told = Arc<dyn Fn(&str) + Send + Sync>;

/// A way to make sandboxes.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// The provider's name, for example `namespace`.
    fn name(&self) -> &'static str;

    /// What this host can give: strength, helper versions, which limits hold, what is missing (security SBX-2).
    async fn probe(&self) -> Probe;

    /// Whether environments may ask for packages of this manager, as far as this host decides that (runtime EN-7).
    ///
    /// # Errors
    /// What stands in the way, and what the operator should do.
    async fn installs(&self, manager: Manager) -> Result<(), Missing> {
        Err(Missing {
            what: format!("{manager} packages cannot be installed here"),
            why: format!("the {} provider installs no packages", self.name()),
            install: "use the namespace provider, or put the programs into the image".to_owned(),
        })
    }

    /// Makes ready what the sessions of an environment share: its packages, installed once and kept (runtime EN-7). May take
    /// minutes; who waits is told how far it is, as short texts. Single-flight, and it goes on when nobody waits any more.
    /// Does nothing when it is ready, or when the session has a live sandbox already.
    ///
    /// # Errors
    /// [`Error::Packages`] when they cannot be installed: the caller may go on without them (runtime EN-9).
    async fn furnish(&self, recipe: &Recipe, _told: &Told) -> Result<(), Error> {
        match Manager::ALL
            .iter()
            .find(|manager| !manager.list(&recipe.packages).is_empty())
        {
            Some(manager) => Err(Error::Packages {
                manager: manager.name(),
                why: "this server's sandboxes have no packages of environments".to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// Removes what was made ready for environments and is wanted by none of these any more, nor by a session.
    ///
    /// # Errors
    /// When something is left that should not be; the next time tries again.
    async fn unfurnish(&self, _wanted: &[Packages]) -> Result<(), Error> {
        Ok(())
    }

    /// Brings the files that the session's sandbox reads in line with these, whether it is live or rests (runtime FI-4). A
    /// session that has nothing here gets them with its next start.
    ///
    /// # Errors
    /// When a sandbox may still show what it should not, or lack what it should have; a start tries again.
    async fn lay(&self, _session: &str, _uploads: &[Upload]) -> Result<(), Error> {
        Ok(())
    }

    /// Brings what is new or changed of the session's outputs among the blobs: regular files below `/mnt/session/outputs`, each
    /// as large as a file may be. A session that has nothing here has none.
    ///
    /// # Errors
    /// When they cannot be looked at or kept; nothing is kept then, and trying again is fine.
    async fn capture(&self, _session: &str, _seen: &[Seen]) -> Result<Capture, Error> {
        Ok(Capture::default())
    }

    /// Brings files of the session's sandbox among the blobs, one behind the other in one blob, beside whatever runs there. `None`
    /// when one of them is not there, is no regular file or is written meanwhile, when they have fewer or more bytes than they
    /// should, or when the sandbox cannot be read without being started.
    ///
    /// # Errors
    /// When they cannot be kept; nothing is kept then.
    async fn join(&self, _session: &str, _files: &Join<'_>) -> Result<Option<Joined>, Error> {
        Ok(None)
    }

    /// The folders of the session's memory stores, whether its sandbox is alive or has ended. `None` when it has no files here.
    ///
    /// # Errors
    /// When they cannot be reached.
    async fn memories(&self, _session: &str) -> Result<Option<Arc<dyn Memories>>, Error> {
        Ok(None)
    }

    /// Makes ready what every start needs, so that the first one is fast. Optional.
    ///
    /// # Errors
    /// As [`Provider::provision`] would.
    async fn prepare(&self) -> Result<(), Error> {
        Ok(())
    }

    /// The session's live sandbox, started if there is none. Idempotent, single-flight per session, also among the
    /// processes that share what the provider keeps. From then on owners with a lower epoch are refused.
    ///
    /// # Errors
    /// [`Error::Unavailable`] names what is missing; there is no fallback to less isolation. [`Error::StaleEpoch`] when a
    /// newer owner has been here.
    async fn provision(&self, recipe: &Recipe) -> Result<Arc<dyn Sandbox>, Error>;

    /// The session's live sandbox, never started: for recovery. From then on owners with a lower epoch are refused.
    ///
    /// # Errors
    /// When it cannot be told whether there is one, and [`Error::StaleEpoch`] as in `provision`.
    async fn find(&self, session: &str, epoch: i64) -> Result<Option<Arc<dyn Sandbox>>, Error>;

    /// The provider's checkpoints, if its sandboxes can be kept elsewhere (runtime EN-17).
    fn checkpoints(&self) -> Option<&dyn Checkpoints> {
        None
    }

    /// Ends the processes, keeps the writable layer (idle). Nothing to end is fine.
    ///
    /// # Errors
    /// When they may still run.
    async fn release(&self, session: &str) -> Result<(), Error>;

    /// Ends the processes and removes everything. Nothing to remove is fine.
    ///
    /// # Errors
    /// When something may be left; the next start's sweep tries again.
    async fn destroy(&self, session: &str) -> Result<(), Error>;

    /// The sessions that have something here: files, containers, control groups.
    ///
    /// # Errors
    /// When it cannot be told.
    async fn sessions(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    /// Removes what is left of these sessions, which do not exist any more, and what was on its way out when a server
    /// stopped (security SBX-8). Other servers of the data directory may do the same at the same time.
    ///
    /// # Errors
    /// When the trash cannot be emptied. What cannot be removed is logged and left for the next time.
    async fn sweep(&self, _gone: &[String]) -> Result<(), Error> {
        Ok(())
    }

    /// Removes the sandboxes that wait for sessions, and starts no more of them. Those of sessions stay. For a server that
    /// stops; what it does not come to is removed by the next sweep.
    async fn close(&self) {}
}

/// A live sandbox.
#[async_trait]
pub trait Sandbox: Send + Sync {
    /// Unique for each start of the sandbox's processes: another instance knows nothing of this one's calls.
    fn instance(&self) -> &str;

    /// What its files were when it was started, or got another owner, as long as no call has been executed since; `None` when
    /// a call of this owner has seen them already (runtime EN-19).
    fn origin(&self) -> Option<Origin> {
        None
    }

    /// Runs a tool call, or attaches to the run its id already has; a call id is started at most once (invariant I4).
    ///
    /// # Errors
    /// [`Error::Lost`] leaves the outcome unknown; see [`Error::advice`] for the rest. A tool that fails is no error
    /// here but an [`Output`] with `is_error`.
    async fn execute(&self, call: &Call) -> Result<Output, Error>;

    /// Ends a call and its processes: its `execute` returns an error output. An unknown or finished call is fine.
    ///
    /// # Errors
    /// As `execute`.
    async fn kill(&self, call_id: &str, epoch: i64) -> Result<(), Error>;

    /// Drops the stored results of calls whose results are durable in the log.
    ///
    /// # Errors
    /// As `execute`.
    async fn forget(&self, call_ids: &[String], epoch: i64) -> Result<(), Error>;
}

/// One tool call.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The id of the tool use.
    pub call_id: String,
    /// The epoch of the lease the caller holds (security LEASE-1).
    pub epoch: i64,
    /// The tool's name.
    pub name: String,
    /// The tool's input, as the model wrote it.
    pub input: serde_json::Value,
    /// The outer time limit, counted from the start of the call (runtime TL-20); see
    /// [`toolset::deadline`](crate::toolset::deadline).
    pub deadline: Duration,
}
