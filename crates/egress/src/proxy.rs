//! The proxy of sandboxes: one door a session, and behind each door the session's policy (security NET-1 to NET-10).
//!
//! Start at [`Proxy::open`]. `connection` is the loop over a client's requests, `tunnel` what CONNECT leads to, `upstream` the
//! way to a host, `secrets` what a request is given on its way there. Pure and strict are `head` (bytes to a head) and `request`
//! (what the head asks for).

mod answer;
mod connection;
mod exchange;
pub(crate) mod head;
pub(crate) mod hello;
mod io;
mod join;
mod request;
mod rewound;
mod secrets;
mod tunnel;
mod upstream;

use std::collections::HashMap;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use manyhands_protocol::environment::Networking;
use manyhands_protocol::time::SharedClock;
use rustls::pki_types::CertificateDer;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_rustls::TlsConnector;

use crate::audit::{Journal, SessionLog};
use crate::authority::{self, Authority};
use crate::dial::Dialler;
use crate::policy::{Operator, Policy};
use crate::proxy::request::Refused;
use crate::proxy::upstream::Failed;
use crate::secrets::{Attached, NoSecrets, Secrets};
use crate::tls;

/// What the proxy is made from.
pub struct Settings {
    /// Where the authority's key and the journal are kept.
    pub directory: PathBuf,
    /// How names become connections.
    pub dialler: Dialler,
    /// Certificates that hosts may show beside those of the machine's authorities.
    pub roots: Vec<CertificateDer<'static>>,
    /// What the operator says about all sandboxes.
    pub operator: Operator,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How many connections one door serves at once; more wait.
    pub connections: usize,
    /// Who holds the secrets of sessions.
    pub secrets: Arc<dyn Secrets>,
    /// Whether secrets are put into requests that are not encrypted (security CRED-4).
    pub substitute_in_plain_http: bool,
    /// Where the time comes from.
    pub clock: SharedClock,
}

impl Settings {
    /// The defaults for a data directory.
    pub fn new(directory: PathBuf, dialler: Dialler, clock: SharedClock) -> Self {
        Self {
            directory,
            dialler,
            roots: Vec::new(),
            operator: Operator::default(),
            timeouts: Timeouts::default(),
            connections: 128,
            secrets: Arc::new(NoSecrets),
            substitute_in_plain_http: false,
            clock,
        }
    }
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A client's head from its first byte on, and each TLS handshake.
    pub head: Duration,
    /// A client between two requests, before its connection is closed.
    pub idle: Duration,
    /// A client in the middle of a body, or that does not read.
    pub silence: Duration,
    /// A host before its answer, and in the middle of it.
    pub answer: Duration,
    /// Both sides of a tunnel or a WebSocket.
    pub tunnel: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(30),
            idle: Duration::from_secs(300),
            silence: Duration::from_secs(300),
            answer: Duration::from_secs(900),
            tunnel: Duration::from_secs(3600),
        }
    }
}

/// Why there is no proxy. Stop and tell the operator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no authority.
    #[error(transparent)]
    Authority(#[from] authority::Error),
    /// No roots to check hosts by, or one that is none.
    #[error("the certificates of hosts cannot be checked on this machine")]
    Roots(#[from] rustls::Error),
    /// The journal cannot be opened.
    #[error("the egress journal cannot be opened")]
    Journal(#[from] std::io::Error),
}

/// The proxy. Clones share everything.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
}

struct Shared {
    authority: Authority,
    connector: TlsConnector,
    journal: Arc<Journal>,
    dialler: Dialler,
    operator: Operator,
    timeouts: Timeouts,
    connections: usize,
    secrets: Arc<dyn Secrets>,
    substitute_in_plain_http: bool,
    doors: Mutex<HashMap<String, (u64, AbortHandle)>>,
    opened: AtomicU64,
}

impl Proxy {
    /// A proxy with no doors yet.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let authority = Authority::open(&settings.directory, settings.clock.clone())?;
        let journal = Arc::new(Journal::open(&settings.directory, settings.clock)?);
        Ok(Self {
            shared: Arc::new(Shared {
                authority,
                connector: tls::client(settings.roots)?.into(),
                journal,
                dialler: settings.dialler,
                operator: settings.operator,
                timeouts: settings.timeouts,
                connections: settings.connections,
                secrets: settings.secrets,
                substitute_in_plain_http: settings.substitute_in_plain_http,
                doors: Mutex::default(),
                opened: AtomicU64::new(0),
            }),
        })
    }

    /// The certificate that clients inside have to trust, as PEM.
    pub fn authority(&self) -> &str {
        self.shared.authority.pem()
    }

    /// The policy of an environment for a session with these MCP hosts. One that cannot be read refuses everything (security
    /// NET-7).
    pub fn policy(&self, networking: &Networking, mcp_hosts: &[String]) -> Policy {
        Policy::new(networking, mcp_hosts, &self.shared.operator).unwrap_or_else(|error| {
            tracing::error!(%error, "a network policy cannot be read: nothing is reachable under it");
            Policy::closed()
        })
    }

    /// Answers connections on the socket by this policy until the door is dropped. Who speaks is known by the socket alone
    /// (security NET-8). A second door of the session takes the first one's place. Call it within a tokio runtime.
    ///
    /// # Errors
    /// When the socket cannot be served.
    pub fn open(
        &self,
        session: &str,
        policy: Policy,
        socket: UnixListener,
    ) -> std::io::Result<Door> {
        let runtime = Handle::try_current().map_err(std::io::Error::other)?;
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UnixListener::from_std(socket)?;
        let (policy, watched) = watch::channel(Arc::new(policy));
        let inside = Arc::new(Inside {
            shared: self.shared.clone(),
            policy: watched,
            log: SessionLog::new(self.shared.journal.clone(), session),
            attached: secrets::Remembered::new(self.shared.secrets.clone(), session),
        });
        let task = runtime.spawn(answer(inside.clone(), socket)).abort_handle();
        let number = self.shared.opened.fetch_add(1, Ordering::Relaxed);
        let mut doors = self.shared.doors();
        if let Some((_, former)) = doors.insert(session.to_owned(), (number, task.clone())) {
            former.abort();
        }
        Ok(Door {
            shared: self.shared.clone(),
            session: session.to_owned(),
            number,
            policy,
            inside,
            task,
        })
    }
}

impl Shared {
    fn doors(&self) -> std::sync::MutexGuard<'_, HashMap<String, (u64, AbortHandle)>> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open way out. Dropping it ends every connection through it.
pub struct Door {
    shared: Arc<Shared>,
    session: String,
    number: u64,
    policy: watch::Sender<Arc<Policy>>,
    inside: Arc<Inside>,
    task: AbortHandle,
}

impl Door {
    /// Puts another policy in place, as a whole: every later request, also on open connections, is decided by it, and
    /// tunnels that it does not allow end (security NET-7).
    pub fn swap(&self, policy: Policy) {
        self.policy.send_replace(Arc::new(policy));
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
        self.inside.log.flush();
        let mut doors = self.shared.doors();
        if doors
            .get(&self.session)
            .is_some_and(|(number, _)| *number == self.number)
        {
            doors.remove(&self.session);
        }
    }
}

/// What the connections of a door share.
pub(crate) struct Inside {
    shared: Arc<Shared>,
    policy: watch::Receiver<Arc<Policy>>,
    log: SessionLog,
    attached: secrets::Remembered,
}

impl Inside {
    pub(crate) fn policy(&self) -> Arc<Policy> {
        self.policy.borrow().clone()
    }

    /// What is attached to the session.
    pub(crate) async fn attached(&self) -> Result<Arc<Attached>, Failed> {
        self.attached.get().await.map_err(secrets::unavailable)
    }

    pub(crate) fn timeouts(&self) -> Timeouts {
        self.shared.timeouts
    }

    pub(crate) fn note(&self, refused: &Refused) {
        self.log.refused(
            answer::shown(&refused.host),
            refused.port,
            refused.reason,
            answer::shown(&refused.detail),
        );
    }
}

/// Accepts connections until it is aborted, which ends them all.
async fn answer(inside: Arc<Inside>, socket: tokio::net::UnixListener) {
    let slots = Arc::new(Semaphore::new(inside.shared.connections));
    let mut connections = JoinSet::new();
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = async {
            let slot = slots.clone().acquire_owned().await;
            (slot, socket.accept().await)
        };
        tokio::select! {
            _ = second.tick() => inside.log.flush(),
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    metrics::counter!("manyhands_egress_panics_total").increment(1);
                    tracing::error!(%error, "a connection of the egress proxy panicked");
                }
            }
            (slot, accepted) = accepted => match accepted {
                Ok((stream, _)) => {
                    let inside = inside.clone();
                    connections.spawn(async move {
                        connection::serve(inside, Box::new(stream)).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection of a sandbox could not be accepted");
                    // Out of descriptors: others have to end first.
                    sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
}
