//! A Messages request → a chat completions request (pure).
//!
//! Each turn is translated alone, so that requests which extend each other still do afterwards (invariant I6). Cache
//! marks and thinking are left out: the other side has no place for them.

mod incoming;
mod outgoing;

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;

use super::{Dialect, OutputLimit};
use crate::models::error::{Error, ErrorKind};
use incoming::{Block, Body, Effort, Source, Turn};
use outgoing::{CallFunction, Chat, Content, File, Function, ImageUrl, Message, Part, ToolCall};

/// A translated request, and what is needed to read its answer.
#[derive(Debug, Default)]
pub(super) struct Translated {
    /// The body.
    pub(super) body: Bytes,
    /// The model asked for.
    pub(super) model: String,
    /// The ids of the calls in the conversation so far.
    pub(super) call_ids: HashSet<String>,
    /// How many bytes of the body are attached images and files.
    pub(super) attached: usize,
}

/// Translates the body of a Messages request.
///
/// # Errors
/// [`ErrorKind::Refused`] when it holds what chat completions cannot say.
pub(super) fn translate(body: &[u8], dialect: Dialect) -> Result<Translated, Error> {
    let body: Body<'_> = serde_json::from_slice(body)
        .map_err(|error| refused(&format!("it is not of the expected form: {error}")))?;
    let mut turns = Turns::default();
    let system: Vec<&str> = body.system.iter().filter_map(Block::text).collect();
    if !system.is_empty() {
        turns.messages.push(Message::System {
            content: Cow::Owned(system.join("\n\n")),
        });
    }
    for turn in &body.messages {
        turns.add(turn)?;
    }
    let limit = |name| {
        body.max_tokens
            .filter(|_| dialect.output_limit == Some(name))
    };
    let tools = body.tools.iter().map(|tool| outgoing::Tool {
        kind: "function",
        function: Function {
            name: &tool.name,
            description: tool.description.as_deref(),
            parameters: tool.input_schema,
        },
    });
    let chat = Chat {
        model: &body.model,
        stream: true,
        stream_options: outgoing::StreamOptions {
            include_usage: true,
        },
        max_tokens: limit(OutputLimit::MaxTokens),
        max_completion_tokens: limit(OutputLimit::MaxCompletionTokens),
        reasoning_effort: dialect.effort.then(|| effort(body.output_config.as_ref())),
        tools: tools.collect(),
        messages: turns.messages,
    };
    let text = serde_json::to_vec(&chat).map_err(|error| refused(&error.to_string()))?;
    Ok(Translated {
        body: text.into(),
        model: body.model.into_owned(),
        call_ids: turns.call_ids,
        attached: turns.attached,
    })
}

fn refused(what: &str) -> Error {
    Error::new(
        ErrorKind::Refused,
        format!("The request cannot be sent to a chat completions endpoint: {what}."),
    )
}

/// Effort that is not said is high; above `xhigh` there is nothing.
fn effort<'a>(config: Option<&'a Effort<'_>>) -> &'a str {
    match config.and_then(|config| config.effort.as_deref()) {
        None => "high",
        Some("max") => "xhigh",
        Some(level) => level,
    }
}

#[derive(Default)]
struct Turns<'a> {
    messages: Vec<Message<'a>>,
    call_ids: HashSet<String>,
    attached: usize,
}

impl<'a> Turns<'a> {
    fn add(&mut self, turn: &'a Turn<'a>) -> Result<(), Error> {
        match &*turn.role {
            "user" => self.user(&turn.content),
            "assistant" => {
                self.assistant(&turn.content);
                Ok(())
            }
            "system" => {
                let texts: Vec<&str> = turn.content.iter().filter_map(Block::text).collect();
                self.messages.push(Message::System {
                    content: Cow::Owned(texts.join("\n\n")),
                });
                Ok(())
            }
            role => Err(refused(&format!("it has a turn of {role:?}"))),
        }
    }

    /// Results become messages of their own; what a result cannot carry there follows in the user's message.
    fn user(&mut self, blocks: &'a [Block<'a>]) -> Result<(), Error> {
        let mut parts = Vec::new();
        for block in blocks {
            if block.kind == "tool_result" {
                let (content, attachments) = self.result(block)?;
                let tool_call_id = block.tool_use_id.as_deref().unwrap_or_default();
                if !attachments.is_empty() {
                    parts.push(Part::text(format!("From the result of {tool_call_id}:")));
                    parts.extend(attachments);
                }
                self.messages.push(Message::Tool {
                    tool_call_id,
                    content,
                });
            } else {
                parts.push(self.part(block)?);
            }
        }
        if !parts.is_empty() {
            self.messages.push(Message::User {
                content: Content::of(parts),
            });
        }
        Ok(())
    }

    fn assistant(&mut self, blocks: &'a [Block<'a>]) {
        let mut text = String::new();
        let mut tool_calls = Vec::new();
        for block in blocks {
            match &*block.kind {
                "text" => text.push_str(block.text().unwrap_or_default()),
                "tool_use" => {
                    let id = block.id.as_deref().unwrap_or_default();
                    self.call_ids.insert(id.to_owned());
                    tool_calls.push(ToolCall {
                        id,
                        kind: "function",
                        function: CallFunction {
                            name: block.name.as_deref().unwrap_or_default(),
                            arguments: block.input.map_or("{}", |input| input.get()),
                        },
                    });
                }
                // Thinking, and what only another provider knows.
                _ => {}
            }
        }
        let content = (tool_calls.is_empty() || !text.is_empty()).then_some(text);
        self.messages.push(Message::Assistant {
            content,
            tool_calls,
        });
    }

    /// The text of a result, and what is no text.
    fn result(&mut self, block: &'a Block<'a>) -> Result<(String, Vec<Part<'a>>), Error> {
        let mut texts = Vec::new();
        let mut attachments = Vec::new();
        for inner in &block.content {
            match self.part(inner)? {
                Part::Text { text } => texts.push(text),
                other => {
                    texts.push(Cow::Borrowed("(attached to the message that follows)"));
                    attachments.push(other);
                }
            }
        }
        let text = match texts.join("\n") {
            empty if empty.is_empty() => "(no output)".to_owned(),
            text => text,
        };
        let text = match block.is_error {
            Some(true) => format!("The tool reports an error:\n{text}"),
            _ => text,
        };
        Ok((text, attachments))
    }

    fn part(&mut self, block: &'a Block<'a>) -> Result<Part<'a>, Error> {
        let source = block.source.as_ref();
        match (&*block.kind, source) {
            ("text", _) => Ok(Part::Text {
                text: Cow::Borrowed(block.text().unwrap_or_default()),
            }),
            ("image", Some(Source::Inline { data, media_type })) => {
                let url = self.data_url(media_type, data);
                Ok(Part::ImageUrl {
                    image_url: ImageUrl { url },
                })
            }
            ("image", Some(Source::Url { url })) => Ok(Part::ImageUrl {
                image_url: ImageUrl {
                    url: url.clone().into_owned(),
                },
            }),
            ("document", Some(Source::Inline { data, media_type }))
                if media_type == "text/plain" =>
            {
                Ok(Part::text(titled("Document", block, data)))
            }
            ("document", Some(Source::Inline { data, media_type })) => {
                let file_data = self.data_url(media_type, data);
                let filename = block.title.as_deref().unwrap_or("document.pdf");
                Ok(Part::File {
                    file: File {
                        filename,
                        file_data,
                    },
                })
            }
            ("search_result", Some(Source::Name(source))) => {
                let texts: Vec<&str> = block.content.iter().filter_map(Block::text).collect();
                let heading = format!("Search result from {source}");
                Ok(Part::text(titled(&heading, block, &texts.join("\n"))))
            }
            (kind, _) => Err(refused(&format!(
                "there is no form for a block of {kind:?}"
            ))),
        }
    }

    fn data_url(&mut self, media_type: &str, data: &str) -> String {
        self.attached += data.len();
        format!("data:{media_type};base64,{data}")
    }
}

/// A text with what is known about it in front.
fn titled(what: &str, block: &Block<'_>, text: &str) -> String {
    let mut all = what.to_owned();
    if let Some(title) = &block.title {
        all.push_str(": ");
        all.push_str(title);
    }
    if let Some(context) = &block.context {
        all.push('\n');
        all.push_str(context);
    }
    all.push_str("\n\n");
    all.push_str(text);
    all
}

#[cfg(test)]
mod tests;
