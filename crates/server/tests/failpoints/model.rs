//! The model: what it answers follows from the request alone, and from what it has been asked before.

use std::collections::HashSet;

use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::{ModelServer, Reply, Request, RetryAfter};
use serde_json::{Value, json};

/// What a message makes the model do. The message is the word and the story's name.
pub(crate) const WORK: &str = "work";
pub(crate) const HANG: &str = "hang";
pub(crate) const WAIT: &str = "wait";
pub(crate) const LONG: &str = "long";
pub(crate) const BAD: &str = "bad";
pub(crate) const TOUCH: &str = "touch";
pub(crate) const GREET: &str = "greet";

/// The file in which commands leave a line.
pub(crate) const MARKER: &str = "marker";

/// A model for all stories.
pub(crate) async fn start() -> ModelServer {
    let model = ModelServer::start().await;
    let (mut asked, shut) = (HashSet::new(), Gate::new());
    model.respond_with(move |request| answer(request, &mut asked, &shut));
    model
}

fn answer(request: &Request, asked: &mut HashSet<String>, shut: &Gate) -> Reply {
    let text = request.last_user_text();
    if text.contains("Write the summary that takes its place") {
        return Reply::text("We greeted each other.");
    }
    let results = request.tool_results();
    let last = text.lines().rev().find(|line| is_said(line));
    let said = last.or_else(|| said_before(request)).unwrap_or_default();
    let (word, name) = said.split_once(' ').unwrap_or((said, ""));
    let first = asked.insert(said.to_owned());
    // The same again when the request is repeated.
    let id = |what: &str| format!("toolu_{what}_{name}");
    let echo = |then: &str| json!({"command": format!("echo {name} >> {MARKER}; {then}")});
    match word {
        _ if !results.is_empty() => Reply::text(done(said)),
        WORK if first => Reply::rate_limited(RetryAfter::Millis(1)),
        WORK => Reply::tool_use(id("run"), "bash", echo("echo ran"))
            .then_tool_use(
                id("ask"),
                "write",
                json!({"file_path": "/workspace/asked", "content": "x"}),
            )
            .then_tool_use(id("custom"), "lookup", json!({"word": name})),
        TOUCH => Reply::tool_use(id("run"), "bash", echo("echo ran")),
        HANG => Reply::tool_use(id("hang"), "bash", echo("mkfifo gate; cat gate")),
        WAIT => Reply::text("Never said.").hold_first_token(shut),
        LONG if first => Reply::bad_request("prompt is too long: 210000 tokens > 200000 maximum"),
        BAD => Reply::bad_request("no such thing"),
        _ => Reply::text(done(said)),
    }
}

/// What the model says at the end of a turn.
pub(crate) fn done(said: &str) -> String {
    format!("Done: {said}.")
}

fn is_said(line: &str) -> bool {
    let words = [WORK, HANG, WAIT, LONG, BAD, TOUCH, GREET];
    line.split_once(' ')
        .is_some_and(|(word, _)| words.contains(&word))
}

/// The user's latest words, when only results have come since.
fn said_before(request: &Request) -> Option<&str> {
    let turns = request.messages().iter().rev();
    let users = turns.filter(|turn| turn["role"] == "user");
    let texts = users.flat_map(|turn| match &turn["content"] {
        Value::String(text) => vec![text.as_str()],
        content => {
            let blocks = content.as_array().into_iter().flatten().rev();
            blocks.filter_map(|block| block["text"].as_str()).collect()
        }
    });
    let mut lines = texts.flat_map(|text| text.lines().rev());
    lines.find(|line| is_said(line))
}
