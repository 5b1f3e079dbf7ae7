//! A disk whose synced sectors have changed: each item is as it was written, or it is said to be damaged.

use std::path::Path;

use manyhands_store::listing::EventRange;
use manyhands_store::verify::{Source, verify};
use manyhands_store::{Database, Entry, Error};
use rand::Rng as _;
use rand::rngs::StdRng;

use crate::disk::SECTOR;
use crate::ledger::{History, Ledger};
use crate::workload::open;

/// What became of the items of damaged disks.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) disks: usize,
    /// Disks on which the store does not open.
    pub(crate) closed: usize,
    pub(crate) as_written: usize,
    /// Items that are said to be damaged.
    pub(crate) damaged: usize,
    /// Items that are said not to be there.
    pub(crate) missing: usize,
    /// Disks in which `verify` finds something.
    pub(crate) found: usize,
}

/// Changes one sector of a database: a bit of it, or all of it.
pub(crate) fn harm(database: &mut [u8], rng: &mut StdRng) {
    let sectors = database.len() / SECTOR;
    let at = rng.random_range(0..sectors) * SECTOR;
    let sector = &mut database[at..at + SECTOR];
    if rng.random_bool(0.5) {
        rng.fill(sector);
    } else {
        sector[rng.random_range(0..SECTOR)] ^= 1 << rng.random_range(0..8);
    }
}

/// Reads all there is on such a disk. Says what was served that nobody had written.
pub(crate) async fn check(
    ledger: &Ledger,
    directory: &Path,
    tally: &mut Tally,
) -> Result<(), String> {
    tally.disks += 1;
    let store = match open(directory).await {
        Ok(store) => store,
        Err(Error::Damaged { .. } | Error::Setup { .. } | Error::Schema { .. }) => {
            tally.closed += 1;
            return Ok(());
        }
        Err(error) => return Err(format!("the store does not open, and blames {error:?}")),
    };
    let before = std::mem::take(&mut tally.damaged);
    let workspace = &ledger.workspace.1;
    let agent = &ledger.agent.1;
    let found = store.agent(workspace, &agent.id, None).await;
    tally.item("the agent", found, agent)?;
    let environment = &ledger.environment.1;
    let found = store.environment(workspace, &environment.id).await;
    tally.item("the environment", found, environment)?;
    for history in &ledger.histories {
        let id = &history.id;
        let record = store.session(workspace, id).await;
        let record =
            record.map(|record| record.map(|record| (record.title, record.agent.definition)));
        let title = history.summary(history.steps.len()).title;
        if history.deleted.is_none() {
            tally.item(id.as_str(), record, &(title, agent.definition.clone()))?;
        }
        tally.log(history, store.read(id, 0, 100_000).await)?;
        let range = EventRange {
            limit: 100_000,
            ..EventRange::default()
        };
        let listed = store.list_events(id, &range).await;
        let listed = listed.map(|listed| listed.into_iter().map(|(_, entry)| entry).collect());
        tally.listed(history, listed)?;
    }
    let damaged = std::mem::take(&mut tally.damaged);
    tally.damaged = before + damaged;
    store.close().await;
    let source = Source::Database(Database::Sqlite {
        directory: directory.to_owned(),
    });
    let found = match verify(&source, &mut |_| ()).await {
        Ok(counts) => counts.damaged > 0,
        Err(Error::Damaged { .. } | Error::Setup { .. } | Error::Schema { .. }) => true,
        Err(error) => return Err(format!("verify stops with {error:?}")),
    };
    tally.found += usize::from(found);
    if damaged > 0 && !found {
        return Err("verify finds no damage where readers do".to_owned());
    }
    Ok(())
}

impl Tally {
    fn item<T: PartialEq + std::fmt::Debug>(
        &mut self,
        name: &str,
        found: Result<Option<T>, Error>,
        written: &T,
    ) -> Result<(), String> {
        match found {
            Ok(Some(found)) if found == *written => self.as_written += 1,
            Ok(Some(found)) => return Err(format!("{name} is served as {found:?}")),
            Ok(None) => self.missing += 1,
            Err(Error::Damaged { .. }) => self.damaged += 1,
            Err(error) => return Err(format!("{name}: damage is called {error:?}")),
        }
        Ok(())
    }

    /// A log is served whole, up to its end, or not at all.
    fn log(&mut self, history: &History, found: Result<Vec<Entry>, Error>) -> Result<(), String> {
        let written: Vec<&Entry> = history.entries().collect();
        match found {
            Ok(found) if history.deleted.is_some() && found.is_empty() => {}
            Ok(found) if found.iter().eq(written) => self.as_written += 1,
            Ok(found) => {
                return Err(format!(
                    "{}: {} entries are served that are not its log",
                    history.id,
                    found.len()
                ));
            }
            Err(Error::Damaged { .. }) => self.damaged += 1,
            Err(error) => return Err(format!("damage is called {error:?}")),
        }
        Ok(())
    }

    fn listed(
        &mut self,
        history: &History,
        found: Result<Vec<Entry>, Error>,
    ) -> Result<(), String> {
        let written: Vec<&Entry> = history.entries().collect();
        match found {
            Ok(found) if found.iter().all(|entry| written.contains(&entry)) => {
                self.as_written += 1;
            }
            Ok(found) => return Err(format!("{}: {found:?} is listed", history.id)),
            Err(Error::Damaged { .. }) => self.damaged += 1,
            Err(error) => return Err(format!("damage is called {error:?}")),
        }
        Ok(())
    }
}
