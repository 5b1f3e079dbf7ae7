//! Answers to tool calls: as events, and from a person at a terminal.

use std::io::BufRead;

use manyhands_protocol::EventId;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::calls::Call;
use crate::printer;

/// Let it run (runtime TC-7).
pub(super) fn allow(call: &EventId) -> Value {
    json!({"type": "user.tool_confirmation", "tool_use_id": call, "result": "allow"})
}

/// Do not, and why.
pub(super) fn deny(call: &EventId, reason: Option<&str>) -> Value {
    let mut event =
        json!({"type": "user.tool_confirmation", "tool_use_id": call, "result": "deny"});
    if let Some(reason) = reason {
        event["deny_message"] = json!(reason);
    }
    event
}

/// What a custom tool gave.
pub(super) fn result(call: &EventId, text: &str) -> Value {
    let content = json!([{"type": "text", "text": text}]);
    json!({"type": "user.custom_tool_result", "custom_tool_use_id": call, "content": content})
}

/// What a person said to "may it run?".
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Yes,
    No,
    Because(String),
    Nothing,
}

fn understand(line: &str) -> Said {
    let line = line.trim();
    match line.to_lowercase().as_str() {
        "" => Said::Nothing,
        "y" | "yes" => Said::Yes,
        "n" | "no" => Said::No,
        _ => Said::Because(line.to_owned()),
    }
}

/// A person who can be asked.
pub(super) struct Terminal {
    lines: mpsc::UnboundedReceiver<String>,
}

impl Terminal {
    /// Starts to read lines. A thread of its own does it, which ends with the program: nothing else can leave a read
    /// of a terminal.
    pub(super) fn open() -> Self {
        let (send, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Self { lines }
    }

    /// The answer to a call that asks; `None` when the terminal is closed.
    pub(super) async fn ask(&mut self, call: &Call) -> anyhow::Result<Option<Value>> {
        loop {
            printer::write(&format!("\nallow {}? [y/n, or why not] ", call.shown()))?;
            let Some(line) = self.lines.recv().await else {
                return Ok(None);
            };
            return Ok(Some(match understand(&line) {
                Said::Nothing => continue,
                Said::Yes => allow(&call.id),
                Said::No => deny(&call.id, None),
                Said::Because(reason) => deny(&call.id, Some(&reason)),
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tc_7_a_person_says_yes_no_or_why_not() {
        for (line, said) in [
            ("y", Said::Yes),
            (" YES \n", Said::Yes),
            ("n", Said::No),
            ("No", Said::No),
            ("", Said::Nothing),
            ("  ", Said::Nothing),
            ("Not on my disk", Said::Because("Not on my disk".to_owned())),
        ] {
            assert_eq!(understand(line), said, "{line:?}");
        }
    }
}
