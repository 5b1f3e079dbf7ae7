//! Which URLs a conversation has shown, for agents that fetch no others (runtime WB-7, WB-8). Pure, from the log: a
//! summary in the conversation's place forgets no URL.

use std::collections::HashMap;

use manyhands_hands::web::Shown;
use manyhands_protocol::EventId;
use manyhands_protocol::content::{ContentBlock, SearchResultText};
use manyhands_protocol::web::{ToolFilter, UrlSources, UserInput};
use manyhands_store::{Entry, EntryKind};
use serde::Deserialize;

/// What counts of an event.
#[derive(Deserialize)]
struct Body {
    name: Option<String>,
    tool_use_id: Option<EventId>,
    custom_tool_use_id: Option<EventId>,
    content: Option<Vec<ContentBlock>>,
}

/// Reads a log from its beginning.
pub(crate) struct Reader<'a> {
    sources: &'a UrlSources,
    /// The tools of the calls read so far.
    tools: HashMap<EventId, String>,
    pub(crate) shown: Shown,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(sources: &'a UrlSources) -> Self {
        Self {
            sources,
            tools: HashMap::new(),
            shown: Shown::default(),
        }
    }

    /// Notes what an entry shows. One that cannot be read shows nothing.
    pub(crate) fn read(&mut self, entry: &Entry) {
        if entry.kind != EntryKind::Event {
            return;
        }
        let Ok(body) = serde_json::from_str::<Body>(&entry.body) else {
            return;
        };
        let content = body.content.unwrap_or_default();
        let sources = self.sources;
        match &*entry.type_name {
            "agent.tool_use" | "agent.custom_tool_use" => {
                let name = body.name.unwrap_or_default();
                self.tools.insert(entry.event_id.clone(), name);
            }
            "user.message" if sources.user_input != Some(UserInput::None {}) => {
                self.texts(&content);
            }
            "user.custom_tool_result" => {
                let filter = sources.client_tool_results.as_ref();
                self.results(filter, body.custom_tool_use_id, |_| true, &content);
            }
            "agent.tool_result" => {
                let is_web = |name: &str| matches!(name, "web_search" | "web_fetch");
                let filter = sources.server_tool_results.as_ref();
                self.results(filter, body.tool_use_id, is_web, &content);
            }
            _ => {}
        }
    }

    fn results(
        &mut self,
        filter: Option<&ToolFilter>,
        call: Option<EventId>,
        counts: fn(&str) -> bool,
        content: &[ContentBlock],
    ) {
        let tool = call.and_then(|call| self.tools.get(&call));
        let admitted =
            |name: &String| counts(name) && filter.is_none_or(|filter| filter.admits(name));
        if tool.is_some_and(admitted) {
            self.texts(content);
        }
    }

    fn texts(&mut self, content: &[ContentBlock]) {
        for block in content {
            match block {
                ContentBlock::Text { text } => self.shown.read(text),
                ContentBlock::SearchResult {
                    source, content, ..
                } => {
                    self.shown.read(source);
                    for SearchResultText::Text { text } in content {
                        self.shown.read(text);
                    }
                }
                ContentBlock::Image { .. }
                | ContentBlock::Document { .. }
                | ContentBlock::Redacted => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
