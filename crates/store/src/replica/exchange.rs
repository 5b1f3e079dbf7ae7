//! Messages between stores of one process: for tests, and for simulations of everything that a network does to them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::{Channel, Heard, Message};

/// Carries messages between the stores that are opened with it. Its clones are the same exchange.
#[derive(Clone)]
pub struct Exchange(Arc<Shared>);

/// After which times copies of a parcel arrive.
type Fate = dyn Fn(&Parcel<'_>) -> Vec<Duration> + Send + Sync;

struct Shared {
    fate: Box<Fate>,
    /// In the order in which they joined.
    members: Mutex<Vec<Member>>,
}

struct Member {
    instance: String,
    ears: mpsc::UnboundedSender<Heard>,
}

/// A message on its way to one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parcel<'a> {
    /// The instance that sent it.
    pub from: &'a str,
    /// The instance that shall hear it.
    pub to: &'a str,
    /// What it is about.
    pub channel: Channel,
}

impl Exchange {
    /// Delivers everything at once and in order.
    pub fn new() -> Self {
        Self::with_fate(|_| vec![Duration::ZERO])
    }

    /// Asks `fate` after how long (by tokio's clock) a parcel arrives. Nothing: it is lost. More than one time: it
    /// arrives as often. What is delayed differently arrives in another order. An instance always hears itself at once.
    ///
    /// Parcels are shown in the order in which they are sent, and those of one message in the order in which the instances
    /// joined. Delays are tasks of the runtime that sends.
    pub fn with_fate(fate: impl Fn(&Parcel<'_>) -> Vec<Duration> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            fate: Box::new(fate),
            members: Mutex::default(),
        }))
    }

    /// Takes part; ends with the receiver.
    pub(super) fn join(&self, instance: &str) -> mpsc::UnboundedReceiver<Heard> {
        let (ears, heard) = mpsc::unbounded_channel();
        // It cannot fail: the receiver is here.
        let _ = ears.send(Heard::Connected);
        let instance = instance.to_owned();
        self.members().push(Member { instance, ears });
        heard
    }

    pub(super) fn send(&self, from: &str, message: &Message) {
        let channel = message.channel();
        let mut members = self.members();
        members.retain(|member| !member.ears.is_closed());
        for member in members.iter() {
            let parcel = Parcel {
                from,
                to: &member.instance,
                channel,
            };
            if from == member.instance {
                let _ = member.ears.send(Heard::Message(message.clone()));
                continue;
            }
            for delay in (self.0.fate)(&parcel) {
                let (ears, heard) = (member.ears.clone(), Heard::Message(message.clone()));
                if delay.is_zero() {
                    // Who has gone hears nothing.
                    let _ = ears.send(heard);
                    continue;
                }
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    let _ = ears.send(heard);
                });
            }
        }
    }

    fn members(&self) -> std::sync::MutexGuard<'_, Vec<Member>> {
        self.0
            .members
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Exchange {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Exchange")
    }
}
