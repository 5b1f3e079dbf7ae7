//! A provider for tests: the contract without a sandbox, in this process.
//!
//! Tools are closures; calls are journalled by id, outlive the caller that asked, and can be lost on demand.

mod instance;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use manyhands_blobs::Blobs;
use tokio::sync::OwnedMutexGuard;

use crate::Error;
use crate::memory::Memories;
use crate::provider::namespace::files::open_directory;
use crate::provider::namespace::memory::Laid;
use crate::provider::{
    Call, Capture, Captured, Join, Joined, Origin, Output, Probe, Provider, Recipe, Sandbox, Seen,
    Strength, Upload,
};
use instance::Instance;

type Tool = Arc<dyn Fn(Call) -> BoxFuture<'static, Output> + Send + Sync>;

/// The fake provider. Clones share everything, so that a test keeps one while the code under test has another.
#[derive(Clone, Default)]
pub struct Fake {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    tools: Mutex<HashMap<String, Tool>>,
    live: Mutex<HashMap<String, Arc<Instance>>>,
    /// The highest epoch that has owned each session's sandboxes.
    owners: Mutex<HashMap<String, i64>>,
    starts: Mutex<Vec<(String, String)>>,
    started: AtomicU64,
    /// The folder with those of memory stores, of each session.
    memory: OnceLock<PathBuf>,
    /// What each session's sandbox reads.
    uploads: Mutex<HashMap<String, Vec<Upload>>>,
    /// What each session's sandbox has written for the user.
    outputs: Mutex<HashMap<String, BTreeMap<String, Vec<u8>>>>,
    blobs: OnceLock<Blobs>,
    /// What the files of sandboxes were that are started from now on.
    origin: Mutex<Option<Origin>>,
    /// Held while nothing shall be started.
    starting: Arc<tokio::sync::Mutex<()>>,
}

impl Fake {
    /// A provider without tools.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives it a tool; a name it has is replaced, also in live sandboxes.
    #[must_use]
    pub fn with_tool<F, Fut>(self, name: &str, run: F) -> Self
    where
        F: Fn(Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Output> + Send + 'static,
    {
        lock(&self.shared.tools).insert(name.to_owned(), Arc::new(move |call| run(call).boxed()));
        self
    }

    /// Loses the session's sandbox: its running calls end in [`Error::Lost`], the next provision makes a new one.
    pub fn lose(&self, session: &str) {
        if let Some(instance) = lock(&self.shared.live).remove(session) {
            // It is taken out of the map once, so nobody has set it before.
            let _ = instance.gone.set(());
        }
    }

    /// Says what the files of sandboxes were that are started from now on.
    pub fn start_from(&self, origin: Origin) {
        *lock(&self.shared.origin) = Some(origin);
    }

    /// As long as the guard lives, who asks for a sandbox waits.
    pub async fn hold_starts(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.shared.starting).lock_owned().await
    }

    /// Where captured outputs go.
    #[must_use]
    pub fn with_blobs(self, blobs: Blobs) -> Self {
        // A provider is given its blobs once, before it is used.
        let _ = self.shared.blobs.set(blobs);
        self
    }

    /// Has folders of memory stores, below this one.
    #[must_use]
    pub fn with_memory(self, below: impl Into<PathBuf>) -> Self {
        // A provider is given its folder once, before it is used.
        let _ = self.shared.memory.set(below.into());
        self
    }

    /// What the sandbox of a session sees as `/`, as far as memory stores and what is kept of them go.
    pub fn memory_root(&self, session: &str) -> PathBuf {
        let below = self.shared.memory.get().cloned().unwrap_or_default();
        below.join(session)
    }

    /// Writes an output of a session, as a tool would.
    pub fn write_output(&self, session: &str, path: &str, content: &[u8]) {
        let mut outputs = lock(&self.shared.outputs);
        let outputs = outputs.entry(session.to_owned()).or_default();
        outputs.insert(path.to_owned(), content.to_owned());
    }

    /// What the session's sandbox reads.
    pub fn uploads(&self, session: &str) -> Vec<Upload> {
        let uploads = lock(&self.shared.uploads);
        uploads.get(session).cloned().unwrap_or_default()
    }

    /// Every start of a tool so far, as (session, call id), in order: the ledger that at-most-once is checked with.
    pub fn starts(&self) -> Vec<(String, String)> {
        lock(&self.shared.starts).clone()
    }

    /// Makes `epoch` the owner, unless a newer one has been.
    fn own(&self, session: &str, epoch: i64) -> Result<(), Error> {
        let mut owners = lock(&self.shared.owners);
        let seen = owners.entry(session.to_owned()).or_insert(epoch);
        if *seen > epoch {
            return Err(Error::StaleEpoch { epoch, seen: *seen });
        }
        *seen = epoch;
        if let Some(instance) = lock(&self.shared.live).get(session) {
            let mut state = lock(&instance.state);
            state.epoch = state.epoch.max(epoch);
        }
        Ok(())
    }

    /// How many sandboxes were started so far.
    pub fn provisions(&self) -> u64 {
        self.shared.started.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Provider for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn probe(&self) -> Probe {
        Probe {
            provider: "fake",
            strength: Strength::Fake,
            helpers: Vec::new(),
            limits: Vec::new(),
            missing: Vec::new(),
            notes: vec!["Tools run in the test itself, with no isolation.".to_owned()],
        }
    }

    async fn lay(&self, session: &str, uploads: &[Upload]) -> Result<(), Error> {
        if let Some(laid) = lock(&self.shared.uploads).get_mut(session) {
            *laid = uploads.to_vec();
        }
        Ok(())
    }

    async fn memories(&self, session: &str) -> Result<Option<Arc<dyn Memories>>, Error> {
        if self.shared.memory.get().is_none() {
            return Ok(None);
        }
        let fail = |error| Error::io("make the fake's memories", error);
        let root = self.memory_root(session);
        std::fs::create_dir_all(root.join("tmp")).map_err(fail)?;
        let tree = open_directory(&root).map_err(fail)?;
        let uid = rustix::process::getuid().as_raw();
        let laid = Laid::in_tree(session, &tree, uid).map_err(fail)?;
        Ok(Some(Arc::new(laid)))
    }

    async fn capture(&self, session: &str, seen: &[Seen]) -> Result<Capture, Error> {
        let outputs = lock(&self.shared.outputs).get(session).cloned();
        let mut capture = Capture::default();
        for (path, content) in outputs.unwrap_or_default() {
            let blobs = self.shared.blobs.get();
            let blobs = blobs.ok_or_else(|| Error::Refused("the fake has no blobs".to_owned()))?;
            let blob = manyhands_blobs::fresh("files");
            let stored = blobs.put(&blob, &*content, content.len() as u64).await;
            let stored = stored.map_err(|error| Error::Refused(error.to_string()))?;
            if seen
                .iter()
                .any(|seen| seen.path == path && seen.stamp == stored.sha256)
            {
                continue;
            }
            capture.files.push(Captured {
                path,
                stamp: stored.sha256.clone(),
                blob,
                size: stored.size,
                sha256: stored.sha256,
            });
        }
        Ok(capture)
    }

    /// A file has its path as its content; those of a sandbox that is gone are not there.
    async fn join(&self, session: &str, files: &Join<'_>) -> Result<Option<Joined>, Error> {
        let blobs = match self.shared.blobs.get() {
            Some(blobs) if lock(&self.shared.live).contains_key(session) => blobs,
            _ => return Ok(None),
        };
        let names = files.files.iter();
        let contents = names.map(|name| format!("{}/{name}\n", files.folder));
        let contents: Vec<String> = contents.collect();
        let blob = manyhands_blobs::fresh("repositories");
        let all = contents.concat();
        if !(files.least..=files.cap).contains(&(all.len() as u64)) {
            return Ok(None);
        }
        let stored = blobs.put(&blob, all.as_bytes(), files.cap).await;
        let stored = stored.map_err(|error| Error::Refused(error.to_string()))?;
        Ok(Some(Joined {
            blob,
            size: stored.size,
            head: contents.first().map_or(0, |first| first.len() as u64),
            sha256: stored.sha256,
        }))
    }

    async fn provision(&self, recipe: &Recipe) -> Result<Arc<dyn Sandbox>, Error> {
        drop(self.shared.starting.lock().await);
        self.own(&recipe.session, recipe.epoch)?;
        lock(&self.shared.uploads).insert(recipe.session.clone(), recipe.uploads.clone());
        let mut live = lock(&self.shared.live);
        let instance = live.entry(recipe.session.clone()).or_insert_with(|| {
            let number = self.shared.started.fetch_add(1, Ordering::SeqCst);
            Arc::new(Instance {
                session: recipe.session.clone(),
                name: format!("fake-{number}"),
                shared: Arc::clone(&self.shared),
                origin: Mutex::new(*lock(&self.shared.origin)),
                state: Mutex::default(),
                gone: Arc::default(),
            })
        });
        Ok(Arc::clone(instance) as Arc<dyn Sandbox>)
    }

    async fn find(&self, session: &str, epoch: i64) -> Result<Option<Arc<dyn Sandbox>>, Error> {
        self.own(session, epoch)?;
        let found = lock(&self.shared.live).get(session).cloned();
        Ok(found.map(|instance| instance as Arc<dyn Sandbox>))
    }

    async fn release(&self, session: &str) -> Result<(), Error> {
        self.lose(session);
        Ok(())
    }

    async fn destroy(&self, session: &str) -> Result<(), Error> {
        self.lose(session);
        lock(&self.shared.outputs).remove(session);
        lock(&self.shared.uploads).remove(session);
        lock(&self.shared.owners).remove(session);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
