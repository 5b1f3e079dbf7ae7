//! Beta headers: which values open which routes (runtime HT-1, HT-2, api §1.3).

use http::HeaderMap;

use crate::api::error::ApiError;
use crate::routes::Access;

/// Opens the managed-agents routes.
const MANAGED_AGENTS: &str = "managed-agents-2026-04-01";
/// Opens the routes of memory stores.
const MEMORY: &str = "agent-memory-2026-07-22";

/// Whether a value was sent, in any line and at any place of a list.
pub(crate) fn has(headers: &HeaderMap, beta: &str) -> bool {
    let values = headers.get_all("anthropic-beta");
    let sent = values.iter().filter_map(|value| value.to_str().ok());
    sent.flat_map(|line| line.split(','))
        .any(|value| value.trim() == beta)
}

fn missing(beta: &str) -> ApiError {
    ApiError::no_route(format!(
        "not found; this path needs the header \"anthropic-beta: {beta}\""
    ))
}

/// Without the beta value the routes behave as if they did not exist (runtime HT-1). Other values are tolerated.
pub(crate) fn require_managed_agents(headers: &HeaderMap) -> Result<(), ApiError> {
    require(headers, MANAGED_AGENTS)
}

/// As [`require_managed_agents`], for routes with a beta value of their own (runtime HT-3, HT-4).
pub(crate) fn require(headers: &HeaderMap, beta: &str) -> Result<(), ApiError> {
    match has(headers, beta) {
        true => Ok(()),
        false => Err(missing(beta)),
    }
}

/// The value that opens routes of this kind: where two do, the newer one.
pub(crate) fn of(access: Access) -> Option<&'static str> {
    match access {
        Access::Open | Access::Link | Access::Key => None,
        Access::Beta => Some(MANAGED_AGENTS),
        Access::Memory => Some(MEMORY),
        Access::Named(beta) => Some(beta),
    }
}

/// Memory stores have a value of their own, older clients send that of managed agents, and nobody sends both (runtime HT-2).
pub(crate) fn require_memory(headers: &HeaderMap) -> Result<(), ApiError> {
    match (has(headers, MEMORY), has(headers, MANAGED_AGENTS)) {
        (true, false) | (false, true) => Ok(()),
        (false, false) => Err(missing(MEMORY)),
        (true, true) => Err(ApiError::invalid(format!(
            "anthropic-beta: {MEMORY} and {MANAGED_AGENTS} cannot be sent together"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for line in lines {
            map.append("anthropic-beta", line.parse().expect("a value"));
        }
        map
    }

    #[test]
    fn ht_1_the_beta_header_may_be_a_list_or_several_lines() {
        #[track_caller]
        fn check(lines: &[&str], open: bool) {
            let opened = require_managed_agents(&headers(lines)).is_ok();
            assert_eq!(opened, open, "{lines:?}");
        }
        check(&[], false);
        check(&["managed-agents-2026-04-01"], true);
        check(&["something-else,managed-agents-2026-04-01"], true);
        check(&["something-else", " managed-agents-2026-04-01 , x"], true);
        check(&["managed-agents-2026-04-011", "managed-agents"], false);
    }

    #[test]
    fn ht_2_memory_takes_either_value_and_not_both() {
        #[track_caller]
        fn check(lines: &[&str], status: Option<u16>) {
            let refused = require_memory(&headers(lines)).err();
            assert_eq!(
                refused.map(|error| error.status().as_u16()),
                status,
                "{lines:?}"
            );
        }
        check(&[], Some(404));
        check(&["dreaming-2026-04-21"], Some(404));
        check(&["agent-memory-2026-07-22"], None);
        check(&["x,managed-agents-2026-04-01"], None);
        check(
            &["managed-agents-2026-04-01,agent-memory-2026-07-22"],
            Some(400),
        );
        check(
            &["managed-agents-2026-04-01", "agent-memory-2026-07-22"],
            Some(400),
        );
    }
}
