//! A model that follows a YAML script: runs with no network, for demos, tests and users' own CI.
//!
//! A script is a list of rules and a default, each with a list of steps. The first rule whose `when` fits the last text
//! of the user answers; step n answers after n answers of the model since that text, so a step with tool calls is
//! followed by the next one when their results are there. In texts, `{last_text}` stands for the user's last text and
//! `{last_result}` for the text of the last tool result. The format is written down in `docs/design/brain.md`.

use async_trait::async_trait;
use regex::Regex;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::{Error, ErrorKind};
use super::{Block, BlockKind, Delta, Model, Request, Response, Sink, Stop, Usage, View, raw_json};

const BUILT_IN: &str = include_str!("quickstart.yaml");

/// Characters of one text delta: a few words, so that a stream looks like one.
const DELTA_CHARS: usize = 24;

/// A script that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// It is not YAML of the documented form.
    #[error("it is not of the documented form")]
    Form(#[from] serde_yaml_ng::Error),
    /// A pattern is no regular expression.
    #[error("the pattern {pattern:?} is no regular expression: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        reason: String,
    },
    /// A rule could not answer.
    #[error("{0} has no steps")]
    NoSteps(String),
}

/// A model that follows a script.
#[derive(Debug)]
pub struct Scripted {
    rules: Vec<(Option<Condition>, Vec<Step>)>,
}

#[derive(Debug)]
enum Condition {
    Contains(String),
    Matches(Regex),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    rules: Vec<Rule>,
    default: Steps,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    when: When,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Steps {
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WhenKind {
    Contains(String),
    Matches(String),
}

#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct When {
    #[serde(with = "serde_yaml_ng::with::singleton_map")]
    kind: WhenKind,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    #[serde(default)]
    thinking: Option<String>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    tools: Vec<ToolCall>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolCall {
    name: String,
    #[serde(default)]
    input: serde_json::Map<String, serde_json::Value>,
}

impl Scripted {
    /// The script that is built in: the quickstart's task, and an answer that says what is missing.
    pub fn built_in() -> Self {
        Self::parse(BUILT_IN).expect("the built-in script is of the documented form")
    }

    /// Reads a script.
    ///
    /// # Errors
    /// When it is not of the documented form.
    pub fn parse(yaml: &str) -> Result<Self, ScriptError> {
        let file: File = serde_yaml_ng::from_str(yaml)?;
        let mut rules = Vec::with_capacity(file.rules.len() + 1);
        for (index, rule) in file.rules.into_iter().enumerate() {
            if rule.steps.is_empty() {
                return Err(ScriptError::NoSteps(format!("rule {}", index + 1)));
            }
            let condition = match rule.when.kind {
                WhenKind::Contains(text) => Condition::Contains(text.to_lowercase()),
                WhenKind::Matches(pattern) => {
                    let regex = Regex::new(&pattern).map_err(|error| ScriptError::Pattern {
                        reason: error.to_string(),
                        pattern,
                    })?;
                    Condition::Matches(regex)
                }
            };
            rules.push((Some(condition), rule.steps));
        }
        if file.default.steps.is_empty() {
            return Err(ScriptError::NoSteps("the default".to_owned()));
        }
        rules.push((None, file.default.steps));
        Ok(Self { rules })
    }

    fn step(&self, situation: &Situation) -> Option<&Step> {
        let fits = |condition: &Option<Condition>| match condition {
            Some(Condition::Contains(text)) => situation.text.to_lowercase().contains(text),
            Some(Condition::Matches(regex)) => regex.is_match(&situation.text),
            None => true,
        };
        let (_, steps) = self.rules.iter().find(|(condition, _)| fits(condition))?;
        steps.get(situation.answers).or(steps.last())
    }
}

#[async_trait]
impl Model for Scripted {
    async fn sample(&self, request: &Request, sink: &mut dyn Sink) -> Result<Response, Error> {
        let situation = Situation::of(request)?;
        let step = self
            .step(&situation)
            .ok_or_else(|| Error::new(ErrorKind::Refused, "The script has no answer to this."))?;
        let blocks = step.blocks(&situation);
        let input_tokens = tokens(request.body.len());
        let mut usage = Usage {
            input_tokens,
            ..Usage::default()
        };
        sink.delta(Delta::Usage(usage));
        for (index, block) in blocks.iter().enumerate() {
            play(index, block, sink);
            // Lets whoever listens take the delta before the next block.
            tokio::task::yield_now().await;
        }
        usage.output_tokens = tokens(blocks.iter().map(|block| block.raw.get().len()).sum());
        sink.delta(Delta::Usage(usage));
        let calls = blocks
            .iter()
            .any(|block| matches!(block.view, View::ToolUse { .. }));
        Ok(Response {
            id: manyhands_protocol::id::generate("msg_"),
            model: situation.model,
            stop: if calls { Stop::ToolUse } else { Stop::EndTurn },
            blocks,
            usage,
        })
    }
}

impl Step {
    fn blocks(&self, situation: &Situation) -> Vec<Block> {
        let mut blocks = Vec::new();
        if let Some(thinking) = &self.thinking {
            let raw = serde_json::json!({
                "type": "thinking", "thinking": situation.fill(thinking), "signature": "scripted",
            });
            blocks.push(Block {
                raw: raw_json(raw.to_string()),
                view: View::Thinking,
            });
        }
        if let Some(text) = &self.text {
            blocks.push(Block::text(&situation.fill(text)));
        }
        for call in &self.tools {
            let id = manyhands_protocol::id::generate("toolu_");
            let input = situation.fill_value(&serde_json::Value::Object(call.input.clone()));
            let raw = serde_json::json!({
                "type": "tool_use", "id": id, "name": call.name, "input": input,
            });
            blocks.push(Block {
                raw: raw_json(raw.to_string()),
                view: View::ToolUse {
                    id,
                    name: call.name.clone(),
                    input: raw_json(input.to_string()),
                },
            });
        }
        blocks
    }
}

fn play(index: usize, block: &Block, sink: &mut dyn Sink) {
    let kind = match &block.view {
        View::Text(_) => BlockKind::Text,
        View::Thinking => BlockKind::Thinking,
        View::ToolUse { .. } => BlockKind::ToolUse,
        View::Other => BlockKind::Other,
    };
    sink.delta(Delta::Start { index, kind });
    if let View::Text(text) = &block.view {
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let end = rest
                .char_indices()
                .nth(DELTA_CHARS)
                .map_or(rest.len(), |(end, _)| end);
            let (piece, after) = rest.split_at(end);
            sink.delta(Delta::Text { index, text: piece });
            rest = after;
        }
    }
}

fn tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(4)
}

/// What a rule is matched against.
#[derive(Debug, Default, PartialEq, Eq)]
struct Situation {
    model: String,
    /// The user's last text.
    text: String,
    /// The text of the last tool result.
    result: String,
    /// Answers of the model since the user's last text.
    answers: usize,
}

impl Situation {
    fn of(request: &Request) -> Result<Self, Error> {
        let wire: WireRequest = serde_json::from_slice(&request.body).map_err(|error| {
            Error::new(
                ErrorKind::Refused,
                format!("The scripted model cannot read the request: {error}."),
            )
        })?;
        let mut situation = Self {
            model: wire.model,
            ..Self::default()
        };
        for message in &wire.messages {
            match message.role.as_str() {
                "assistant" => {
                    situation.answers += 1;
                    continue;
                }
                "user" => {}
                // What an operator says is no task.
                _ => continue,
            }
            let mut texts = Vec::new();
            for block in &message.content {
                match (block.kind.as_str(), &block.text, &block.content) {
                    ("text", Some(text), _) => texts.push(text.as_str()),
                    ("tool_result", _, Some(content)) => situation.result = plain(content),
                    _ => {}
                }
            }
            if !texts.is_empty() {
                situation.text = texts.join("\n");
                situation.answers = 0;
            }
        }
        Ok(situation)
    }

    fn fill(&self, text: &str) -> String {
        // One pass: what is filled in is not searched again.
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let (before, tail) = rest.split_at(at);
            filled.push_str(before);
            if let Some(after) = tail.strip_prefix("{last_result}") {
                filled.push_str(self.result.trim_end());
                rest = after;
            } else if let Some(after) = tail.strip_prefix("{last_text}") {
                filled.push_str(&self.text);
                rest = after;
            } else {
                filled.push('{');
                rest = &tail[1..];
            }
        }
        filled.push_str(rest);
        filled
    }

    fn fill_value(&self, value: &serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        match value {
            Value::String(text) => Value::String(self.fill(text)),
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.fill_value(item)).collect())
            }
            Value::Object(members) => Value::Object(
                members
                    .iter()
                    .map(|(key, item)| (key.clone(), self.fill_value(item)))
                    .collect(),
            ),
            other => other.clone(),
        }
    }
}

/// The text blocks of a tool result, joined.
fn plain(content: &RawValue) -> String {
    let blocks: Vec<WireBlock> = serde_json::from_str(content.get()).unwrap_or_default();
    let texts: Vec<String> = blocks.into_iter().filter_map(|block| block.text).collect();
    texts.join("\n")
}

#[derive(Deserialize)]
struct WireRequest {
    model: String,
    messages: Vec<WireMessage>,
}

#[derive(Deserialize)]
struct WireMessage {
    role: String,
    content: Vec<WireBlock>,
}

#[derive(Deserialize)]
struct WireBlock {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    content: Option<Box<RawValue>>,
}

#[cfg(test)]
mod tests;
