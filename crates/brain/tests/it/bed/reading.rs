//! What a story sees of its session: the row, the log, and waits for both.

use futures::FutureExt;
use manyhands_protocol::session::SessionStatus;
use manyhands_store::{Entry, EntryKind, SessionRecord, Subscription};
use serde_json::Value;

use super::parts::line;
use super::{Bed, PATIENCE};

/// How a turn ends whose last answer is `Done.`.
pub(crate) const DONE: [&str; 6] = [
    "span.model_request_start",
    "agent.message: Done.",
    "span.model_request_end",
    "session.thread_status_idle: end_turn",
    "session.usage",
    "session.status_idle: end_turn",
];

/// The log from this line on.
pub(crate) fn from<'a>(log: &'a [String], line: &str) -> &'a [String] {
    let at = log.iter().position(|found| found == line);
    &log[at.unwrap_or_else(|| panic!("no {line} in {log:#?}"))..]
}

/// How many model requests begin in a log, and how many end.
pub(crate) fn spans(log: &[String]) -> (usize, usize) {
    let count = |word: &str| log.iter().filter(|line| line.starts_with(word)).count();
    (
        count("span.model_request_start"),
        count("span.model_request_end"),
    )
}

impl Bed {
    /// The texts of the results in a request, by its number from 1.
    pub(crate) async fn result_texts(&self, request: usize) -> Vec<String> {
        let request = self.model.request(request).await;
        let results = request.tool_results().into_iter();
        results.map(|result| result.text).collect()
    }

    /// Which results in a request are errors, by its number from 1.
    pub(crate) async fn result_errors(&self, request: usize) -> Vec<bool> {
        let request = self.model.request(request).await;
        let results = request.tool_results().into_iter();
        results.map(|result| result.is_error).collect()
    }

    /// Waits until the session is at rest, with nothing queued that could go on.
    pub(crate) async fn idle(&self) {
        self.until(|record, _| {
            matches!(
                record.status,
                SessionStatus::Idle | SessionStatus::Terminated
            )
        })
        .await;
    }

    /// Waits until the session and its log are as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&SessionRecord, &[Entry]) -> bool) {
        let mut tail: Subscription = self.store.subscribe(&self.session);
        let wait = async {
            loop {
                let record = self.record().await;
                let entries = self.entries().await;
                if wanted(&record, &entries) {
                    return;
                }
                tail.recv().await.expect("the store is open");
                while tail.recv().now_or_never().is_some() {}
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!(
                "waited too long; the log is:\n{}",
                self.log().await.join("\n")
            );
        }
    }

    /// Waits until an event of this type is in the log so many times.
    pub(crate) async fn seen(&self, type_name: &str, times: usize) {
        self.until(|_, entries| {
            let of_type =
                |entry: &&Entry| &*entry.type_name == type_name && entry.kind == EntryKind::Event;
            entries.iter().filter(of_type).count() >= times
        })
        .await;
    }

    pub(crate) async fn record(&self) -> SessionRecord {
        let record = self.store.session(&self.workspace, &self.session).await;
        record.unwrap().expect("the session")
    }

    pub(crate) async fn entries(&self) -> Vec<Entry> {
        self.store.read(&self.session, 0, 100_000).await.unwrap()
    }

    /// Public events of a type, rendered and parsed.
    pub(crate) async fn events(&self, type_name: &str) -> Vec<Value> {
        let entries = self.entries().await;
        let of_type = entries
            .iter()
            .filter(|entry| &*entry.type_name == type_name && entry.kind == EntryKind::Event);
        of_type
            .map(|entry| serde_json::from_str(&entry.render()).unwrap())
            .collect()
    }

    /// The public log, a line each: the type and what tells it from others.
    pub(crate) async fn log(&self) -> Vec<String> {
        let entries = self.entries().await;
        let public = entries.iter().filter(|entry| entry.is_public());
        public.map(line).collect()
    }

    /// Invariant I3: every tool use has exactly one result, and none is open.
    pub(crate) async fn assert_each_call_has_one_result(&self) {
        let mut uses = Vec::new();
        let mut results = Vec::new();
        for entry in self.entries().await {
            let body: Value = serde_json::from_str(&entry.body).unwrap();
            match (entry.kind, &*entry.type_name) {
                (
                    EntryKind::Event,
                    "agent.tool_use" | "agent.custom_tool_use" | "agent.mcp_tool_use",
                ) => {
                    uses.push(entry.event_id.as_str().to_owned());
                }
                (EntryKind::Event, "agent.tool_result") => {
                    results.push(body["tool_use_id"].as_str().unwrap().to_owned());
                }
                (EntryKind::Event, "agent.mcp_tool_result") => {
                    results.push(body["mcp_tool_use_id"].as_str().unwrap().to_owned());
                }
                (EntryKind::Event, "user.custom_tool_result") => {
                    results.push(body["custom_tool_use_id"].as_str().unwrap().to_owned());
                }
                _ => {}
            }
        }
        uses.sort();
        results.sort();
        assert_eq!(uses, results, "each call has exactly one result (I3)");
    }
}
