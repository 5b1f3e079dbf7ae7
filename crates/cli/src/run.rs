//! `manyhands run`: one task against a server, watched by a person or read by a program.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Context, bail};
use manyhands_protocol::event::StopReason;
use manyhands_protocol::{EventId, SessionId};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::client::{Client, Item, Previews};
use crate::local::{self, Server};
use crate::printer::{Printer, aside};
use crate::render::{Ending, Renderer, Style, safe, wrapped};
use answers::Terminal;
use calls::{Call, Calls, Owed};
use feed::{Feed, Start};
use owed::Inputs;
use setup::Rest;

mod answers;
mod args;
mod calls;
mod feed;
mod owed;
mod setup;

pub use args::{Args, ServerArgs};

/// How a run ended; each is an exit status of its own, so that scripts can tell them apart. Trouble with the server or
/// the arguments is status 1 or 2.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// The turn is over: 0.
    Done,
    /// The client has to answer these calls: 3.
    Waits(Vec<Call>),
    /// The cost cap is reached: 4.
    BudgetReached,
    /// The turn failed for good, and why: 5.
    Failed(String),
    /// The model refused: 6.
    Refused,
    /// Ctrl-C: 130, as shells say it.
    Interrupted,
}

/// Runs a task, or goes on with a session, until the session rests, and prints what happens.
///
/// # Errors
/// No server answers, it refuses what is asked, or the connection is lost for good; the text says which.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let task = args.task()?;
    let server = local::find(args.server.wanted()).await?;
    let client = Client::new(&server.url, server.key.clone())?;
    let mut run = Run::new(&args, &client)?;
    let outcome = match &args.session {
        Some(session) => run.go_on(session, task.as_deref()).await?,
        None => {
            let task = task.context("what is the task? Name it, or a session with --session")?;
            run.begin(&server, &args, &task).await?
        }
    };
    Ok(run.closing_words(&outcome))
}

/// One run of the command.
struct Run<'a> {
    args: &'a Args,
    client: &'a Client,
    printer: Printer,
    renderer: Renderer,
    calls: Calls,
    inputs: Inputs,
    terminal: Option<Terminal>,
    session: Option<SessionId>,
    /// The rest that the run began with; the stream may bring it too.
    handled: Option<EventId>,
    ctrl_c: Signal,
    interrupted: bool,
}

impl<'a> Run<'a> {
    fn new(args: &'a Args, client: &'a Client) -> anyhow::Result<Self> {
        let is_terminal = std::io::stdout().is_terminal();
        let no_color = std::env::var_os("NO_COLOR");
        let asks = !args.json && is_terminal && std::io::stdin().is_terminal();
        Ok(Self {
            args,
            client,
            printer: if args.json {
                Printer::Quiet
            } else {
                Printer::Loud
            },
            renderer: Renderer::new(Style::choose(is_terminal, no_color.as_deref())),
            calls: Calls::default(),
            inputs: Inputs::default(),
            terminal: asks.then(Terminal::open),
            session: None,
            handled: None,
            ctrl_c: signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?,
            interrupted: false,
        })
    }

    /// A new session with the task.
    async fn begin(&mut self, server: &Server, args: &Args, task: &str) -> anyhow::Result<Outcome> {
        let session = setup::create(self.client, args, task).await?;
        let id = session.id.clone();
        self.session = Some(id.clone());
        self.printer
            .machine_line(&serde_json::to_string(&session)?)?;
        let style = self.renderer.style();
        self.printer.print(&format!(
            "{}{}\n{}{id}\n\n{}{}\n",
            style.label("server"),
            server.url,
            style.label("session"),
            style.label("you"),
            wrapped(&safe(task)),
        ))?;
        let mut feed = Feed::open(self.client, &id, self.previews(), Start::Beginning).await?;
        self.send(&id, &[message(task)]).await?;
        self.follow(&id, &mut feed).await
    }

    /// An old session: with a further task, with answers, or only to watch it.
    async fn go_on(&mut self, id: &SessionId, task: Option<&str>) -> anyhow::Result<Outcome> {
        self.session = Some(id.clone());
        let start = match setup::newest_processed(self.client, id).await? {
            Some(event) => Start::After(event),
            None => Start::Beginning,
        };
        let mut feed = Feed::open(self.client, id, self.previews(), start).await?;
        let before = setup::rest(self.client, id).await?;
        if let Some(before) = &before {
            self.calls.add(&before.calls);
            self.handled.clone_from(&before.id);
        }
        let style = self.renderer.style();
        self.printer
            .print(&format!("{}{id}\n\n", style.label("session")))?;

        let mut events = self.args.answers();
        if events.is_empty()
            && let Some(waiting) = before.as_ref().filter(|rest| rest.requires_action())
        {
            match self.answers(&waiting.reason).await? {
                Answered::With(answers) => events = answers,
                Answered::No(calls) => return Ok(Outcome::Waits(calls)),
                Answered::Interrupt => return self.interrupt_and_follow(id, &mut feed).await,
            }
        }
        let moves = before
            .as_ref()
            .is_none_or(|rest| rest.is_moved_by(&events, task.is_some()));
        if let Some(task) = task {
            let line = format!("{}{}\n", style.label("you"), wrapped(&safe(task)));
            self.printer.print(&line)?;
            events.push(message(task));
        }
        if !events.is_empty() {
            self.send(id, &events).await?;
        }
        match before {
            // The session says nothing more by itself.
            Some(rest) if !moves => self.still_resting(id, &mut feed, rest).await,
            _ => self.follow(id, &mut feed).await,
        }
    }

    async fn still_resting(
        &mut self,
        id: &SessionId,
        feed: &mut Feed<'_>,
        rest: Rest,
    ) -> anyhow::Result<Outcome> {
        if rest.id.is_none() {
            bail!("session {id} has nothing to do yet: give it a task");
        }
        match self.rested(id, rest.into_ending()).await? {
            Some(outcome) => Ok(outcome),
            None => self.follow(id, feed).await,
        }
    }

    async fn interrupt_and_follow(
        &mut self,
        id: &SessionId,
        feed: &mut Feed<'_>,
    ) -> anyhow::Result<Outcome> {
        self.interrupt(id).await?;
        self.follow(id, feed).await
    }

    /// Prints what comes until the session rests for good, or somebody has to answer who is not here.
    async fn follow(&mut self, id: &SessionId, feed: &mut Feed<'_>) -> anyhow::Result<Outcome> {
        loop {
            let item = tokio::select! {
                item = feed.next() => item?,
                _ = self.ctrl_c.recv() => {
                    if self.interrupted {
                        return Ok(Outcome::Interrupted);
                    }
                    self.interrupt(id).await?;
                    continue;
                }
            };
            if let Item::Event(event) = &item {
                if Some(&event.id) == self.handled.as_ref() {
                    continue;
                }
                self.calls.see(event);
                self.inputs.see(event);
            }
            if !matches!(item, Item::Preview(_)) {
                self.printer.machine_line(feed.last_data())?;
            }
            self.printer.print(&self.renderer.item(&item))?;
            if let Some(ending) = self.renderer.take_ending()
                && let Some(outcome) = self.rested(id, ending).await?
            {
                return Ok(outcome);
            }
        }
    }

    /// What a rest means: the end, or more to do.
    async fn rested(&mut self, id: &SessionId, ending: Ending) -> anyhow::Result<Option<Outcome>> {
        if let StopReason::RequiresAction { .. } = ending.reason {
            return match self.answers(&ending.reason).await? {
                Answered::With(answers) => {
                    self.send(id, &answers).await?;
                    Ok(None)
                }
                Answered::No(calls) => Ok(Some(Outcome::Waits(calls))),
                Answered::Interrupt => {
                    self.interrupt(id).await?;
                    Ok(None)
                }
            };
        }
        let more_to_come = !self.inputs.all_taken() && !self.interrupted;
        Ok(match ending.reason {
            StopReason::EndTurn | StopReason::Refusal if more_to_come => None,
            _ if self.interrupted => Some(Outcome::Interrupted),
            StopReason::EndTurn | StopReason::RequiresAction { .. } => Some(Outcome::Done),
            StopReason::Refusal => Some(Outcome::Refused),
            StopReason::BudgetReached => Some(Outcome::BudgetReached),
            StopReason::RetriesExhausted => Some(Outcome::Failed(
                ending
                    .error
                    .unwrap_or_else(|| "the events above say why".to_owned()),
            )),
        })
    }

    /// The answers to the calls that a rest names, as far as somebody here can give them.
    async fn answers(&mut self, reason: &StopReason) -> anyhow::Result<Answered> {
        let waiting = self.calls.blocking(reason);
        let asking: Vec<&Call> = waiting
            .iter()
            .filter(|call| call.owed == Owed::Confirmation)
            .collect();
        if asking.is_empty() || !(self.args.yes || self.terminal.is_some()) {
            return Ok(Answered::No(waiting));
        }
        let mut answers = vec![];
        for call in asking {
            let said = match &mut self.terminal {
                _ if self.args.yes => Some(answers::allow(&call.id)),
                None => None,
                Some(terminal) => tokio::select! {
                    said = terminal.ask(call) => said?,
                    _ = self.ctrl_c.recv() => return Ok(Answered::Interrupt),
                },
            };
            match said {
                Some(answer) => answers.push(answer),
                None => return Ok(Answered::No(waiting)),
            }
        }
        Ok(Answered::With(answers))
    }

    async fn send(&mut self, id: &SessionId, events: &[Value]) -> anyhow::Result<()> {
        let stored = self.client.send_events(id, events).await?;
        self.inputs.sent(events, stored);
        Ok(())
    }

    async fn interrupt(&mut self, id: &SessionId) -> anyhow::Result<()> {
        self.interrupted = true;
        aside("\ninterrupting the session; Ctrl-C again leaves it to itself");
        let interrupt = json!({"type": "user.interrupt"});
        self.client.send_events(id, &[interrupt]).await?;
        Ok(())
    }

    fn previews(&self) -> Previews {
        if self.args.json {
            Previews::Off
        } else {
            Previews::On
        }
    }

    /// Says what is to be done about an outcome that is no success, and gives the exit status.
    fn closing_words(&self, outcome: &Outcome) -> ExitCode {
        let session = self.session.as_ref().map_or("ID", SessionId::as_str);
        let (status, error, hint) = match outcome {
            Outcome::Done => return ExitCode::SUCCESS,
            Outcome::Waits(calls) => (
                3,
                calls::what_is_owed(calls, session),
                calls::how_to_answer(calls, session),
            ),
            Outcome::BudgetReached => (
                4,
                format!("session {session} has reached its budget"),
                "raise or remove the budget by an update of the session; it then goes on by itself"
                    .to_owned(),
            ),
            Outcome::Failed(why) => (
                5,
                format!("session {session} did not finish: {why}"),
                format!("manyhands run --session {session} TASK goes on with it"),
            ),
            Outcome::Refused => (
                6,
                format!("the model refused in session {session}"),
                format!("manyhands run --session {session} TASK goes on with another wish"),
            ),
            Outcome::Interrupted => (
                130,
                format!("session {session} was interrupted"),
                format!("manyhands run --session {session} TASK goes on with it"),
            ),
        };
        aside(format_args!("error: {error}\nhint: {hint}"));
        ExitCode::from(status)
    }
}

/// What came of asking for answers.
enum Answered {
    /// These events answer some of the calls.
    With(Vec<Value>),
    /// Nobody here can; these calls wait.
    No(Vec<Call>),
    /// Ctrl-C.
    Interrupt,
}

fn message(text: &str) -> Value {
    json!({"type": "user.message", "content": [{"type": "text", "text": text}]})
}
