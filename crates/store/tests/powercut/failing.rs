//! A disk whose syncs fail now and then, while the store is at work on it.

use manyhands_store::{Append, Change, NewEntry};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tempfile::TempDir;

use crate::fixtures::{said, text};
use crate::journal::{Call, Fault};
use crate::ledger::Step;
use crate::vfs;
use crate::workload::{Life, Recording, checkpoint, data_directory, first, open, set_up};

/// Writes that are tried.
const WRITES: usize = 60;

/// Records a store that writes one entry after the other. Each write whose sync fails must be refused, and the next one
/// must succeed without a restart. The journal ends with an acknowledged write. Also says how many writes failed.
pub(crate) async fn record(home: TempDir, seed: u64) -> (Recording, usize) {
    let directory = data_directory(&home);
    let recorder = vfs::watch(&directory);
    let mut rng = StdRng::seed_from_u64(seed);
    let store = open(&directory).await.unwrap();
    let mut ledger = set_up(&store, &recorder).await;
    let life = Life::new(&store, &directory, &recorder, &ledger, seed);
    life.create(first(&ledger, &life)).await;
    let mut failures = 0;
    for write in 1..=WRITES {
        let fails = write < WRITES && rng.random_bool(0.3);
        if fails {
            recorder.arm(Fault::next(Call::Sync));
        }
        let change = Change {
            append: Append {
                entries: vec![NewEntry::event(said(&text(&mut rng)))],
                ..Append::default()
            },
            ..Change::default()
        };
        let changed = life.try_change(change).await;
        assert_eq!(recorder.lift() > 0, fails, "write {write} syncs");
        match (changed, fails) {
            (Ok((span, entries)), false) => {
                life.with(|history| history.steps.push(Step::of(span, entries)));
            }
            (Err(_), true) => failures += 1,
            (Ok(_), true) => panic!("write {write} is acknowledged and its sync has failed"),
            (Err(error), false) => panic!("write {write} after a failure: {error}"),
        }
        if write < WRITES && rng.random_bool(0.2) {
            let fails = rng.random_bool(0.5);
            if fails {
                recorder.arm(Fault::next(Call::Sync));
            }
            let moved = checkpoint(&directory, &mut rng).await;
            // One that finds nothing to move does not sync.
            let met = recorder.lift() > 0;
            assert_eq!(moved.is_err(), met, "{moved:?}");
        }
    }
    let ops = recorder.take();
    store.close().await;
    vfs::forget(&directory);
    ledger.histories.push(life.sealed());
    (Recording { ledger, ops, home }, failures)
}
