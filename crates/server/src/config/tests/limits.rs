//! How much at once, and how much in all.

use super::*;

#[test]
fn er_4_the_limits_of_a_turn_reach_the_brain() {
    let brain = plain("", &[]).limits.brain();
    let usual = manyhands_brain::Config::default();
    assert_eq!(brain.tool_rounds, usual.tool_rounds);
    assert_eq!(brain.retries, usual.retries);
    assert_eq!(brain.wakes, usual.wakes);

    let toml = "
        [limits]
        concurrent_sessions = 3
        tool_rounds = 7
        calls_per_answer = 5
        parallel_calls = 2
        retries = 0
        retry_seconds = 60
        compact_at = 0.5
        compactions_in_a_row = 2
    ";
    let config = plain(toml, &[]);
    let brain = config.limits.brain();
    assert_eq!((brain.wakes, brain.tool_rounds), (3, 7));
    assert_eq!((brain.calls_per_response, brain.parallel_calls), (5, 2));
    assert_eq!(brain.retries.attempts, 0);
    assert_eq!(brain.retries.total, Duration::from_secs(60));
    assert_eq!((brain.compact_at, brain.compactions_in_a_row), (0.5, 2));
    let shown = show(&config);
    let again: toml::Table = toml::from_str(&shown).expect("it prints TOML");
    let given: toml::Table = toml::from_str(toml).expect("TOML");
    assert_eq!(again["limits"], given["limits"], "{shown}");
}

/// runtime RL-1, RL-2
#[test]
fn rl_2_rate_limits_are_off_until_they_are_switched_on() {
    #[track_caller]
    fn check(toml: &str, expected: Option<(u32, u32)>) {
        let config = plain(&format!("[limits]\n{toml}"), &[]);
        let rates = config.limits.rates;
        let rates = rates.map(|rates| (rates.creates.get(), rates.reads.get()));
        assert_eq!(rates, expected, "{toml}");
        assert_eq!(shown_again(&config).limits, config.limits, "{toml}");
    }
    check("", None);
    check("rates = true", Some((300, 1200)));
    check("creates_per_minute = 5", Some((5, 1200)));
    check("rates = true\nreads_per_minute = 7", Some((300, 7)));
    check("rates = false\nreads_per_minute = 7", None);
    refused(
        "[limits]\ncreates_per_minute = 0",
        &[],
        "limits.creates_per_minute: must be at least 1",
    );
}

/// security STORE-4
#[test]
fn store_4_quotas_are_off_until_they_are_set() {
    let config = plain("", &[]);
    assert_eq!(config.limits.quotas, Default::default());
    let config = plain("[limits.quotas]\nbytes = 5\nsessions = 0", &[]);
    let quotas = config.limits.quotas;
    assert_eq!(
        (quotas.bytes, quotas.sessions, quotas.agents),
        (Some(5), Some(0), None)
    );
    assert_eq!(shown_again(&config).limits, config.limits);
    refused("[limits.quotas]\nmodels = 1", &[], "unknown field `models`");
}
