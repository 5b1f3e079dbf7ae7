//! Which of our own messages the session has not taken yet (pure).

use std::collections::HashSet;

use manyhands_protocol::EventId;
use manyhands_protocol::event::Event;
use serde_json::Value;

/// The messages sent by this run. A turn that was already running may end before it takes one, and then the next turn
/// does: the run is over only after that one (runtime SE-5).
#[derive(Debug, Default)]
pub(super) struct Inputs {
    waiting: HashSet<EventId>,
    /// Seen as processed, perhaps before the answer to our sending came in.
    taken: HashSet<EventId>,
}

impl Inputs {
    /// These events were stored under these ids.
    pub(super) fn sent(&mut self, events: &[Value], ids: Vec<EventId>) {
        let sent = events.iter().zip(ids);
        let messages = sent.filter(|(event, _)| event["type"] == "user.message");
        self.waiting.extend(messages.map(|(_, id)| id));
        self.waiting.retain(|id| !self.taken.contains(id));
    }

    /// Takes note of a message that was processed (runtime SE-4: its second appearance).
    pub(super) fn see(&mut self, event: &Event) {
        if event.processed_at.is_some() && event.body.type_name() == "user.message" {
            self.waiting.remove(&event.id);
            self.taken.insert(event.id.clone());
        }
    }

    /// Whether every message of ours was taken.
    pub(super) fn all_taken(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(id: &str, kind: &str, processed: bool) -> Event {
        let at = processed.then_some("2026-11-21T10:00:00Z");
        let text = json!([{"type": "text", "text": "x"}]);
        serde_json::from_value(json!({"id": id, "type": kind, "content": text, "processed_at": at}))
            .unwrap()
    }

    #[test]
    fn se_4_a_message_is_taken_at_its_second_appearance() {
        let id = || EventId::parse("sevt_1").unwrap();
        let sent = [json!({"type": "user.message"})];
        let mut inputs = Inputs::default();
        inputs.sent(&sent, vec![id()]);
        assert!(!inputs.all_taken());
        inputs.see(&event("sevt_1", "user.message", false));
        inputs.see(&event("sevt_2", "user.message", true));
        assert!(!inputs.all_taken());
        inputs.see(&event("sevt_1", "user.message", true));
        assert!(inputs.all_taken());
        // The answer to the sending may come in after the stream has told both.
        inputs.sent(&sent, vec![EventId::parse("sevt_2").unwrap()]);
        assert!(inputs.all_taken());
    }

    #[test]
    fn answers_are_not_waited_for() {
        let mut inputs = Inputs::default();
        inputs.sent(
            &[json!({"type": "user.tool_confirmation"})],
            vec![EventId::parse("sevt_1").unwrap()],
        );
        assert!(inputs.all_taken());
    }
}
