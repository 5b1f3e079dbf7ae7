//! The branches that enough cases must have taken beside those of all clients: what befell the server.

use std::collections::BTreeMap;

use manyhands_simulation::client;

use crate::case::POINTS;
use crate::world::Settings;

/// So many cases of one part take all of them.
pub(crate) const ENOUGH: u64 = 2_000;

const OWN: [&str; 4] = [
    "death at a durable step",
    "step: crash",
    "step: lose the sandbox",
    "step: restart",
];

/// The branches that were never taken.
pub(crate) fn missing(counts: &BTreeMap<String, u64>, settings: Settings) -> Vec<String> {
    let narrow = settings
        .window
        .map(|_| "error: tool_use_limit_reached_error, exhausted");
    let deaths = POINTS.map(|point| format!("step: {point}"));
    let deaths = deaths.iter().map(String::as_str);
    let own = OWN.into_iter().chain(narrow).chain(deaths);
    let missing = client::branches::missing(counts, own);
    missing.into_iter().map(str::to_owned).collect()
}
