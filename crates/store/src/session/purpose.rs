//! What a write to a session is for, when the disk is full: new work, or the end of work (security STORE-4).

use manyhands_protocol::event::EventBody;
use manyhands_protocol::session::SessionStatus;

use super::{Append, Change};
use crate::entry::NewEntry;
use crate::reserve::Purpose;

impl Append {
    /// A brain's append ends work when the session rests or is over with it, or when it only says what was heard.
    pub(crate) fn purpose(&self) -> Purpose {
        let over = matches!(
            self.status,
            Some(SessionStatus::Idle | SessionStatus::Terminated)
        );
        let heard = |entry: &NewEntry| matches!(entry, NewEntry::Processed { .. });
        if over || self.entries.iter().all(heard) {
            Purpose::Ends
        } else {
            Purpose::Begins
        }
    }
}

impl Change {
    /// A client begins work with a message, and with what it changes about the session.
    pub(crate) fn purpose(&self) -> Purpose {
        let changes = self.title.is_some()
            || self.metadata.is_some()
            || self.agent.is_some()
            || self.budget.is_some();
        let begins = changes || self.append.entries.iter().any(is_new_input);
        if begins && !self.delete && !self.archive {
            Purpose::Begins
        } else {
            Purpose::Ends
        }
    }
}

fn is_new_input(entry: &NewEntry) -> bool {
    let NewEntry::Event { body, .. } = entry else {
        return false;
    };
    let answers = matches!(
        body,
        EventBody::UserInterrupt { .. }
            | EventBody::UserToolConfirmation { .. }
            | EventBody::UserCustomToolResult { .. }
            | EventBody::UserToolResult { .. }
    );
    let name = body.type_name();
    !answers && (name.starts_with("user.") || name.starts_with("system."))
}

#[cfg(test)]
mod tests {
    use manyhands_protocol::EventId;
    use serde_json::{Value, json};

    use super::*;

    fn entries(bodies: &[Value]) -> Append {
        let entry = |body: &Value| NewEntry::event(serde_json::from_value(body.clone()).unwrap());
        Append {
            entries: bodies.iter().map(entry).collect(),
            ..Append::default()
        }
    }

    #[test]
    fn store_4_a_client_begins_work_with_input_and_ends_it_with_answers_and_stops() {
        use Purpose::{Begins, Ends};
        let text = json!([{"type": "text", "text": "x"}]);
        let message = json!({"type": "user.message", "content": text});
        let interrupt = json!({"type": "user.interrupt"});
        let result =
            json!({"type": "user.custom_tool_result", "custom_tool_use_id": EventId::generate()});
        let allow = json!({"type": "user.tool_confirmation", "tool_use_id": EventId::generate(), "result": "allow"});
        let runs = json!({"type": "session.status_running"});
        let check = |change: Change, expected| assert_eq!(change.purpose(), expected, "{change:?}");
        for (bodies, expected) in [
            (vec![&message], Begins),
            (vec![&interrupt], Ends),
            (vec![&interrupt, &message], Begins),
            (vec![&result, &runs], Ends),
            (vec![&allow], Ends),
            (vec![], Ends),
        ] {
            let bodies: Vec<Value> = bodies.into_iter().cloned().collect();
            let append = entries(&bodies);
            check(
                Change {
                    append,
                    ..Change::default()
                },
                expected,
            );
        }
        let title = Some(Some("new".to_owned()));
        check(
            Change {
                title: title.clone(),
                ..Change::default()
            },
            Begins,
        );
        check(
            Change {
                title,
                archive: true,
                ..Change::default()
            },
            Ends,
        );
        check(
            Change {
                delete: true,
                append: entries(&[message]),
                ..Change::default()
            },
            Ends,
        );
    }

    #[test]
    fn store_4_a_brain_ends_work_with_the_rest_of_a_session() {
        use Purpose::{Begins, Ends};
        let said = json!({"type": "agent.message", "content": []});
        for (status, expected) in [
            (None, Begins),
            (Some(SessionStatus::Running), Begins),
            (Some(SessionStatus::Rescheduling), Begins),
            (Some(SessionStatus::Idle), Ends),
            (Some(SessionStatus::Terminated), Ends),
        ] {
            let append = Append {
                status,
                ..entries(std::slice::from_ref(&said))
            };
            assert_eq!(append.purpose(), expected, "{status:?}");
        }
        let event_id = EventId::generate();
        let heard = Append {
            entries: vec![NewEntry::Processed { event_id }],
            ..Append::default()
        };
        assert_eq!((heard.purpose(), Append::default().purpose()), (Ends, Ends));
    }
}
