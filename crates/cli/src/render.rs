//! Events as a person would like to read them. Pure: events in, text out; times are the events' own.

use std::collections::HashMap;

use manyhands_protocol::content::ContentBlock;
use manyhands_protocol::event::{Event, EventBody, Preview, PreviewDelta, PreviewKind, StopReason};
use manyhands_protocol::session::Usage;
use manyhands_protocol::{EventId, Timestamp};
use serde_json::{Map, Value};

use crate::client::Item;

mod text;

pub(crate) use text::{Style, safe, summary, wrapped};
use text::{count, dollars, duration, margin};

/// Lines of a tool result that are shown.
const RESULT_LINES: usize = 6;

/// How a turn ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Why the session rests.
    pub(crate) reason: StopReason,
    /// The last error that the session reported, if any.
    pub(crate) error: Option<String>,
}

/// Follows one session's stream. Feed it every item; it gives the text to print.
#[derive(Debug)]
pub(crate) struct Renderer {
    style: Style,
    began: Option<Timestamp>,
    requests: usize,
    usage: Option<Usage>,
    calls: HashMap<EventId, (String, Option<Timestamp>)>,
    /// The message that is being previewed and how much of it is printed.
    preview: Option<(EventId, String)>,
    error: Option<String>,
    ending: Option<Ending>,
    last_result: Option<String>,
}

impl Renderer {
    /// Nothing seen yet.
    pub(crate) fn new(style: Style) -> Self {
        Self {
            style,
            began: None,
            requests: 0,
            usage: None,
            calls: HashMap::new(),
            preview: None,
            error: None,
            ending: None,
            last_result: None,
        }
    }

    /// The colours in use.
    pub(crate) fn style(&self) -> Style {
        self.style
    }

    /// How the turn ended; `None` while it runs, and until the next rest once it was taken.
    pub(crate) fn take_ending(&mut self) -> Option<Ending> {
        self.ending.take()
    }

    /// How the turn ended; `None` while it runs.
    pub(crate) fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// The text of the last tool result that was no error.
    pub(crate) fn last_result(&self) -> Option<&str> {
        self.last_result.as_deref()
    }

    /// What the session used in all, once it has said so.
    pub(crate) fn usage(&self) -> Option<&Usage> {
        self.usage.as_ref()
    }

    /// Model requests that ended.
    pub(crate) fn requests(&self) -> usize {
        self.requests
    }

    /// The text to print for one item; often empty.
    pub(crate) fn item(&mut self, item: &Item) -> String {
        match item {
            Item::Event(event) => self.event(event),
            Item::Preview(preview) => self.preview(preview),
            Item::Unknown => String::new(),
        }
    }

    fn preview(&mut self, preview: &Preview) -> String {
        match preview {
            Preview::EventStart { event } if event.kind == PreviewKind::AgentMessage => {
                let ended = self.end_preview();
                self.preview = Some((event.id.clone(), String::new()));
                format!("{ended}{}", self.style.label("agent"))
            }
            Preview::EventStart { .. } => String::new(),
            Preview::EventDelta { event_id, delta } => {
                let PreviewDelta::ContentDelta { content, .. } = delta;
                match (&mut self.preview, content) {
                    (Some((id, printed)), ContentBlock::Text { text }) if id == event_id => {
                        printed.push_str(text);
                        margin(&safe(text))
                    }
                    _ => String::new(),
                }
            }
        }
    }

    fn event(&mut self, event: &Event) -> String {
        match &event.body {
            EventBody::SessionStatusRunning {} => {
                self.began = self.began.or(event.processed_at);
                String::new()
            }
            EventBody::AgentMessage { content } => self.message(&event.id, content),
            EventBody::AgentToolUse { name, input, .. }
            | EventBody::AgentCustomToolUse { name, input, .. } => self.call(event, name, input),
            EventBody::AgentMcpToolUse {
                mcp_server_name,
                name,
                input,
                ..
            } => self.call(event, &format!("{mcp_server_name}/{name}"), input),
            EventBody::AgentToolResult {
                tool_use_id,
                content,
                is_error,
            }
            | EventBody::UserCustomToolResult {
                custom_tool_use_id: tool_use_id,
                content,
                is_error,
                ..
            }
            | EventBody::AgentMcpToolResult {
                mcp_tool_use_id: tool_use_id,
                content,
                is_error,
            } => self.result(
                tool_use_id,
                content.as_deref().unwrap_or_default(),
                is_error.unwrap_or(false),
                event.processed_at,
            ),
            EventBody::SpanModelRequestEnd { .. } => {
                self.requests += 1;
                self.end_preview()
            }
            EventBody::AgentThreadContextCompacted {} => {
                let ended = self.end_preview();
                format!(
                    "{ended}{}the model goes on with a summary\n",
                    self.style.label("context")
                )
            }
            EventBody::SessionUsage { usage, .. } => {
                self.usage = Some(usage.clone());
                String::new()
            }
            EventBody::SessionError { error } => {
                let ended = self.end_preview();
                let message = safe(&error.message);
                self.error = Some(message.clone());
                format!("{ended}{}{}\n", self.style.bad("error"), margin(&message))
            }
            EventBody::SessionStatusIdle { stop_reason, .. } => {
                let ended = self.end_preview();
                self.ending = Some(Ending {
                    reason: stop_reason.clone(),
                    error: self.error.take(),
                });
                format!("{ended}{}", self.closing(stop_reason, event.processed_at))
            }
            EventBody::SessionStatusTerminated {} | EventBody::SessionDeleted {} => {
                let error = self
                    .error
                    .take()
                    .unwrap_or_else(|| "the session is over".to_owned());
                self.ending = Some(Ending {
                    reason: StopReason::RetriesExhausted,
                    error: Some(error),
                });
                self.end_preview()
            }
            _ => String::new(),
        }
    }

    /// The rest of a previewed message, or all of one that was not previewed.
    fn message(&mut self, id: &EventId, content: &[ContentBlock]) -> String {
        let whole = plain(content);
        let printed = match self.preview.take() {
            Some((previewed, printed)) if previewed == *id => Some(printed),
            other => {
                self.preview = other;
                None
            }
        };
        match printed
            .as_deref()
            .map(|printed| whole.strip_prefix(printed))
        {
            Some(Some(rest)) => format!("{}\n", margin(&safe(rest))),
            // A preview that is no prefix cannot be taken back, so the message is said again.
            Some(None) => format!("\n{}{}\n", self.style.label("agent"), margin(&safe(&whole))),
            None => {
                let ended = self.end_preview();
                format!(
                    "{ended}{}{}\n",
                    self.style.label("agent"),
                    margin(&safe(&whole))
                )
            }
        }
    }

    fn call(&mut self, event: &Event, name: &str, input: &Map<String, Value>) -> String {
        let begun = (name.to_owned(), event.processed_at);
        self.calls.insert(event.id.clone(), begun);
        let ended = self.end_preview();
        let input = safe(&summary(name, input));
        format!("{ended}{}{input}\n", self.style.tool(name))
    }

    fn result(
        &mut self,
        call: &EventId,
        content: &[ContentBlock],
        is_error: bool,
        at: Option<Timestamp>,
    ) -> String {
        let text = plain(content);
        let (name, since) = self.calls.remove(call).unwrap_or_default();
        let took = since
            .zip(at)
            .map(|(since, at)| duration(at.millis_since(since)))
            .unwrap_or_default();
        let lines: Vec<&str> = text.trim_end_matches('\n').lines().collect();
        let mut out = self.end_preview();
        for line in lines.iter().take(RESULT_LINES) {
            out.push_str(&self.style.quoted(&safe(line)));
        }
        if lines.len() > RESULT_LINES {
            let more = format!("… {}", count(lines.len() - RESULT_LINES, "more line"));
            out.push_str(&self.style.quoted(&more));
        }
        out.push_str(&self.style.after(&name, is_error, &took));
        if !is_error {
            self.last_result = Some(text);
        }
        out
    }

    fn closing(&self, reason: &StopReason, at: Option<Timestamp>) -> String {
        let mut parts = vec![count(self.requests, "model request")];
        if let Some((began, at)) = self.began.zip(at) {
            parts.push(duration(at.millis_since(began)));
        }
        if let Some(usage) = &self.usage {
            let cached = usage.cache_read_input_tokens
                + usage.cache_creation.ephemeral_5m_input_tokens
                + usage.cache_creation.ephemeral_1h_input_tokens;
            let (input, output) = (usage.input_tokens + cached, usage.output_tokens);
            parts.push(format!("{input} tokens in, {output} out"));
            parts.extend(usage.list_cost.map(dollars));
        }
        let reason = match reason {
            StopReason::EndTurn => "done",
            StopReason::RequiresAction { .. } => "waiting for an answer to a tool call",
            StopReason::RetriesExhausted => "given up",
            StopReason::BudgetReached => "budget reached",
            StopReason::Refusal => "refused by the model",
        };
        format!(
            "{}{reason}: {}\n",
            self.style.label("idle"),
            parts.join(", ")
        )
    }

    fn end_preview(&mut self) -> String {
        match self.preview.take() {
            Some(_) => "\n".to_owned(),
            None => String::new(),
        }
    }
}

/// The text of content blocks; what is not text is named.
fn plain(content: &[ContentBlock]) -> String {
    content
        .iter()
        .map(|block| match block {
            ContentBlock::Text { text } => text.as_str(),
            ContentBlock::Image { .. } => "[an image]",
            ContentBlock::Document { .. } => "[a document]",
            ContentBlock::SearchResult { title, .. } => title.as_str(),
            ContentBlock::Redacted => "[withheld]",
        })
        .collect()
}

#[cfg(test)]
mod tests;
