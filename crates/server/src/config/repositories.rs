//! `[repositories]`: what is kept of repositories between sessions.

use std::time::Duration;

use serde::Deserialize;

use super::{DAY, Error, wrong};

/// What is kept of repositories between the sessions of a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repositories {
    /// How many bytes in each workspace; none switches it off.
    pub cache: u64,
    /// For how long.
    pub age: Duration,
}

impl Default for Repositories {
    fn default() -> Self {
        Self {
            cache: 4 << 30,
            age: Duration::from_secs(14 * DAY),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RepositoriesSection {
    cache_megabytes: Option<u32>,
    cache_days: Option<u32>,
}

impl RepositoriesSection {
    pub(super) fn effective(self) -> Result<Repositories, Error> {
        if self.cache_days == Some(0) {
            return Err(wrong(
                "repositories.cache_days",
                "must be at least 1; cache_megabytes = 0 switches the cache off",
            ));
        }
        let usual = Repositories::default();
        Ok(Repositories {
            cache: self
                .cache_megabytes
                .map_or(usual.cache, |megabytes| u64::from(megabytes) << 20),
            age: self
                .cache_days
                .map_or(usual.age, |days| Duration::from_secs(u64::from(days) * DAY)),
        })
    }
}
