//! Messages between instances on PostgreSQL.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::{Channel, Heard, Message, hear};
use crate::db::{Line, Note};
use crate::store::Inner;

/// How many are sent with one statement.
const TOGETHER: usize = 64;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Hears the others as long as the store is open.
pub(crate) async fn listen(line: Arc<Line>, inner: Weak<Inner>) {
    let hear = |note: Note<'_>| {
        let Some(inner) = inner.upgrade() else {
            return false;
        };
        match note {
            Note::Connected => hear(&inner, Heard::Connected),
            Note::Payload(payload) => match Message::read(payload) {
                Some(message) => hear(&inner, Heard::Message(message)),
                None => tracing::debug!("another instance says what this program does not know"),
            },
        }
        true
    };
    line.listen(&Channel::ALL.map(Channel::name), hear).await;
}

/// What sends this instance's messages.
pub(crate) struct Teller {
    pub(crate) line: Arc<Line>,
    pub(crate) messages: mpsc::Receiver<Message>,
    pub(crate) lost: Arc<AtomicBool>,
    pub(crate) inner: Weak<Inner>,
}

impl Teller {
    /// Sends messages as they come; ends when nothing is left to be sent and `closing` is notified.
    pub(crate) async fn run(mut self, closing: Arc<Notify>) {
        let mut batch = Vec::with_capacity(TOGETHER);
        loop {
            tokio::select! {
                biased;
                count = self.messages.recv_many(&mut batch, TOGETHER) => if count == 0 { return },
                () = closing.notified() => return,
            }
            let (channels, payloads) = texts(&batch);
            batch.clear();
            let mut pause = FIRST_PAUSE;
            while let Err(error) = self.line.notify(&channels, &payloads).await {
                // It may have been sent all the same: hearing a message twice does no harm.
                tracing::warn!(%error, "other instances cannot be told anything yet");
                let closed = tokio::time::timeout(pause, closing.notified()).await;
                if closed.is_ok() {
                    return;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            if self.lost.swap(false, Ordering::AcqRel)
                && let Some(inner) = self.inner.upgrade()
            {
                tracing::warn!("messages to other instances were lost: there were too many");
                inner.services.peers.confess();
                hear(&inner, Heard::Connected);
            }
        }
    }
}

/// What is to be sent for these messages, in order: of those that replace each other, the newest.
fn texts(messages: &[Message]) -> (Vec<&'static str>, Vec<String>) {
    let mut replaced = HashSet::new();
    let mut texts: Vec<(&'static str, String)> = messages
        .iter()
        .rev()
        .filter(|message| {
            message
                .replaces()
                .is_none_or(|session| replaced.insert(session))
        })
        .filter_map(|message| Some((message.channel().name(), message.payload()?)))
        .collect();
    texts.reverse();
    texts.into_iter().unzip()
}

#[cfg(test)]
mod tests {
    use manyhands_protocol::SessionId;

    use super::*;

    #[test]
    fn of_several_positions_of_a_session_the_last_is_sent() {
        let (one, two) = (SessionId::generate(), SessionId::generate());
        let log = |session: &SessionId, last| Message::Log {
            session: session.clone(),
            last,
        };
        let hello = Message::Hello {
            instance: "a".to_owned(),
        };
        let messages = [log(&one, 1), hello.clone(), log(&two, 1), log(&one, 2)];
        let (channels, payloads) = texts(&messages);
        let read: Vec<_> = payloads.iter().map(|text| Message::read(text)).collect();
        let sent = [hello, log(&two, 1), log(&one, 2)].map(Some);
        assert_eq!(read, sent);
        let names = ["manyhands_interest", "manyhands_log", "manyhands_log"];
        assert_eq!(channels, names);
    }
}
