//! A disk that fails in every way while the store is at work on it: reads, writes, syncs, truncations and openings that
//! break once or until somebody mends the disk, and a disk that is full.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use manyhands_store::{Append, Change, Entry, Error, NewEntry, Store};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tempfile::TempDir;

use crate::fixtures::{said, text};
use crate::journal::{Call, Failure, Fault, Recorder};
use crate::ledger::{History, Ledger, Step};
use crate::vfs;
use crate::workload::{Life, Recording, checkpoint, data_directory, first, open, set_up};

/// Things that are tried in one recording.
const STEPS: usize = 80;

/// What happened, over all recordings.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Calls that failed, by kind and way.
    pub(crate) struck: BTreeMap<String, usize>,
    pub(crate) acknowledged: usize,
    /// Refused with "no space".
    pub(crate) no_space: usize,
    /// Refused with another error.
    pub(crate) unavailable: usize,
    pub(crate) reads_refused: usize,
    pub(crate) openings_refused: usize,
    pub(crate) restarts: usize,
    /// Refused writes that stand all the same: the disk had them before it failed.
    pub(crate) stand: usize,
}

/// A store at work on a failing disk.
struct Trial<'t> {
    home: TempDir,
    directory: PathBuf,
    recorder: Arc<Recorder>,
    rng: StdRng,
    store: Store,
    life: Life,
    ledger: Ledger,
    /// Refused writes that may stand all the same: when they were asked for, and their texts.
    doubtful: Vec<(usize, String)>,
    /// Calls that failed in this step.
    struck: usize,
    /// Places of the journal right behind an acknowledged write.
    sound: Vec<usize>,
    tally: &'t mut Tally,
}

/// Records a store on a failing disk. Whatever fails, no acknowledged entry is lost, nothing that was refused is
/// half there, each error says what it is, and once the disk works the store goes on without a restart. Panics when
/// that does not hold. Also gives places of the journal right behind an acknowledged write.
pub(crate) async fn record(home: TempDir, seed: u64, tally: &mut Tally) -> (Recording, Vec<usize>) {
    let directory = data_directory(&home);
    let recorder = vfs::watch(&directory);
    let store = open(&directory).await.unwrap();
    let ledger = set_up(&store, &recorder).await;
    let life = Life::new(&store, &directory, &recorder, &ledger, seed);
    life.create(first(&ledger, &life)).await;
    let mut trial = Trial {
        home,
        directory,
        recorder,
        rng: StdRng::seed_from_u64(seed),
        store,
        life,
        ledger,
        doubtful: Vec::new(),
        struck: 0,
        sound: Vec::new(),
        tally,
    };
    for _ in 0..STEPS {
        trial.step().await;
    }
    trial.write_soundly().await;
    let ops = trial.recorder.take();
    trial.store.close().await;
    vfs::forget(&trial.directory);
    trial.ledger.histories.push(trial.life.sealed());
    let recording = Recording {
        ledger: trial.ledger,
        ops,
        home: trial.home,
    };
    (recording, trial.sound)
}

impl Trial<'_> {
    /// One thing on a disk that may fail in it, and then the same disk, mended.
    async fn step(&mut self) {
        let fault = self.fault();
        self.recorder.arm(fault);
        let again = if fault.lasts { 3 } else { 1 };
        for _ in 0..again {
            match self.rng.random_range(0..10) {
                0..=4 => self.write().await,
                5 | 6 => self.read(false).await,
                7 | 8 => drop(checkpoint(&self.directory, &mut self.rng).await),
                _ => self.restart().await,
            }
        }
        self.mend();
        let struck = std::mem::take(&mut self.struck);
        let lasts = if fault.lasts { "for long" } else { "once" };
        let kind = format!("{:?} {:?} {lasts}", fault.call, fault.failure);
        *self.tally.struck.entry(kind).or_default() += struck;
        if struck > 0 {
            self.read(true).await;
            self.write_soundly().await;
        }
    }

    /// Nothing fails from now on.
    fn mend(&mut self) {
        self.struck += self.recorder.lift();
    }

    fn fault(&mut self) -> Fault {
        const CALLS: [Call; 5] = [
            Call::Open,
            Call::Read,
            Call::Write,
            Call::Truncate,
            Call::Sync,
        ];
        let full = self.rng.random_bool(0.3);
        let call = CALLS[self.rng.random_range(0..CALLS.len())];
        Fault {
            call: if full { Call::Write } else { call },
            failure: if full { Failure::Full } else { Failure::Broken },
            after: self.rng.random_range(0..6),
            lasts: self.rng.random_bool(0.3),
        }
    }

    async fn write(&mut self) {
        let said_text = text(&mut self.rng);
        let asked = self.recorder.place();
        let change = Change {
            append: Append {
                entries: vec![NewEntry::event(said(&said_text))],
                ..Append::default()
            },
            ..Change::default()
        };
        match self.life.try_change(change).await {
            Ok((span, entries)) => {
                self.tally.acknowledged += entries.len();
                self.settle(entries[0].position).await;
                self.life
                    .with(|history| history.steps.push(Step::of(span, entries)));
            }
            Err(error) => {
                match error {
                    Error::NoSpace { .. } => self.tally.no_space += 1,
                    Error::Unavailable { .. } => self.tally.unavailable += 1,
                    error => panic!("a failing disk is not to be called {error:?}"),
                }
                self.doubtful.push((asked, said_text));
            }
        }
    }

    async fn write_soundly(&mut self) {
        let before = self.tally.acknowledged;
        self.write().await;
        assert!(
            self.tally.acknowledged > before,
            "the disk works again and the store does not"
        );
        self.sound.push(self.recorder.place());
    }

    /// What has been acknowledged is read, and nothing else but a refused write as a whole.
    async fn read(&mut self, must: bool) {
        let id = self.life.id();
        match self.store.read(&id, 0, 100_000).await {
            Ok(found) => self.compare(&found),
            Err(Error::Unavailable { .. }) if !must => self.tally.reads_refused += 1,
            Err(error) => panic!("the log cannot be read: {error:?}"),
        }
    }

    /// A write was acknowledged at a position: whether refused ones before it stand is known now.
    async fn settle(&mut self, position: i64) {
        let position = usize::try_from(position).unwrap();
        if position != self.known().len() + 1 {
            self.mend();
            let found = self.store.read(&self.life.id(), 0, 100_000).await.unwrap();
            self.compare(&found[..position - 1]);
        }
        self.doubtful.clear();
    }

    fn known(&self) -> Vec<Entry> {
        let entries = |history: &mut History| {
            let entries = history.steps.iter().flat_map(|step| step.entries.clone());
            entries.collect()
        };
        self.life.with(entries)
    }

    fn compare(&mut self, found: &[Entry]) {
        let known = self.known();
        assert!(found.len() >= known.len(), "acknowledged entries are lost");
        let (same, more) = found.split_at(known.len());
        assert!(same == known, "acknowledged entries have changed");
        for entry in more {
            let asked = |(_, text): &(usize, String)| entry.body.contains(text);
            let asked = self.doubtful.iter().position(asked);
            let asked = asked.expect("somebody has asked for each entry");
            let (asked, _) = self.doubtful.drain(..=asked).next_back().unwrap();
            self.tally.stand += 1;
            let step = Step::of(self.life.since(asked), vec![entry.clone()]);
            self.life.with(|history| history.steps.push(step));
        }
    }

    /// The server ends and begins; it may not begin while the disk fails, and then says so.
    async fn restart(&mut self) {
        self.store.close().await;
        self.tally.restarts += 1;
        let mut opened = open(&self.directory).await;
        if let Err(error) = &opened {
            let said = matches!(
                error,
                Error::Unavailable { .. } | Error::NoSpace { .. } | Error::Setup { .. }
            );
            assert!(said, "a failing disk is not to be called {error:?}");
            self.tally.openings_refused += 1;
            self.mend();
            opened = open(&self.directory).await;
        }
        self.store = opened.expect("the store opens on a disk that works");
        self.life.moved_to(&self.store);
        self.mend();
        self.read(true).await;
    }
}
