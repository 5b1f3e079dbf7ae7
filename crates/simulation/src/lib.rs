//! A seeded world of servers, clients, models and faults, on one thread and in virtual time: the same seed gives the same
//! trace, byte for byte, in any process (security §4, docs/design/replicas.md "Harnesses").
//!
//! Real are the routes, the brain and the store's statements; scripted are the model, the hands, the network between
//! servers, their clocks and their ends. [`run`] lives one world; [`check`] says what must be true of every session.
//! Start at `world.rs`, then `client.rs`: the client, what it says and hears, the model and the checks also serve other
//! harnesses.

pub mod behaviour;
pub mod branches;
mod campaign;
pub mod check;
pub mod client;
mod clock;
mod fate;
pub mod frames;
pub mod hands;
pub mod model;
mod network;
mod outside;
mod plan;
mod run;
mod servers;
pub mod speech;
pub mod story;
mod trace;
mod witness;
mod world;

pub use campaign::{Campaign, Totals};
pub use run::{Outcome, Violation, run, shrink};

use std::cell::RefCell;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

thread_local! {
    /// What brains on this thread get for chance.
    static JITTER: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// Seeds the jitter of this thread's brains.
fn seed_jitter(seed: u64) {
    JITTER.set(Some(StdRng::seed_from_u64(seed)));
}

/// A number from 0 to 1 that depends on the seed alone.
fn jitter() -> f64 {
    JITTER.with_borrow_mut(|rng| rng.as_mut().map_or(0.5, Rng::random))
}
