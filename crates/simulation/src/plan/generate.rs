//! Seeds → plans. Weights are chosen so that every branch is taken often enough.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::{Fault, Plan};
use crate::fate::Latency;
use crate::speech::random_inputs;
use crate::story::{Manner, Step};

impl Plan {
    /// The plan of a seed: the same one each time.
    pub(crate) fn generate(seed: u64) -> Self {
        const LATENCIES: [Latency; 4] =
            [Latency::None, Latency::None, Latency::Some, Latency::Much];
        let mut rng = StdRng::seed_from_u64(seed);
        let replicas = rng.random_range(1..=3);
        let latency = *LATENCIES.choose(&mut rng).expect("some");
        let one_place = rng.random();
        let cached = rng.random();
        let narrow = rng.random_ratio(1, 3);
        let sessions = *[1, 1, 1, 2, 2, 3, 4].choose(&mut rng).expect("some");
        let manner = Manner {
            budgets: 4,
            letters: true,
            steps: (16 / sessions).max(6),
            waits: (1, 2),
            step,
        };
        let stories = (0..sessions).map(|_| manner.story(&mut rng)).collect();
        let most = *[0, 1, 2, 4, 7].choose(&mut rng).expect("some");
        let faults = (0..most).map(|_| {
            let after = *[0, 30, 300, 3_000, 12_000].choose(&mut rng).expect("some");
            let after = rng.random_range(0..=after);
            (after, fault(&mut rng, replicas, sessions))
        });
        let faults = faults.collect();
        Self {
            seed,
            replicas,
            one_place,
            latency,
            cached,
            narrow,
            stories,
            faults,
        }
    }
}

fn step(rng: &mut StdRng) -> Step {
    match rng.random_range(0..40) {
        0..20 => Step::Send(random_inputs(rng)),
        20..23 => Step::SendBoth(random_inputs(rng), random_inputs(rng)),
        23 => Step::Rename,
        24..26 => Step::ChangeTools,
        26 => Step::Archive,
        27 => Step::Delete,
        28..31 => Step::Reconnect,
        31..33 => Step::List,
        33..36 => Step::Wait(*[1, 20, 400, 5_000, 20_000].choose(rng).expect("some")),
        _ => Step::LetGo,
    }
}

fn fault(rng: &mut StdRng, replicas: usize, sessions: usize) -> Fault {
    let server = rng.random_range(0..replicas);
    let millis = |rng: &mut StdRng| *[50, 700, 4_000, 9_000, 14_000].choose(rng).expect("some");
    match rng.random_range(0..30) {
        0..3 => Fault::Dies(server),
        3..13 => {
            let most = *[3, 20, 120].choose(rng).expect("some");
            Fault::DiesAt(server, rng.random_range(1..=most), rng.random())
        }
        13..15 => Fault::Stops(server),
        15..19 => Fault::Sleeps(server, millis(rng)),
        19..22 => Fault::Storms(
            server,
            *[10, 50, 100].choose(rng).expect("some"),
            millis(rng),
        ),
        22..24 => Fault::Jumps(
            server,
            *[-4_000, -70, -3, 3, 70, 4_000].choose(rng).expect("some"),
        ),
        24..26 => Fault::Parted(server, millis(rng)),
        26..28 => Fault::ModelDown(millis(rng)),
        _ => Fault::SandboxLost(rng.random_range(0..sessions)),
    }
}
