//! Handing calls over, in the sandbox and beside the server, and writing each result as it comes.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use futures::{FutureExt, Stream};
use manyhands_hands::Sandbox;
use manyhands_protocol::EventId;
use manyhands_protocol::content::ContentBlock;
use manyhands_store::{Append, NewEntry, UsageTotals};

use super::execute::ATTEMPTS;
use super::{Flow, Stop, Wake, heard};
use crate::activity::Doing;
use crate::tools::{self, Done, Hand, Verdict, error_result};

impl Wake {
    /// Hands the calls over and writes each result as it comes. An interrupt leaves them running, to be killed next.
    pub(super) async fn dispatch(&mut self, run: &[EventId]) -> Result<Flow, Stop> {
        if run.is_empty() {
            return Ok(Flow::Continue);
        }
        let in_sandbox = run.iter().any(|id| {
            let call = self.transcript.calls.get(id);
            call.is_some_and(|call| call.hand() == Hand::Sandbox)
        });
        if in_sandbox && self.sandbox.is_some() {
            // What cannot be laid now is told with what is saved.
            self.reconcile().await?;
        }
        let beside = self.beside(run).await?;
        let sandbox = self.sandbox.clone();
        let deadline = |id: &EventId| {
            let call = self.transcript.calls.get(id)?;
            let beside = self.mcp_deadline(call.hand());
            Some(beside.unwrap_or_else(|| tools::call(id, call, self.lease.epoch).deadline))
        };
        let longest = run.iter().filter_map(deadline).max();
        let limit = longest.unwrap_or_default() + self.shared.config.watchdog.grace;
        self.enter(Doing::Running(run.to_vec()), limit);
        let mut work = self.work(sandbox.as_ref(), run, beside);
        let mut stirred = self.stirred();
        loop {
            tokio::select! {
                biased;
                done = work.next() => {
                    let Some(done) = done else { return Ok(Flow::Continue) };
                    let mut finished = vec![done];
                    while let Some(Some(more)) = work.next().now_or_never() {
                        finished.push(more);
                    }
                    if let Some(why) = self.finished(sandbox.as_ref(), finished).await? {
                        return self.misconfigured(why).await;
                    }
                }
                () = &mut stirred => {
                    self.reconcile().await?;
                    stirred = self.stirred();
                }
                () = heard(&mut self.signal, self.shared.config.tick) => {
                    self.catch_up().await?;
                    if self.transcript.is_interrupted() {
                        return Ok(Flow::Continue);
                    }
                    if self.is_behind_stores().await? {
                        self.reconcile().await?;
                    }
                }
            }
        }
    }

    /// The calls as one stream of their ends: `bash` one after the other, the others beside, a bounded number at once.
    fn work(
        &self,
        sandbox: Option<&Arc<dyn Sandbox>>,
        run: &[EventId],
        beside: Vec<BoxFuture<'static, Done>>,
    ) -> impl Stream<Item = Done> + Unpin + use<> {
        let slots = Arc::new(tokio::sync::Semaphore::new(
            self.shared.config.parallel_calls.max(1),
        ));
        let mut shell = Vec::new();
        let mut lanes = Vec::new();
        for id in run {
            let Some(call) = self.transcript.calls.get(id) else {
                continue;
            };
            if call.hand() != Hand::Sandbox {
                continue;
            }
            let call = tools::call(id, call, self.lease.epoch);
            if call.name == "bash" {
                shell.push(call);
            } else {
                lanes.push(vec![call]);
            }
        }
        lanes.push(shell);
        let beside = beside.into_iter().map(|call| {
            let slots = Arc::clone(&slots);
            let run = async move {
                let _slot = slots.acquire_owned().await;
                call.await
            };
            stream::once(run).boxed()
        });
        // A sandbox tool is run only where one was found or made.
        let lanes = sandbox.into_iter().flat_map(|sandbox| {
            lanes
                .drain(..)
                .map(|lane| (Arc::clone(sandbox), lane))
                .collect::<Vec<_>>()
        });
        let lanes = lanes.map(|(sandbox, lane)| {
            let slots = Arc::clone(&slots);
            stream::iter(lane)
                .then(move |call| {
                    let (sandbox, slots) = (Arc::clone(&sandbox), Arc::clone(&slots));
                    async move {
                        let _slot = slots.acquire_owned().await;
                        tools::execute(&*sandbox, call).await
                    }
                })
                .boxed()
        });
        stream::select_all(lanes.chain(beside).collect::<Vec<_>>())
    }

    /// Writes the results. Gives back why the turn must end, when a service does not take the agent's settings.
    async fn finished(
        &mut self,
        sandbox: Option<&Arc<dyn Sandbox>>,
        mut finished: Vec<Done>,
    ) -> Result<Option<String>, Stop> {
        let mut usage = self.usage;
        let rejected = finished.iter_mut().find_map(|done| done.rejected.take());
        for done in finished
            .iter_mut()
            .filter(|done| done.hand != Hand::Sandbox)
        {
            usage.web_search_requests += done.searches;
            self.within_limits(done).await?;
        }
        let in_sandbox = finished.iter().rposition(|done| done.hand == Hand::Sandbox);
        let mut memories = match in_sandbox {
            Some(_) => {
                let unsaved = self.reconcile().await?;
                self.memory_news(unsaved)
            }
            None => None,
        };
        let mut told = false;
        self.pass("brain::result").await;
        let mut entries = Vec::new();
        let mut known = Vec::new();
        for Done {
            id,
            name,
            hand,
            verdict,
            failure,
            ..
        } in finished
        {
            let outcome = match verdict {
                Verdict::Given(mut given) => {
                    if hand == Hand::Sandbox {
                        if let Some(text) = self.note.take() {
                            given.content.insert(0, ContentBlock::text(text));
                        }
                        if let Some((text, failed)) = memories.take() {
                            given.content.push(ContentBlock::text(text));
                            given.is_error |= failed;
                            told = true;
                        }
                        known.push(id.as_str().to_owned());
                    }
                    let outcome = if given.is_error { "error" } else { "ok" };
                    let news = failure.and_then(|failure| self.news(*failure, &entries));
                    entries.extend(news);
                    entries.push(tools::result(&id, hand, given));
                    outcome
                }
                Verdict::Lost(text) => {
                    if hand == Hand::Sandbox {
                        self.sandbox = None;
                        self.copies = None;
                    }
                    let attempt = self.transcript.calls.get(&id);
                    let attempt = attempt.and_then(|call| call.started.as_ref());
                    let attempt = attempt.map_or(1, |started| started.attempt);
                    if tools::repeatable(&name) && attempt < ATTEMPTS {
                        "repeated"
                    } else {
                        metrics::counter!("manyhands_unknown_outcomes_total").increment(1);
                        entries.push(error_result(&id, hand, text));
                        "unknown"
                    }
                }
                Verdict::Stale => return Err(Stop::Lost),
            };
            let tool = tools::label(&name, hand);
            metrics::counter!("manyhands_tool_calls_total", "tool" => tool, "outcome" => outcome)
                .increment(1);
        }
        self.results_with(entries, (usage != self.usage).then_some(usage))
            .await?;
        if told {
            self.forget_memory_news().await;
        }
        if let Some(sandbox) = sandbox.filter(|_| !known.is_empty()) {
            let (sandbox, epoch) = (Arc::clone(sandbox), self.lease.epoch);
            // Off the path to the next request; one that is lost costs the sandbox a little memory.
            tokio::spawn(async move { tools::forget(&*sandbox, &known, epoch).await });
        }
        Ok(rejected)
    }

    pub(super) async fn results(&mut self, entries: Vec<NewEntry>) -> Result<(), Stop> {
        self.results_with(entries, None).await
    }

    /// Writes results, and the totals they change.
    async fn results_with(
        &mut self,
        entries: Vec<NewEntry>,
        usage: Option<UsageTotals>,
    ) -> Result<(), Stop> {
        if entries.is_empty() {
            return Ok(());
        }
        self.append(Append {
            entries,
            usage,
            ..Append::default()
        })
        .await?;
        self.pass("brain::resulted").await;
        Ok(())
    }
}
