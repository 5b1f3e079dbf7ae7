//! What must be true of every session, whatever befell it: the invariants of the log, of the list and of the stream.

mod grammar;

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use manyhands_protocol::SessionId;
use manyhands_store::{Append, AppendError, Entry, EntryKind, Lease, SessionRecord};
use manyhands_testkit::model::Prefixes;
use serde_json::Value;

use crate::drive::{Fate, Life, Problem};
use crate::heard::Frame;
use crate::model::lock;
use crate::world::DOLLARS;

/// More than any log here.
const ALL: u32 = 100_000;

/// An entry of the log, its body parsed.
pub(crate) struct Row {
    pub(crate) entry: Entry,
    pub(crate) body: Value,
}

impl Row {
    fn id(&self) -> &str {
        self.entry.event_id.as_str()
    }

    fn kind(&self) -> &str {
        &self.entry.type_name
    }

    /// A public event as first stored.
    fn is_event(&self) -> bool {
        self.entry.kind == EntryKind::Event
    }
}

/// Checks a life that has ended or come to rest.
pub(crate) async fn check(life: &Life) -> Result<(), Problem> {
    check_starts(life)?;
    let frames = lock(&life.heard.frames).clone();
    check_previews(&frames)?;
    if life.fate == Fate::Deleted {
        return check_deleted(life, &frames);
    }
    let session = SessionId::parse(&life.session).map_err(|error| error.to_string())?;
    let (record, rows) = read(life, &session).await?;
    check_positions(&rows)?;
    check_epochs(&rows)?;
    check_stream(&rows, &frames)?;
    check_list(&rows, &life.events().await?)?;
    check_accepted(life, &rows)?;
    grammar::check(life, &rows)?;
    check_usage(&record, &rows)?;
    check_prefixes(life, &rows)?;
    check_old_epoch(life, &record).await
}

async fn read(life: &Life, session: &SessionId) -> Result<(SessionRecord, Vec<Row>), Problem> {
    let store = life.world.store().await;
    let read = async {
        let workspace = store.default_workspace().await?;
        let record = store.session(&workspace, session).await?;
        Ok::<_, manyhands_store::Error>((record, store.read(session, 0, ALL).await?))
    };
    let (record, entries) = read.await.map_err(|error| error.to_string())?;
    let parse = |entry: Entry| {
        let body = serde_json::from_str(&entry.body).map_err(|error| error.to_string())?;
        Ok(Row { entry, body })
    };
    let rows = entries
        .into_iter()
        .map(parse)
        .collect::<Result<_, Problem>>();
    Ok((record.ok_or("the session has no row")?, rows?))
}

/// The log of a session, a line each, for whoever looks for a fault.
pub(crate) async fn dump(life: &Life) -> String {
    let Ok(session) = SessionId::parse(&life.session) else {
        return String::new();
    };
    let rows = match read(life, &session).await {
        Ok((_, rows)) => rows,
        Err(problem) => return problem,
    };
    let line = |row: &Row| {
        let mark = match row.entry.kind {
            EntryKind::Event if row.entry.processed_at.is_none() => " (queued)",
            EntryKind::Event => "",
            EntryKind::Processed => " (processed)",
            EntryKind::Private => " (private)",
        };
        let Entry {
            position, epoch, ..
        } = row.entry;
        let body: String = row.entry.body.chars().take(300).collect();
        format!(
            "{position:>4} e{epoch} {}{mark} {} {body}",
            row.kind(),
            row.id()
        )
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Invariant I2: positions from 1, without gaps.
fn check_positions(rows: &[Row]) -> Result<(), Problem> {
    for (row, expected) in rows.iter().zip(1..) {
        if row.entry.position != expected {
            return Err(format!(
                "position {} is {expected} (I2)",
                row.entry.position
            ));
        }
    }
    Ok(())
}

/// Invariant I5, as the log shows it: what brains wrote is in the order of their epochs.
fn check_epochs(rows: &[Row]) -> Result<(), Problem> {
    let mut newest = 0;
    for row in rows.iter().filter(|row| row.entry.epoch > 0) {
        if row.entry.epoch < newest {
            return Err(format!(
                "epoch {newest} comes before {} (I5)",
                row.entry.epoch
            ));
        }
        newest = row.entry.epoch;
    }
    Ok(())
}

/// Invariant I5: whoever has an older lease writes nothing.
async fn check_old_epoch(life: &Life, record: &SessionRecord) -> Result<(), Problem> {
    let lease = Lease {
        workspace: record.workspace.clone(),
        session: record.id.clone(),
        epoch: record.epoch - 1,
    };
    let store = life.world.store().await;
    let appended = store.append(&lease, Append::default()).await;
    let rested = store.append_and_rest(&lease, Append::default(), i64::MAX);
    match (appended, rested.await) {
        (
            Err(AppendError::StaleEpoch { .. } | AppendError::Gone),
            Err(AppendError::StaleEpoch { .. } | AppendError::Gone),
        ) => Ok(()),
        other => Err(format!("an append of an older epoch gives {other:?} (I5)")),
    }
}

/// The stream is the log, read aloud, each event once, in order and byte for byte, over all its connections.
fn check_stream(rows: &[Row], frames: &[Frame]) -> Result<(), Problem> {
    let mut heard = frames.iter().filter(|frame| frame.position.is_some());
    for row in rows.iter().filter(|row| row.entry.is_public()) {
        let Some(frame) = heard.next() else {
            return Err(format!("event {} was not streamed", row.entry.position));
        };
        let same = frame.position == Some(row.entry.position)
            && frame.name == row.kind()
            && frame.text == row.entry.render();
        if !same {
            return Err(format!(
                "{frame:?} was streamed in place of {}",
                row.entry.render()
            ));
        }
    }
    match heard.next() {
        Some(more) => Err(format!("{more:?} was streamed and is not in the log")),
        None => Ok(()),
    }
}

/// The list has the last appearance of each event, in order, and what is queued behind them (runtime LI-4, LI-5).
fn check_list(rows: &[Row], events: &[Value]) -> Result<(), Problem> {
    let public: Vec<&Row> = rows.iter().filter(|row| row.entry.is_public()).collect();
    let last_of: HashMap<&str, i64> = public
        .iter()
        .map(|row| (row.id(), row.entry.position))
        .collect();
    let mut expected: Vec<&&Row> = public
        .iter()
        .filter(|row| last_of[row.id()] == row.entry.position)
        .collect();
    expected.sort_by_key(|row| (row.entry.processed_at.is_none(), row.entry.position));
    let ids: Vec<&str> = expected.iter().map(|row| row.id()).collect();
    let listed: Vec<&str> = events
        .iter()
        .filter_map(|event| event["id"].as_str())
        .collect();
    if ids != listed {
        return Err(format!("the list is {listed:?} and should be {ids:?}"));
    }
    for (row, event) in expected.iter().zip(events) {
        let shown: Value = serde_json::from_str(&row.entry.render()).unwrap_or_default();
        if shown != *event {
            return Err(format!("{shown} is listed as {event}"));
        }
    }
    Ok(())
}

/// Invariant I1: what was taken is there, once, as it was sent, in the order in which it was taken; and unless the
/// session has ended it was processed.
fn check_accepted(life: &Life, rows: &[Row]) -> Result<(), Problem> {
    let mut before = 0;
    for accepted in &life.accepted {
        let mut found = rows
            .iter()
            .filter(|row| row.is_event() && row.id() == accepted.id);
        let (found, more) = (found.next(), found.next());
        if accepted.traceless && found.is_none() {
            life.world.count("interrupt: without a trace");
            continue;
        }
        // Nobody waited for such an event to be heard, so its place among those sent at the same time is not known.
        let placed = !accepted.traceless;
        let (Some(row), None) = (found, more) else {
            return Err(format!("{} is not in the log once (I1)", accepted.sent));
        };
        if placed && row.entry.position < before {
            return Err(format!("{} is not in its place (I1)", accepted.sent));
        }
        if placed {
            before = row.entry.position;
        }
        for (member, value) in accepted.sent.as_object().into_iter().flatten() {
            if row.body[member] != *value {
                return Err(format!("{} is stored as {} (I1)", accepted.sent, row.body));
            }
        }
        let processed = rows
            .iter()
            .filter(|row| row.id() == accepted.id && row.entry.processed_at.is_some());
        let times = processed.count();
        if times > 1 || (times == 0 && life.fate == Fate::Alive) {
            return Err(format!(
                "{} was processed {times} times (I1)",
                accepted.sent
            ));
        }
    }
    check_asked(life, rows)
}

/// Messages are processed in their order, and the model saw each one, unless it was flushed. What the operator says
/// is shown for good (runtime SE-9, CC-3).
fn check_asked(life: &Life, rows: &[Row]) -> Result<(), Problem> {
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
    // What a provider refuses leaves the context with all that came with it.
    let withheld = rows.iter().any(|row| row.kind() == "withheld");
    if let (Some(last), Fate::Alive, false) = (requests.last(), life.fate, withheld) {
        for row in of("system.message", EntryKind::Event) {
            if !flushed.contains(&row.id()) {
                shown(row, std::slice::from_ref(last))
                    .map_err(|problem| format!("{problem} at the end"))?;
            }
        }
    }
    Ok(())
}

/// Invariant I4: a call is started at most once, one that only looks at most three times.
fn check_starts(life: &Life) -> Result<(), Problem> {
    let calls: HashMap<String, String> = lock(&life.heard.frames)
        .iter()
        .filter(|frame| frame.name == "agent.tool_use")
        .map(|frame| {
            let name = frame.data["name"].as_str().unwrap_or_default();
            (frame.id().to_owned(), name.to_owned())
        })
        .collect();
    for (call, starts) in &*lock(&life.script.starts) {
        let most = match calls.get(call).map(String::as_str) {
            Some("read" | "glob" | "grep") => 3,
            Some(_) => 1,
            None => return Err(format!("{call} was started and is no call")),
        };
        if *starts > most {
            return Err(format!("{call} was started {starts} times (I4)"));
        }
        life.world.count(format!("call started {starts} times"));
    }
    Ok(())
}

/// The totals are the sums of the requests, and never fall (runtime US-1, US-7).
fn check_usage(record: &SessionRecord, rows: &[Row]) -> Result<(), Problem> {
    let tokens = DOLLARS.map(|(name, _)| name);
    let mut sums = [0; 3];
    let mut seconds = 0.0;
    for row in rows.iter().filter(|row| row.is_event()) {
        match row.kind() {
            "span.model_request_end" => {
                for (sum, name) in sums.iter_mut().zip(tokens) {
                    *sum += row.body["model_usage"][name].as_u64().unwrap_or(0);
                }
            }
            "session.usage" => {
                let usage = &row.body["usage"];
                let shown = tokens.map(|name| usage[name].as_u64().unwrap_or(0));
                if shown != sums {
                    return Err(format!("the usage is {shown:?} after {sums:?} (US-7)"));
                }
                let active = usage["active_seconds"].as_f64().unwrap_or(-1.0);
                if active < seconds {
                    return Err(format!("{active} s of activity after {seconds} s (US-4)"));
                }
                seconds = active;
                check_cost(&sums, seconds, usage)?;
            }
            _ => {}
        }
    }
    let usage = record.usage;
    let kept = [
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_input_tokens,
    ];
    if kept != sums {
        return Err(format!("the usage kept is {kept:?} after {sums:?} (US-7)"));
    }
    Ok(())
}

/// What tokens cost, in cents.
fn cents(sums: &[u64]) -> f64 {
    let parts = sums.iter().zip(DOLLARS);
    parts
        .map(|(tokens, (_, dollars))| *tokens as f64 * dollars / 10_000.0)
        .sum()
}

/// The list cost is what the tokens and the running time cost, rounded (runtime BU-3).
fn check_cost(sums: &[u64], seconds: f64, usage: &Value) -> Result<(), Problem> {
    let exact = cents(sums) + seconds * 8.0 / 3600.0;
    let shown = usage["list_cost"]["amount"].as_str();
    let shown: Option<f64> = shown.and_then(|amount| amount.parse().ok());
    match shown {
        Some(shown) if (shown - exact).abs() <= 0.501 => Ok(()),
        _ => Err(format!(
            "the cost of {exact} cents is shown as {shown:?} (BU-3)"
        )),
    }
}

/// Invariant I6: each request extends the one before it, byte for byte, but for what is documented: input that the
/// provider refuses leaves the context, and other tools are other bytes.
fn check_prefixes(life: &Life, rows: &[Row]) -> Result<(), Problem> {
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
        if system {
            prefixes.extend(&without_system_turns(request)?)?;
        } else {
            prefixes.extend(request)?;
        }
    }
    Ok(())
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

/// Previews are announced once, told in order, and end with the event they announce or with the request
/// (runtime ST-9 to ST-13).
fn check_previews(frames: &[Frame]) -> Result<(), Problem> {
    let mut open: HashMap<String, String> = HashMap::new();
    let mut announced: HashMap<String, usize> = HashMap::new();
    for frame in frames {
        match &*frame.name {
            "event_start" => {
                let id = frame.data["event"]["id"].as_str().unwrap_or_default();
                // Each connection may be told of an event once, and a request lives on one connection.
                if announced.insert(id.to_owned(), 1).is_some() {
                    return Err(format!("{id} is announced twice (ST-10)"));
                }
                open.insert(id.to_owned(), String::new());
            }
            "event_delta" => {
                let id = frame.data["event_id"].as_str().unwrap_or_default();
                let Some(text) = open.get_mut(id) else {
                    return Err(format!("a delta of {id}, which is not open (ST-10)"));
                };
                text.push_str(
                    frame.data["delta"]["content"]["text"]
                        .as_str()
                        .unwrap_or_default(),
                );
            }
            "agent.message" | "agent.thinking" => {
                let content = frame.data["content"].as_array();
                let whole: String = content
                    .into_iter()
                    .flatten()
                    .filter_map(|block| block["text"].as_str())
                    .collect();
                if let Some(text) = open.remove(frame.id())
                    && !whole.starts_with(&text)
                {
                    return Err(format!("{text:?} was told of {whole:?} (ST-11)"));
                }
            }
            "span.model_request_end" => open.clear(),
            _ => {}
        }
    }
    Ok(())
}

/// A deleted session's stream ends with its deletion (runtime SQ-20); one that the server's end cut off before is not
/// there to be taken up again.
fn check_deleted(life: &Life, frames: &[Frame]) -> Result<(), Problem> {
    let told = frames.last().map(|frame| &*frame.name);
    if told == Some("session.deleted") {
        life.world.count("deletion: told");
        Ok(())
    } else if life.heard.missed.load(Ordering::SeqCst) {
        life.world.count("deletion: found");
        Ok(())
    } else {
        Err(format!(
            "the last frame of a deleted session is {told:?} (SQ-20)"
        ))
    }
}
