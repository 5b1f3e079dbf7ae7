//! The vaults, open: what is asked for a secret.

mod keys;
mod sealer;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use manyhands_protocol::id::DataKeyId;
use manyhands_protocol::vault::CredentialAuth;
use manyhands_protocol::{Timestamp, VaultId, WorkspaceId};
use manyhands_store::Store;
use manyhands_store::audit::Act;
use manyhands_store::vault::{CredentialRecord, Refusal};
use secrecy::SecretString;

pub use self::sealer::Sealer;
use self::sealer::place_of;
use crate::error::Error;
use crate::master::{KeySource, Source};
use crate::seal::{self, KeyBytes, Place};
use crate::server_url::ServerUrl;

/// A secret field of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// Of `static_bearer`.
    Token,
    /// Of `mcp_oauth`.
    AccessToken,
    /// Of `mcp_oauth` with a refresh.
    RefreshToken,
    /// Of `mcp_oauth` with a refresh whose client has one.
    ClientSecret,
    /// Of `environment_variable`.
    SecretValue,
}

impl Field {
    /// The field's name, on the wire and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::AccessToken => "access_token",
            Self::RefreshToken => "refresh_token",
            Self::ClientSecret => "client_secret",
            Self::SecretValue => "secret_value",
        }
    }
}

/// The tokens that a refresh has given.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// The new access token.
    pub access_token: SecretString,
    /// The new refresh token, where the old one was replaced.
    pub refresh_token: Option<SecretString>,
    /// When the access token expires; `None` when that is not known.
    pub expires_at: Option<Timestamp>,
    /// When they were given.
    pub at: Timestamp,
}

/// What became of a change to a credential whose secrets have to be as they were read.
#[derive(Clone, Debug, PartialEq)]
pub enum Replaced {
    /// It is written: this is what the credential is now.
    Done(Box<CredentialRecord>),
    /// The credential's secrets have changed since it was read: this is what it is now, and nothing was written.
    Changed(Box<CredentialRecord>),
    /// The credential is archived, or gone.
    Gone,
}

/// The vaults. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Vaults {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    source: Source,
    state: Mutex<State>,
    /// Data keys that were unwrapped; they never change.
    keys: Mutex<HashMap<WorkspaceId, Arc<OpenKey>>>,
}

#[derive(Clone)]
enum State {
    Open(Arc<dyn KeySource>),
    Sealed(String),
}

struct OpenKey {
    id: DataKeyId,
    bytes: KeyBytes,
}

impl Vaults {
    /// The vaults of a store with the master key of this source. Where the key is missing or another one they are sealed; each
    /// later call for a secret looks for it again, so that nobody need restart a server when it is put in its place.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn open(store: Store, source: Source) -> Result<Self, Error> {
        let vaults = Self {
            inner: Arc::new(Inner {
                store,
                source,
                state: Mutex::new(State::Sealed("no master key was looked for".to_owned())),
                keys: Mutex::default(),
            }),
        };
        match vaults.look().await {
            Ok(_) => {}
            Err(Error::Sealed { why }) => {
                tracing::warn!("the vaults are sealed and credentials cannot be used: {why}")
            }
            Err(error) => return Err(error),
        }
        Ok(vaults)
    }

    /// Whether there was no master key, or not the one in use, when it was last looked for.
    pub fn is_sealed(&self) -> bool {
        matches!(&*lock(&self.inner.state), State::Sealed(_))
    }

    /// Why they are sealed, in words for the operator; `None` when they are not.
    pub fn why_sealed(&self) -> Option<String> {
        match &*lock(&self.inner.state) {
            State::Sealed(why) => Some(why.clone()),
            State::Open(_) => None,
        }
    }

    /// The store under them.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Refuses while the vaults are sealed, after looking for the key once more.
    ///
    /// # Errors
    /// [`Error::Sealed`]; or the store fails.
    pub async fn require_open(&self) -> Result<(), Error> {
        self.source().await.map(drop)
    }

    /// The active MCP credential for a server in the first of these vaults that has one (runtime MC-6, VA-8). As it is now:
    /// to be asked for anew with each use (runtime VA-7).
    ///
    /// # Errors
    /// When the store fails.
    pub async fn matching_mcp(
        &self,
        workspace: &WorkspaceId,
        vaults: &[VaultId],
        server: &ServerUrl,
    ) -> Result<Option<CredentialRecord>, Error> {
        let store = &self.inner.store;
        let found = store
            .first_credential(workspace, vaults, &server.key())
            .await?;
        Ok(found)
    }

    /// A secret of a credential; `None` when it has none of this name, as after it was archived.
    ///
    /// # Errors
    /// [`Error::Sealed`], [`Error::Damaged`]; or the store, or the key service, fails.
    pub async fn open_field(
        &self,
        record: &CredentialRecord,
        field: Field,
    ) -> Result<Option<SecretString>, Error> {
        let Some(sealed) = record.secrets.get(field.as_str()) else {
            return Ok(None);
        };
        let place = place_of(&record.workspace, &record.credential, field);
        self.unseal(&place, sealed).await.map(Some)
    }

    /// Opens a sealed value at its place.
    ///
    /// # Errors
    /// As [`open_field`](Self::open_field).
    pub async fn unseal(&self, place: &Place<'_>, sealed: &str) -> Result<SecretString, Error> {
        let item = || format!("{} of {}", place.field, place.object);
        let key = match self.data_key(place.workspace).await? {
            Some(key) => key,
            None => return Err(Error::damaged(item(), "its key is gone")),
        };
        seal::open(&key.bytes, &key.id, place, sealed).map_err(|refusal| {
            let reason = match refusal {
                seal::Refusal::Form => "it is not of a known form",
                seal::Refusal::OtherKey => "it was sealed with another key",
                seal::Refusal::Forged => "it was changed or moved",
            };
            Error::damaged(item(), reason)
        })
    }

    /// Seals a secret for a place.
    ///
    /// # Errors
    /// [`Error::Sealed`]; or the store, or the key service, fails.
    pub async fn seal(&self, place: &Place<'_>, secret: &SecretString) -> Result<String, Error> {
        self.sealer(place.workspace).await?.seal(place, secret)
    }

    /// What seals secrets of a workspace without waiting for anything. The workspace's key is made when it has none.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub async fn sealer(&self, workspace: &WorkspaceId) -> Result<Sealer, Error> {
        let key = match self.data_key(workspace).await? {
            Some(key) => key,
            None => self.make_data_key(workspace).await?,
        };
        Ok(Sealer { key })
    }

    /// Puts refreshed tokens in the place of those that `record` has, if its secrets are still as they were read. All of them at
    /// once: the old ones may be worth nothing any more.
    ///
    /// # Errors
    /// As [`seal`](Self::seal); nothing is written then.
    pub async fn replace_oauth(
        &self,
        act: Act,
        record: &CredentialRecord,
        tokens: &Tokens,
    ) -> Result<Replaced, Error> {
        let sealer = self.sealer(&record.workspace).await?;
        let seal =
            |field, secret| sealer.seal_field(&record.workspace, &record.credential, field, secret);
        let mut secrets = BTreeMap::new();
        let access = seal(Field::AccessToken, &tokens.access_token)?;
        secrets.insert(Field::AccessToken.as_str().to_owned(), access);
        if let Some(refresh) = &tokens.refresh_token {
            let refresh = seal(Field::RefreshToken, refresh)?;
            secrets.insert(Field::RefreshToken.as_str().to_owned(), refresh);
        }
        let (expiry, at) = (tokens.expires_at, tokens.at);
        self.replace(act, record, move |mut new| {
            new.secrets.extend(secrets);
            new.refused = None;
            new.credential.updated_at = at;
            if let CredentialAuth::McpOauth { expires_at, .. } = &mut new.credential.auth {
                *expires_at = expiry;
            }
            new
        })
        .await
    }

    /// Notes down that a credential is no longer taken, if its secrets are still as they were read: nobody tries it again until
    /// a client changes it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn refuse(
        &self,
        act: Act,
        record: &CredentialRecord,
        refusal: Refusal,
    ) -> Result<Replaced, Error> {
        let refused = Some(refusal);
        self.replace(act, record, move |new| CredentialRecord { refused, ..new })
            .await
    }

    async fn replace(
        &self,
        act: Act,
        record: &CredentialRecord,
        change: impl FnOnce(CredentialRecord) -> CredentialRecord + Send + 'static,
    ) -> Result<Replaced, Error> {
        // Other changes, as of its name, do not stand in the way: new tokens must be kept.
        let read = record.secrets.clone();
        let replaced = self
            .inner
            .store
            .update_credential(
                act,
                &record.credential.vault_id,
                &record.credential.id,
                move |now| {
                    if now.secrets != read {
                        return Err(Box::new(now.clone()));
                    }
                    Ok(Some(change(now.clone())))
                },
            )
            .await?;
        Ok(match replaced {
            None => Replaced::Gone,
            Some(Ok(record)) => Replaced::Done(Box::new(record)),
            Some(Err(now)) if now.credential.archived_at.is_some() => Replaced::Gone,
            Some(Err(now)) => Replaced::Changed(now),
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
