//! What a disk may hold after a power cut.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use rand::Rng as _;
use rand::rngs::StdRng;

use crate::journal::{FileId, Op};

/// A disk writes a sector whole or not at all, bytes.
pub(crate) const SECTOR: usize = 512;

/// What becomes of what was done and not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// All of it is lost.
    Lost,
    /// All of it is there.
    Kept,
    /// Each write is there, lost, or torn into sectors that are there, not there, or garbage; each name is made or
    /// removed, or not.
    Mixed,
}

/// A power cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// So much of the journal was done.
    pub(crate) at: usize,
    /// What becomes of the rest.
    pub(crate) fate: Fate,
    /// From this place of the journal on the disk says that it has synced and has not. An honest disk: `usize::MAX`.
    pub(crate) lies_from: usize,
}

/// The files of a directory by name.
pub(crate) type Image = BTreeMap<String, Vec<u8>>;

/// A thing and what was done to it since it was synced, with its places in the journal.
struct Pending<'a, T> {
    durable: T,
    since: Vec<(usize, &'a Op)>,
}

impl<T: Default> Default for Pending<'_, T> {
    fn default() -> Self {
        Self {
            durable: T::default(),
            since: Vec::new(),
        }
    }
}

impl<T> Pending<'_, T> {
    fn sync(&mut self, covers: usize, apply: impl Fn(&mut T, &Op)) {
        self.since.retain(|(place, op)| {
            let synced = *place < covers;
            if synced {
                apply(&mut self.durable, op);
            }
            !synced
        });
    }
}

/// The disk after a cut.
pub(crate) fn image(ops: &[Op], cut: Cut, rng: &mut StdRng) -> Image {
    let mut names: Pending<'_, BTreeMap<String, FileId>> = Pending::default();
    let mut files: BTreeMap<FileId, Pending<'_, Vec<u8>>> = BTreeMap::new();
    for (place, op) in ops[..cut.at].iter().enumerate() {
        match op {
            Op::Create { .. } | Op::Delete { .. } => names.since.push((place, op)),
            Op::Write { file, .. } | Op::Truncate { file, .. } => {
                files.entry(*file).or_default().since.push((place, op));
            }
            Op::Sync { .. } | Op::SyncDirectory { .. } if place >= cut.lies_from => {}
            Op::Sync { file, covers } => {
                files.entry(*file).or_default().sync(*covers, write);
            }
            Op::FailedSync { file, covers } => {
                let file = files.entry(*file).or_default();
                let kept = file.since.partition_point(|(place, _)| place < covers);
                for (_, op) in file.since.drain(..kept) {
                    settle(&mut file.durable, op, cut.fate, rng);
                }
            }
            Op::SyncDirectory { covers } => names.sync(*covers, rename),
        }
    }
    for (_, op) in &names.since {
        if happens(cut.fate, rng) {
            rename(&mut names.durable, op);
        }
    }
    let mut image = Image::new();
    for (name, file) in names.durable {
        let mut found = files.remove(&file).unwrap_or_default();
        for (_, op) in &found.since {
            settle(&mut found.durable, op, cut.fate, rng);
        }
        image.insert(name, found.durable);
    }
    image
}

/// Puts an image into a new directory.
pub(crate) fn lay(image: &Image, directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    for (name, bytes) in image {
        std::fs::write(directory.join(name), bytes)?;
    }
    Ok(())
}

fn happens(fate: Fate, rng: &mut StdRng) -> bool {
    match fate {
        Fate::Lost => false,
        Fate::Kept => true,
        Fate::Mixed => rng.random_bool(0.5),
    }
}

/// What was done and not synced meets its fate.
fn settle(content: &mut Vec<u8>, op: &Op, fate: Fate, rng: &mut StdRng) {
    if fate == Fate::Mixed && rng.random_bool(0.3) {
        tear(content, op, rng);
    } else if happens(fate, rng) {
        write(content, op);
    }
}

fn rename(names: &mut BTreeMap<String, FileId>, op: &Op) {
    match op {
        Op::Create { name, file } => drop(names.insert(name.clone(), *file)),
        Op::Delete { name } => drop(names.remove(name)),
        other => unreachable!("{other:?} is not about names"),
    }
}

fn write(content: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Write { offset, bytes, .. } => put(content, *offset, bytes),
        Op::Truncate { length, .. } => content.resize(*length, 0),
        other => unreachable!("{other:?} is not about bytes"),
    }
}

/// Each sector of a write is there, or not, or what was to be written to it has become garbage. What stood beside it in
/// the same sector stays, as SQLite expects of disks ("powersafe overwrite"). A truncation has no sectors.
fn tear(content: &mut Vec<u8>, op: &Op, rng: &mut StdRng) {
    let Op::Write { offset, bytes, .. } = op else {
        return;
    };
    let mut at = 0;
    while at < bytes.len() {
        let end = (at + SECTOR - (offset + at) % SECTOR).min(bytes.len());
        match rng.random_range(0..20) {
            0..=8 => put(content, offset + at, &bytes[at..end]),
            9..=17 => {}
            _ => {
                let mut garbage = vec![0; end - at];
                rng.fill(&mut garbage[..]);
                put(content, offset + at, &garbage);
            }
        }
        at = end;
    }
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    fn ops() -> Vec<Op> {
        let write = |offset, length, byte| Op::Write {
            file: 0,
            offset,
            bytes: vec![byte; length].into(),
        };
        vec![
            Op::Create {
                name: "a".to_owned(),
                file: 0,
            },
            write(0, 2 * SECTOR, 1),
            Op::Sync { file: 0, covers: 2 },
            Op::SyncDirectory { covers: 2 },
            write(100, 2 * SECTOR, 2),
            Op::Delete {
                name: "a".to_owned(),
            },
        ]
    }

    fn after(at: usize, fate: Fate, seed: u64) -> Image {
        let cut = Cut {
            at,
            fate,
            lies_from: usize::MAX,
        };
        image(&ops(), cut, &mut StdRng::seed_from_u64(seed))
    }

    #[test]
    fn what_was_synced_stays_and_the_rest_may_go() {
        let synced = Image::from([("a".to_owned(), vec![1; 2 * SECTOR])]);
        let mut written = vec![1; 100];
        written.extend([2; 2 * SECTOR]);
        assert_eq!(after(3, Fate::Lost, 0), Image::new());
        assert_eq!(after(4, Fate::Lost, 0), synced);
        assert_eq!(after(5, Fate::Lost, 0), synced);
        assert_eq!(
            after(5, Fate::Kept, 0),
            Image::from([("a".to_owned(), written)])
        );
        assert_eq!(after(6, Fate::Kept, 0), Image::new());
        assert_eq!(after(6, Fate::Lost, 0), synced);
    }

    #[test]
    fn what_a_failed_sync_has_lost_no_later_one_brings_back() {
        let mut ops = ops();
        ops.truncate(5);
        ops.push(Op::FailedSync { file: 0, covers: 5 });
        ops.push(Op::Sync { file: 0, covers: 6 });
        let after = |fate| {
            let (at, lies_from) = (ops.len(), usize::MAX);
            let cut = Cut {
                at,
                fate,
                lies_from,
            };
            image(&ops, cut, &mut StdRng::seed_from_u64(0))["a"].len()
        };
        assert_eq!(after(Fate::Lost), 2 * SECTOR);
        assert_eq!(after(Fate::Kept), 2 * SECTOR + 100);
    }

    #[test]
    fn a_torn_write_has_whole_sectors() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..400 {
            let content = after(5, Fate::Mixed, seed).remove("a").unwrap();
            let part = |from: usize, to: usize| {
                let bytes = content.get(from..to.min(content.len())).unwrap_or_default();
                if bytes.windows(2).all(|pair| pair[0] == pair[1]) {
                    if bytes.first() == Some(&2) {
                        "there"
                    } else {
                        "not there"
                    }
                } else {
                    "garbage"
                }
            };
            assert!(content[..100].iter().all(|byte| *byte == 1));
            let last = part(2 * SECTOR, 2 * SECTOR + 100);
            seen.insert((part(100, SECTOR), part(SECTOR, 2 * SECTOR), last));
        }
        let whole = seen
            .iter()
            .filter(|(a, b, c)| ![a, b, c].contains(&&"garbage"));
        assert_eq!(whole.count(), 8, "every combination of three sectors");
        assert!(seen.iter().any(|(_, middle, _)| *middle == "garbage"));
    }
}
