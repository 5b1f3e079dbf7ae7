//! Where cases live: the real server, called in process, on a real store, with scripted models and hands. It can be
//! stopped, and it can die; what lives in the store and in the sandboxes goes on.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use futures::FutureExt;
use http::{Method, StatusCode};
use manyhands_brain::models::{ModelSpec, ProviderSpec, Registry};
use manyhands_brain::{Probe, Retries};
use manyhands_hands::provider::fake::Fake;
use manyhands_server::{Config, Flags, Overrides, Server};
use manyhands_simulation::client::{
    Answer, Stream, Surroundings, Times, frames, insist, request, stream_path, whole,
};
use manyhands_simulation::hands::{Umpire, hands};
use manyhands_simulation::model::{Scripts, lock, prices};
use manyhands_store::verify::{Damage, Source, Told, verify};
use manyhands_store::{Database, Store};
use manyhands_testkit::postgres;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{RwLock, RwLockReadGuard, mpsc, oneshot};
use tower::ServiceExt;

/// How long clients wait.
const TIMES: Times = Times {
    patience: Duration::from_secs(20),
    look: Duration::from_millis(20),
};

/// How the server of a world is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Whether folded transcripts are kept between wakes.
    pub(crate) cached: bool,
    /// Tool rounds of a turn, and calls of one answer.
    pub(crate) limits: (u32, usize),
    /// The model's context window, where it is known.
    pub(crate) window: Option<u64>,
    /// Whether the store is PostgreSQL.
    pub(crate) postgres: bool,
}

/// A server and its surroundings.
pub(crate) struct World {
    pub(crate) scripts: Scripts,
    pub(crate) hands: Fake,
    /// How often each branch was taken.
    pub(crate) counts: Mutex<BTreeMap<String, u64>>,
    settings: Settings,
    directory: TempDir,
    database: Option<postgres::Database>,
    running: RwLock<Option<Running>>,
    key: String,
    environment: String,
    crashes: Crashes,
}

struct Running {
    server: Server,
    router: Router,
}

/// A wish that the server ends, in good order or not, and starts again; and who waits for it.
struct Wish {
    dies: bool,
    done: Option<oneshot::Sender<()>>,
}

/// Takes the wishes of a world's cases.
pub(crate) struct Wishes(mpsc::UnboundedReceiver<Wish>);

/// Where brains are to die: by session, the step and how often it is passed before.
#[derive(Clone)]
struct Crashes {
    armed: Arc<Mutex<HashMap<String, (&'static str, usize)>>>,
    wishes: mpsc::UnboundedSender<Wish>,
}

impl Crashes {
    /// A hook that holds a wake at the step where it is to die, and asks for the death.
    fn probe(&self) -> Probe {
        let crashes = self.clone();
        Probe(Arc::new(move |name, session| {
            let here = crashes.is_here(name, session.as_str());
            if here {
                // The world is there for as long as its server is.
                let (dies, done) = (true, None);
                let _ = crashes.wishes.send(Wish { dies, done });
            }
            async move {
                if here {
                    std::future::pending::<()>().await;
                }
            }
            .boxed()
        }))
    }

    fn is_here(&self, name: &str, session: &str) -> bool {
        let mut armed = lock(&self.armed);
        let Some((point, left)) = armed.get_mut(session) else {
            return false;
        };
        if *point != name {
            return false;
        }
        *left -= 1;
        let here = *left == 0;
        if here {
            armed.remove(session);
        }
        here
    }
}

impl World {
    /// A running server with an empty store.
    pub(crate) async fn start(settings: Settings) -> (Arc<Self>, Wishes) {
        let memory = std::path::Path::new("/dev/shm");
        let directory = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        let scripts = Scripts::default();
        let (wishes, wished) = mpsc::unbounded_channel();
        let armed = Arc::default();
        let mut world = Self {
            hands: hands(&scripts),
            scripts,
            counts: Mutex::default(),
            settings,
            directory: directory.expect("a directory"),
            database: match settings.postgres {
                true => Some(postgres::Database::create().await),
                false => None,
            },
            running: RwLock::default(),
            key: String::new(),
            environment: String::new(),
            crashes: Crashes { armed, wishes },
        };
        let running = world.open().await;
        let first_key = running.server.first_key().expect("a fresh store");
        world.key = first_key.expose_secret().to_owned();
        world.running = RwLock::new(Some(running));
        let wanted = json!({"name": "box"});
        let environment = insist(&world, "/v1/environments", &wanted).await;
        let environment = environment.expect("it is made");
        world.environment = environment["id"].as_str().expect("an id").to_owned();
        (Arc::new(world), Wishes(wished))
    }

    /// Grants wishes, for as long as it is awaited. Those that come together are granted at once.
    pub(crate) async fn keep(&self, mut wishes: Wishes) {
        while let Some(first) = wishes.0.recv().await {
            let mut place = self.running.write().await;
            let mut granted = vec![first];
            granted.extend(std::iter::from_fn(|| wishes.0.try_recv().ok()));
            let dies = granted.iter().any(|wish| wish.dies);
            if let Some(Running { server, .. }) = place.take() {
                self.count(if dies {
                    "server: died"
                } else {
                    "server: stopped"
                });
                if dies {
                    server.crash().await;
                } else {
                    server.stop().await;
                }
            }
            *place = Some(self.open().await);
            drop(place);
            for wish in granted {
                match wish.done {
                    // A case that has failed meanwhile does not wait any more.
                    Some(done) => drop(done.send(())),
                    None => self.count("death at a durable step"),
                }
            }
        }
    }

    async fn open(&self) -> Running {
        let flags = Flags {
            listen: Some("127.0.0.1:0".parse().expect("an address")),
            data_dir: Some(self.directory.path().to_owned()),
            ..Flags::default()
        };
        let mut models = Registry::empty();
        let spec = ModelSpec {
            prices: Some(prices()),
            context_window: self.settings.window,
            max_output: Some(100),
            ..ModelSpec::new("m", ProviderSpec::Scripted { script: None })
        };
        models
            .add(spec, Arc::new(self.scripts.clone()))
            .expect("an id");
        let (tool_rounds, calls_per_response) = self.settings.limits;
        let brain = manyhands_brain::Config {
            tick: Duration::from_millis(100),
            tool_rounds,
            calls_per_response,
            retries: Retries {
                attempts: 3,
                total: Duration::from_secs(60),
                base: Duration::from_millis(1),
                longest: Duration::from_millis(3),
            },
            transcript_cache: if self.settings.cached { 8 << 20 } else { 0 },
            judge: Some(Arc::new(Umpire)),
            probe: Some(self.crashes.probe()),
            ..manyhands_brain::Config::default()
        };
        let overrides = Overrides {
            hands: Some(Arc::new(self.hands.clone())),
            models: Some(Arc::new(models)),
            brain: Some(brain),
            ..Overrides::default()
        };
        let mut config = Config::load(flags).expect("settings");
        config.database = self.place();
        let server = Server::start(config, overrides).await;
        let server = server.expect("the server starts");
        let router = server.router();
        Running { server, router }
    }

    /// Ends the server, in good order or not, and starts it again. Requests under way are answered first.
    pub(crate) async fn restart(&self, dies: bool) {
        let (done, granted) = oneshot::channel();
        let done = Some(done);
        let wish = self.crashes.wishes.send(Wish { dies, done });
        wish.expect("the world is kept");
        granted.await.expect("the world is kept");
    }

    /// Ends the server for good. What is damaged in all that it has left, found by a reader of its own.
    pub(crate) async fn end(&self) -> Vec<Damage> {
        if let Some(Running { server, .. }) = self.running.write().await.take() {
            server.stop().await;
        }
        let mut damage = Vec::new();
        let mut tell = |told| {
            if let Told::Damage(found) = told {
                damage.push(found);
            }
        };
        let read = verify(&Source::Database(self.place()), &mut tell).await;
        read.expect("the store can be read");
        damage
    }

    fn place(&self) -> Database {
        match &self.database {
            Some(database) => Database::Postgres {
                url: SecretString::from(database.url()),
            },
            None => Database::Sqlite {
                directory: self.directory.path().to_owned(),
            },
        }
    }

    /// The server dies when the session's brain comes to a step for the n-th time.
    pub(crate) fn crash_at(&self, session: &str, point: &'static str, nth: usize) {
        lock(&self.crashes.armed).insert(session.to_owned(), (point, nth));
    }

    /// The session's brain is not to die any more.
    pub(crate) fn spare(&self, session: &str) {
        lock(&self.crashes.armed).remove(session);
    }

    /// Counts a branch.
    pub(crate) fn count(&self, branch: impl Into<String>) {
        self.count_many(&branch.into(), 1);
    }

    async fn router(&self) -> RwLockReadGuard<'_, Router> {
        let running = self.running.read().await;
        RwLockReadGuard::map(running, |running| {
            &running.as_ref().expect("a running server").router
        })
    }
}

/// Requests are answered before a server ends, so that none is made twice.
#[async_trait]
impl Surroundings for World {
    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Option<Answer> {
        let router = self.router().await;
        let body = body.map_or_else(Body::empty, |body| body.to_string().into());
        let request = request(&self.key, method, path, body, None);
        Some(whole(router.clone(), request).await)
    }

    async fn stream(&self, session: &str, after: i64) -> Option<Stream> {
        let router = self.router().await;
        let path = stream_path(session);
        let request = request(&self.key, Method::GET, &path, Body::empty(), Some(after));
        let Ok(response) = router.clone().oneshot(request).await;
        Some(match response.status() {
            StatusCode::OK => Stream::Open(frames(response.into_body())),
            StatusCode::NOT_FOUND => Stream::NoSession,
            other => Stream::Refused(other),
        })
    }

    async fn store(&self) -> Box<dyn Deref<Target = Store> + Send + Sync + '_> {
        let running = self.running.read().await;
        Box::new(RwLockReadGuard::map(running, |running| {
            running.as_ref().expect("a running server").server.store()
        }))
    }

    fn scripts(&self) -> &Scripts {
        &self.scripts
    }

    fn environment(&self) -> String {
        self.environment.clone()
    }

    fn times(&self) -> Times {
        TIMES
    }

    /// Its clients never pause.
    fn random(&self, _: u64) -> u64 {
        0
    }

    fn has_several_servers(&self) -> bool {
        false
    }

    fn count_many(&self, branch: &str, times: u64) {
        if times > 0 {
            *lock(&self.counts).entry(branch.to_owned()).or_default() += times;
        }
    }

    /// What happened is told by the logs.
    fn note(&self, _: &str, _: &str) {}
}
