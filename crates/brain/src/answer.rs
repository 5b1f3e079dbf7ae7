//! A complete response → what it adds to the log (pure).

mod ruling;

use std::borrow::Cow;

use manyhands_protocol::EventId;
use manyhands_protocol::content::ContentBlock;
use manyhands_protocol::event::{EvaluatedPermission, Evaluation, EventBody, ModelUsage};
use manyhands_store::NewEntry;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::mcp::Target;
use crate::models::{Response, Stop, View};
use crate::previews::Announced;
use crate::record::{
    CallKind, CallRecord, RESPONSE, ResponseRecord, StopRecord, ToolStarted, private,
};
use crate::tools::{Hand, error_result};

use ruling::{Ruling, parse, permission, refused, ruling};

pub(crate) use ruling::{Judgements, Tools, unjudged};

/// The wire type of calls whose result the client gives.
pub(crate) const CUSTOM_TOOL_USE: &str = "agent.custom_tool_use";

/// The wire types of calls that the client is asked about.
pub(crate) const TOOL_USE: &str = "agent.tool_use";
pub(crate) const MCP_TOOL_USE: &str = "agent.mcp_tool_use";

/// What a response adds to the log, apart from intents.
pub(crate) struct Answer {
    /// `agent.*` events, in the order of the blocks.
    said: Vec<NewEntry>,
    /// The private record.
    record: NewEntry,
    /// The end of the span.
    span_end: NewEntry,
    /// Results of calls that nobody runs.
    refused: Vec<NewEntry>,
    /// Calls that run in the sandbox at once, in order.
    pub(crate) sandbox: Vec<EventId>,
    /// Calls that run beside the server at once, in order.
    beside: Vec<(EventId, Hand)>,
    /// Calls that the client answers, and the wire type of each.
    pub(crate) opened: Vec<(EventId, &'static str)>,
    /// Whether there is no call, so that the turn ends here.
    pub(crate) ends_turn: bool,
}

impl Answer {
    /// Reads a response.
    pub(crate) fn new(
        response: &Response,
        tools: Tools<'_>,
        span: &EventId,
        announced: &Announced,
        most_calls: usize,
        judgements: &Judgements,
    ) -> Self {
        let refusal = matches!(response.stop, Stop::Refusal { .. });
        let mut reading = Reading {
            tools,
            announced,
            most_calls,
            judgements,
            said: Vec::new(),
            message: None,
            calls: Vec::new(),
            refused: Vec::new(),
        };
        for (index, block) in response.blocks.iter().enumerate() {
            match &block.view {
                View::Text(text) => reading.text(index, text),
                View::Thinking => reading.thinking(index),
                // A refused answer asks for nothing.
                View::ToolUse { id, name, input } if !refusal => {
                    reading.call(index, id, name, input);
                }
                View::ToolUse { .. } | View::Other => reading.end_message(),
            }
        }
        reading.end_message();
        let Reading {
            said,
            calls,
            refused,
            ..
        } = reading;
        let ours = calls.iter().filter(|call| call.kind == CallKind::Sandbox);
        let (mut sandbox, mut beside) = (Vec::new(), Vec::new());
        for call in ours {
            match call.hand() {
                Hand::Sandbox => sandbox.push(call.event_id.clone()),
                hand => beside.push((call.event_id.clone(), hand)),
            }
        }
        let opened = calls.iter().filter_map(|call| match call.kind {
            CallKind::Custom => Some((call.event_id.clone(), CUSTOM_TOOL_USE)),
            CallKind::Asked if call.mcp.is_some() => Some((call.event_id.clone(), MCP_TOOL_USE)),
            CallKind::Asked => Some((call.event_id.clone(), TOOL_USE)),
            CallKind::Sandbox | CallKind::Refused => None,
        });
        Self {
            sandbox,
            beside,
            opened: opened.collect(),
            ends_turn: calls.is_empty(),
            record: record(response, calls),
            span_end: span_end(span, false, response.usage.for_span()),
            said,
            refused,
        }
    }

    /// The entries in their order. With a live sandbox's instance, the intents to run the calls there are among them
    /// and save an append of their own; so are those of the calls that run in the wake of the name `server`.
    pub(crate) fn into_entries(self, instance: Option<&str>, server: &str) -> Vec<NewEntry> {
        let intents = instance
            .into_iter()
            .flat_map(|instance| {
                let calls = self.sandbox.iter();
                calls.map(|call| intent(call, Hand::Sandbox, instance, 1))
            })
            .chain(
                self.beside
                    .iter()
                    .map(|(call, hand)| intent(call, *hand, server, 1)),
            );
        let mut entries = self.said;
        entries.push(self.record);
        entries.extend(intents.collect::<Vec<_>>());
        entries.push(self.span_end);
        entries.extend(self.refused);
        entries
    }
}

/// The intent to run a call: in the sandbox of this instance, or beside the server in the wake of this name (security
/// LOG-2).
pub(crate) fn intent(call: &EventId, hand: Hand, instance: &str, attempt: u32) -> NewEntry {
    let started = ToolStarted {
        call: call.clone(),
        instance: instance.to_owned(),
        attempt,
    };
    private(hand.intent(), &started)
}

/// The end of a span (runtime SQ-3).
pub(crate) fn span_end(start: &EventId, is_error: bool, model_usage: ModelUsage) -> NewEntry {
    NewEntry::event(EventBody::SpanModelRequestEnd {
        model_request_start_id: start.clone(),
        is_error: Some(is_error),
        model_usage,
    })
}

fn record(response: &Response, calls: Vec<CallRecord>) -> NewEntry {
    let stop = match &response.stop {
        Stop::EndTurn => StopRecord::EndTurn,
        Stop::ToolUse => StopRecord::ToolUse,
        Stop::MaxTokens => StopRecord::MaxTokens,
        Stop::Refusal {
            category,
            explanation,
        } => StopRecord::Refusal {
            category: category.clone(),
            explanation: explanation.clone(),
        },
    };
    let content = response.blocks.iter();
    let body = ResponseRecord {
        message_id: Cow::Borrowed(&response.id),
        model: Cow::Borrowed(&response.model),
        stop,
        content: content.map(|block| Cow::Borrowed(&*block.raw)).collect(),
        calls,
        context_tokens: response.usage.context(),
    };
    private(RESPONSE, &body)
}

struct Reading<'a> {
    tools: Tools<'a>,
    announced: &'a Announced,
    most_calls: usize,
    judgements: &'a Judgements,
    said: Vec<NewEntry>,
    /// The message in the making: the place of its first block, and its content.
    message: Option<(usize, Vec<ContentBlock>)>,
    calls: Vec<CallRecord>,
    refused: Vec<NewEntry>,
}

impl Reading<'_> {
    fn text(&mut self, index: usize, text: &str) {
        let (_, content) = self.message.get_or_insert_with(|| (index, Vec::new()));
        if !text.trim().is_empty() {
            content.push(ContentBlock::text(text));
        }
    }

    fn end_message(&mut self) {
        if let Some((first, content)) = self.message.take()
            && !content.is_empty()
        {
            self.say(first, EventBody::AgentMessage { content });
        }
    }

    fn thinking(&mut self, index: usize) {
        self.end_message();
        self.say(index, EventBody::AgentThinking {});
    }

    fn say(&mut self, index: usize, body: EventBody) {
        let id = self.announced.get(&index).cloned();
        self.said.push(NewEntry::Event {
            id: id.unwrap_or_else(EventId::generate),
            body,
            queued: false,
        });
    }

    fn call(&mut self, index: usize, tool_use_id: &str, name: &str, raw: &RawValue) {
        self.end_message();
        let event_id = EventId::generate();
        let mcp = self.tools.target(name);
        let input = parse(raw);
        let ruling = if self.calls.len() < self.most_calls {
            ruling(self.tools, name, raw, &input)
        } else {
            Ruling::Refused(format!(
                "at most {} tool calls are run at once; this one was not",
                self.most_calls
            ))
        };
        let input: Map<String, Value> = match input {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        let (body, kind, problem) = match ruling {
            Ruling::Custom => {
                let body = EventBody::AgentCustomToolUse {
                    name: name.to_owned(),
                    input,
                    session_thread_id: None,
                };
                (body, CallKind::Custom, None)
            }
            Ruling::Refused(problem) => {
                let (allowed, evaluation) = refused(self.tools, name);
                let body = tool_use(name, mcp.as_ref(), input, allowed, evaluation);
                (body, CallKind::Refused, Some(problem))
            }
            Ruling::Ours(policy) => {
                let (allowed, evaluation, kind) = permission(policy, self.judgements.get(&index));
                let denied = kind == CallKind::Refused;
                let problem = denied.then(|| format!("Permission to use {name} has been denied."));
                let body = tool_use(name, mcp.as_ref(), input, allowed, Some(evaluation));
                (body, kind, problem)
            }
        };
        self.said.push(NewEntry::Event {
            id: event_id.clone(),
            body,
            queued: false,
        });
        if let Some(problem) = problem {
            let hand = Hand::of(name, mcp.as_ref());
            self.refused.push(error_result(&event_id, hand, problem));
        }
        self.calls.push(CallRecord {
            event_id,
            tool_use_id: tool_use_id.to_owned(),
            name: name.to_owned(),
            kind,
            mcp,
        });
    }
}

fn tool_use(
    name: &str,
    mcp: Option<&Target>,
    input: Map<String, Value>,
    permission: EvaluatedPermission,
    evaluation: Option<Evaluation>,
) -> EventBody {
    let evaluated_permission = Some(permission);
    match mcp.cloned() {
        None => EventBody::AgentToolUse {
            name: name.to_owned(),
            input,
            evaluated_permission,
            evaluation,
            session_thread_id: None,
        },
        Some(Target { server, tool }) => EventBody::AgentMcpToolUse {
            mcp_server_name: server,
            name: tool,
            input,
            evaluated_permission,
            evaluation,
            session_thread_id: None,
        },
    }
}
