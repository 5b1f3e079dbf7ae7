//! A summary takes the conversation's place: one more request to the model, and one append (runtime CC-1 to CC-4).

use std::sync::Arc;

use manyhands_protocol::EventId;
use manyhands_protocol::event::{EventBody, RetryStatus, SessionError, SessionErrorType};
use manyhands_store::{Append, AppendError, NewEntry};

use super::log::Row;
use super::sample::{Outcome, count};
use super::{Flow, Stop, Wake};
use crate::activity::Doing;
use crate::answer::span_end;
use crate::compaction::{self, Form, TEXTS};
use crate::models::{self, ErrorKind, Resolved, Response, View};
use crate::previews::Previews;
use crate::record::{COMPACTION, OVERFLOW, private};
use crate::replay::{Carried, Compaction};

impl Wake {
    /// One request for a summary, in this form.
    pub(super) async fn compact(&mut self, form: Form) -> Result<Flow, Stop> {
        let resolved = match self.resolved() {
            Ok(resolved) => resolved,
            Err(error) => return self.give_up(Vec::new(), *error, false).await,
        };
        self.pass("brain::compact").await;
        let mut entries: Vec<NewEntry> = self.close_span().into_iter().collect();
        let span = EventId::generate();
        entries.push(NewEntry::Event {
            id: span.clone(),
            body: EventBody::SpanModelRequestStart {},
            queued: false,
        });
        let append = Append {
            entries,
            ..Append::default()
        };
        let agent = &self.agent().definition;
        let request = compaction::request(form, agent, &resolved, &self.transcript);
        let (store, session) = (self.shared.store.clone(), self.lease.session.clone());
        let previews = Previews::hidden(store, session, Arc::clone(&self.activity));
        let model = Arc::clone(&resolved.model);
        let asked = self.ask(Doing::Compacting, &*model, &request, append, &previews);
        match asked.await? {
            Outcome::Answered(Ok(response)) => match summary(&response) {
                Some(summary) => {
                    count("compacted");
                    self.summarised(&summary, &resolved, &response, &span).await
                }
                None => {
                    count("compacted_nothing");
                    let unusable = models::Error::new(
                        ErrorKind::Failed,
                        "The model gave no summary of a conversation that is too long for it.",
                    );
                    let usage = self.counted(response.usage, Some(&response.model));
                    let end = span_end(&span, false, response.usage.for_span());
                    self.shorten(end, usage, &unusable).await
                }
            },
            Outcome::Answered(Err(error)) => {
                count("failed");
                tracing::warn!(session.id = %self.lease.session, kind = ?error.kind, "the request for a summary failed");
                match error.kind {
                    ErrorKind::Overflow | ErrorKind::Refused => {
                        let used = previews.usage();
                        let end = span_end(&span, true, used.for_span());
                        let usage = self.counted(used, None);
                        self.shorten(end, usage, &error).await
                    }
                    _ => self.failed(&error, &span, &previews).await,
                }
            }
            Outcome::Interrupted => self.cut_off(&span, &previews).await,
        }
    }

    /// Writes the summary and all that goes on. What clients send meanwhile goes on too: nothing may lie between what
    /// the entry carries and the entry.
    async fn summarised(
        &mut self,
        summary: &str,
        resolved: &Resolved,
        response: &Response,
        span: &EventId,
    ) -> Result<Flow, Stop> {
        let usage = self.counted(response.usage, Some(&response.model));
        let fixed =
            crate::context::fixed_bytes(&self.agent().definition, &self.transcript) as u64 / 4;
        let tokens_before = compaction::estimate(&self.transcript, fixed);
        let summary = compaction::bounded(summary, resolved);
        self.pass("brain::summary").await;
        loop {
            let compaction = Compaction {
                summary: summary.clone(),
                model: response.model.clone(),
                tokens_before,
                carried: Carried::of(&self.transcript),
            };
            let append = Append {
                entries: vec![
                    span_end(span, false, response.usage.for_span()),
                    private(COMPACTION, &compaction),
                    NewEntry::event(EventBody::AgentThreadContextCompacted {}),
                ],
                usage: Some(usage),
                ..Append::default()
            };
            let row = Row::of(&append);
            let position = self.transcript.position;
            let store = self.shared.store.clone();
            match store.append_at(&self.lease, append, position).await {
                Ok(entries) => {
                    self.absorb(&entries, row).await?;
                    break;
                }
                Err(AppendError::UnreadInput) => self.catch_up().await?,
                Err(error) => return Err(error.into()),
            }
        }
        metrics::counter!("manyhands_compactions_total").increment(1);
        tracing::info!(session.id = %self.lease.session, tokens_before, "the conversation was summarised");
        self.pass("brain::summarised").await;
        Ok(Flow::Continue)
    }

    /// A request was too long, or its summary none: the next one is shorter, until there is none (security MODEL-4).
    pub(super) async fn shorten(
        &mut self,
        span_end: NewEntry,
        usage: manyhands_store::UsageTotals,
        error: &models::Error,
    ) -> Result<Flow, Stop> {
        self.pass("brain::failed").await;
        if self.transcript.overflows >= TEXTS {
            self.usage = usage;
            let error = SessionError::new(
                match error.kind {
                    ErrorKind::Failed => SessionErrorType::CompactionLimitReachedError,
                    _ => error.session_error_type(),
                },
                error.message.clone(),
                RetryStatus::Exhausted,
            );
            return self.give_up(vec![span_end], error, false).await;
        }
        self.append(Append {
            entries: vec![span_end, private(OVERFLOW, &serde_json::json!({}))],
            usage: Some(usage),
            ..Append::default()
        })
        .await?;
        self.pass("brain::overflowed").await;
        Ok(Flow::Continue)
    }
}

/// The text of a summary, if the answer is one. Calls that come along are not made: nothing knows of them afterwards.
fn summary(response: &Response) -> Option<String> {
    if matches!(response.stop, models::Stop::Refusal { .. }) {
        return None;
    }
    let texts = response
        .blocks
        .iter()
        .filter_map(|block| match &block.view {
            View::Text(text) if !text.trim().is_empty() => Some(text.trim()),
            _ => None,
        });
    let text = texts.collect::<Vec<_>>().join("\n\n");
    Some(text).filter(|text| !text.is_empty())
}
