//! Which sessions other instances have listeners of, and what of their previews was sent. Pure.

use std::collections::{BTreeSet, HashMap};

use manyhands_protocol::event::Preview;
use manyhands_protocol::{EventId, SessionId};

use crate::tail::remote::{Numbered, event_of};

/// What this instance knows of the others' listeners.
#[derive(Debug, Default)]
pub(super) struct Interest {
    sessions: HashMap<SessionId, Listened>,
    recent: Recent,
}

/// What was last written here to sessions. Who begins to listen to one may have read the log just before, and its saying
/// so was still on the way when this was written.
#[derive(Debug, Default)]
struct Recent {
    young: HashMap<SessionId, Latest>,
    old: HashMap<SessionId, Latest>,
}

/// The last write to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Latest {
    /// Entries up to this position.
    Entry(i64),
    /// Its deletion, with the rendered event.
    Deleted(String),
}

/// Of so many sessions at least the last write is remembered, and of twice as many at most.
const REMEMBERED: usize = 512;

impl Recent {
    fn note(&mut self, session: &SessionId, latest: Latest) {
        if self.young.len() == REMEMBERED && !self.young.contains_key(session) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(session.clone(), latest);
    }

    fn of(&self, session: &SessionId) -> Option<&Latest> {
        self.young.get(session).or_else(|| self.old.get(session))
    }
}

#[derive(Debug, Default)]
struct Listened {
    instances: BTreeSet<String>,
    /// The position of the last entry that this instance's brain wrote since somebody listens.
    spoken: Option<i64>,
    /// Events whose preview was sent from its start on, and the number of the next part.
    open: HashMap<EventId, u32>,
}

impl Interest {
    /// An instance has listeners of a session now, or none any more.
    pub(super) fn set(&mut self, instance: &str, session: &SessionId, on: bool) {
        if on {
            let listened = self.sessions.entry(session.clone()).or_default();
            listened.instances.insert(instance.to_owned());
            return;
        }
        if let Some(listened) = self.sessions.get_mut(session) {
            listened.instances.remove(instance);
            if listened.instances.is_empty() {
                self.sessions.remove(session);
            }
        }
    }

    /// Only these instances may have listeners.
    pub(super) fn keep(&mut self, wanted: impl Fn(&str) -> bool) {
        self.sessions.retain(|_, listened| {
            listened.instances.retain(|instance| wanted(instance));
            !listened.instances.is_empty()
        });
    }

    /// Whether another instance has listeners of a session.
    pub(super) fn has(&self, session: &SessionId) -> bool {
        self.sessions.contains_key(session)
    }

    /// This instance has written to a session. Whether another one wants to know.
    pub(super) fn wrote(&mut self, session: &SessionId, latest: Latest) -> bool {
        self.recent.note(session, latest);
        self.has(session)
    }

    /// The last write of this instance to a session, if it is not long ago.
    pub(super) fn latest(&self, session: &SessionId) -> Option<&Latest> {
        self.recent.of(session)
    }

    /// This instance's brain has written up to a position: the previews before it are over.
    pub(super) fn spoke(&mut self, session: &SessionId, position: i64) {
        if let Some(listened) = self.sessions.get_mut(session) {
            listened.spoken = Some(position);
            listened.open.clear();
        }
    }

    /// Numbers a preview; `None` when nobody could place it: its start, or the entry in front of it, was not sent.
    pub(super) fn number(&mut self, session: &SessionId, preview: &Preview) -> Option<Numbered> {
        let listened = self.sessions.get_mut(session)?;
        let after = listened.spoken?;
        let number = match preview {
            Preview::EventStart { event } => {
                listened.open.insert(event.id.clone(), 1);
                0
            }
            Preview::EventDelta { event_id, .. } => {
                let next = listened.open.get_mut(event_id)?;
                let number = *next;
                *next += 1;
                number
            }
        };
        Some(Numbered {
            after,
            number,
            preview: preview.clone(),
        })
    }

    /// A part of a preview cannot be sent: its event gets no more.
    pub(super) fn stop(&mut self, session: &SessionId, preview: &Preview) {
        if let Some(listened) = self.sessions.get_mut(session) {
            listened.open.remove(event_of(preview));
        }
    }
}

#[cfg(test)]
mod tests {
    use manyhands_protocol::content::ContentBlock;
    use manyhands_protocol::event::{PreviewDelta, PreviewKind, PreviewedEvent};

    use super::*;

    fn start(id: &EventId) -> Preview {
        Preview::EventStart {
            event: PreviewedEvent {
                kind: PreviewKind::AgentMessage,
                id: id.clone(),
            },
        }
    }

    fn delta(id: &EventId) -> Preview {
        Preview::EventDelta {
            event_id: id.clone(),
            delta: PreviewDelta::ContentDelta {
                index: 0,
                content: ContentBlock::text("x".to_owned()),
            },
        }
    }

    #[test]
    fn a_session_is_listened_to_as_long_as_one_living_instance_says_so() {
        let (mut interest, session) = (Interest::default(), SessionId::generate());
        for instance in ["a", "b", "b", "c"] {
            interest.set(instance, &session, true);
        }
        interest.set("b", &session, false);
        interest.set("x", &session, false);
        assert!(interest.has(&session));
        interest.keep(|instance| instance != "a");
        assert!(interest.has(&session));
        interest.keep(|instance| instance != "c");
        assert!(!interest.has(&session) && interest.sessions.is_empty());
    }

    #[test]
    fn st_2_the_last_writes_are_remembered_for_who_begins_to_listen() {
        let (mut interest, first) = (Interest::default(), SessionId::generate());
        assert!(!interest.wrote(&first, Latest::Entry(1)));
        interest.set("a", &first, true);
        assert!(interest.wrote(&first, Latest::Entry(2)));
        for _ in 0..REMEMBERED - 1 {
            interest.wrote(&SessionId::generate(), Latest::Entry(1));
            assert_eq!(interest.latest(&first), Some(&Latest::Entry(2)));
        }
        for _ in 0..10 * REMEMBERED {
            interest.wrote(&SessionId::generate(), Latest::Entry(1));
            let recent = &interest.recent;
            assert!(recent.young.len() + recent.old.len() <= 2 * REMEMBERED);
        }
        assert_eq!(interest.latest(&first), None);
    }

    #[test]
    fn st_14_previews_are_sent_from_their_start_or_not_at_all() {
        let (mut interest, session) = (Interest::default(), SessionId::generate());
        let (one, two) = (EventId::generate(), EventId::generate());
        let place = |numbered: Option<Numbered>| numbered.map(|n| (n.after, n.number));
        interest.spoke(&session, 3);
        assert_eq!(interest.number(&session, &start(&one)), None, "for nobody");
        interest.set("a", &session, true);
        let unplaced = interest.number(&session, &start(&one));
        assert_eq!(unplaced, None, "it is not known what it stands behind");
        interest.spoke(&session, 4);
        assert_eq!(interest.number(&session, &delta(&one)), None);
        assert_eq!(place(interest.number(&session, &start(&two))), Some((4, 0)));
        assert_eq!(place(interest.number(&session, &delta(&two))), Some((4, 1)));
        assert_eq!(place(interest.number(&session, &delta(&two))), Some((4, 2)));
        interest.stop(&session, &delta(&two));
        assert_eq!(interest.number(&session, &delta(&two)), None);
        assert_eq!(place(interest.number(&session, &start(&one))), Some((4, 0)));
        interest.spoke(&session, 6);
        assert_eq!(interest.number(&session, &delta(&one)), None, "it is over");
    }
}
