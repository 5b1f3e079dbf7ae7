//! One world: servers on one store, called in this process, with scripted models and hands, in virtual time. Servers die,
//! stand still and come back; what lives in the store and in the sandboxes goes on.

mod server;

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{Method, StatusCode};
use manyhands_hands::provider::fake::Fake;
use manyhands_protocol::id::ApiKeyId;
use manyhands_protocol::time::Clock;
use manyhands_server::service::key_hash;
use manyhands_store::audit::Actor;
use manyhands_store::key::{ApiKey, KeyRole, Opens};
use manyhands_store::replica::Exchange;
use manyhands_store::{SharedMemory, Store};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use sse_stream::Sse;
use tokio::sync::Notify;
use tokio::time::Instant;
use tower::ServiceExt;

use crate::check::Problem;
use crate::client::{
    Answer, Stream, Surroundings, Times, frames, insist, request, stream_path, text_of, whole,
};
use crate::clock::WallClock;
use crate::fate::{Fate, Storm};
use crate::hands::hands;
use crate::model::{Scripts, lock};
use crate::network::{FATES, Network};
use crate::outside::Weather;
use crate::plan::{Fault, Plan};
use crate::trace::Trace;
use server::Place;

/// What opens the servers to their clients.
const KEY: &str = "mh_key_of_the_simulation_and_of_nothing_else";
/// How long a client waits for an answer.
const LIMIT: Duration = Duration::from_secs(60);
/// How long it waits for its session.
const TIMES: Times = Times {
    patience: Duration::from_secs(400),
    look: Duration::from_millis(500),
};

/// A world.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) scripts: Scripts,
    /// A store that nothing befalls, for looking at what is there.
    pub(crate) observer: Store,
    trace: Mutex<Trace>,
    rng: Mutex<StdRng>,
    memory: SharedMemory,
    /// The sandboxes of each place.
    sandboxes: Vec<Fake>,
    weather: Weather,
    network: Network,
    exchange: Exchange,
    servers: Vec<Place>,
    /// Told when a server has come up.
    up: Notify,
    calm: AtomicBool,
    environment: Mutex<String>,
}

impl World {
    /// An empty world, whose servers are not running yet.
    pub(crate) async fn begin(plan: Plan, told: bool) -> Result<Arc<Self>, String> {
        let begun = Instant::now();
        let clock = WallClock::new(begun);
        let memory = SharedMemory::new(Arc::new(clock.clone())).map_err(|e| e.to_string())?;
        let observer = server::observer(&memory, &clock).await?;
        let workspace = observer.default_workspace().await;
        let key = ApiKey {
            id: ApiKeyId::generate(),
            workspace: workspace.map_err(|error| error.to_string())?,
            opens: Opens::Workspace(KeyRole::Admin),
            name: "simulation".to_owned(),
            hint: KEY.chars().take(8).collect(),
            created_at: clock.now(),
            revoked_at: None,
        };
        let stored = observer
            .insert_key(Actor::Operator, &key, &key_hash(KEY))
            .await;
        stored.map_err(|error| error.to_string())?;
        let scripts = Scripts::default();
        let places = if plan.one_place { 1 } else { plan.replicas };
        let network = Network::new(plan.seed ^ 0x0E7, plan.replicas);
        let world = Arc::new(Self {
            sandboxes: (0..places).map(|_| hands(&scripts)).collect(),
            servers: (0..plan.replicas).map(|_| Place::new(begun)).collect(),
            rng: Mutex::new(StdRng::seed_from_u64(plan.seed ^ 0x5EED)),
            trace: Mutex::new(Trace::new(told)),
            weather: Weather::default(),
            exchange: network.exchange(),
            network,
            up: Notify::new(),
            calm: AtomicBool::new(false),
            environment: Mutex::default(),
            plan,
            scripts,
            observer,
            memory,
        });
        Ok(world)
    }

    /// Keeps the servers running, for as long as it is awaited.
    pub(crate) async fn keep(&self) {
        futures::future::join_all((0..self.plan.replicas).map(|number| self.keep_one(number)))
            .await;
    }

    /// Makes what all sessions share.
    pub(crate) async fn furnish(&self) -> Result<(), Problem> {
        let wanted = json!({"name": "box"});
        let environment = insist(self, "/v1/environments", &wanted).await?;
        *lock(&self.environment) = text_of(&environment, "id");
        Ok(())
    }

    /// Counts a branch.
    pub(crate) fn count(&self, branch: impl Into<String>) {
        lock(&self.trace).count(branch.into());
    }

    /// The trace so far; an empty one is left.
    pub(crate) fn end(&self) -> Trace {
        for place in &self.servers {
            place.count(self);
        }
        for (what, count) in FATES.into_iter().zip(self.network.counts()) {
            lock(&self.trace).count_many(what, count);
        }
        std::mem::replace(&mut *lock(&self.trace), Trace::new(false))
    }

    /// Something befalls the world.
    pub(crate) fn suffer(&self, fault: &Fault, sessions: &[String]) {
        self.count(format!("fault: {}", fault.name()));
        self.note("fault", &format!("{fault:?}"));
        let millis = Duration::from_millis;
        match *fault {
            Fault::Dies(server) => self.servers[server].on_fate(Fate::die),
            Fault::DiesAt(server, uses, after) => {
                self.servers[server].on_fate(|fate| fate.dies(uses, after));
            }
            Fault::Stops(server) => self.servers[server].stop(),
            Fault::Sleeps(server, time) => {
                self.servers[server].on_fate(|fate| fate.sleeps(millis(time)));
            }
            Fault::Storms(server, percent, time) => {
                let until = Instant::now() + millis(time);
                self.servers[server].on_fate(|fate| fate.storms(Storm { until, percent }));
            }
            Fault::Jumps(server, seconds) => self.servers[server].clock.jump(seconds),
            Fault::Parted(server, time) => self.network.part(server, millis(time)),
            Fault::ModelDown(time) => self.weather.down(millis(time)),
            Fault::SandboxLost(session) => {
                if let Some(session) = sessions.get(session) {
                    self.lose_sandbox(session);
                }
            }
        }
    }

    /// From now on nothing befalls anybody.
    pub(crate) fn calm(&self) {
        self.note("calm", "");
        self.calm.store(true, Ordering::SeqCst);
        self.weather.up();
        self.network.calm();
        for server in &self.servers {
            server.on_fate(Fate::calm);
        }
    }

    fn lose_sandbox(&self, session: &str) {
        for sandboxes in &self.sandboxes {
            sandboxes.lose(session);
        }
    }

    /// One of the servers that run; waits until there is one.
    async fn reach(&self) -> (Router, Fate) {
        let count = self.servers.len();
        loop {
            let mut up = std::pin::pin!(self.up.notified());
            up.as_mut().enable();
            let first = self.random(count as u64) as usize;
            let mut servers = (first..first + count).map(|number| &self.servers[number % count]);
            if let Some(found) = servers.find_map(Place::running) {
                return found;
            }
            up.await;
        }
    }
}

#[async_trait]
impl Surroundings for World {
    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Option<Answer> {
        let (router, fate) = self.reach().await;
        let body = body.map_or_else(String::new, Value::to_string);
        self.note("asks", &format!("{method} {path} {body}"));
        let impatient = !self.calm.load(Ordering::SeqCst) && self.random(40) == 0;
        let limit = match impatient {
            true => Duration::from_millis(self.random(50)),
            false => LIMIT,
        };
        let request = request(KEY, method, path, body.into(), None);
        let answered = tokio::time::timeout(limit, whole(router, request));
        let answer = tokio::select! {
            biased;
            () = fate.died() => None,
            answer = answered => answer.ok(),
        };
        let Some(answer) = answer else {
            self.count("request: no answer");
            self.note("no answer", path);
            return None;
        };
        self.note("answer", &format!("{} {}", answer.status, answer.body));
        if answer.status.is_server_error() {
            self.count(format!("request: {}", answer.status.as_u16()));
            return None;
        }
        Some(answer)
    }

    async fn stream(&self, session: &str, after: i64) -> Option<Stream> {
        let (router, fate) = self.reach().await;
        let path = stream_path(session);
        let request = request(KEY, Method::GET, &path, Body::empty(), Some(after));
        let opened = tokio::time::timeout(LIMIT, router.oneshot(request));
        let response = tokio::select! {
            biased;
            () = fate.died() => return None,
            opened = opened => opened.ok()?.ok()?,
        };
        self.note(
            "stream",
            &format!("{session} {after} {}", response.status()),
        );
        match response.status() {
            StatusCode::OK => Some(Stream::Open(until_death(response.into_body(), fate))),
            StatusCode::NOT_FOUND => Some(Stream::NoSession),
            // What it has heard is beyond the end of the log, or it must not be refused: the end will tell.
            status if status.is_client_error() => Some(Stream::Refused(status)),
            _ => None,
        }
    }

    async fn store(&self) -> Box<dyn Deref<Target = Store> + Send + Sync + '_> {
        Box::new(&self.observer)
    }

    fn scripts(&self) -> &Scripts {
        &self.scripts
    }

    fn environment(&self) -> String {
        lock(&self.environment).clone()
    }

    fn times(&self) -> Times {
        TIMES
    }

    fn random(&self, below: u64) -> u64 {
        lock(&self.rng).random_range(0..below)
    }

    fn has_several_servers(&self) -> bool {
        self.servers.len() > 1
    }

    fn count_many(&self, branch: &str, times: u64) {
        lock(&self.trace).count_many(branch, times);
    }

    fn note(&self, what: &str, text: &str) {
        lock(&self.trace).note(what, text);
    }
}

/// The frames of a body, as long as its server lives.
fn until_death(body: Body, fate: Fate) -> BoxStream<'static, Sse> {
    let frames = futures::stream::unfold((frames(body), fate), async |(mut frames, fate)| {
        let frame = tokio::select! {
            biased;
            () = fate.died() => None,
            frame = frames.next() => frame,
        };
        frame.map(|frame| (frame, (frames, fate)))
    });
    frames.boxed()
}
