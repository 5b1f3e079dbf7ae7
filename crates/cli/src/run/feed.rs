//! A session's stream that mends itself: where it breaks it is opened again behind the last frame that came.

use std::time::Duration;

use manyhands_protocol::{EventId, SessionId};

use crate::client::{Client, Error, EventStream, Item, Previews};

/// Tries in a row before a server counts as gone: about half a minute, enough for a restart.
const TRIES: u32 = 10;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Where a feed begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// At the session's first event.
    Beginning,
    /// Now; this event is the newest that is known to be past.
    After(EventId),
}

/// The items of one session, each once.
pub(super) struct Feed<'a> {
    client: &'a Client,
    session: &'a SessionId,
    previews: Previews,
    stream: EventStream,
    /// The `id:` of the last frame; without one there is nothing to go on from.
    after: Option<String>,
    /// Where to go on from when the stream breaks before its first frame.
    known: Option<EventId>,
    /// Whether the log is being read from its start, up to `known`.
    skipping: bool,
    failures: u32,
}

impl<'a> Feed<'a> {
    /// Opens the stream, so that all that happens from now on is heard.
    pub(super) async fn open(
        client: &'a Client,
        session: &'a SessionId,
        previews: Previews,
        start: Start,
    ) -> Result<Self, Error> {
        let (after, known) = match start {
            Start::Beginning => (Some("0".to_owned()), None),
            Start::After(event) => (None, Some(event)),
        };
        let stream = client.stream(session, after.as_deref(), previews).await?;
        Ok(Self {
            client,
            session,
            previews,
            stream,
            after,
            known,
            skipping: false,
            failures: 0,
        })
    }

    /// The last item as it came.
    pub(super) fn last_data(&self) -> &str {
        self.stream.last_data()
    }

    /// The next item. Loses nothing when it is dropped before it is ready.
    pub(super) async fn next(&mut self) -> Result<Item, Error> {
        loop {
            let item = match self.stream.next().await {
                Ok(item) => item,
                Err(Error::StreamBroke { reason }) => {
                    self.reopen(Error::StreamBroke { reason }).await?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            self.failures = 0;
            if let Some(id) = self.stream.last_id() {
                self.after = Some(id.to_owned());
            }
            if !self.is_past(&item) {
                return Ok(item);
            }
        }
    }

    /// Whether an item of a log that is read from its start belongs to the time before this feed.
    fn is_past(&mut self, item: &Item) -> bool {
        if !self.skipping {
            return false;
        }
        if let Item::Event(event) = item {
            let last = event.processed_at.is_some() && Some(&event.id) == self.known.as_ref();
            self.skipping = !last;
        }
        true
    }

    async fn reopen(&mut self, mut reason: Error) -> Result<(), Error> {
        while self.failures < TRIES {
            let pause = FIRST_PAUSE * 2_u32.pow(self.failures);
            self.failures += 1;
            tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
            let after = self.after.as_deref().unwrap_or("0");
            match self
                .client
                .stream(self.session, Some(after), self.previews)
                .await
            {
                Ok(stream) => {
                    self.stream = stream;
                    self.skipping |= self.after.is_none();
                    return Ok(());
                }
                Err(error) if error.is_final() => return Err(error),
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }
}

#[cfg(test)]
mod tests;
