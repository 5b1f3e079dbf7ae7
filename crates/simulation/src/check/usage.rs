//! Tokens, time and money.

use manyhands_store::SessionRecord;
use serde_json::Value;

use super::{Problem, Row};
use crate::model::DOLLARS;

/// The totals are the sums of the requests, and never fall (runtime US-1, US-7).
pub fn check(record: &SessionRecord, rows: &[Row]) -> Result<(), Problem> {
    let tokens = DOLLARS.map(|(name, _)| name);
    let mut sums = [0; 3];
    let mut seconds = 0.0;
    for row in rows.iter().filter(|row| row.is_event()) {
        match row.kind() {
            "span.model_request_end" => {
                for (sum, name) in sums.iter_mut().zip(tokens) {
                    *sum += row.body["model_usage"][name].as_u64().unwrap_or(0);
                }
            }
            "session.usage" => {
                let usage = &row.body["usage"];
                let shown = tokens.map(|name| usage[name].as_u64().unwrap_or(0));
                if shown != sums {
                    return Err(format!("the usage is {shown:?} after {sums:?} (US-7)"));
                }
                let active = usage["active_seconds"].as_f64().unwrap_or(-1.0);
                if active < seconds {
                    return Err(format!("{active} s of activity after {seconds} s (US-4)"));
                }
                seconds = active;
                check_cost(&sums, seconds, usage)?;
            }
            _ => {}
        }
    }
    let usage = record.usage;
    let kept = [
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_input_tokens,
    ];
    if kept != sums {
        return Err(format!("the usage kept is {kept:?} after {sums:?} (US-7)"));
    }
    Ok(())
}

/// What tokens cost, in cents.
pub(super) fn cents(sums: &[u64]) -> f64 {
    let parts = sums.iter().zip(DOLLARS);
    parts
        .map(|(tokens, (_, dollars))| *tokens as f64 * dollars / 10_000.0)
        .sum()
}

/// The list cost is what the tokens and the running time cost, rounded (runtime BU-3).
fn check_cost(sums: &[u64], seconds: f64, usage: &Value) -> Result<(), Problem> {
    let exact = cents(sums) + seconds * 8.0 / 3600.0;
    let shown = usage["list_cost"]["amount"].as_str();
    let shown: Option<f64> = shown.and_then(|amount| amount.parse().ok());
    match shown {
        Some(shown) if (shown - exact).abs() <= 0.501 => Ok(()),
        _ => Err(format!(
            "the cost of {exact} cents is shown as {shown:?} (BU-3)"
        )),
    }
}
