//! Every kept input, and changes of them, with every reader (security INP-6).

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use manyhands_fuzz::{TARGETS, Target};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// How many changed inputs each reader gets, and for how long at most.
const CHANGED: usize = 10_000;
const LONGEST: Duration = Duration::from_millis(500);
/// The longest changed input.
const LENGTH: usize = 4 << 10;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The inputs that are kept for a target, by their names.
fn kept(target: &Target) -> Vec<(String, Vec<u8>)> {
    let mut inputs: Vec<_> = fs::read_dir(folder("corpus").join(target.name))
        .unwrap_or_else(|error| panic!("fuzz/corpus/{}: {error}", target.name))
        .map(|entry| entry.expect("an entry").path())
        .map(|path| (path.display().to_string(), fs::read(&path).expect("a file")))
        .collect();
    inputs.sort();
    inputs
}

/// Runs one input; what does not hold is told with the input, which is written down to be kept.
fn run(target: &Target, what: &str, input: &[u8]) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| (target.hold)(input))).map_err(|_| {
        let written =
            std::env::temp_dir().join(format!("fuzz-{}-{}", target.name, std::process::id()));
        let at = match fs::write(&written, input) {
            Ok(()) => written.display().to_string(),
            Err(error) => error.to_string(),
        };
        format!(
            "{}: {what}, written to {at}: see the panic above",
            target.name
        )
    })
}

/// All targets, some at a time; fails with all that does not hold.
fn all(work: impl Fn(&Target) -> Result<(), String> + Sync) {
    let next = AtomicUsize::new(0);
    let broken = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut broken = Vec::new();
                    while let Some(target) = TARGETS.get(next.fetch_add(1, Ordering::Relaxed)) {
                        broken.extend(work(target).err());
                    }
                    broken
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("a thread"))
            .collect::<Vec<String>>()
    });
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// security INP-6: what was once of interest.
#[test]
fn inp_6_kept_inputs() {
    all(|target| {
        let inputs = kept(target);
        if inputs.len() < 3 {
            return Err(format!("{} has only {} inputs", target.name, inputs.len()));
        }
        inputs
            .iter()
            .try_for_each(|(name, input)| run(target, name, input))
    });
}

/// security INP-6: the same with bytes changed, added and taken away, alike in every run.
#[test]
fn inp_6_changed_inputs() {
    all(|target| {
        let inputs: Vec<Vec<u8>> = kept(target).into_iter().map(|(_, input)| input).collect();
        let mut random = StdRng::seed_from_u64(target.name.len() as u64);
        let begun = Instant::now();
        for count in 0..CHANGED {
            if begun.elapsed() > LONGEST {
                break;
            }
            let input = changed(&inputs, &mut random);
            run(target, &format!("changed input {count}"), &input)?;
        }
        Ok(())
    });
}

/// Some input with a few changes.
fn changed(inputs: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let pick = |random: &mut StdRng| inputs.choose(random).cloned().unwrap_or_default();
    let mut input = pick(random);
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..=input.len());
        let end = (at + random.random_range(0..16)).min(input.len());
        match random.random_range(0..6) {
            0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
            1 if at < input.len() => input[at] = random.random(),
            2 => drop(input.drain(at..end)),
            3 => input.insert(at, random.random()),
            4 => {
                let again = input[at..end].to_vec();
                input.splice(at..at, again);
            }
            _ => {
                let other = pick(random);
                let from = random.random_range(0..=other.len());
                let to = (from + random.random_range(0..64)).min(other.len());
                input.splice(at..end, other[from..to].iter().copied());
            }
        }
    }
    input.truncate(LENGTH);
    input
}
