//! A server's place in a world: it comes up, falls or is stopped, and comes up again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use manyhands_brain::models::{ModelSpec, ProviderSpec, Registry};
use manyhands_brain::{Config, Mcp, Retries};
use manyhands_server::service::{Ingredients, Service};
use manyhands_store::replica::{Replica, Role, Uptime};
use manyhands_store::{Database, SharedMemory, Store};
use rand::Rng;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::World;
use crate::client::Surroundings;
use crate::clock::WallClock;
use crate::fate::Fate;
use crate::hands::Umpire;
use crate::model::{lock, prices};
use crate::network::Network;
use crate::outside::{Asked, Reached};
use crate::servers::Letters;

/// How long a server is away after it fell, at most, in milliseconds.
const AWAY: u64 = 8_000;

/// Where a server runs, one after the other.
pub(super) struct Place {
    pub(super) clock: WallClock,
    running: Mutex<Option<(Router, Fate)>>,
    fate: Mutex<Option<Fate>>,
    stop: Notify,
    /// How many instances there were.
    nth: AtomicU64,
    failures: Mutex<(u64, u64)>,
}

impl Place {
    pub(super) fn new(begun: Instant) -> Self {
        Self {
            clock: WallClock::new(begun),
            running: Mutex::default(),
            fate: Mutex::default(),
            stop: Notify::new(),
            nth: AtomicU64::new(0),
            failures: Mutex::default(),
        }
    }

    /// The server, when it takes requests.
    pub(super) fn running(&self) -> Option<(Router, Fate)> {
        lock(&self.running).clone()
    }

    /// Does something to the fate of the server that is here now.
    pub(super) fn on_fate(&self, change: impl FnOnce(&Fate)) {
        if let Some(fate) = &*lock(&self.fate) {
            change(fate);
        }
    }

    /// Stops the server in good order.
    pub(super) fn stop(&self) {
        self.stop.notify_waiters();
    }

    /// Counts what failed here.
    pub(super) fn count(&self, world: &World) {
        self.leave();
        let (failed, unknown) = *lock(&self.failures);
        let mut trace = lock(&world.trace);
        trace.count_many("a use of the database failed", failed);
        trace.count_many("a use of the database failed and was kept", unknown);
    }

    /// There is no server here.
    fn leave(&self) {
        lock(&self.running).take();
        if let Some(fate) = lock(&self.fate).take() {
            let (failed, unknown) = fate.failures();
            let mut failures = lock(&self.failures);
            failures.0 += failed;
            failures.1 += unknown;
        }
    }
}

impl World {
    /// Keeps one server running, for as long as it is awaited.
    pub(super) async fn keep_one(&self, number: usize) {
        let place = &self.servers[number];
        loop {
            let fate = Fate::new(lock(&self.rng).random(), self.plan.latency);
            *lock(&place.fate) = Some(fate.clone());
            let name = Network::name(number, place.nth.fetch_add(1, Ordering::Relaxed));
            let opened = tokio::select! {
                biased;
                () = fate.died() => Err("it died meanwhile".to_owned()),
                opened = self.open(number, &name, &fate) => opened,
            };
            match opened {
                Ok(service) => {
                    self.note("server", &format!("{number} is up"));
                    *lock(&place.running) = Some((service.router(), fate.clone()));
                    self.up.notify_waiters();
                    let stops = tokio::select! {
                        biased;
                        () = fate.died() => false,
                        () = place.stop.notified() => true,
                    };
                    place.leave();
                    if !stops {
                        self.network.bury(&name);
                    }
                    if stops {
                        tokio::select! {
                            biased;
                            () = fate.died() => {}
                            () = service.stop() => self.count("server: stopped"),
                        }
                        fate.die();
                    } else {
                        self.count("server: died");
                        bury(service);
                    }
                }
                Err(problem) => {
                    self.note("server", &format!("{number} does not come up: {problem}"));
                    self.count("server: did not come up");
                    place.leave();
                }
            }
            self.note("server", &format!("{number} is down"));
            tokio::time::sleep(Duration::from_millis(self.random(AWAY))).await;
        }
    }

    async fn open(&self, number: usize, name: &str, fate: &Fate) -> Result<Service, String> {
        let clock = self.servers[number].clock.clone();
        let conduct = fate.clone();
        let memory = self.memory.with_conduct(move |of| conduct.conduct(of));
        let store = Store::open(manyhands_store::Config {
            database: Database::Memory(memory),
            clock: Arc::new(clock.clone()),
            replica: Replica {
                place: manyhands_store::replica::Place::Named(format!(
                    "place-{}",
                    number % self.sandboxes.len()
                )),
                role: Role::All,
                instance: Some(name.to_owned()),
                exchange: Some(self.exchange.clone()),
                uptime: uptime(),
                ..Replica::default()
            },
        });
        let store = store.await.map_err(|error| error.to_string())?;
        let spec = ModelSpec {
            prices: Some(prices()),
            context_window: self.plan.narrow.then_some(1760),
            max_output: Some(100),
            ..ModelSpec::new("m", ProviderSpec::Scripted { script: None })
        };
        let asked = Asked {
            scripts: self.scripts.clone(),
            fate: fate.clone(),
            weather: self.weather.clone(),
        };
        let mut models = Registry::empty();
        let added = models.add(spec, Arc::new(asked));
        added.map_err(|error| error.to_string())?;
        let sandboxes = &self.sandboxes[number % self.sandboxes.len()];
        let hands = Reached {
            hands: Arc::new(sandboxes.clone()),
            fate: fate.clone(),
        };
        let letters = Letters {
            scripts: self.scripts.clone(),
            fate: fate.clone(),
        };
        let (tool_rounds, calls_per_response) = if self.plan.narrow { (3, 3) } else { (500, 128) };
        let brain = Config {
            tool_rounds,
            calls_per_response,
            retries: Retries {
                attempts: 3,
                total: Duration::from_secs(60),
                base: Duration::from_millis(500),
                longest: Duration::from_secs(5),
            },
            jitter: crate::jitter,
            transcript_cache: if self.plan.cached { 8 << 20 } else { 0 },
            judge: Some(Arc::new(Umpire)),
            mcp: Some(Mcp::new(Arc::new(letters), Default::default())),
            ..Config::default()
        };
        let service = Service::start(Ingredients {
            store,
            hands: Arc::new(hands),
            models: Arc::new(models),
            clock: Arc::new(clock),
            brain,
        });
        service.await.map_err(|error| error.to_string())
    }
}

/// A service that fell: what of it still waits for something never gets it. Its chores end with the store.
fn bury(service: Service) {
    use futures::FutureExt;
    let store = service.store().clone();
    drop(service);
    // The first step of closing ends the chores; the second asks the database, which does not answer the dead.
    let closing = store.close().now_or_never();
    debug_assert!(closing.is_none(), "the dead write nothing");
}

/// A store that nothing befalls and that wakes nobody.
pub(super) async fn observer(memory: &SharedMemory, clock: &WallClock) -> Result<Store, String> {
    let opened = Store::open(manyhands_store::Config {
        database: Database::Memory(memory.clone()),
        clock: Arc::new(clock.clone()),
        replica: Replica {
            place: manyhands_store::replica::Place::Named("observer".to_owned()),
            role: Role::Api,
            instance: Some("observer".to_owned()),
            exchange: None,
            uptime: uptime(),
            ..Replica::default()
        },
    });
    opened.await.map_err(|error| error.to_string())
}

/// The time since the world's beginning: what goes on while a server stands still.
fn uptime() -> Uptime {
    let begun = Instant::now();
    Uptime::new(move || begun.elapsed())
}
