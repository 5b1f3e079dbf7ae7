//! What one listener has been told, and what it is told next. Pure.

use std::collections::HashSet;

use manyhands_protocol::EventId;
use manyhands_protocol::event::{Preview, PreviewKind};
use manyhands_store::{Entry, TailItem};

/// What came of an item.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Frames to send, possibly none.
    Frames(String),
    /// Something was missed: read the log after [`Follow::position`] before anything else.
    Gap,
    /// The last frames.
    End(String),
}

/// The state of one listener.
pub(super) struct Follow {
    /// All entries up to here were told.
    position: i64,
    /// Items of the tail that are older than this were overtaken by reading the log: their previews are stale.
    overtaken: i64,
    previews: HashSet<PreviewKind>,
    legacy_names: bool,
    /// Announced events that may still get deltas (runtime ST-14: only those whose start was told here).
    started: HashSet<EventId>,
    /// The end of the session was told.
    over: bool,
}

impl Follow {
    pub(super) fn new(position: i64, previews: HashSet<PreviewKind>, legacy_names: bool) -> Self {
        Self {
            position,
            // A request that is in flight began before this listener came: it gets no previews (runtime ST-14).
            overtaken: position,
            previews,
            legacy_names,
            started: HashSet::new(),
            over: false,
        }
    }

    /// Whether the end of the session was told: no event follows it, and the stream closes (runtime ST-5).
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// All entries up to here were told.
    pub(super) fn position(&self) -> i64 {
        self.position
    }

    /// Takes an item of the tail.
    pub(super) fn hear(&mut self, item: &TailItem) -> Heard {
        match item {
            TailItem::Entries(entries) => {
                let Some(first) = entries.first() else {
                    return Heard::Frames(String::new());
                };
                if first.position > self.position + 1 {
                    self.shed();
                    return Heard::Gap;
                }
                Heard::Frames(self.tell(entries))
            }
            TailItem::Preview(preview) => Heard::Frames(self.preview(preview)),
            TailItem::Lagged => {
                metrics::counter!("manyhands_stream_overtaken_total").increment(1);
                self.shed();
                Heard::Gap
            }
            TailItem::Deleted(event) => {
                let mut frames = String::new();
                self.frame(&mut frames, "session.deleted", None, event);
                Heard::End(frames)
            }
        }
    }

    /// Takes entries that were read from the log.
    pub(super) fn read(&mut self, entries: &[Entry]) -> String {
        let frames = self.tell(entries);
        self.overtaken = self.position;
        frames
    }

    fn tell(&mut self, entries: &[Entry]) -> String {
        let mut frames = String::new();
        for entry in entries
            .iter()
            .filter(|entry| entry.position > self.position)
        {
            if entry.is_public() {
                self.frame(
                    &mut frames,
                    &entry.type_name,
                    Some(entry.position),
                    &entry.render(),
                );
            }
            self.started.remove(&entry.event_id);
            match &*entry.type_name {
                "span.model_request_end" => self.started.clear(),
                "session.status_terminated" => self.over = true,
                _ => {}
            }
        }
        self.position = entries
            .last()
            .map_or(self.position, |last| last.position.max(self.position));
        frames
    }

    /// A preview is told only in its place. One that was overtaken could come after the whole event (runtime ST-10).
    fn preview(&mut self, preview: &Preview) -> String {
        let mut frames = String::new();
        if self.overtaken >= self.position && self.overtaken > 0 {
            return frames;
        }
        let wanted = match preview {
            Preview::EventStart { event } => {
                self.previews.contains(&event.kind) && self.started.insert(event.id.clone())
            }
            Preview::EventDelta { event_id, .. } => self.started.contains(event_id),
        };
        if wanted && let Ok(data) = serde_json::to_string(preview) {
            self.frame(&mut frames, preview.type_name(), None, &data);
        }
        frames
    }

    /// Ends all previews that have begun: a fragment is missing, and what follows would not be a prefix (runtime ST-11).
    fn shed(&mut self) {
        self.started.clear();
    }

    fn frame(&self, frames: &mut String, name: &str, position: Option<i64>, data: &str) {
        frames.push_str("event: ");
        frames.push_str(if self.legacy_names { "message" } else { name });
        if let Some(position) = position {
            frames.push_str("\nid: ");
            frames.push_str(&position.to_string());
        }
        frames.push_str("\ndata: ");
        frames.push_str(data);
        frames.push_str("\n\n");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use manyhands_protocol::content::ContentBlock;
    use manyhands_protocol::event::{PreviewDelta, PreviewedEvent};
    use manyhands_protocol::{ThreadId, Timestamp};
    use manyhands_store::EntryKind;

    use super::*;

    const START: &str = "span.model_request_start";
    const END: &str = "span.model_request_end";

    fn id(text: &str) -> EventId {
        EventId::parse(text).expect("an event id")
    }

    fn entry(position: i64, type_name: &str) -> Entry {
        Entry {
            position,
            kind: if type_name == "response" {
                EntryKind::Private
            } else {
                EntryKind::Event
            },
            event_id: id(&format!("sevt_{position}")),
            type_name: type_name.into(),
            thread_id: ThreadId::parse("sthr_1").expect("an id"),
            body: format!("{{\"type\":\"{type_name}\"}}").into(),
            processed_at: Some(Timestamp::from_micros(0)),
            created_at: Timestamp::from_micros(0),
            epoch: 1,
        }
    }

    fn entries(list: &[(i64, &str)]) -> TailItem {
        TailItem::Entries(
            list.iter()
                .map(|(position, name)| entry(*position, name))
                .collect(),
        )
    }

    /// The start of a message's preview.
    fn message(event: &str) -> TailItem {
        start(event, PreviewKind::AgentMessage)
    }

    fn start(event: &str, kind: PreviewKind) -> TailItem {
        TailItem::Preview(Arc::new(Preview::EventStart {
            event: PreviewedEvent {
                kind,
                id: id(event),
            },
        }))
    }

    fn delta(event: &str) -> TailItem {
        let delta = PreviewDelta::ContentDelta {
            index: 0,
            content: ContentBlock::text("he"),
        };
        TailItem::Preview(Arc::new(Preview::EventDelta {
            event_id: id(event),
            delta,
        }))
    }

    fn listener(position: i64) -> Follow {
        Follow::new(position, HashSet::from([PreviewKind::AgentMessage]), false)
    }

    /// The names of the frames, with their ids.
    fn names(frames: &str) -> Vec<String> {
        let frame = |frame: &str| {
            let line = |key| {
                frame
                    .lines()
                    .find_map(|line| line.strip_prefix(key))
                    .unwrap_or_default()
            };
            assert!(
                serde_json::from_str::<serde_json::Value>(line("data: ")).is_ok(),
                "{frame}"
            );
            format!("{} {}", line("event: "), line("id: "))
                .trim_end()
                .to_owned()
        };
        frames.split_terminator("\n\n").map(frame).collect()
    }

    #[track_caller]
    fn check(follow: &mut Follow, item: &TailItem, expected: &[&str]) {
        match follow.hear(item) {
            Heard::Frames(frames) => assert_eq!(names(&frames), expected),
            other => panic!("frames expected, not {other:?}"),
        }
    }

    /// A listener that was told of a request.
    fn requesting() -> Follow {
        let mut follow = listener(0);
        let told = format!("{START} 1");
        check(&mut follow, &entries(&[(1, START)]), &[&told]);
        follow
    }

    /// A listener that was told of a request and of the start of this message.
    fn previewing(event: &str) -> Follow {
        let mut follow = requesting();
        check(&mut follow, &message(event), &["event_start"]);
        follow
    }

    #[test]
    fn st_3_frames_are_named_by_type_and_carry_their_position() {
        let frames = match listener(0).hear(&entries(&[(1, START)])) {
            Heard::Frames(frames) => frames,
            other => panic!("frames expected, not {other:?}"),
        };
        let data = format!(
            "{{\"id\":\"sevt_1\",\"processed_at\":\"1970-01-01T00:00:00.000000Z\",\"type\":\"{START}\"}}"
        );
        assert_eq!(frames, format!("event: {START}\nid: 1\ndata: {data}\n\n"));
    }

    #[test]
    fn st_4_old_clients_can_have_one_name_for_all() {
        let mut follow = Follow::new(0, HashSet::new(), true);
        check(&mut follow, &entries(&[(1, START)]), &["message 1"]);
    }

    #[test]
    fn private_entries_are_passed_over_and_told_ones_not_repeated() {
        let mut follow = listener(1);
        check(
            &mut follow,
            &entries(&[(1, START), (2, "response"), (3, END)]),
            &["span.model_request_end 3"],
        );
        check(&mut follow, &entries(&[(3, END)]), &[]);
        assert_eq!(follow.position(), 3);
    }

    #[test]
    fn st_10_st_14_previews_follow_a_start_that_was_told_and_end_with_the_event() {
        let mut follow = listener(0);
        check(&mut follow, &delta("sevt_2"), &[]);
        check(
            &mut follow,
            &entries(&[(1, START)]),
            &[&format!("{START} 1")],
        );
        check(&mut follow, &message("sevt_2"), &["event_start"]);
        check(&mut follow, &message("sevt_2"), &[]);
        check(&mut follow, &delta("sevt_2"), &["event_delta"]);
        check(
            &mut follow,
            &start("sevt_9", PreviewKind::AgentThinking),
            &[],
        );
        check(
            &mut follow,
            &entries(&[(2, "agent.message"), (3, END)]),
            &["agent.message 2", &format!("{END} 3")],
        );
        check(&mut follow, &delta("sevt_2"), &[]);
    }

    #[test]
    fn st_11_a_preview_that_lost_a_fragment_stays_silent_behind_later_events() {
        let mut follow = previewing("sevt_9");
        assert_eq!(follow.hear(&TailItem::Lagged), Heard::Gap);
        assert_eq!(follow.read(&[]), "");
        check(
            &mut follow,
            &entries(&[(2, "user.message")]),
            &["user.message 2"],
        );
        check(&mut follow, &delta("sevt_9"), &[]);
    }

    #[test]
    fn st_11_st_16_a_listener_that_lagged_gets_every_event_and_no_more_of_a_broken_preview() {
        let mut follow = previewing("sevt_2");
        assert_eq!(follow.hear(&TailItem::Lagged), Heard::Gap);
        assert_eq!(follow.read(&[]), "");
        check(&mut follow, &delta("sevt_2"), &[]);
        assert_eq!(follow.hear(&entries(&[(4, "session.usage")])), Heard::Gap);
        let read = follow.read(&[
            entry(2, "agent.message"),
            entry(3, END),
            entry(4, "session.usage"),
        ]);
        assert_eq!(
            names(&read),
            [
                "agent.message 2",
                "span.model_request_end 3",
                "session.usage 4"
            ]
        );
    }

    #[test]
    fn st_10_a_preview_that_was_overtaken_by_the_log_is_not_told_after_its_event() {
        let mut follow = listener(0);
        follow.read(&[entry(1, START), entry(2, "agent.message"), entry(3, END)]);
        check(&mut follow, &message("sevt_2"), &[]);
        check(&mut follow, &delta("sevt_2"), &[]);
        check(
            &mut follow,
            &entries(&[(4, START)]),
            &[&format!("{START} 4")],
        );
        check(&mut follow, &message("sevt_5"), &["event_start"]);
    }

    #[test]
    fn sq_20_deletion_is_the_last_frame() {
        let deleted = TailItem::Deleted("{\"type\":\"session.deleted\"}".into());
        match listener(7).hear(&deleted) {
            Heard::End(frames) => assert_eq!(names(&frames), ["session.deleted"]),
            other => panic!("the end expected, not {other:?}"),
        }
    }
}
