//! What lies between the servers: messages come at once, late, in another order, twice or not at all.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use manyhands_store::replica::{Exchange, Parcel};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use crate::model::lock;

/// The network of a world. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Network(Arc<Mutex<State>>);

struct State {
    rng: StdRng,
    /// Until when each server hears and tells nothing.
    parted: Vec<Option<Instant>>,
    /// Instances that are gone.
    dead: HashSet<String>,
    calm: bool,
    counts: [u64; 4],
}

/// What became of messages, in the order of the counts.
pub(crate) const FATES: [&str; 4] = [
    "message: at once",
    "message: late",
    "message: twice",
    "message: lost",
];

impl Network {
    pub(crate) fn new(seed: u64, servers: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: StdRng::seed_from_u64(seed),
            parted: vec![None; servers],
            dead: HashSet::new(),
            calm: false,
            counts: [0; 4],
        })))
    }

    /// What stores are opened with.
    pub(crate) fn exchange(&self) -> Exchange {
        let network = self.clone();
        Exchange::with_fate(move |parcel| lock(&network.0).carry(parcel))
    }

    /// The name of the n-th instance at a server's place.
    pub(crate) fn name(server: usize, nth: u64) -> String {
        format!("server-{server}-{nth}")
    }

    /// An instance says nothing any more.
    pub(crate) fn bury(&self, instance: &str) {
        lock(&self.0).dead.insert(instance.to_owned());
    }

    /// A server hears and tells nothing for a while.
    pub(crate) fn part(&self, server: usize, time: Duration) {
        lock(&self.0).parted[server] = Some(Instant::now() + time);
    }

    /// All messages arrive from now on.
    pub(crate) fn calm(&self) {
        let mut state = lock(&self.0);
        state.calm = true;
        state.parted.fill(None);
    }

    /// What became of messages.
    pub(crate) fn counts(&self) -> [u64; 4] {
        lock(&self.0).counts
    }
}

impl State {
    fn carry(&mut self, parcel: &Parcel<'_>) -> Vec<Duration> {
        let parted = [parcel.from, parcel.to].iter().any(|instance| {
            let server = instance
                .split('-')
                .nth(1)
                .and_then(|text| text.parse().ok());
            let until = server.and_then(|server: usize| self.parted.get(server).copied().flatten());
            until.is_some_and(|until| Instant::now() < until)
        });
        let gone = self.dead.contains(parcel.from);
        let late = Duration::from_millis(self.rng.random_range(0..40));
        let (what, arrivals) = match self.rng.random_range(0..20) {
            _ if parted || gone => (3, Vec::new()),
            0 if !self.calm => (3, Vec::new()),
            1 => (2, vec![Duration::ZERO, late]),
            2..6 => (1, vec![late]),
            _ => (0, vec![Duration::ZERO]),
        };
        self.counts[what] += 1;
        arrivals
    }
}
