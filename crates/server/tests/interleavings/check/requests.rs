//! What the model was asked, beside what clients said.

use bytes::Bytes;
use manyhands_store::EntryKind;
use manyhands_testkit::model::Prefixes;
use serde_json::Value;

use super::Row;
use crate::drive::{Fate, Life, Problem};
use crate::model::lock;

/// Messages are processed in their order, and the model saw each one, unless it was flushed. What the operator says
/// is shown for good (runtime SE-9, CC-3).
pub(super) fn check_shown(life: &Life, rows: &[Row]) -> Result<(), Problem> {
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
    life.world.count(format!("flushed: {flush}"));
    let requests = lock(&life.script.requests);
    let shown = |row: &Row, requests: &[Bytes]| {
        let text = row.body["content"][0]["text"].as_str().unwrap_or_default();
        let within = |request: &Bytes| {
            let mut windows = request.windows(text.len());
            windows.any(|window| window == text.as_bytes())
        };
        if requests.iter().any(within) {
            Ok(())
        } else {
            Err(format!("the model was not shown {text:?}"))
        }
    };
    for row in of("user.message", EntryKind::Event) {
        if processed.contains(&row.id()) && !flushed.contains(&row.id()) {
            shown(row, &requests)?;
        }
    }
    if let (Some(last), Fate::Alive) = (requests.last(), life.fate) {
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
/// provider refuses leaves the context, and other tools are other bytes.
pub(super) fn check_prefixes(life: &Life, rows: &[Row]) -> Result<(), Problem> {
    if life.retooled
        || rows
            .iter()
            .any(|row| matches!(row.kind(), "withheld" | "compaction"))
    {
        life.world.count("requests: may differ");
        return Ok(());
    }
    let mut prefixes = Prefixes::default();
    let system = rows.iter().any(|row| row.kind() == "system.message");
    life.world.count(if system {
        "requests: extend each other, but for system turns"
    } else {
        "requests: extend each other"
    });
    for request in &*lock(&life.script.requests) {
        let request = if system {
            without_system_turns(request)?.into()
        } else {
            request.clone()
        };
        if asks_for_summary(&request) {
            // It extends the conversation, which goes on without it when no summary came of it.
            prefixes.clone().extend(&request)?;
        } else {
            prefixes.extend(&request)?;
        }
    }
    Ok(())
}

fn asks_for_summary(request: &[u8]) -> bool {
    let wish = b"This conversation is about to pass the limit of what you can read at once.";
    request.windows(wish.len()).any(|window| window == wish)
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
