//! This instance's side of what travels between the instances: what it sends, and what it knows of the others.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manyhands_protocol::event::Preview;
use manyhands_protocol::{SessionId, WorkspaceId};
use tokio::sync::mpsc;

use super::interest::{Interest, Latest};
use super::{Exchange, Message};
use crate::entry::Entry;

/// So many sessions are named in one message; their ids are some 35 bytes each.
const NAMED: usize = 128;
/// How many messages may wait to be sent. What has no room is lost, and that is told.
const WAITING: usize = 4096;

/// Where messages go. Sending never waits.
pub(crate) enum Outbox {
    /// There is nobody else.
    Nobody,
    /// Within this process.
    Exchange(Exchange),
    /// To a task that sends them.
    Queue {
        messages: mpsc::Sender<Message>,
        /// Set when a message had no room.
        lost: Arc<AtomicBool>,
    },
}

impl Outbox {
    /// A queue, its other end, and what is set when it was full.
    pub(crate) fn queue() -> (Self, mpsc::Receiver<Message>, Arc<AtomicBool>) {
        let (messages, receiver) = mpsc::channel(WAITING);
        let lost = Arc::new(AtomicBool::new(false));
        let outbox = Self::Queue {
            messages,
            lost: Arc::clone(&lost),
        };
        (outbox, receiver, lost)
    }
}

/// The other instances, as this one sees them.
pub(crate) struct Peers {
    instance: String,
    place: String,
    outbox: Outbox,
    interest: Mutex<Interest>,
}

impl Peers {
    pub(crate) fn new(instance: String, place: String, outbox: Outbox) -> Self {
        Self {
            instance,
            place,
            outbox,
            interest: Mutex::default(),
        }
    }

    /// The id of this instance.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    /// Where this instance's sandboxes are.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// A session wants a brain that this instance could not give it.
    pub(crate) fn wish(
        &self,
        workspace: &WorkspaceId,
        session: &SessionId,
        place: Option<String>,
        holder: Option<String>,
    ) {
        if self.are_there() {
            self.send(Message::Wish {
                instance: self.instance.clone(),
                workspace: workspace.clone(),
                session: session.clone(),
                place,
                holder,
            });
        }
    }

    /// The first listener of a session has come, or the last one has gone.
    pub(crate) fn listen(&self, session: &SessionId, on: bool) {
        if self.are_there() {
            self.send(Message::Interest {
                instance: self.instance.clone(),
                sessions: vec![session.clone()],
                on,
            });
        }
    }

    /// All sessions with listeners, said anew.
    pub(crate) fn listen_to_all(&self, sessions: &[SessionId]) {
        for sessions in sessions.chunks(NAMED) {
            self.send(Message::Interest {
                instance: self.instance.clone(),
                sessions: sessions.to_vec(),
                on: true,
            });
        }
    }

    /// This instance hears the others from now on.
    pub(crate) fn greet(&self) {
        self.send(Message::Hello {
            instance: self.instance.clone(),
        });
    }

    /// Messages of this instance were lost.
    pub(crate) fn confess(&self) {
        self.send(Message::Lost {
            instance: self.instance.clone(),
        });
    }

    /// Entries of this process were committed.
    pub(crate) fn committed(&self, session: &SessionId, entries: &[Entry]) {
        let Some(last) = entries.last().filter(|_| self.are_there()) else {
            return;
        };
        let mut interest = self.interest();
        if !interest.wrote(session, Latest::Entry(last.position)) {
            return;
        }
        if let Some(spoken) = entries.iter().rev().find(|entry| entry.epoch > 0) {
            interest.spoke(session, spoken.position);
        }
        drop(interest);
        self.tell(session, &Latest::Entry(last.position));
    }

    /// A session was deleted in this process.
    pub(crate) fn deleted(&self, session: &SessionId, event: &str) {
        if !self.are_there() {
            return;
        }
        let latest = Latest::Deleted(event.to_owned());
        if self.interest().wrote(session, latest.clone()) {
            self.tell(session, &latest);
        }
    }

    /// A preview of this process is shown.
    pub(crate) fn previewed(&self, session: &SessionId, preview: &Preview) {
        if !self.are_there() {
            return;
        }
        let numbered = self.interest().number(session, preview);
        let Some(numbered) = numbered else { return };
        let message = Message::Preview {
            instance: self.instance.clone(),
            session: session.clone(),
            numbered,
        };
        if !self.send(message) {
            self.interest().stop(session, preview);
        }
    }

    /// Whether other instances have listeners of a session.
    pub(crate) fn are_interested(&self, session: &SessionId) -> bool {
        self.are_there() && self.interest().has(session)
    }

    /// Another instance has listeners of sessions now, or none any more. What was written here while that was on its way
    /// is told.
    pub(super) fn note(&self, instance: &str, sessions: &[SessionId], on: bool) {
        for session in sessions {
            let mut interest = self.interest();
            interest.set(instance, session, on);
            let latest = interest.latest(session).filter(|_| on).cloned();
            drop(interest);
            if let Some(latest) = latest {
                self.tell(session, &latest);
            }
        }
    }

    /// What an instance said of its listeners is void.
    pub(super) fn forget(&self, instance: &str) {
        self.interest().keep(|known| known != instance);
    }

    /// Only these instances live.
    pub(super) fn keep_living(&self, living: &BTreeSet<String>) {
        self.interest().keep(|known| living.contains(known));
    }

    fn tell(&self, session: &SessionId, latest: &Latest) {
        let session = session.clone();
        self.send(match latest {
            Latest::Entry(last) => Message::Log {
                session,
                last: *last,
            },
            Latest::Deleted(event) => Message::Deleted {
                session,
                event: event.clone(),
            },
        });
    }

    /// Whether there may be others.
    pub(crate) fn are_there(&self) -> bool {
        !matches!(self.outbox, Outbox::Nobody)
    }

    /// Sends a message, if it can be sent at all and there is room.
    fn send(&self, message: Message) -> bool {
        match &self.outbox {
            Outbox::Nobody => false,
            Outbox::Exchange(exchange) => {
                // As on PostgreSQL, so that what is too long is met in simulations too.
                let sent = message.payload().is_some();
                if sent {
                    exchange.send(&self.instance, &message);
                }
                sent
            }
            Outbox::Queue { messages, lost } => {
                if messages.try_send(message).is_ok() {
                    return true;
                }
                lost.store(true, Ordering::Release);
                false
            }
        }
    }

    fn interest(&self) -> MutexGuard<'_, Interest> {
        self.interest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
