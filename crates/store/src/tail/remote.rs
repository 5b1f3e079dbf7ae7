//! Previews that come from another instance: shown in their place or not at all (runtime ST-10, ST-11, ST-14). Pure.
//!
//! They travel beside the log and may be late, lost, doubled or in the wrong order. Each says behind which entry of its
//! brain it belongs, and its number within its event. One that is out of place ends the preview of its event.

use std::collections::{HashMap, VecDeque};

use manyhands_protocol::EventId;
use manyhands_protocol::event::Preview;
use serde::{Deserialize, Serialize};

/// A preview on its way between instances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Numbered {
    /// The position of the last entry that the brain had written when it sent this.
    pub(crate) after: i64,
    /// 0 for the start of an event, then 1, 2, …
    pub(crate) number: u32,
    /// What to show.
    pub(crate) preview: Preview,
}

/// So many previews wait for the log; when there are more, all of them stop.
const WAITING: usize = 256;

/// The previews of one session, as a listener's instance keeps them.
pub(super) struct Remote {
    /// Events that may go on, and the number that each needs next.
    open: HashMap<EventId, u32>,
    /// Those whose entry is not published yet.
    waiting: VecDeque<Numbered>,
    /// The position of the last published entry that a brain wrote, or where the first listener began. Unknown before:
    /// then nothing is shown.
    spoken: Option<i64>,
}

impl Remote {
    /// For a channel whose last published entry of a brain is at this position, or whose first listener began there.
    pub(super) fn new(spoken: Option<i64>) -> Self {
        Self {
            open: HashMap::new(),
            waiting: VecDeque::new(),
            spoken,
        }
    }

    /// The first listener has read the log up to here, unless a later entry is published already.
    pub(super) fn begin(&mut self, position: i64) {
        self.spoken.get_or_insert(position);
    }

    /// Takes a preview; gives it back when it is to be shown now. `published`: all entries up to here are.
    pub(super) fn hear(&mut self, published: Option<i64>, heard: Numbered) -> Option<Preview> {
        if self.spoken.is_some_and(|spoken| heard.after < spoken) {
            return None;
        }
        let known = self.spoken.and(published);
        if known.is_none_or(|published| published < heard.after) {
            if self.waiting.len() == WAITING {
                self.waiting.clear();
                self.open.clear();
            } else {
                self.waiting.push_back(heard);
            }
            return None;
        }
        self.take(heard)
    }

    /// Entries were published up to `last`, the last of them by a brain at `spoken`. Gives what waited for them.
    pub(super) fn published(&mut self, last: i64, spoken: Option<i64>) -> Vec<Preview> {
        if let Some(spoken) = spoken {
            self.spoken = Some(spoken);
            self.open.clear();
        }
        let mut shown = Vec::new();
        let Some(spoken) = self.spoken else {
            return shown;
        };
        let ready = |waits: &Numbered| waits.after <= last;
        while self.waiting.front().is_some_and(ready) {
            let Some(heard) = self.waiting.pop_front() else {
                break;
            };
            if heard.after >= spoken {
                shown.extend(self.take(heard));
            }
        }
        shown
    }

    fn take(&mut self, heard: Numbered) -> Option<Preview> {
        let id = event_of(&heard.preview);
        let wanted = self.open.get(id).copied().unwrap_or(0);
        if heard.number < wanted {
            // It came twice.
            return None;
        }
        if heard.number != wanted {
            self.open.remove(id);
            return None;
        }
        self.open.insert(id.clone(), wanted + 1);
        Some(heard.preview)
    }
}

/// The event that a preview belongs to.
pub(crate) fn event_of(preview: &Preview) -> &EventId {
    match preview {
        Preview::EventStart { event } => &event.id,
        Preview::EventDelta { event_id, .. } => event_id,
    }
}

#[cfg(test)]
mod tests {
    use manyhands_protocol::content::ContentBlock;
    use manyhands_protocol::event::{PreviewDelta, PreviewKind, PreviewedEvent};

    use super::*;

    fn id(name: &str) -> EventId {
        EventId::parse(&format!("sevt_{name}")).unwrap()
    }

    fn numbered(after: i64, name: &str, number: u32) -> Numbered {
        let preview = match number {
            0 => Preview::EventStart {
                event: PreviewedEvent {
                    kind: PreviewKind::AgentMessage,
                    id: id(name),
                },
            },
            number => Preview::EventDelta {
                event_id: id(name),
                delta: PreviewDelta::ContentDelta {
                    index: 0,
                    content: ContentBlock::text(number.to_string()),
                },
            },
        };
        Numbered {
            after,
            number,
            preview,
        }
    }

    /// The numbers that are shown of those that come, all behind a published entry.
    #[track_caller]
    fn check(come: &[u32], shown: &[u32]) {
        let mut remote = Remote::new(Some(5));
        let found: Vec<u32> = come
            .iter()
            .filter(|&&number| remote.hear(Some(5), numbered(5, "a", number)).is_some())
            .copied()
            .collect();
        assert_eq!(found, shown, "{come:?}");
    }

    #[test]
    fn st_11_what_is_shown_is_a_beginning_of_what_was_sent() {
        check(&[0, 1, 2, 3], &[0, 1, 2, 3]);
        check(&[0, 1, 3, 4, 2, 3], &[0, 1]);
        check(&[1, 2], &[]);
        check(&[0, 1, 1, 0, 2], &[0, 1, 2]);
        check(&[0, 2, 1, 2], &[0]);
    }

    #[test]
    fn st_10_a_preview_is_not_shown_behind_what_the_brain_wrote_after_it() {
        let mut remote = Remote::new(Some(5));
        assert!(remote.hear(Some(5), numbered(5, "a", 0)).is_some());
        assert_eq!(
            remote.published(6, None),
            [],
            "a client's entry ends nothing"
        );
        assert!(remote.hear(Some(6), numbered(5, "a", 1)).is_some());
        remote.published(7, Some(7));
        let unseen = Remote::new(Some(7)).hear(Some(7), numbered(5, "a", 0));
        assert_eq!(unseen, None, "also when it is the first that comes");
        for late in [numbered(5, "a", 2), numbered(5, "b", 0)] {
            assert_eq!(remote.hear(Some(7), late), None);
        }
        assert_eq!(remote.hear(Some(7), numbered(7, "a", 2)), None);
        assert!(remote.hear(Some(7), numbered(7, "c", 0)).is_some());
    }

    #[test]
    fn st_10_a_preview_is_not_shown_behind_what_the_first_listener_has_read() {
        // It has read up to 7, which may have been of a brain; a client's entry follows.
        let mut remote = Remote::new(None);
        for early in [numbered(5, "a", 0), numbered(7, "b", 0)] {
            assert_eq!(remote.hear(None, early), None, "nobody knows where it is");
        }
        remote.begin(7);
        let shown = remote.published(8, None);
        assert_eq!(shown, [numbered(7, "b", 0).preview]);
        assert_eq!(remote.hear(Some(8), numbered(5, "c", 0)), None);
        assert!(remote.hear(Some(8), numbered(7, "b", 1)).is_some());

        // A client's entry was published before anybody had read the log.
        let mut remote = Remote::new(None);
        assert_eq!(remote.hear(Some(8), numbered(5, "a", 0)), None);
        assert_eq!(remote.published(9, None), []);
        remote.begin(7);
        assert_eq!(remote.published(10, None), []);
        remote.begin(4);
        assert_eq!(remote.hear(Some(10), numbered(5, "d", 0)), None);
    }

    #[test]
    fn sq_4_a_preview_waits_for_the_entry_it_stands_behind() {
        let mut remote = Remote::new(Some(0));
        for number in 0..3 {
            assert_eq!(remote.hear(Some(4), numbered(6, "a", number)), None);
        }
        assert_eq!(remote.published(5, None), []);
        assert_eq!(remote.published(6, Some(6)).len(), 3);
        assert!(remote.hear(Some(6), numbered(6, "a", 3)).is_some());

        assert_eq!(remote.hear(Some(6), numbered(8, "b", 0)), None);
        assert_eq!(remote.published(9, Some(9)), [], "overtaken as it waited");
        for number in 0..u32::try_from(WAITING).unwrap() * 3 {
            assert_eq!(remote.hear(Some(9), numbered(11, "c", number)), None);
            assert!(remote.waiting.len() <= WAITING);
        }
        let shown = remote.published(11, Some(11));
        assert_eq!(shown, [], "a beginning of nothing: the start was given up");
    }
}
