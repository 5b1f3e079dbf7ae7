//! `[repositories]`.

use super::*;

/// runtime GH-3: how much is kept of repositories, and for how long; nothing is a size as well.
#[test]
fn gh_3_what_is_kept_of_repositories_has_bounds() {
    #[track_caller]
    fn check(toml: &str, cache: u64, days: u64) {
        let config = plain(toml, &[]);
        let age = Duration::from_secs(days * 24 * 3600);
        assert_eq!(config.repositories, Repositories { cache, age }, "{toml}");
        let table = format!(
            "[repositories]\ncache_days = {days}\ncache_megabytes = {}",
            cache >> 20
        );
        assert!(show(&config).contains(&table), "{}", show(&config));
    }
    check("", 4 << 30, 14);
    check("[repositories]", 4 << 30, 14);
    check("[repositories]\ncache_megabytes = 100", 100 << 20, 14);
    check("[repositories]\ncache_days = 1", 4 << 30, 1);
    check(
        "[repositories]\ncache_megabytes = 0\ncache_days = 30",
        0,
        30,
    );
    check(
        "[repositories]\ncache_megabytes = 4294967295",
        u64::from(u32::MAX) << 20,
        14,
    );
    refused(
        "[repositories]\ncache_days = 0",
        &[],
        "cache_megabytes = 0 switches the cache off",
    );
    for wrong in ["cache_megabytes = -1", "cache_days = 'x'", "cache = 1"] {
        let toml = format!("[repositories]\n{wrong}");
        let read: Result<file::File, _> = toml::from_str(&toml);
        assert!(read.is_err(), "{wrong}");
    }
}
