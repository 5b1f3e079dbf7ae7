//! Secrets in the place of their placeholders (security CRED-5; runtime VA-9, VA-13). Pure.
//!
//! One pass over the bytes: what was put in is not looked at again. Whole placeholders only, and verbatim.

pub(crate) mod headers;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

/// What every placeholder begins with.
pub const PREFIX: &str = "mhp_";
/// How many letters of base 32 follow: 160 random bits (security CRED-3).
pub const LETTERS: usize = 32;
/// How many different placeholders of a request are looked up; more stay as they are.
pub(crate) const MOST: usize = 64;

/// The secrets that were released for a place of one request, by their placeholders.
#[derive(Default)]
pub(crate) struct Released(BTreeMap<String, SecretString>);

impl Released {
    pub(crate) fn insert(&mut self, placeholder: String, secret: SecretString) {
        self.0.insert(placeholder, secret);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn secrets(&self) -> impl Iterator<Item = &SecretString> {
        self.0.values()
    }
}

/// The placeholders in these bytes, each once.
pub(crate) fn named(bytes: &[u8]) -> BTreeSet<String> {
    found(bytes)
        .map(|range| String::from_utf8_lossy(&bytes[range]).into_owned())
        .collect()
}

/// The bytes with secrets where placeholders were; `None` when there is nothing to replace.
pub(crate) fn replace(bytes: &[u8], released: &Released) -> Option<Zeroizing<Vec<u8>>> {
    // As long as it will be, so that no copy of a part is left behind by growing.
    let ranges: Vec<(Range<usize>, &SecretString)> = found(bytes)
        .filter_map(|range| {
            let placeholder = std::str::from_utf8(&bytes[range.clone()]).ok()?;
            Some((range, released.0.get(placeholder)?))
        })
        .collect();
    if ranges.is_empty() {
        return None;
    }
    let more: usize = ranges
        .iter()
        .map(|(_, secret)| secret.expose_secret().len())
        .sum();
    let mut replaced = Zeroizing::new(Vec::with_capacity(bytes.len() + more));
    let mut done = 0;
    for (range, secret) in ranges {
        replaced.extend_from_slice(&bytes[done..range.start]);
        replaced.extend_from_slice(secret.expose_secret().as_bytes());
        done = range.end;
    }
    replaced.extend_from_slice(&bytes[done..]);
    Some(replaced)
}

/// How much longer these bytes would become at most.
pub(crate) fn growth(bytes: &[u8], released: &Released) -> usize {
    let longest = released
        .secrets()
        .map(|secret| secret.expose_secret().len())
        .max();
    found(bytes).count().saturating_mul(longest.unwrap_or(0))
}

/// Where the whole placeholders are.
fn found(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
    const WHOLE: usize = PREFIX.len() + LETTERS;
    let mut at = 0;
    std::iter::from_fn(move || {
        while at + WHOLE <= bytes.len() {
            let start = at;
            // The prefix's first letter is in none of its other places: the next candidate is behind it.
            at += 1;
            if !bytes[start..].starts_with(PREFIX.as_bytes()) {
                continue;
            }
            let end = start + WHOLE;
            let letters = bytes[start + PREFIX.len()..end].iter().all(is_letter);
            // A longer word is another one's.
            let goes_on = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
            if letters && !bytes.get(end).is_some_and(goes_on) {
                at = end;
                return Some(start..end);
            }
        }
        None
    })
}

fn is_letter(byte: &u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'2'..=b'7')
}

#[cfg(test)]
mod tests;
