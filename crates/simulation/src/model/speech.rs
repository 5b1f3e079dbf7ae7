//! A message in the making: its blocks, and the deltas that announce them.

use manyhands_brain::models::{Block, BlockKind, Delta, Response, Sink, Stop, Usage, View};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::behaviour::{Remote, Use, Verdict};

/// A message in the making.
pub(super) struct Speech<'a> {
    number: usize,
    input_tokens: u64,
    sink: &'a mut dyn Sink,
    blocks: Vec<Block>,
    text: Option<String>,
}

impl<'a> Speech<'a> {
    pub(super) fn new(number: usize, input_tokens: u64, sink: &'a mut dyn Sink) -> Self {
        sink.delta(Delta::Usage(usage(input_tokens, 0)));
        Self {
            number,
            input_tokens,
            sink,
            blocks: Vec::new(),
            text: None,
        }
    }

    pub(super) fn text(&mut self, fragment: &str) {
        let index = self.blocks.len();
        if self.text.is_none() {
            let kind = BlockKind::Text;
            self.sink.delta(Delta::Start { index, kind });
        }
        self.text.get_or_insert_default().push_str(fragment);
        let text = fragment;
        self.sink.delta(Delta::Text { index, text });
    }

    pub(super) fn thinking(&mut self) {
        let index = self.blocks.len();
        let kind = BlockKind::Thinking;
        self.sink.delta(Delta::Start { index, kind });
        let block = json!({"type": "thinking", "thinking": "Hm.", "signature": "c2ln"});
        self.blocks.push(Block {
            raw: raw(&block),
            view: View::Thinking,
        });
    }

    pub(super) fn call(&mut self, place: usize, call: Use, case: u64) {
        self.end_text();
        let index = self.blocks.len();
        let kind = BlockKind::ToolUse;
        self.sink.delta(Delta::Start { index, kind });
        let id = format!("toolu_{}_{place}", self.number);
        let (name, input) = spell(call, case, &id);
        let block = json!({"type": "tool_use", "id": id, "name": name, "input": input});
        self.blocks.push(Block {
            raw: raw(&block),
            view: View::ToolUse {
                id,
                name: name.to_owned(),
                input: raw(&input),
            },
        });
    }

    fn end_text(&mut self) {
        if let Some(text) = self.text.take() {
            self.blocks.push(Block::text(&text));
        }
    }

    pub(super) fn end(mut self, stop: Stop) -> Response {
        self.end_text();
        let usage = usage(self.input_tokens, 5);
        self.sink.delta(Delta::Usage(usage));
        Response {
            id: format!("msg_{}", self.number),
            model: "m".to_owned(),
            stop,
            blocks: self.blocks,
            usage,
        }
    }
}

fn usage(input_tokens: u64, output_tokens: u64) -> Usage {
    Usage {
        input_tokens,
        output_tokens,
        cache_read_input_tokens: 3,
        ..Usage::default()
    }
}

fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).expect("JSON")
}

/// A use of a tool as the model writes it, with an id that no other has in the session.
fn spell(call: Use, case: u64, id: &str) -> (&'static str, Value) {
    let command = |what: &str| json!({"command": format!("{what} {case}")});
    let path = |what: &str| json!({"file_path": format!("{what} {case}")});
    match call {
        Use::Runs => ("bash", command("run")),
        Use::Fails => ("bash", command("fail")),
        Use::SaysNothing => ("bash", command("empty")),
        Use::Hangs => ("bash", command("hang")),
        Use::LosesSandbox => ("bash", command("lose")),
        Use::Reads => ("read", path("run")),
        Use::ReadsAndLosesSandbox => ("read", path("lose")),
        Use::Disabled => ("grep", json!({"pattern": "x"})),
        Use::Unknown => ("teleport", json!({})),
        Use::BadInput => ("read", json!({"view_range": "all"})),
        Use::NoObject => ("bash", json!(["ls"])),
        Use::Asks => (
            "write",
            json!({"file_path": format!("run {case}"), "content": "x"}),
        ),
        Use::Judged(verdict) => {
            let path = format!("{} {case}", spell_verdict(verdict));
            (
                "edit",
                json!({"file_path": path, "old_string": "x", "new_string": "y"}),
            )
        }
        Use::Remote(remote) => spell_remote(remote, id),
        Use::Custom => ("ask_client", json!({"question": "Well?"})),
    }
}

fn spell_remote(remote: Remote, id: &str) -> (&'static str, Value) {
    let (name, what) = match remote {
        Remote::Sends => ("mcp__out__send", "send"),
        Remote::Fails => ("mcp__out__send", "fail"),
        Remote::Hangs => ("mcp__out__send", "hang"),
        Remote::BreaksOff => ("mcp__out__send", "break"),
        Remote::Posts => ("mcp__out__post", "send"),
        Remote::Vanished => ("mcp__out__gone", "send"),
    };
    (name, json!({"letter": format!("{what} {id}")}))
}

fn spell_verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allows => "allowed",
        Verdict::Denies => "denied",
        Verdict::CannotTell => "doubtful",
        Verdict::Fails => "faulty",
    }
}
