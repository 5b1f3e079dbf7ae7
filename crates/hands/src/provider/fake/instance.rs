//! A sandbox of the fake provider: calls by id, which outlive the caller that asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use futures::FutureExt as _;
use tokio::sync::{Notify, SetOnce};

use super::{Shared, lock};
use crate::Error;
use crate::provider::{Call, Origin, Output, Sandbox};

/// A sandbox of the fake provider.
pub(super) struct Instance {
    pub(super) session: String,
    pub(super) name: String,
    pub(super) shared: Arc<Shared>,
    pub(super) origin: Mutex<Option<Origin>>,
    pub(super) state: Mutex<State>,
    pub(super) gone: Arc<SetOnce<()>>,
}

/// What it remembers of its owners and calls.
#[derive(Default)]
pub(super) struct State {
    pub(super) epoch: i64,
    journal: HashMap<String, Entry>,
}

/// A call.
enum Entry {
    Known {
        result: Arc<SetOnce<Output>>,
        kill: Arc<Notify>,
    },
    Forgotten,
}

#[async_trait]
impl Sandbox for Instance {
    fn instance(&self) -> &str {
        &self.name
    }

    fn origin(&self) -> Option<Origin> {
        *lock(&self.origin)
    }

    async fn execute(&self, call: &Call) -> Result<Output, Error> {
        *lock(&self.origin) = None;
        let result = self.begin(call)?;
        tokio::select! {
            biased;
            _ = self.gone.wait() => Err(self.lost()),
            output = result.wait() => Ok(output.clone()),
        }
    }

    async fn kill(&self, call_id: &str, epoch: i64) -> Result<(), Error> {
        let state = self.enter(epoch)?;
        if let Some(Entry::Known { kill, .. }) = state.journal.get(call_id) {
            kill.notify_one();
        }
        Ok(())
    }

    async fn forget(&self, call_ids: &[String], epoch: i64) -> Result<(), Error> {
        let mut state = self.enter(epoch)?;
        for id in call_ids {
            let finished = |entry: &Entry| matches!(entry, Entry::Known { result, .. } if result.initialized());
            if let Some(entry) = state.journal.get_mut(id).filter(|entry| finished(entry)) {
                *entry = Entry::Forgotten;
            }
        }
        Ok(())
    }
}

impl Instance {
    /// The way in for every operation: alive, and not from an older owner.
    pub(super) fn enter(&self, epoch: i64) -> Result<MutexGuard<'_, State>, Error> {
        if self.gone.initialized() {
            return Err(self.lost());
        }
        let mut state = lock(&self.state);
        if epoch < state.epoch {
            return Err(Error::StaleEpoch {
                epoch,
                seen: state.epoch,
            });
        }
        state.epoch = epoch;
        Ok(state)
    }

    fn begin(&self, call: &Call) -> Result<Arc<SetOnce<Output>>, Error> {
        let mut state = self.enter(call.epoch)?;
        match state.journal.get(&call.call_id) {
            Some(Entry::Known { result, .. }) => return Ok(Arc::clone(result)),
            Some(Entry::Forgotten) => {
                return Err(Error::Refused(format!(
                    "call {} was forgotten",
                    call.call_id
                )));
            }
            None => {}
        }
        let result = Arc::<SetOnce<Output>>::default();
        let kill = Arc::new(Notify::new());
        state.journal.insert(
            call.call_id.clone(),
            Entry::Known {
                result: Arc::clone(&result),
                kill: Arc::clone(&kill),
            },
        );
        lock(&self.shared.starts).push((self.session.clone(), call.call_id.clone()));
        let tool = lock(&self.shared.tools).get(&call.name).cloned();
        let run = match tool {
            Some(tool) => tool(call.clone()),
            None => {
                let text = format!("unknown tool '{}'", call.name);
                async move { Output::error(text) }.boxed()
            }
        };
        // In a task of its own: the run outlives the caller, as a sandbox outlives its server.
        let (call, gone) = (call.clone(), Arc::clone(&self.gone));
        let done = Arc::clone(&result);
        tokio::spawn(async move {
            let output = tokio::select! {
                biased;
                _ = gone.wait() => return,
                () = kill.notified() => Output::error(format!("tool '{}' was interrupted", call.name)),
                ended = tokio::time::timeout(call.deadline, run) => {
                    ended.unwrap_or_else(|_| Output::error(format!("tool '{}' timed out", call.name)))
                }
            };
            // This run alone sets it.
            let _ = done.set(output);
        });
        Ok(result)
    }

    fn lost(&self) -> Error {
        Error::Lost {
            session: self.session.clone(),
            why: "the fake was told to lose it".to_owned(),
        }
    }
}
