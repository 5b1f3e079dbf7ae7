//! Simulated power cuts (SQLite): nothing that was acknowledged is lost, whatever the disk had not been told to keep.
//!
//! A busy store is recorded down to what SQLite does to its files ([`workload`], [`vfs`], [`journal`]). Then the power
//! is cut at many places of the journal: a disk is put together that the cut could have left ([`disk`]), the store is
//! opened on it and compared with what it had acknowledged by then ([`ledger`], [`check`]).
//!
//! `MANYHANDS_POWER_CUTS` says how many (`MANYHANDS_FAILING_DISKS` and `MANYHANDS_DAMAGED_SECTORS` do for the other
//! tests), `MANYHANDS_POWER_CUT_SEED` repeats the choices of a run. How writes of several
//! sessions meet in one commit is the machine's choice, so the disk of a failed cut is kept, and its place is printed.

mod check;
mod damage;
mod disk;
mod failing;
mod faults;
mod fixtures;
mod journal;
mod ledger;
mod names;
mod vfs;
mod workload;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use crate::check::check;
use crate::disk::{Cut, Fate, Image};
use crate::journal::Op;
use crate::workload::Recording;

/// Cuts without being told otherwise.
const CUTS: usize = 500;
/// Cuts of one recording.
const EACH: usize = 125;
/// Disks of which one sector has changed.
const DAMAGED: u64 = 60;
/// Disks that fail, and how often the power of each is cut.
const DISKS: u64 = 12;
const CUTS_OF_A_DISK: usize = 8;
/// Disks that are looked at side by side.
const SIDE_BY_SIDE: usize = 2;

/// Also I1, I2, STORE-1 and LOG-3: acknowledged entries are there byte for byte and without gaps, a write is
/// there as a whole or not at all, rows agree with logs, and the store goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_1_a_power_cut_loses_nothing_acknowledged() {
    let cuts = number("MANYHANDS_POWER_CUTS").map_or(CUTS, |cuts| usize::try_from(cuts).unwrap());
    let seed = number("MANYHANDS_POWER_CUT_SEED").unwrap_or_else(rand::random);
    println!("{cuts} power cuts, MANYHANDS_POWER_CUT_SEED={seed}");
    let began = Instant::now();
    let mut total = Total::default();
    let mut left = cuts;
    while left > 0 {
        let mut rng = StdRng::seed_from_u64(seed.wrapping_add(left as u64));
        let recording = Arc::new(recording(rng.random()).await);
        total.count(&recording);
        let planned = plan(&recording.ops, left.min(EACH), &mut rng);
        left -= planned.len();
        let checks = futures::stream::iter(planned)
            .map(|(cut, choices)| {
                let (recording, runtime) = (Arc::clone(&recording), Handle::current());
                spawn_blocking(move || runtime.block_on(one(&recording, cut, choices)))
            })
            .buffer_unordered(SIDE_BY_SIDE);
        let failed: Vec<String> = checks
            .filter_map(|result| async { result.unwrap().err() })
            .collect()
            .await;
        assert!(failed.is_empty(), "seed {seed}: {}", failed.join("\n"));
    }
    println!("{cuts} power cuts in {:.1?}: {total:?}", began.elapsed());
    let made_and_closed_twice = 3 * total.recordings;
    assert!(total.database_syncs >= made_and_closed_twice, "{total:?}");
}

/// A disk that says it has synced and has not: the harness finds what LOG-1 forbids.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_1_a_disk_that_lies_about_syncing_is_found_out() {
    let recording = recording(1).await;
    let at = recording.ops.len();
    let cut = |fate, lies_from| Cut {
        at,
        fate,
        lies_from,
    };
    let honest = cut(Fate::Lost, usize::MAX);
    assert_eq!(outcome(&recording, honest, 0).await, Ok(()));
    let error = outcome(&recording, cut(Fate::Lost, at / 2), 0).await;
    let error = error.unwrap_err();
    assert!(error.contains("lost: "), "{error}");
    for choices in 0..5 {
        let mixed = outcome(&recording, cut(Fate::Mixed, at / 2), choices).await;
        assert!(mixed.is_err(), "choices {choices}");
    }
}

/// Also LOG-1: what a failed sync has not kept is not acknowledged, and what is written after it stands without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_2_a_failed_sync_refuses_its_write_and_takes_nothing_else_along() {
    for seed in 0..4 {
        let (recording, failures) = failing::record(home(), seed).await;
        assert!(failures > 0, "seed {seed}");
        for choices in 0..5 {
            let cut = Cut {
                at: recording.ops.len(),
                fate: [Fate::Lost, Fate::Kept, Fate::Mixed][choices.min(2)],
                lies_from: usize::MAX,
            };
            let checked = outcome(&recording, cut, choices as u64).await;
            assert_eq!(checked, Ok(()), "seed {seed}, {cut:?}, choices {choices}");
        }
    }
}

/// Also STORE-1: a new data directory is found again, because the name of each new folder is synced.
#[tokio::test]
async fn log_1_the_way_to_a_new_data_directory_is_synced() {
    // Not one in memory: only names on a disk can be lost.
    let home = tempfile::tempdir().unwrap();
    let place = home.path().canonicalize().unwrap();
    let directory = place.join("new/data");
    assert!(!names::are_synced(&place));
    workload::open(&directory).await.unwrap().close().await;
    for folder in [place.clone(), place.join("new"), directory] {
        assert!(names::are_synced(&folder), "{}", folder.display());
    }
}

/// Also STORE-4, LOG-1: calls to the disk fail at the n-th time, once or until the disk is mended, and the disk is full.
/// What was acknowledged is there then, what is refused is refused with a reason, and the store goes on without a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_2_a_failing_disk_loses_nothing_acknowledged() {
    let seed = number("MANYHANDS_POWER_CUT_SEED").unwrap_or_else(rand::random);
    println!("failing disks, MANYHANDS_POWER_CUT_SEED={seed}");
    let began = Instant::now();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut tally = faults::Tally::default();
    let disks = number("MANYHANDS_FAILING_DISKS").unwrap_or(DISKS);
    for _ in 0..disks {
        let (recording, mut places) = faults::record(home(), rng.random(), &mut tally).await;
        let end = recording.ops.len();
        places.shuffle(&mut rng);
        places.truncate(CUTS_OF_A_DISK);
        for at in places.into_iter().chain([end]) {
            let fate = [Fate::Lost, Fate::Kept, Fate::Mixed][rng.random_range(0..3)];
            let cut = Cut {
                at,
                fate,
                lies_from: usize::MAX,
            };
            let choices = rng.random();
            let checked = one(&recording, cut, choices).await;
            assert_eq!(checked, Ok(()), "seed {seed}");
        }
    }
    println!(
        "{disks} failing disks in {:.1?}: {tally:#?}",
        began.elapsed()
    );
    let refused = [
        tally.no_space,
        tally.unavailable,
        tally.reads_refused,
        tally.openings_refused,
    ];
    assert!(refused.iter().all(|count| *count > 0), "{tally:?}");
}

/// Also I1: a byte that has changed on the disk is found by the same check.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_3_a_changed_byte_is_found_out() {
    let recording = recording(2).await;
    let cut = Cut {
        at: recording.ops.len(),
        // The log of SQLite is gone after the close: the database is what counts.
        fate: Fate::Kept,
        lies_from: usize::MAX,
    };
    let mut image = disk::image(&recording.ops, cut, &mut StdRng::seed_from_u64(0));
    let living = recording.ledger.histories.last().unwrap();
    let entry = living
        .entries()
        .find(|entry| (100..300).contains(&entry.body.len()));
    let body = entry.expect("a short entry").body.as_bytes();
    let database = image.get_mut("manyhands.db").unwrap();
    // Pages that were copied or given up hold it too.
    let found: Vec<usize> = (0..database.len())
        .filter(|at| database[*at..].starts_with(body))
        .collect();
    assert!(!found.is_empty(), "it is stored as it is");
    for at in found {
        database[at + body.len() - 8] ^= 1;
    }
    let error = laid(&recording, cut, &image).await.unwrap_err();
    assert!(error.contains("checksum"), "{error}");
}

/// Also I1: sectors that were synced have changed. Each item is served as it was written or said to be damaged, and
/// `verify` finds what readers find.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_3_damaged_sectors_are_never_served_as_valid() {
    let seed = number("MANYHANDS_POWER_CUT_SEED").unwrap_or_else(rand::random);
    println!("damaged sectors, MANYHANDS_POWER_CUT_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let recording = recording(rng.random()).await;
    let cut = Cut {
        at: recording.ops.len(),
        fate: Fate::Kept,
        lies_from: usize::MAX,
    };
    let whole = disk::image(&recording.ops, cut, &mut rng);
    let mut tally = damage::Tally::default();
    for _ in 0..number("MANYHANDS_DAMAGED_SECTORS").unwrap_or(DAMAGED) {
        let mut image = whole.clone();
        damage::harm(image.get_mut("manyhands.db").unwrap(), &mut rng);
        let directory = tempfile::tempdir_in(recording.home.path()).unwrap();
        disk::lay(&image, directory.path()).unwrap();
        let checked = damage::check(&recording.ledger, directory.path(), &mut tally).await;
        assert_eq!(checked, Ok(()), "seed {seed}: {tally:?}");
    }
    println!("{tally:?}");
    assert!(tally.found > 0 && tally.as_written > 0, "{tally:?}");
}

/// What was looked at.
#[derive(Debug, Default)]
struct Total {
    recordings: usize,
    operations: usize,
    syncs: usize,
    database_syncs: usize,
    acknowledged_entries: usize,
}

impl Total {
    fn count(&mut self, recording: &Recording) {
        // The database is the first file that is opened. It is synced when it is made, and then by checkpoints.
        let database = |op: &&Op| matches!(op, Op::Sync { file: 0, .. });
        let steps = recording.ledger.histories.iter();
        let steps = steps.flat_map(|history| &history.steps);
        self.recordings += 1;
        self.operations += recording.ops.len();
        self.syncs += recording.ops.iter().filter(|op| is_sync(op)).count();
        self.database_syncs += recording.ops.iter().filter(database).count();
        self.acknowledged_entries += steps.map(|step| step.entries.len()).sum::<usize>();
    }
}

fn is_sync(op: &Op) -> bool {
    matches!(op, Op::Sync { .. } | Op::SyncDirectory { .. })
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} is \"{text}\" and not a number")))
}

/// A directory in memory where there is such a thing: the disk is simulated anyway.
fn home() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

async fn recording(seed: u64) -> Recording {
    workload::record(home(), seed).await
}

/// Where to cut: half of them beside a sync, as many different ones as there are; each with its own choices.
fn plan(ops: &[Op], count: usize, rng: &mut StdRng) -> Vec<(Cut, u64)> {
    let syncs = ops.iter().enumerate().filter(|(_, op)| is_sync(op));
    let mut beside: Vec<usize> = syncs.flat_map(|(place, _)| [place, place + 1]).collect();
    beside.dedup();
    beside.shuffle(rng);
    beside.truncate(count / 2);
    let mut cuts: Vec<(Cut, u64)> = Vec::new();
    for index in 0..count {
        let at = beside.get(index).copied();
        let at = at.unwrap_or_else(|| rng.random_range(0..=ops.len()));
        let fate = match rng.random_range(0..8) {
            0 | 1 => Fate::Lost,
            2 => Fate::Kept,
            _ => Fate::Mixed,
        };
        let cut = Cut {
            at,
            fate,
            lies_from: usize::MAX,
        };
        cuts.push((cut, rng.random()));
    }
    cuts
}

/// One cut; a failed one leaves its disk behind and says where.
async fn one(recording: &Recording, cut: Cut, choices: u64) -> Result<(), String> {
    let Err(error) = outcome(recording, cut, choices).await else {
        return Ok(());
    };
    let kept = keep(recording, cut, choices);
    let operations = recording.ops.len();
    Err(format!(
        "{error}; {cut:?} of {operations} operations, choices {choices}, the disk is in {}",
        kept.display()
    ))
}

async fn outcome(recording: &Recording, cut: Cut, choices: u64) -> Result<(), String> {
    let image = disk::image(&recording.ops, cut, &mut StdRng::seed_from_u64(choices));
    laid(recording, cut, &image).await
}

async fn laid(recording: &Recording, cut: Cut, image: &Image) -> Result<(), String> {
    let directory =
        tempfile::tempdir_in(recording.home.path()).map_err(|error| error.to_string())?;
    disk::lay(image, directory.path()).map_err(|error| error.to_string())?;
    check(&recording.ledger, cut.at, directory.path()).await
}

fn keep(recording: &Recording, cut: Cut, choices: u64) -> PathBuf {
    let image = disk::image(&recording.ops, cut, &mut StdRng::seed_from_u64(choices));
    let place = std::env::temp_dir().join(format!("manyhands-power-cut-{choices}"));
    lay_for_people(&image, &place);
    place
}

fn lay_for_people(image: &Image, place: &Path) {
    if let Err(error) = disk::lay(image, place) {
        println!("the disk of a failed cut could not be kept: {error}");
    }
}
