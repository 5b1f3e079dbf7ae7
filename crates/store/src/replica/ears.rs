//! What this instance does with what it hears of the others.

use std::sync::Weak;

use tokio::sync::mpsc;

use super::{Exchange, Message};
use crate::lease::Nudge;
use crate::store::Inner;

/// What comes from the others.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Heard {
    /// From now on messages are heard; before that some may have been missed.
    Connected,
    /// A message, perhaps one of this instance.
    Message(Message),
}

/// Takes part in an exchange within this process, as long as the store is open.
pub(crate) fn join(
    exchange: &Exchange,
    instance: &str,
    inner: Weak<Inner>,
) -> impl Future<Output = ()> + Send + 'static {
    let mut heard: mpsc::UnboundedReceiver<Heard> = exchange.join(instance);
    async move {
        while let Some(heard) = heard.recv().await {
            let Some(inner) = inner.upgrade() else { return };
            hear(&inner, heard);
        }
    }
}

/// Acts on what was heard. Never waits.
pub(crate) fn hear(inner: &Inner, heard: Heard) {
    let hub = &inner.services.hub;
    let peers = &inner.services.peers;
    let own = |instance: &str| instance == peers.instance();
    let message = match heard {
        Heard::Message(message) => message,
        Heard::Connected => {
            peers.greet();
            hub.announce();
            hub.look_at(&hub.listened_to());
            inner.hears.notify_one();
            return;
        }
    };
    match message {
        Message::Wish { instance, .. } if own(&instance) => {}
        Message::Wish {
            workspace,
            session,
            place,
            holder,
            ..
        } => {
            let for_us = match (&holder, &place) {
                (Some(holder), _) => own(holder),
                (None, Some(place)) => place == peers.place(),
                (None, None) => true,
            };
            if for_us {
                inner.nudge(Nudge {
                    workspace,
                    session,
                    lease: None,
                });
            }
        }
        Message::Log { session, last } => hub.reaches(&session, last),
        Message::Deleted { session, event } => hub.deleted(&session, &event),
        Message::Interest { instance, .. } if own(&instance) => {}
        Message::Interest {
            instance,
            sessions,
            on,
        } => peers.note(&instance, &sessions, on),
        Message::Hello { instance } if own(&instance) => {}
        Message::Hello { instance } => {
            peers.forget(&instance);
            hub.announce();
        }
        Message::Lost { instance } if own(&instance) => {}
        Message::Lost { .. } => hub.look_at(&hub.listened_to()),
        Message::Preview { instance, .. } if own(&instance) => {}
        Message::Preview {
            session, numbered, ..
        } => hub.remote_preview(&session, numbered),
    }
}
