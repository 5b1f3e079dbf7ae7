//! I1 and I2 on the list: nothing acknowledged is missing, changed or moved.

use serde_json::Value;

use super::{Sent, Violation, kind, text};

/// Invariant I1: what was acknowledged is in the list once, as it was sent; messages in the order in which they were
/// taken.
pub(crate) fn kept(sent: &[Sent], listed: &[Value]) -> Result<(), Violation> {
    let mut last = 0;
    for Sent { id, body } in sent {
        let mut found = listed
            .iter()
            .zip(1..)
            .filter(|(event, _)| text(event, "id") == id);
        let (Some((event, place)), None) = (found.next(), found.next()) else {
            return Err(format!(
                "I1: the acknowledged {body} ({id}) is not in the list once"
            ));
        };
        for (member, value) in body.as_object().into_iter().flatten() {
            if event[member] != *value {
                return Err(format!(
                    "I1: the acknowledged {body} ({id}) is listed as {event}"
                ));
            }
        }
        if kind(body) == "user.message" {
            if place < last {
                return Err(format!(
                    "I1: the message {id} is listed before one that was taken earlier"
                ));
            }
            last = place;
        }
    }
    Ok(())
}

/// Invariants I1 and I2: what was processed in an earlier list stays as it was, and later events come behind it.
pub(crate) fn goes_on(before: &[Value], now: &[Value]) -> Result<(), Violation> {
    let done = |event: &&Value| !event["processed_at"].is_null();
    let mut after = now.iter().filter(done);
    for event in before.iter().filter(done) {
        let here = after.next();
        if here != Some(event) {
            let here = here.map_or("nothing".to_owned(), Value::to_string);
            return Err(format!(
                "I1: {event} was listed, and now {here} is in its place"
            ));
        }
    }
    Ok(())
}
