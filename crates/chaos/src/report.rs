//! The sums of a campaign, in a file by which a campaign that was cut off goes on.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::counts::Counts;

/// A campaign so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The commit that was built, with a mark when the checkout had changes.
    pub(crate) commit: String,
    pub(crate) seed: u64,
    /// How many kills there are to be.
    pub(crate) wanted: u64,
    /// Rounds that were played; the next one has this number.
    pub(crate) rounds: u64,
    pub(crate) seconds: f64,
    /// What does not hold, if something does not: the campaign has ended.
    pub(crate) violation: Option<String>,
    /// By database.
    pub(crate) sqlite: Counts,
    pub(crate) postgres: Counts,
}

impl Report {
    /// A campaign that begins.
    pub(crate) fn new(commit: &str, seed: u64, wanted: u64) -> Self {
        Self {
            commit: commit.to_owned(),
            seed,
            wanted,
            rounds: 0,
            seconds: 0.0,
            violation: None,
            sqlite: Counts::default(),
            postgres: Counts::default(),
        }
    }

    /// The campaign of this file, if it is there, of the same commit and not at its end; else a new one.
    pub(crate) fn resume(
        path: &Path,
        commit: &str,
        seed: Option<u64>,
        wanted: u64,
        new: u64,
    ) -> Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::new(commit, seed.unwrap_or(new), wanted));
            }
            Err(error) => return Err(error).context(path.display().to_string()),
        };
        let report: Self =
            serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        let goes_on = report.commit == commit
            && report.wanted == wanted
            && seed.is_none_or(|seed| seed == report.seed)
            && report.violation.is_none()
            && report.kills() < wanted;
        Ok(match goes_on {
            true => report,
            false => Self::new(commit, seed.unwrap_or(new), wanted),
        })
    }

    /// Kills so far.
    pub(crate) fn kills(&self) -> u64 {
        self.sqlite.get("kills") + self.postgres.get("kills")
    }

    /// Writes it, whole or not at all.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_string_pretty(self)?)?;
        fs::rename(&new, path).with_context(|| path.display().to_string())
    }

    /// A line for each count.
    pub(crate) fn table(&self) -> String {
        let mut all = self.sqlite.clone();
        all.merge(&self.postgres);
        let mut lines = vec![format!("{:<46} {:>9} {:>9}", "", "sqlite", "postgres")];
        lines.extend(all.iter().map(|(name, _)| {
            let (sqlite, postgres) = (self.sqlite.get(name), self.postgres.get(name));
            format!("{name:<46} {sqlite:>9} {postgres:>9}")
        }));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_goes_on_where_it_was_cut_off_and_only_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chaos.json");
        let resume = |commit, seed, wanted| Report::resume(&path, commit, seed, wanted, 9).unwrap();
        assert_eq!(resume("a", None, 10), Report::new("a", 9, 10));
        let mut report = Report::new("a", 7, 10);
        report.rounds = 3;
        report.sqlite.add("kills", 4);
        report.postgres.add("kills", 5);
        report.write(&path).unwrap();
        assert_eq!(resume("a", None, 10), report);
        assert_eq!(resume("a", Some(7), 10), report);
        assert_eq!(resume("a", Some(8), 10).seed, 8);
        assert_eq!(resume("b", None, 10).rounds, 0);
        assert_eq!(resume("a", None, 20).rounds, 0);
        report.postgres.add("kills", 1);
        report.write(&path).unwrap();
        assert_eq!(resume("a", None, 10).rounds, 0);
        assert!(report.table().contains("kills"), "{}", report.table());
    }
}
