//! Rows of the audit log for secrets that are used over and over: the first use writes one, and those of the next minute none
//! (security CRED-4, OPS-3).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use manyhands_protocol::{CredentialId, SessionId};
use manyhands_store::audit::{Act, Action};
use manyhands_store::{Error, Store};
use tokio::time::Instant;

/// How long a row stands for what comes after it.
const JOINED: Duration = Duration::from_secs(60);
/// So many are remembered before those that are over are looked for and forgotten.
const SWEEP: usize = 1024;

/// Writes down who uses what. Clones share what they remember.
#[derive(Clone)]
pub struct Uses {
    store: Store,
    recent: Arc<Mutex<HashMap<Use, Instant>>>,
}

/// What is the same use again.
#[derive(PartialEq, Eq, Hash)]
struct Use {
    action: Action,
    session: Option<SessionId>,
    credential: Option<CredentialId>,
    object: Option<String>,
    host: Option<String>,
}

impl Uses {
    /// Into this store's audit log.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            recent: Arc::default(),
        }
    }

    /// A use that is about to happen: when this returns its row is durable, or one that stands for it.
    ///
    /// # Errors
    /// When the row cannot be written. Then nothing may be released.
    pub async fn note(&self, act: Act) -> Result<(), Error> {
        let key = Use {
            action: act.action,
            session: act.session.clone(),
            credential: act.credential.clone(),
            object: act.object.clone(),
            host: act.host.clone(),
        };
        let now = Instant::now();
        let stands = |at: &Instant| now.duration_since(*at) < JOINED;
        if self.recent().get(&key).is_some_and(stands) {
            return Ok(());
        }
        self.store.audit(act).await?;
        let mut recent = self.recent();
        if recent.len() >= SWEEP {
            recent.retain(|_, at| stands(at));
        }
        recent.insert(key, now);
        Ok(())
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, HashMap<Use, Instant>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
