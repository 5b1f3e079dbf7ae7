//! The journal of executions: what makes a call idempotent by its id.
//!
//! A call is marked started before anything of it runs, keeps its result until the server says that it is durable
//! elsewhere, and its id is known for as long as the sandbox lives: it never runs twice (invariant I4). The highest
//! epoch seen bars older owners (security LEASE-1). In memory: the sandbox ends with this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::frame::Answer;
use crate::output::Output;
use crate::tools::Stop;

/// Gets the result of a call, now or later.
pub type Waiter = Box<dyn FnOnce(&Output) + Send>;

/// The calls of this sandbox.
#[derive(Default)]
pub struct Journal {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    epoch: Option<i64>,
    calls: HashMap<String, Entry>,
}

enum Entry {
    Started {
        stop: Arc<Stop>,
        waiters: Vec<Waiter>,
    },
    Finished(Arc<Output>),
    Forgotten,
}

impl Journal {
    /// Marks a call started and returns its stop, when it is new; a known one gets its waiter served or stored.
    ///
    /// # Errors
    /// The answer to refuse with: the epoch is stale or the call was forgotten.
    pub fn begin(
        &self,
        call_id: &str,
        epoch: i64,
        limit: Duration,
        waiter: Waiter,
    ) -> Result<Option<Arc<Stop>>, Answer> {
        let mut state = self.enter(epoch)?;
        let finished = match state.calls.get_mut(call_id) {
            None => {
                let stop = Arc::new(Stop::after(limit));
                let entry = Entry::Started {
                    stop: Arc::clone(&stop),
                    waiters: vec![waiter],
                };
                state.calls.insert(call_id.to_owned(), entry);
                return Ok(Some(stop));
            }
            Some(Entry::Started { waiters, .. }) => {
                waiters.push(waiter);
                return Ok(None);
            }
            Some(Entry::Finished(output)) => Arc::clone(output),
            Some(Entry::Forgotten) => {
                return Err(Answer::Refused {
                    reason: format!("call {call_id} is over and forgotten"),
                });
            }
        };
        drop(state);
        waiter(&finished);
        Ok(None)
    }

    /// Stores the result of a started call and serves its waiters.
    pub fn finish(&self, call_id: &str, output: Output) {
        let output = Arc::new(output);
        let old = self
            .lock()
            .calls
            .insert(call_id.to_owned(), Entry::Finished(Arc::clone(&output)));
        if let Some(Entry::Started { waiters, .. }) = old {
            waiters.into_iter().for_each(|waiter| waiter(&output));
        }
    }

    /// Asks a call to stop; whether it is running.
    ///
    /// # Errors
    /// The answer to refuse with: the epoch is stale.
    pub fn interrupt(&self, call_id: &str, epoch: i64) -> Result<bool, Answer> {
        match self.enter(epoch)?.calls.get(call_id) {
            Some(Entry::Started { stop, .. }) => {
                stop.interrupt();
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Drops results; a call that still runs keeps its entry.
    ///
    /// # Errors
    /// The answer to refuse with: the epoch is stale.
    pub fn forget(&self, call_ids: &[String], epoch: i64) -> Result<(), Answer> {
        let mut state = self.enter(epoch)?;
        for id in call_ids {
            if let Some(entry @ Entry::Finished(_)) = state.calls.get_mut(id) {
                *entry = Entry::Forgotten;
            }
        }
        Ok(())
    }

    /// Takes note of an epoch.
    ///
    /// # Errors
    /// The answer to refuse with: the epoch is stale.
    pub fn see(&self, epoch: i64) -> Result<(), Answer> {
        self.enter(epoch).map(drop)
    }

    fn enter(&self, epoch: i64) -> Result<MutexGuard<'_, State>, Answer> {
        let mut state = self.lock();
        match state.epoch {
            Some(seen) if epoch < seen => Err(Answer::StaleEpoch { seen }),
            _ => {
                state.epoch = Some(epoch);
                Ok(state)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};

    const LIMIT: Duration = Duration::from_secs(60);

    fn waiter() -> (Waiter, Receiver<Output>) {
        let (sender, receiver) = channel();
        (
            Box::new(move |output: &Output| sender.send(output.clone()).unwrap()),
            receiver,
        )
    }

    #[test]
    fn i4_a_call_starts_once_and_every_asker_gets_its_result() {
        let journal = Journal::default();
        let [(a, from_a), (b, from_b), (c, from_c), (d, _)] =
            [waiter(), waiter(), waiter(), waiter()];
        assert!(journal.begin("call", 1, LIMIT, a).unwrap().is_some());
        assert!(
            journal.begin("call", 2, LIMIT, b).unwrap().is_none(),
            "running: attached"
        );
        journal.forget(&["call".to_owned()], 2).unwrap();
        journal.finish("call", Output::text("done"));
        assert!(
            journal.begin("call", 2, LIMIT, c).unwrap().is_none(),
            "finished: stored result"
        );
        for receiver in [from_a, from_b, from_c] {
            assert_eq!(receiver.try_recv().unwrap(), Output::text("done"));
        }
        journal
            .forget(&["call".to_owned(), "other".to_owned()], 2)
            .unwrap();
        assert!(
            matches!(
                journal.begin("call", 2, LIMIT, d),
                Err(Answer::Refused { .. })
            ),
            "forgotten: never again"
        );
    }

    #[test]
    fn i5_an_older_epoch_is_refused_everywhere() {
        let journal = Journal::default();
        assert!(journal.see(-3).is_ok(), "any first epoch will do");
        assert!(
            journal
                .begin("call", 7, LIMIT, waiter().0)
                .unwrap()
                .is_some()
        );
        let stale = Answer::StaleEpoch { seen: 7 };
        assert_eq!(
            journal.begin("call", 6, LIMIT, waiter().0).unwrap_err(),
            stale
        );
        assert_eq!(journal.interrupt("call", 6).unwrap_err(), stale);
        assert_eq!(journal.forget(&[], 6).unwrap_err(), stale);
        assert_eq!(journal.see(6).unwrap_err(), stale);
        assert_eq!(journal.interrupt("call", 7), Ok(true));
        assert_eq!(journal.interrupt("unknown", 8), Ok(false));
    }
}
