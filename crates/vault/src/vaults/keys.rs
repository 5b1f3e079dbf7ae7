//! The way to a workspace's key: from the master key, which may be replaced while this process runs.

use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use manyhands_protocol::WorkspaceId;
use manyhands_protocol::id::DataKeyId;
use manyhands_store::vault::DataKey;

use super::{OpenKey, State, Vaults, lock};
use crate::error::Error;
use crate::master::{self, KeyError, KeySource};
use crate::seal::{self, KeyBytes, NotSealed};

impl Vaults {
    /// The master key, looked for again while there is none.
    pub(super) async fn source(&self) -> Result<Arc<dyn KeySource>, Error> {
        let state = lock(&self.inner.state).clone();
        match state {
            State::Open(source) => Ok(source),
            State::Sealed(_) => self.look().await,
        }
    }

    /// Looks for the master key that is in use.
    pub(super) async fn look(&self) -> Result<Arc<dyn KeySource>, Error> {
        let store = &self.inner.store;
        let in_use = store.master_key().await?;
        let found = master::find(&self.inner.source, in_use.as_deref());
        let found = match (found, in_use) {
            (Ok(found), None) => {
                let adopted = store.adopt_master_key(found.fingerprint()).await?;
                match adopted == found.fingerprint() {
                    true => Ok(found),
                    false => Err(format!(
                        "another server has begun to use the master key {adopted}; give it to this one as well"
                    )),
                }
            }
            (found, _) => found,
        };
        let state = match &found {
            Ok(found) => State::Open(Arc::clone(found)),
            Err(why) => State::Sealed(why.clone()),
        };
        *lock(&self.inner.state) = state;
        found.map_err(|why| Error::Sealed { why })
    }

    /// A workspace's key, if it has one.
    pub(super) async fn data_key(
        &self,
        workspace: &WorkspaceId,
    ) -> Result<Option<Arc<OpenKey>>, Error> {
        if let Some(key) = lock(&self.inner.keys).get(workspace) {
            return Ok(Some(Arc::clone(key)));
        }
        let source = self.source().await?;
        let Some(key) = self.inner.store.data_key(workspace).await? else {
            return Ok(None);
        };
        self.unwrap(&source, key).await.map(Some)
    }

    pub(super) async fn make_data_key(
        &self,
        workspace: &WorkspaceId,
    ) -> Result<Arc<OpenKey>, Error> {
        let mut bytes = KeyBytes::default();
        SystemRandom::new()
            .fill(bytes.as_mut_slice())
            .map_err(|_| NotSealed::NoRandomness)?;
        let id = DataKeyId::generate();
        let mut source = self.source().await?;
        // Once more with the key of a rotation that another process has done meanwhile.
        for _ in 0..2 {
            let wrapped = source.wrap(&seal::key_place(workspace, &id), &bytes).await;
            let key = DataKey {
                id: id.clone(),
                workspace: workspace.clone(),
                wrapped: wrapped.map_err(unavailable)?,
            };
            let stored = self.inner.store.insert_data_key(key, source.fingerprint());
            match stored.await? {
                Some(key) => return self.unwrap(&source, key).await,
                None => source = self.look().await?,
            }
        }
        Err(Error::Sealed {
            why: "the master key is being replaced".to_owned(),
        })
    }

    async fn unwrap(
        &self,
        source: &Arc<dyn KeySource>,
        key: DataKey,
    ) -> Result<Arc<OpenKey>, Error> {
        let bound_to = seal::key_place(&key.workspace, &key.id);
        let bytes = match source.unwrap(&bound_to, &key.wrapped).await {
            // Another process may have replaced the master key since this one looked.
            Err(KeyError::Refused) => {
                let source = self.look().await?;
                let again = self.inner.store.data_key(&key.workspace).await?;
                let wrapped = again.map_or(key.wrapped, |again| again.wrapped);
                source.unwrap(&bound_to, &wrapped).await
            }
            unwrapped => unwrapped,
        };
        let bytes = bytes.map_err(|error| match error {
            KeyError::Refused => Error::damaged(
                format!("data key {}", key.id),
                "it was wrapped by another master key, moved or changed",
            ),
            error => unavailable(error),
        })?;
        let open = Arc::new(OpenKey { id: key.id, bytes });
        lock(&self.inner.keys).insert(key.workspace, Arc::clone(&open));
        Ok(open)
    }
}

fn unavailable(error: KeyError) -> Error {
    Error::Unavailable {
        reason: error.to_string(),
    }
}
