//! The branches that enough cases must have taken beside those of all clients: what befell the server.

use std::collections::BTreeMap;

use manyhands_simulation::client;

use crate::case::POINTS;

/// So many cases take each of them dozens of times, the rarest, too.
pub(crate) const ENOUGH: u64 = 8_000;

const OWN: [&str; 5] = [
    "death at a durable step",
    "error: tool_use_limit_reached_error, exhausted",
    "step: crash",
    "step: lose the sandbox",
    "step: restart",
];

/// The branches that were never taken.
pub(crate) fn missing(counts: &BTreeMap<String, u64>) -> Vec<String> {
    let deaths = POINTS.map(|point| format!("step: {point}"));
    let deaths = deaths.iter().map(String::as_str);
    let missing = client::branches::missing(counts, OWN.into_iter().chain(deaths));
    missing.into_iter().map(str::to_owned).collect()
}
