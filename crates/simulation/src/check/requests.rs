//! What the model was asked, beside what clients said.

use bytes::Bytes;
use manyhands_store::EntryKind;
use manyhands_testkit::model::Prefixes;
use serde_json::Value;

use super::{Evidence, Problem, Row};

/// Messages are processed in their order, and the model saw each one, unless it was flushed. What the operator says
/// is shown for good (runtime SE-9, CC-3).
pub fn check_shown(evidence: &Evidence<'_>) -> Result<(), Problem> {
    let (rows, requests) = (evidence.rows, evidence.requests);
    let of = |type_name: &'static str, kind: EntryKind| {
        let rows = rows.iter().filter(move |row| row.kind() == type_name);
        rows.filter(move |row| row.entry.kind == kind)
    };
    let ids = |kind| of("user.message", kind).map(Row::id).collect::<Vec<_>>();
    let (sent, processed) = (ids(EntryKind::Event), ids(EntryKind::Processed));
    if !sent.starts_with(&processed) {
        return Err(format!(
            "{sent:?} were processed in the order {processed:?} (I1)"
        ));
    }
    let flushed: Vec<&str> = rows
        .iter()
        .filter(|row| row.kind() == "flushed")
        .filter_map(|row| row.body["events"].as_array())
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let flush = if flushed.is_empty() {
        "nothing"
    } else {
        "messages"
    };
    (evidence.count)(format!("flushed: {flush}"));
    let shown = |row: &Row, requests: &[Bytes]| {
        let text = row.body["content"][0]["text"].as_str().unwrap_or_default();
        let within = |request: &Bytes| String::from_utf8_lossy(request).contains(text);
        if requests.iter().any(within) {
            Ok(())
        } else {
            Err(format!("the model was not shown {text:?}"))
        }
    };
    let starts = rows
        .iter()
        .filter(|row| row.kind() == "span.model_request_start");
    let before_last = starts.rev().nth(1).map_or(0, |row| row.entry.position);
    for row in of("user.message", EntryKind::Processed) {
        // The last request of a session that has ended may have been cut before it was on its way.
        let cut = !evidence.alive && row.entry.position > before_last;
        if !cut && !flushed.contains(&row.id()) {
            shown(row, requests)?;
        }
    }
    if let (Some(last), true) = (requests.last(), evidence.alive) {
        for row in of("system.message", EntryKind::Event) {
            if !flushed.contains(&row.id()) {
                shown(row, std::slice::from_ref(last))
                    .map_err(|problem| format!("{problem} at the end"))?;
            }
        }
    }
    Ok(())
}

/// Invariant I6: each request extends the one before it, byte for byte, but for what is documented: input that the
/// provider refuses leaves the context, and other tools are other bytes. A request whose start did not become durable
/// is no part of the conversation: whoever takes over may have heard more by then.
pub fn check_prefixes(evidence: &Evidence<'_>) -> Result<(), Problem> {
    let rows = evidence.rows;
    // A server that fails has no tools in its turn.
    let failed = |row: &Row| row.kind() == "mcp_tools" && row.entry.body.contains("failed");
    let differ = |row: &Row| matches!(row.kind(), "withheld" | "compaction") || failed(row);
    if evidence.retooled || rows.iter().any(differ) {
        (evidence.count)("requests: may differ".to_owned());
        return Ok(());
    }
    let system = rows.iter().any(|row| row.kind() == "system.message");
    let extend = if system {
        "requests: extend each other, but for system turns"
    } else {
        "requests: extend each other"
    };
    (evidence.count)(extend.to_owned());
    let begun = rows
        .iter()
        .filter(|row| row.kind() == "span.model_request_start");
    let mut strays = evidence.requests.len().saturating_sub(begun.count());
    let mut prefixes = Prefixes::default();
    for request in evidence.requests {
        let request = match system {
            true => without_system_turns(request)?.into(),
            false => request.clone(),
        };
        // A wish for a summary extends the conversation, which goes on without it when no summary came of it.
        let mut before = asks_for_summary(&request).then(|| prefixes.clone());
        match before.as_mut().unwrap_or(&mut prefixes).extend(&request) {
            Ok(()) => {}
            Err(problem) if strays == 0 => return Err(problem),
            Err(_) => {
                strays -= 1;
                prefixes.branch(&request)?;
            }
        }
    }
    Ok(())
}

/// Whether a request asks for a summary of the conversation (runtime CC-1).
fn asks_for_summary(request: &[u8]) -> bool {
    const WISH: &str = "This conversation is about to pass the limit of what you can read at once.";
    String::from_utf8_lossy(request).contains(WISH)
}

/// A request without the operator's turns: those behind a request that got no answer move behind what joins the next.
fn without_system_turns(request: &[u8]) -> Result<Vec<u8>, Problem> {
    let parsed = serde_json::from_slice(request);
    let mut body: Value = parsed.map_err(|error| error.to_string())?;
    if let Some(messages) = body["messages"].as_array_mut() {
        messages.retain(|message| message["role"] != "system");
    }
    Ok(body.to_string().into_bytes())
}
