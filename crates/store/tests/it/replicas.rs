//! Several instances on one database: on PostgreSQL with its notifications, in memory with an exchange within the process.
//!
//! Timers are far away unless a test is about them, so what is heard was told.

mod births;
mod faults;
mod previews;
mod tails;
mod wishes;

use std::time::Duration;

use manyhands_protocol::SessionId;
use manyhands_store::replica::Exchange;
use manyhands_store::{Change, Nudge, Place, Replica, Store};
use tokio::sync::mpsc;

use crate::bed::*;

/// Runs the named checks on both kinds of fleets.
macro_rules! replicated {
    ($($name:ident),* $(,)?) => {
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::replicas::Fleet::postgres().await).await;
            })*
        }
        mod exchange {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::replicas::Fleet::exchange().await).await;
            })*
        }
    };
}
use replicated;

/// So far that no test sees it.
const FAR: Duration = Duration::from_secs(3600);

/// A database with one instance, whose brain does not wake, and more of them at need.
struct Fleet {
    world: World,
    exchange: Option<Exchange>,
}

impl Fleet {
    async fn postgres() -> Self {
        Self::on(Bed::postgres().await, None).await
    }

    async fn exchange() -> Self {
        Self::on(Bed::memory().await, Some(Exchange::new())).await
    }

    async fn on(bed: Bed, exchange: Option<Exchange>) -> Self {
        let first = replica(&exchange, "first");
        Self {
            world: World::new_as(bed, first).await,
            exchange,
        }
    }

    /// Opens another instance at a place.
    async fn open(&self, place: &str) -> Store {
        let replica = replica(&self.exchange, place);
        self.world.bed.open_as(replica).await
    }

    /// Opens another instance that wakes.
    async fn brain(&self, place: &str) -> Brain {
        let store = self.open(place).await;
        let nudges = store.nudges().unwrap();
        Brain { store, nudges }
    }

    /// The first instance; with it sessions are made and changed.
    fn first(&self) -> &Store {
        &self.world.store
    }

    /// Returns when `brain` has heard all that `from`, which does not wake, has said by now.
    async fn heard(&self, from: &Store, brain: &mut Brain) {
        let session = self.world.new_session(work(vec![queued("hear me")]));
        let id = session.id.clone();
        assert!(from.create_session(session).await.unwrap());
        assert_eq!(brain.nudged().await, id);
    }
}

fn replica(exchange: &Option<Exchange>, place: &str) -> Replica {
    Replica {
        place: Place::Named(place.to_owned()),
        exchange: exchange.clone(),
        look: FAR,
        ..Replica::default()
    }
}

/// An instance that wakes sessions.
struct Brain {
    store: Store,
    nudges: mpsc::Receiver<Nudge>,
}

impl Brain {
    /// The session that this instance is told of next.
    async fn nudged(&mut self) -> SessionId {
        let nudge = soon(self.nudges.recv()).await.unwrap();
        assert_eq!(nudge.lease, None, "it was not this instance that wrote");
        nudge.session
    }
}

/// A change of a session through any instance.
async fn change(store: &Store, world: &World, id: &SessionId, change: Change) {
    let changed = store.change(&world.workspace, id, &[], move |_| {
        Ok::<_, std::convert::Infallible>((change, ()))
    });
    changed
        .await
        .unwrap()
        .expect("the session is there")
        .unwrap();
}
