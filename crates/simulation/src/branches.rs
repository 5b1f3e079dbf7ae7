//! The branches that enough seeds must have taken beside those of all clients: what befell the servers, and what clients do
//! here alone.

use std::collections::BTreeMap;

use crate::client;

/// So many seeds take all of them.
pub const ENOUGH: u64 = 2_000;

const OWN: [&str; 35] = [
    "a use of the database failed",
    "a use of the database failed and was kept",
    "call: gone, deny",
    "call: post, ask",
    "call: send, allow",
    "error: mcp_connection_failed_error, retrying",
    "error: tool_use_limit_reached_error, exhausted",
    "fault: a sandbox is lost",
    "fault: a server dies",
    "fault: a server is parted from the others",
    "fault: a server is stopped",
    "fault: a server is to die after a use of the database",
    "fault: a server is to die before a use of the database",
    "fault: a server stands still",
    "fault: a server's clock jumps",
    "fault: a server's database fails",
    "fault: the model is down",
    "letter: sent",
    "letter: unknown, and sent: false",
    "letter: unknown, and sent: true",
    "message: at once",
    "message: late",
    "message: lost",
    "message: there twice, as it was sent",
    "message: twice",
    "request: 503",
    "request: no answer",
    "result: unknown outcome",
    "send: answered at another try",
    "send: given up",
    "send: nothing to answer",
    "step: list",
    "step: reconnect",
    "step: wait",
    "takeover: a turn went on under another lease",
];

/// The branches that were never taken.
pub fn missing(counts: &BTreeMap<String, u64>) -> Vec<&'static str> {
    client::branches::missing(counts, OWN)
}
