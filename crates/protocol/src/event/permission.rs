//! Whether a call may run, and who said so (runtime §8).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Run it or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Confirmation {
    /// Run it.
    Allow,
    /// Do not.
    Deny,
}

/// Whether a call may run (runtime TC-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EvaluatedPermission {
    /// It runs.
    Allow,
    /// It waits for the client.
    Ask,
    /// It does not run.
    Deny,
}

/// How a call's permission was decided (runtime TC-4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Evaluation {
    /// The policy allows all calls.
    AlwaysAllow {},
    /// The policy asks for all calls.
    AlwaysAsk {},
    /// A judge looked at the call.
    Auto {
        /// What it found; repeats the event's own `evaluated_permission`.
        evaluated_permission: Judgement,
    },
}

/// What a judge found (runtime TC-4). Reason codes are an open set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Judgement {
    /// It runs.
    Allow {},
    /// It waits for the client.
    Ask {
        /// `indeterminate`.
        reason_code: String,
    },
    /// It does not run.
    Deny {
        /// `high_risk` or `indeterminate`.
        reason_code: String,
    },
}
