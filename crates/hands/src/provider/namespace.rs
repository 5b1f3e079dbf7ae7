//! Sandboxes on this host: bubblewrap around `sandboxd`, on the host's kernel, with no network.
//!
//! What a session leaves behind lies in a folder of its own below the data directory; the processes come and go. A
//! sandbox knows nothing of the server that started it and outlives it: the next one finds it by the record and the
//! socket in the folder. See `docs/design/sandbox.md`.

mod base;
mod binary;
mod bound;
mod cgroup;
mod files;
mod launch;
mod link;
mod live;
mod probe;
mod process;
mod record;
mod seccomp;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::OnceCell;

use crate::Error;
use crate::failpoint::failpoint;
use crate::provider::{Helper, Holds, Limit, Missing, Probe, Provider, Recipe, Sandbox, Strength};
pub use bound::ReadOnly;
use cgroup::Cgroups;
use live::Live;

/// The socket's name in a session's folder.
const SOCKET: &str = "socket";

/// Below this much free space no sandbox is started.
const LEAST_SPACE: u64 = 64 << 20;

/// Settings of the provider.
#[derive(Debug, Clone)]
pub struct Config {
    /// The server's data directory.
    pub data: PathBuf,
    /// The first of the host's user ids that a root server gives to sandboxes.
    pub first_uid: u32,
    /// How many there are.
    pub uids: u32,
    /// How long a sandbox's processes stay without a running call.
    pub idle: Duration,
    /// A `bwrap` other than the one on the path.
    pub bwrap: Option<PathBuf>,
    /// A `sandboxd` other than the built-in one or the one beside this program.
    pub sandboxd: Option<PathBuf>,
    /// Files and folders of the host that every sandbox sees read-only, as [`ReadOnly::check`] allows.
    pub read_only: Vec<ReadOnly>,
}

impl Config {
    /// The default settings for a data directory.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            first_uid: 2_000_000,
            uids: 1_000_000,
            idle: Duration::from_secs(300),
            bwrap: None,
            sandboxd: None,
            read_only: Vec::new(),
        }
    }
}

/// The provider. Clones share everything.
#[derive(Clone)]
pub struct Namespace {
    host: Arc<Host>,
}

struct Host {
    config: Config,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    bubblewrap: probe::Cache,
    parts: OnceCell<Parts>,
    cgroups: OnceCell<Cgroups>,
}

/// What is made once and used by every start.
struct Parts {
    sandboxd: PathBuf,
    base: PathBuf,
    filters: Vec<Vec<u8>>,
}

/// A session's place: whoever holds the lock starts, finds or ends its sandbox.
#[derive(Default)]
struct Slot(tokio::sync::Mutex<Option<Arc<Live>>>);

impl Namespace {
    /// The provider for a data directory. Nothing is looked at before it is needed.
    pub fn new(config: Config) -> Self {
        Self {
            host: Arc::new(Host {
                config,
                slots: Mutex::default(),
                bubblewrap: probe::Cache::default(),
                parts: OnceCell::new(),
                cgroups: OnceCell::new(),
            }),
        }
    }

    /// Makes ready what every start needs, so that the first one is fast. Optional.
    ///
    /// # Errors
    /// As [`Provider::provision`] would.
    pub async fn prepare(&self) -> Result<(), Error> {
        self.host
            .bubblewrap
            .bubblewrap(self.host.config.bwrap.as_deref())
            .await?;
        self.host.cgroups().await;
        self.host.parts().await.map(drop)
    }

    /// Removes what is left of sessions that do not exist any more, and what was on its way out when the server
    /// stopped (security SBX-8). `keep` says which sessions exist.
    ///
    /// # Errors
    /// When the folder of all sandboxes cannot be read. What cannot be removed is logged and left for the next time.
    pub async fn sweep(&self, keep: impl Fn(&str) -> bool + Send) -> Result<(), Error> {
        let folder = self.host.sandboxes();
        let fail = |error| Error::io(format!("list {}", folder.display()), error);
        let mut sessions: Vec<String> = match std::fs::read_dir(&folder) {
            Ok(entries) => entries
                .flatten()
                .filter_map(|entry| entry.file_name().into_string().ok())
                .collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(fail(error)),
        };
        let prefix = self.host.groups();
        let groups = self.host.cgroups().await.named(&prefix);
        sessions.extend(
            groups
                .iter()
                .filter_map(|group| Some(group.strip_prefix(&prefix)?.to_owned())),
        );
        sessions.retain(|session| is_name(session) && !keep(session));
        sessions.sort();
        sessions.dedup();
        for session in sessions {
            tracing::info!(
                session.id = session,
                "removing the sandbox of a session that is gone"
            );
            if let Err(error) = self.destroy(&session).await {
                tracing::warn!(session.id = session, %error, "a sandbox could not be removed");
            }
        }
        self.host.free_uids()?;
        let trash = self.host.trash();
        blocking("empty the trash", move || files::empty(&trash)).await
    }
}

#[async_trait]
impl Provider for Namespace {
    fn name(&self) -> &'static str {
        "namespace"
    }

    async fn probe(&self) -> Probe {
        let (mut helpers, mut missing, mut notes) = (Vec::new(), Vec::new(), Vec::new());
        match self
            .host
            .bubblewrap
            .bubblewrap(self.host.config.bwrap.as_deref())
            .await
        {
            Ok(bwrap) => {
                helpers.push(bwrap.helper());
                notes.extend(bwrap.note());
                missing.extend(bwrap.try_it(self.host.spare_uid()).await.err());
            }
            Err(lacking) => missing.push(lacking),
        }
        match self.host.parts().await {
            Ok(parts) => helpers.push(Helper {
                name: "sandboxd",
                version: env!("CARGO_PKG_VERSION").to_owned(),
                path: parts.sandboxd.display().to_string(),
            }),
            Err(Error::Unavailable { what, why, install }) => {
                missing.push(Missing { what, why, install })
            }
            Err(error) => missing.push(Missing {
                what: "the parts of a sandbox cannot be made".to_owned(),
                why: chain(&error),
                install: "make the data directory writable and give it space".to_owned(),
            }),
        }
        let cgroups = self.host.cgroups().await;
        if !cgroups.bounds_memory() {
            notes.push(
                "No control group can be made, so memory is bounded for each process only."
                    .to_owned(),
            );
        }
        notes.push("Sandboxes have no network yet.".to_owned());
        notes.push(
            "Sandboxes share the host's kernel: they are not meant for hostile tenants.".to_owned(),
        );
        Probe {
            provider: "namespace",
            strength: Strength::Namespace,
            helpers,
            limits: limits(cgroups),
            missing,
            notes,
        }
    }

    async fn provision(&self, recipe: &Recipe) -> Result<Arc<dyn Sandbox>, Error> {
        let slot = self.host.slot(&recipe.session)?;
        let mut place = slot.0.lock().await;
        if let Some(live) = place.as_ref().filter(|live| live.is_up()) {
            live.touch();
            return Ok(Arc::clone(live) as Arc<dyn Sandbox>);
        }
        let live = match self.host.reattach(&recipe.session).await? {
            Some(live) => live,
            None => self.host.start(recipe).await?,
        };
        self.host.settle(&mut place, &live);
        Ok(live)
    }

    async fn find(&self, session: &str) -> Result<Option<Arc<dyn Sandbox>>, Error> {
        let slot = self.host.slot(session)?;
        let mut place = slot.0.lock().await;
        if place.as_ref().is_none_or(|live| !live.is_up()) {
            match self.host.reattach(session).await? {
                Some(live) => self.host.settle(&mut place, &live),
                None => *place = None,
            }
        }
        let found = place.clone();
        drop(place);
        if found.is_none() {
            self.host.vacate(session, &slot);
        }
        Ok(found.map(|live| live as Arc<dyn Sandbox>))
    }

    async fn release(&self, session: &str) -> Result<(), Error> {
        let slot = self.host.slot(session)?;
        let mut place = slot.0.lock().await;
        let ended = self.host.end(session, place.take()).await;
        drop(place);
        self.host.vacate(session, &slot);
        ended
    }

    async fn destroy(&self, session: &str) -> Result<(), Error> {
        let slot = self.host.slot(session)?;
        let mut place = slot.0.lock().await;
        let ended = self.host.end(session, place.take()).await;
        let removed = match ended {
            Ok(()) => self.host.remove(session).await,
            Err(error) => Err(error),
        };
        drop(place);
        self.host.vacate(session, &slot);
        removed
    }
}

impl Host {
    fn sandboxes(&self) -> PathBuf {
        self.config.data.join("sandboxes")
    }

    fn trash(&self) -> PathBuf {
        self.sandboxes().join(".trash")
    }

    fn uids(&self) -> PathBuf {
        self.sandboxes().join(".uids")
    }

    fn folder(&self, session: &str) -> PathBuf {
        self.sandboxes().join(session)
    }

    /// Control groups are named by this and the session. Servers with other data directories have other names.
    fn groups(&self) -> String {
        let data =
            std::fs::canonicalize(&self.config.data).unwrap_or_else(|_| self.config.data.clone());
        format!(
            "manyhands-{:016x}-",
            fingerprint(data.as_os_str().as_encoded_bytes())
        )
    }

    fn group(&self, session: &str) -> String {
        self.groups() + session
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<String, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, session: &str) -> Result<Arc<Slot>, Error> {
        if !is_name(session) {
            return Err(Error::Refused(format!("{session:?} is no session's id")));
        }
        Ok(Arc::clone(
            self.slots().entry(session.to_owned()).or_default(),
        ))
    }

    /// Forgets a place that nobody else is at and where nothing lives.
    fn vacate(&self, session: &str, slot: &Arc<Slot>) {
        let mut slots = self.slots();
        // The table's and the caller's.
        if Arc::strong_count(slot) == 2 && slot.0.try_lock().is_ok_and(|place| place.is_none()) {
            slots.remove(session);
        }
    }

    async fn cgroups(&self) -> &Cgroups {
        self.cgroups
            .get_or_init(|| async { Cgroups::detect() })
            .await
    }

    async fn parts(&self) -> Result<&Parts, Error> {
        self.parts
            .get_or_try_init(|| async {
                let (data, given) = (self.config.data.clone(), self.config.sandboxd.clone());
                let made =
                    tokio::task::spawn_blocking(move || Parts::make(&data, given.as_deref()));
                made.await.unwrap_or_else(|error| {
                    Err(Error::io(
                        "make the parts of a sandbox",
                        io::Error::other(error),
                    ))
                })
            })
            .await
    }

    /// Puts a sandbox into its place and watches over it.
    fn settle(self: &Arc<Self>, place: &mut Option<Arc<Live>>, live: &Arc<Live>) {
        *place = Some(Arc::clone(live));
        tokio::spawn(watch(Arc::downgrade(self), Arc::clone(live)));
    }

    /// The sandbox of a session that an earlier server, or this one before it lost the connection, has started.
    async fn reattach(&self, session: &str) -> Result<Option<Arc<Live>>, Error> {
        let fail = |error| Error::io(format!("look for the sandbox of {session}"), error);
        let folder = match files::open_directory(&self.folder(session)) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(error)),
        };
        let Some(record) = record::read(&folder).map_err(fail)? else {
            return Ok(None);
        };
        let uid = record::owner(&folder).map_err(fail)?;
        Live::attach(session, folder, uid, &record.instance).await
    }

    async fn start(&self, recipe: &Recipe) -> Result<Arc<Live>, Error> {
        let session = &recipe.session;
        let bwrap = self
            .bubblewrap
            .bubblewrap(self.config.bwrap.as_deref())
            .await?;
        let parts = self.parts().await?;
        let cgroups = self.cgroups().await;
        let (folder, uid) = self.lay_out(session)?;
        let instance = record::new_instance();
        failpoint!("hands::before_record");
        // Written before the start: from here on, whoever comes later can find what may have been started.
        record::write(&self.folder(session), &instance)
            .map_err(|error| Error::io(format!("record the sandbox of {session}"), error))?;
        failpoint!("hands::after_record");
        let enter = cgroups
            .make(&self.group(session), &recipe.limits)
            .map_err(|error| Error::io(format!("make the control group of {session}"), error))?;
        let launched = launch::launch(launch::Launch {
            bwrap: &bwrap.path,
            sandboxd: &parts.sandboxd,
            base: &parts.base,
            filters: &parts.filters,
            read_only: &self.config.read_only,
            folder: &folder,
            instance: &instance,
            user: is_root().then_some(uid),
            limits: &recipe.limits,
            limit_data: !cgroups.bounds_memory(),
            enter,
        })
        .await;
        failpoint!("hands::after_spawn");
        let mut child = match launched {
            Ok(child) => child,
            Err(error) => {
                self.remove_group(session).await;
                return Err(error);
            }
        };
        // Waited for, so that it does not stay as a zombie.
        tokio::spawn(async move { child.wait().await });
        let live = Live::attach(session, folder, uid, &instance).await?;
        failpoint!("hands::after_attach");
        let live = live.ok_or_else(|| Error::Lost {
            session: session.clone(),
            why: "it ended right after it was started".to_owned(),
        })?;
        tracing::info!(session.id = session, instance, uid, "started a sandbox");
        Ok(live)
    }

    /// The session's folder with those that its sandbox writes, and their owner.
    fn lay_out(&self, session: &str) -> Result<(OwnedFd, u32), Error> {
        let folder = self.folder(session);
        let fail = |error: io::Error| Error::io(format!("make the folders of {session}"), error);
        files::private_directory(&folder).map_err(fail)?;
        let space = rustix::fs::statvfs(&folder).map_err(|error| fail(error.into()))?;
        if space.f_bavail.saturating_mul(space.f_frsize) < LEAST_SPACE {
            return Err(Error::NoSpace {
                what: format!("for the sandbox of {session}"),
            });
        }
        let folder = files::open_directory(&folder).map_err(fail)?;
        let uid = match record::owner(&folder) {
            Ok(uid) => uid,
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.new_uid(session)?,
            Err(error) => return Err(fail(error)),
        };
        // The folder that tells the owner comes last: whoever finds it finds all.
        for (name, _) in launch::FOLDERS.iter().rev() {
            record::make_folder(&folder, name, uid).map_err(fail)?;
        }
        Ok((folder, uid))
    }

    /// A user of the host for a new session: our own, or for root one from the range that no other session has.
    fn new_uid(&self, session: &str) -> Result<u32, Error> {
        if !is_root() {
            return Ok(rustix::process::getuid().as_raw());
        }
        let folder = self.uids();
        let fail = |error: io::Error| Error::io(format!("find a user id for {session}"), error);
        files::private_directory(&folder).map_err(fail)?;
        for _ in 0..1000 {
            let uid = self.config.first_uid + rand::random_range(0..self.config.uids.max(1));
            let taken = std::fs::File::options()
                .write(true)
                .create_new(true)
                .open(folder.join(uid.to_string()));
            match taken.and_then(|mut file| io::Write::write_all(&mut file, session.as_bytes())) {
                Ok(()) => return Ok(uid),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(fail(error)),
            }
        }
        Err(fail(io::Error::other("the range of user ids is used up")))
    }

    /// Gives back the user ids of sessions that have no folder any more.
    fn free_uids(&self) -> Result<(), Error> {
        let folder = self.uids();
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io(format!("list {}", folder.display()), error)),
        };
        for entry in entries.flatten() {
            let session = std::fs::read_to_string(entry.path()).unwrap_or_default();
            if !is_name(&session) || !self.folder(&session).exists() {
                // One that stays is only a number that is not used.
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// A user id to try name spaces with.
    fn spare_uid(&self) -> Option<u32> {
        is_root().then_some(self.config.first_uid)
    }

    /// Ends the processes of a session's sandbox, whether we started it or another server did.
    async fn end(&self, session: &str, live: Option<Arc<Live>>) -> Result<(), Error> {
        let live = match live {
            Some(live) => Some(live),
            None => self.reattach(session).await?,
        };
        failpoint!("hands::before_end");
        if let Some(live) = live {
            live.end().await?;
        }
        self.remove_group(session).await;
        Ok(())
    }

    /// Releases a sandbox that has ended or has been idle for `idle`, unless it has been used again meanwhile;
    /// whether there is nothing more to watch.
    async fn release_if(&self, live: &Arc<Live>, idle: Duration, why: &str) -> bool {
        let Ok(slot) = self.slot(live.session()) else {
            return true;
        };
        let mut place = slot.0.lock().await;
        let ours = place.as_ref().is_some_and(|found| Arc::ptr_eq(found, live));
        if ours && live.is_up() && !live.is_idle_for(idle) {
            return false;
        }
        if ours {
            *place = None;
            tracing::info!(session.id = live.session(), why, "releasing a sandbox");
            if let Err(error) = self.end(live.session(), Some(Arc::clone(live))).await {
                tracing::warn!(
                    session.id = live.session(),
                    error = chain(&error),
                    "a sandbox could not be released"
                );
            }
        }
        drop(place);
        self.vacate(live.session(), &slot);
        true
    }

    async fn remove_group(&self, session: &str) {
        let (cgroups, name) = (self.cgroups().await.clone(), self.group(session));
        let removed = blocking("remove a control group", move || cgroups.remove(&name)).await;
        if let Err(error) = removed {
            tracing::warn!(
                session.id = session,
                error = chain(&error),
                "a control group is left; the next start removes it"
            );
        }
    }

    async fn remove(&self, session: &str) -> Result<(), Error> {
        let folder = self.folder(session);
        let owner = files::open_directory(&folder)
            .and_then(|folder| record::owner(&folder))
            .ok();
        let trash = self.trash();
        let doing = format!("remove the sandbox of {session}");
        // One step takes it away; what that leaves is emptied now, or at the next start.
        let moved =
            files::discard(&folder, &trash).map_err(|error| Error::io(doing.clone(), error))?;
        failpoint!("hands::after_discard");
        if moved {
            blocking(&doing, move || files::empty(&trash)).await?;
        }
        if let Some(uid) = owner {
            // One that stays is found by the sweep.
            let _ = std::fs::remove_file(self.uids().join(uid.to_string()));
        }
        Ok(())
    }
}

impl Parts {
    fn make(data: &Path, given: Option<&Path>) -> Result<Self, Error> {
        let filters = seccomp::programs().map_err(|why| Missing {
            what: "the system-call filter is missing".to_owned(),
            why,
            install: "run the server on x86_64, which has one".to_owned(),
        })?;
        let sandboxd = binary::locate(given, &data.join("bin"))?;
        let base = base::ensure(Path::new("/etc"), &data.join("sandbox-base"))
            .map_err(|error| Error::io("make the /etc of sandboxes", error))?;
        Ok(Self {
            sandboxd,
            base,
            filters,
        })
    }
}

/// Stands by a sandbox until it ends by itself or has been idle for long enough, and clears up.
async fn watch(host: Weak<Host>, live: Arc<Live>) {
    let Some(idle) = host.upgrade().map(|host| host.config.idle) else {
        return;
    };
    loop {
        let why = tokio::select! {
            () = live.ended() => "it ended",
            () = live.idle_for(idle) => "it was idle",
        };
        let Some(host) = host.upgrade() else { return };
        if host.release_if(&live, idle, why).await {
            return;
        }
    }
}

fn limits(cgroups: &Cgroups) -> Vec<Limit> {
    let mut limits = cgroups.limits();
    let each = |name, by: &str| Limit {
        name,
        holds: Holds::Soft,
        by: by.to_owned(),
    };
    limits.push(each("open files", "the limit of each process"));
    limits.push(each("disk", "the size limit of each file"));
    limits
}

/// Names are used as file names: one plain segment.
fn is_name(session: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=128).contains(&session.len()) && session.bytes().all(plain)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A path to something in an open directory that is short whatever the directory's own path is.
fn at(directory: &impl AsFd, name: &str) -> PathBuf {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd()));
    if !name.is_empty() {
        path.push(name);
    }
    path
}

/// FNV-1a: tells contents apart where nobody means harm.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

async fn blocking<T: Send + 'static>(
    doing: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|error| Error::io(doing, error))
}
