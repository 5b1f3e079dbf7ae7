//! Bodies of requests (security INP-1, INP-2).

use manyhands_server::fuzzing;
use serde_json::Value;

use crate::{pieces, text, wait};

/// No refusal is longer, in characters: it quotes what was sent in part only.
const REFUSAL: usize = 1_000;

/// A document that is taken has one reading: no member was given twice, and written again it is the same.
pub(crate) fn body(bytes: &[u8]) {
    let read = match fuzzing::body(bytes) {
        Ok(read) => read,
        Err(refusal) => return check_refusal(&refusal),
    };
    assert!(read.is_object());
    let text = std::str::from_utf8(bytes).expect("JSON is UTF-8");
    assert_eq!(members(&read), colons(text), "a member was lost");
    let written = serde_json::to_vec(&read).expect("it can be written");
    let again = fuzzing::body(&written).expect("it can be read again");
    assert_eq!(again, read);
}

/// How many members all objects of a document have.
fn members(value: &Value) -> usize {
    match value {
        Value::Object(map) => map.len() + map.values().map(members).sum::<usize>(),
        Value::Array(list) => list.iter().map(members).sum(),
        _ => 0,
    }
}

/// How many colons stand outside of texts: one a member.
fn colons(text: &str) -> usize {
    let (mut count, mut in_text, mut escaped) = (0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b':' if !in_text => count += 1,
            _ => {}
        }
    }
    count
}

fn check_refusal(refusal: &str) {
    assert!(!refusal.is_empty());
    assert!(refusal.chars().count() <= REFUSAL, "{refusal}");
}

/// Every type of body is read or refused, and refused shortly.
pub(crate) fn typed(bytes: &[u8]) {
    for refusal in fuzzing::refusals(bytes) {
        check_refusal(&refusal);
    }
}

/// A refusal of a body with secrets says nothing of what is in it (security CRED-2).
pub(crate) fn secret(bytes: &[u8]) {
    /// What no words of our own begin with.
    const SECRET: &str = "sk-";
    fn texts<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
        match value {
            Value::String(text) if text.starts_with(SECRET) => found.push(text),
            Value::Array(list) => list.iter().for_each(|value| texts(value, found)),
            Value::Object(map) => {
                for (name, value) in map {
                    found.extend(name.starts_with(SECRET).then_some(name.as_str()));
                    texts(value, found);
                }
            }
            _ => {}
        }
    }
    let document = serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    let mut found = Vec::new();
    texts(&document, &mut found);
    for refusal in fuzzing::quiet_refusals(bytes) {
        check_refusal(&refusal);
        for text in &found {
            assert!(!refusal.contains(text), "{refusal}");
        }
    }
}

/// A body of parts is read alike however it comes: the first line is its content type, the byte behind it says how it is cut.
pub(crate) fn parts(bytes: &[u8]) {
    /// More than this many parts are refused.
    const MOST: usize = 8;
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return;
    };
    let (Some(kind), (pieces, whole)) = (text(&bytes[..end]), pieces(&bytes[end + 1..])) else {
        return;
    };
    let pieces = pieces.into_iter().map(<[u8]>::to_vec).collect();
    let read = wait(fuzzing::parts(kind, pieces, MOST));
    let at_once = wait(fuzzing::parts(kind, vec![whole.to_vec()], MOST));
    assert_eq!(read, at_once);
    match read {
        Ok(parts) => {
            assert!(parts.len() <= MOST);
            let total: usize = parts.iter().map(|part| part.content.len()).sum();
            assert!(total <= whole.len(), "{total}");
        }
        Err(refusal) => check_refusal(&refusal),
    }
}

/// Events of clients are all read or none, whatever their shape.
pub(crate) fn events(bytes: &[u8]) {
    let Ok(Value::Array(events)) = serde_json::from_slice(bytes) else {
        return;
    };
    match fuzzing::events(&events) {
        Ok(count) => assert_eq!(count, events.len()),
        Err(refusal) => check_refusal(&refusal),
    }
}
