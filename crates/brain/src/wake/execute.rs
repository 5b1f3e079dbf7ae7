//! Running the calls of a response: intent, dispatch, result, each durable before what follows (security LOG-2).
//!
//! A call is started at most once per sandbox instance, because hands know it by its id; an intent whose instance is
//! gone has an unknown outcome, which is said and not repeated, but for tools that only look (invariant I4).

use std::sync::Arc;

use manyhands_hands::provider::Told;
use manyhands_hands::{Advice, Error, Provider, Sandbox};
use manyhands_protocol::EventId;
use manyhands_protocol::event::{EventBody, RetryStatus, SessionError, SessionErrorType};
use manyhands_store::NewEntry;

use super::{Flow, Stop, Wake, heard};
use crate::activity::Doing;
use crate::answer::intent;
use crate::record::UNFURNISHED;
use crate::replay::Consent;
use crate::tools::{self, Hand, error_result};

/// What the model reads of a call whose sandbox is gone.
const UNKNOWN: &str = "The sandbox that ran this call is gone, and its result with it: whether the call took effect is unknown. \
     Check the state before you repeat the call.";

/// What the model reads of a call that was made by a wake that is gone.
const UNHEARD: &str = "The result of this call was lost on its way: whether the call took effect is unknown. \
     Check the state before you repeat the call.";

/// What the model reads of a call that the user did not want (runtime TC-7).
const REJECTED: &str = "The user rejected this tool call.";

/// How often a tool that only looks is tried, each time in a new sandbox.
pub(super) const ATTEMPTS: u32 = 3;

impl Wake {
    /// Runs these calls to their results, as far as they can be run.
    pub(super) async fn execute(&mut self, calls: Vec<EventId>) -> Result<Flow, Stop> {
        let intended = |id: &EventId| {
            let call = self.transcript.calls.get(id);
            call.is_some_and(|call| call.started.is_some() && call.hand() == Hand::Sandbox)
        };
        let in_sandbox = calls.iter().any(intended);
        if self.sandbox.is_none() && in_sandbox {
            metrics::counter!("manyhands_recoveries_total", "of" => "tool_call").increment(1);
            self.sandbox = self.find_sandbox().await?;
        }
        // One that is provisioned has them already.
        if self.sandbox.is_some() && in_sandbox {
            self.lay_files().await?;
        }
        let mut sorted = self.sort(&calls);
        if !sorted.unknown.is_empty() {
            let unknown = sorted.unknown.len() as u64;
            metrics::counter!("manyhands_unknown_outcomes_total").increment(unknown);
            let unknown = sorted.unknown.iter().map(|id| {
                let hand = self.hand(id);
                let text = match hand {
                    Hand::Sandbox => UNKNOWN,
                    Hand::Web | Hand::Mcp => UNHEARD,
                };
                error_result(id, hand, text)
            });
            self.results(unknown.collect()).await?;
        }
        let mut run = sorted.attached;
        if !sorted.beside.is_empty() {
            let instance = self.server_instance();
            let intents = sorted.beside.iter();
            let intents = intents.map(|id| intent(id, self.hand(id), &instance, 1));
            let entries: Vec<NewEntry> = intents.collect();
            self.pass("brain::intent").await;
            self.write(entries).await?;
            self.pass("brain::intended").await;
            run.append(&mut sorted.beside);
        }
        if !sorted.new.is_empty() {
            match self.provision().await? {
                None => return Ok(Flow::Continue),
                Some(Err(text)) => {
                    let failed = sorted.new.iter();
                    let failed =
                        failed.map(|(id, _)| error_result(id, Hand::Sandbox, text.clone()));
                    self.results(failed.collect()).await?;
                }
                Some(Ok(sandbox)) => {
                    self.note_loss(&*sandbox).await?;
                    self.tell_unreachable(&*sandbox).await?;
                    if self.clone_repositories(&sandbox).await?.is_none() {
                        return Ok(Flow::Continue);
                    }
                    let intents = sorted.new.iter();
                    let intents = intents.map(|(id, attempt)| {
                        intent(id, Hand::Sandbox, sandbox.instance(), *attempt)
                    });
                    self.pass("brain::intent").await;
                    let entries: Vec<NewEntry> = intents.collect();
                    self.write(entries).await?;
                    self.pass("brain::intended").await;
                    self.change_sandbox(&*sandbox);
                    self.sandbox = Some(sandbox);
                    run.extend(sorted.new.into_iter().map(|(id, _)| id));
                }
            }
        }
        // The model's order again: `bash` calls share one shell.
        run.sort_by_key(|id| self.transcript.calls.get_index_of(id));
        self.dispatch(&run).await
    }

    /// Tells the model which calls the client did not want, and why.
    pub(super) async fn reject(&mut self, calls: &[EventId]) -> Result<Flow, Stop> {
        self.pass("brain::result").await;
        let results = calls.iter().map(|id| {
            let consent = self.transcript.calls.get(id).map(|call| &call.consent);
            let text = match consent {
                Some(Some(Consent::Refused {
                    message: Some(message),
                })) => format!("{REJECTED} Reason: {message}"),
                _ => REJECTED.to_owned(),
            };
            error_result(id, self.hand(id), text)
        });
        self.results(results.collect()).await?;
        Ok(Flow::Continue)
    }

    /// The session's live sandbox, never started. One that cannot be asked for counts as none.
    pub(super) async fn find_sandbox(&self) -> Result<Option<Arc<dyn Sandbox>>, Stop> {
        let session = self.lease.session.as_str();
        match self.hands.find(session, self.lease.epoch).await {
            // It is looked at anew when it is provisioned.
            Ok(Some(found)) if self.is_behind(&*found).await? => Ok(None),
            Ok(found) => Ok(found),
            Err(error) if error.advice() == Advice::Stop => Err(Stop::Lost),
            Err(error) => {
                tracing::warn!(session.id = session, %error, "the sandbox cannot be looked up");
                Ok(None)
            }
        }
    }

    fn sort(&self, calls: &[EventId]) -> Sorted {
        let instance = self.sandbox.as_deref().map(Sandbox::instance);
        let mut sorted = Sorted::default();
        for id in calls {
            let call = self.transcript.calls.get(id);
            let name = call.map_or("", |call| call.name.as_str());
            let started = call.and_then(|call| call.started.as_ref());
            if self.hand(id) != Hand::Sandbox {
                match started {
                    None => sorted.beside.push(id.clone()),
                    // Its intent came with the answer.
                    Some(started)
                        if started.instance == self.server_instance()
                            && !self.begun.contains(id) =>
                    {
                        sorted.attached.push(id.clone());
                    }
                    Some(_) => sorted.unknown.push(id.clone()),
                }
                continue;
            }
            match started {
                None => sorted.new.push((id.clone(), 1)),
                Some(started) if Some(started.instance.as_str()) == instance => {
                    sorted.attached.push(id.clone());
                }
                Some(started) if tools::repeatable(name) && started.attempt < ATTEMPTS => {
                    sorted.new.push((id.clone(), started.attempt + 1));
                }
                Some(_) => sorted.unknown.push(id.clone()),
            }
        }
        sorted
    }

    /// Where a call of the last response runs.
    fn hand(&self, id: &EventId) -> Hand {
        let call = self.transcript.calls.get(id);
        call.map_or(Hand::Sandbox, |call| call.hand())
    }

    /// The session's sandbox, started if there is none; a text for the model when there cannot be one; `None` when
    /// the client interrupted.
    pub(super) async fn provision(
        &mut self,
    ) -> Result<Option<Result<Arc<dyn Sandbox>, String>>, Stop> {
        self.pass("brain::provision").await;
        let limit = self.shared.config.watchdog.provision;
        self.enter(Doing::Provisioning, limit);
        let hands = Arc::clone(&self.hands);
        let recipe = self.recipe().await?;
        let session = self.lease.session.clone();
        let activity = Arc::clone(&self.activity);
        let told: Told = Arc::new(move |step: &str| {
            activity.tell(Doing::Furnishing(step.to_owned()));
        });
        // Durable before anything inside can write an output.
        let wish = self.want_capture();
        let provision = async move {
            let (wished, made) = tokio::join!(wish, tools::furnish(&*hands, recipe, &told));
            wished.map(|()| made)
        };
        tokio::pin!(provision);
        loop {
            tokio::select! {
                biased;
                sandbox = &mut provision => {
                    self.working();
                    let sandbox = sandbox?;
                    self.capture_wanted = true;
                    return match sandbox {
                        Ok((sandbox, furnished)) => {
                            if let Err(error) = furnished {
                                self.unfurnished(&error).await?;
                            }
                            Ok(Some(Ok(sandbox)))
                        }
                        Err(error) if error.advice() == Advice::Stop => Err(Stop::Lost),
                        Err(error) => {
                            tracing::warn!(session.id = %session, %error, "no sandbox");
                            Ok(Some(Err(error.for_model())))
                        }
                    };
                }
                () = heard(&mut self.signal, self.shared.config.tick) => {
                    self.catch_up().await?;
                    if self.transcript.is_interrupted() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Has the outputs looked for when the session comes to rest, also by the next server (runtime FI-6).
    pub(super) fn want_capture(
        &self,
    ) -> impl Future<Output = Result<(), manyhands_store::Error>> + use<> {
        let store = self.shared.store.clone();
        let (workspace, session) = (self.lease.workspace.clone(), self.lease.session.clone());
        let wanted = self.capture_wanted;
        async move {
            match wanted {
                true => Ok(()),
                false => store.want_capture(&workspace, &session).await,
            }
        }
    }

    /// The sandbox lacks what its environment lists: the client is told once, and the model with its next result (runtime
    /// EN-9).
    async fn unfurnished(&mut self, error: &Error) -> Result<(), Stop> {
        let message = format!("{UNFURNISHED}: {error}");
        self.note = Some(format!("[{message}]"));
        if self.transcript.unfurnished.as_ref() == Some(&message) {
            return Ok(());
        }
        let error = SessionError::new(
            SessionErrorType::UnknownError,
            message,
            RetryStatus::Retrying,
        );
        self.write(vec![NewEntry::event(EventBody::SessionError { error })])
            .await
    }
}

/// Calls by what can be done with them.
#[derive(Default)]
struct Sorted {
    /// To be started in a sandbox, and the number of the attempt.
    new: Vec<(EventId, u32)>,
    /// To be started beside the server.
    beside: Vec<EventId>,
    /// Given to the live sandbox already: it runs them, has their results, or never saw them and runs them now. Also calls
    /// beside the server that this wake has promised to start.
    attached: Vec<EventId>,
    /// Given to a sandbox that is gone.
    unknown: Vec<EventId>,
}
