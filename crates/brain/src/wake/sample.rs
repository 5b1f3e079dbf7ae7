//! Asking the model: the request goes out while its start is being written; the answer is one append.

use std::sync::Arc;

use manyhands_hands::Sandbox;
use manyhands_protocol::EventId;
use manyhands_protocol::event::{
    EventBody, RetryStatus, SessionError, SessionErrorType, StopDetails, StopReason,
};
use manyhands_protocol::session::SessionStatus;
use manyhands_store::{Append, Entry, NewEntry, UsageTotals};

use super::log::Row;
use super::{Flow, Stop, Wake, heard};
use crate::activity::Doing;
use crate::answer::{Answer, span_end};
use crate::compaction;
use crate::context;
use crate::models::{self, Advice, ErrorKind, Resolved, Response};
use crate::previews::Previews;
use crate::record::{RETRY, private};
use crate::retry;

/// How a request ended.
pub(super) enum Outcome {
    Answered(Result<Response, models::Error>),
    Interrupted,
}

impl Wake {
    /// Says that the session runs again, unless a client's message has said so meanwhile (runtime LC-2).
    pub(super) async fn resume(&mut self) -> Result<Flow, Stop> {
        self.pass("brain::resume").await;
        let append = Append {
            entries: self.running().into(),
            status: Some(SessionStatus::Running),
            ..Append::default()
        };
        self.append_if_read(append).await
    }

    /// One model request with all that was said since the last one.
    pub(super) async fn sample(&mut self, take: Vec<EventId>) -> Result<Flow, Stop> {
        let resolved = match self.resolved() {
            Ok(resolved) => resolved,
            Err(error) => return self.give_up(Vec::new(), *error, false).await,
        };
        if self.provision_ahead().await?.is_none() {
            return Ok(Flow::Continue);
        }
        let mut entries: Vec<NewEntry> = self.close_span().into_iter().collect();
        for event_id in &take {
            self.transcript.take(event_id);
            entries.push(NewEntry::Processed {
                event_id: event_id.clone(),
            });
        }
        let span = EventId::generate();
        entries.push(NewEntry::Event {
            id: span.clone(),
            body: EventBody::SpanModelRequestStart {},
            queued: false,
        });
        let request = context::build(&self.agent().definition, &resolved, &self.transcript);
        let append = Append {
            entries,
            ..Append::default()
        };
        let (store, session) = (self.shared.store.clone(), self.lease.session.clone());
        let previews = Previews::new(store, session, Arc::clone(&self.activity));
        let outcome = self
            .ask(Doing::Asking, &*resolved.model, &request, append, &previews)
            .await?;
        match outcome {
            Outcome::Answered(Ok(response)) => {
                count("answered");
                self.conclude(&response, &span, &previews).await
            }
            Outcome::Answered(Err(error)) => {
                count("failed");
                tracing::warn!(session.id = %self.lease.session, kind = ?error.kind, "model request failed");
                self.failed(&error, &span, &previews).await
            }
            Outcome::Interrupted => self.cut_off(&span, &previews).await,
        }
    }

    /// The model of the session's agent, or what to say when there is none.
    pub(super) fn resolved(&self) -> Result<Resolved, Box<SessionError>> {
        let id = &self.agent().definition.model.id;
        self.shared.models.resolve(id).ok_or_else(|| {
            let known: Vec<String> = self
                .shared
                .models
                .list()
                .into_iter()
                .map(|model| model.id)
                .collect();
            let message = format!(
                "No model is configured for the id {id:?}. Known: {}. Configure it, then send a message.",
                known.join(", ")
            );
            Box::new(SessionError::new(
                SessionErrorType::ModelRequestFailedError,
                message,
                RetryStatus::Exhausted,
            ))
        })
    }

    /// An interrupt cut the request off: what it used so far counts.
    pub(super) async fn cut_off(
        &mut self,
        span: &EventId,
        previews: &Previews,
    ) -> Result<Flow, Stop> {
        count("interrupted");
        self.pass("brain::cut_off").await;
        let usage = previews.usage();
        let entries = vec![span_end(span, false, usage.for_span())];
        self.append(Append {
            entries,
            usage: Some(self.counted(usage, None)),
            ..Append::default()
        })
        .await?;
        Ok(Flow::Continue)
    }

    /// Writes the start of the span and sends the request, both at once; listens for an interrupt.
    pub(super) async fn ask(
        &mut self,
        doing: Doing,
        model: &dyn models::Model,
        request: &models::Request,
        append: Append,
        previews: &Previews,
    ) -> Result<Outcome, Stop> {
        self.pass("brain::span_start").await;
        let limit = model.patience() + self.shared.config.watchdog.grace;
        self.enter(doing, limit);
        let row = Row::of(&append);
        let (store, lease) = (self.shared.store.clone(), self.lease.clone());
        let mut sink = previews.clone();
        let ask = model.sample(request, &mut sink);
        let write = store.append(&lease, append);
        tokio::pin!(ask, write);
        let mut early: Option<Result<Response, models::Error>> = None;
        let written: Vec<Entry> = loop {
            tokio::select! {
                biased;
                written = &mut write => break written?,
                answer = &mut ask, if early.is_none() => early = Some(answer),
            }
        };
        previews.open();
        self.absorb(&written, row).await?;
        self.pass("brain::span_started").await;
        if let Some(answer) = early {
            self.working();
            return Ok(Outcome::Answered(answer));
        }
        loop {
            if self.transcript.is_interrupted() {
                return Ok(Outcome::Interrupted);
            }
            tokio::select! {
                biased;
                answer = &mut ask => {
                    self.working();
                    return Ok(Outcome::Answered(answer));
                }
                () = heard(&mut self.signal, self.shared.config.tick) => self.catch_up().await?,
            }
        }
    }

    /// Writes the whole answer in one append; with the rest, when the turn ends here and nothing waits.
    async fn conclude(
        &mut self,
        response: &Response,
        span: &EventId,
        previews: &Previews,
    ) -> Result<Flow, Stop> {
        let judgements = self.judge(response).await?;
        self.working();
        let answer = Answer::new(
            response,
            self.tools(),
            span,
            &previews.announced(),
            self.shared.config.calls_per_response,
            &judgements,
        );
        let usage = self.counted(response.usage, Some(&response.model));
        let ends_turn = answer.ends_turn;
        if !answer.sandbox.is_empty() {
            self.sandbox = self.find_sandbox().await?;
            if self.sandbox.is_some() {
                // The intents come with the answer: nothing is provisioned that would wish for it.
                self.want_capture().await?;
                self.capture_wanted = true;
            }
        }
        let instance = self.sandbox.as_deref().map(Sandbox::instance);
        let opened = answer.opened.clone();
        let entries = answer.into_entries(instance, &self.server_instance());
        self.pass("brain::answer").await;
        self.hear().await?;
        if ends_turn
            && self.transcript.queued.is_empty()
            && let Some((reason, details)) = ending(response)
        {
            let mut all = entries.clone();
            let idle = self.idle(reason, details, usage);
            all.extend(idle.entries);
            let append = Append {
                entries: all,
                status: Some(SessionStatus::Idle),
                usage: Some(usage),
                active_millis: Some(idle.active_millis),
                ..Append::default()
            };
            if self.append_and_rest(append).await? == Flow::Rested {
                metrics::counter!("manyhands_turns_total", "ending" => "end_turn").increment(1);
                return Ok(Flow::Rested);
            }
        }
        self.append(Append {
            entries,
            usage: Some(usage),
            opened,
            ..Append::default()
        })
        .await?;
        self.pass("brain::answered").await;
        Ok(Flow::Continue)
    }

    /// The totals with one more request, at the prices of the model that served it (runtime US-6).
    pub(super) fn counted(&self, used: models::Usage, served: Option<&str>) -> UsageTotals {
        let model = &self.agent().definition.model;
        let prices = self.shared.models.prices(&model.id, served);
        let cost = prices.map(|prices| prices.cost(used, model.inference_geo.as_deref()));
        used.added_to(self.usage, cost)
    }

    /// A failed request: tried again later, or the end of the turn.
    pub(super) async fn failed(
        &mut self,
        error: &models::Error,
        span: &EventId,
        previews: &Previews,
    ) -> Result<Flow, Stop> {
        let used = previews.usage();
        let end = span_end(span, true, used.for_span());
        let usage = self.counted(used, None);
        if error.kind == ErrorKind::Overflow && compaction::answers_overflow(&self.transcript) {
            return self.shorten(end, usage, error).await;
        }
        let mut entries = vec![end];
        let said =
            |status| SessionError::new(error.session_error_type(), error.message.clone(), status);
        let now = self.shared.clock.now();
        let again = (error.advice() == Advice::Retry)
            .then(|| {
                let config = &self.shared.config;
                let jitter = (config.jitter)();
                retry::next(
                    self.transcript.retry,
                    now,
                    previews.elapsed(),
                    error.after,
                    config.retries,
                    jitter,
                )
            })
            .flatten();
        self.pass("brain::failed").await;
        let Some(again) = again else {
            self.usage = usage;
            let withhold = error.advice() == Advice::Withhold;
            return self
                .give_up(entries, said(RetryStatus::Exhausted), withhold)
                .await;
        };
        entries.push(private(RETRY, &again));
        entries.push(NewEntry::event(EventBody::SessionError {
            error: said(RetryStatus::Retrying),
        }));
        entries.extend(self.rescheduled());
        self.append(Append {
            entries,
            status: Some(SessionStatus::Rescheduling),
            usage: Some(usage),
            ..Append::default()
        })
        .await?;
        self.pass("brain::rescheduled").await;
        Ok(Flow::Continue)
    }
}

/// The idle that an answer without calls leads to; `None` when more has to be said first.
fn ending(response: &Response) -> Option<(StopReason, Option<StopDetails>)> {
    match &response.stop {
        models::Stop::EndTurn | models::Stop::ToolUse => Some((StopReason::EndTurn, None)),
        models::Stop::MaxTokens => None,
        models::Stop::Refusal {
            category,
            explanation,
        } => Some((
            StopReason::Refusal,
            Some(StopDetails::Refusal {
                category: category.clone(),
                explanation: explanation.clone(),
            }),
        )),
    }
}

pub(super) fn count(outcome: &'static str) {
    metrics::counter!("manyhands_model_requests_total", "outcome" => outcome).increment(1);
}
