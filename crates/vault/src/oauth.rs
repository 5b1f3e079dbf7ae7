//! Access tokens of `mcp_oauth` credentials: given out while they are good, refreshed when they are not (runtime VA-6, VA-17).
//!
//! However many ask, one refreshes: within a process all who come wait for the same [flight], and among servers a claim in
//! the credential's row, limited in time, keeps the others back. A refresh goes on when whoever wanted it has gone away: what
//! the authorization server gave must be kept, because the old refresh token may be worth nothing any more. New tokens are
//! stored, all of them at once, before anyone uses them.
//!
//! Where the answer to a refresh was lost nobody knows whether the refresh token was used up. The claim is left to end by
//! its time; after that the same refresh token is tried again. A server that watches for repeated tokens may then refuse it,
//! and the credential needs a new grant.

mod answer;
mod captured;
mod due;
mod flight;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod request;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use manyhands_egress::outbound::Outbound;
use manyhands_protocol::CredentialId;
use manyhands_protocol::time::SharedClock;
use manyhands_protocol::vault::CredentialAuth;
use manyhands_store::vault::CredentialRecord;
use secrecy::{ExposeSecret as _, SecretString};

use crate::error::Error;
use crate::vaults::{Field, Vaults};
use due::Due;
use flight::Flight;

pub use captured::Captured;

/// How refreshes are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a token endpoint may take for its whole answer.
    pub patience: Duration,
    /// How long a claim to refresh holds without being given back. Longer than `patience`.
    pub claim: Duration,
    /// Whether secrets are sent to token endpoints over `http` (security CRED-4).
    pub plain_http: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(20),
            claim: Duration::from_secs(30),
            plain_http: false,
        }
    }
}

/// Gives access tokens, and refreshes them. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Refresher {
    inner: Arc<Inner>,
}

struct Inner {
    vaults: Vaults,
    outbound: Outbound,
    clock: SharedClock,
    settings: Settings,
    /// The refreshes that are under way here.
    flights: Mutex<HashMap<CredentialId, Flight>>,
}

/// How a refresh ended.
#[derive(Clone)]
pub enum Attempt {
    /// New tokens are stored, by this server or another: this is the credential now.
    Refreshed(Box<CredentialRecord>),
    /// The authorization server refuses, and would again: the credential needs a new grant.
    Refused {
        /// A code of the RFC, or a status.
        why: String,
        /// The answer, where it was an error's.
        response: Option<Captured>,
    },
    /// The authorization server answered, and gave nothing: it may go better later.
    Failed {
        /// What happened.
        why: String,
        /// The answer, where it was an error's.
        response: Option<Captured>,
    },
    /// Nobody was asked, or nobody answered: it may go better later.
    Unanswered {
        /// What happened.
        why: String,
    },
    /// The credential has no refresh token.
    NoRefreshToken,
    /// The credential is archived, or gone.
    Gone,
}

/// Why there is no access token. The texts are for sessions and have no secret in them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoToken {
    /// It will not go better until a client changes the credential.
    #[error("credential {credential} {why}")]
    Invalid {
        /// Which.
        credential: CredentialId,
        /// What is wrong with it.
        why: String,
    },
    /// It may go better later.
    #[error("credential {credential} {why}")]
    Unavailable {
        /// Which.
        credential: CredentialId,
        /// What happened.
        why: String,
    },
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refreshed(record) => f
                .debug_tuple("Refreshed")
                .field(&record.credential.id)
                .finish(),
            Self::Refused { why, .. } => f.debug_tuple("Refused").field(why).finish(),
            Self::Failed { why, .. } => f.debug_tuple("Failed").field(why).finish(),
            Self::Unanswered { why } => f.debug_tuple("Unanswered").field(why).finish(),
            Self::NoRefreshToken => f.write_str("NoRefreshToken"),
            Self::Gone => f.write_str("Gone"),
        }
    }
}

impl Refresher {
    /// A refresher over the vaults, whose requests go out by `outbound`.
    pub fn new(vaults: Vaults, outbound: Outbound, clock: SharedClock, settings: Settings) -> Self {
        Self {
            inner: Arc::new(Inner {
                vaults,
                outbound,
                clock,
                settings,
                flights: Mutex::default(),
            }),
        }
    }

    /// The access token of an `mcp_oauth` credential as it was just read, refreshed where need be. `refused` is a token that
    /// the MCP server has just answered with 401: if it is still the stored one, it is refreshed whatever its life.
    ///
    /// # Errors
    /// [`NoToken`].
    pub async fn access_token(
        &self,
        record: CredentialRecord,
        refused: Option<&SecretString>,
    ) -> Result<SecretString, NoToken> {
        let token = self.open(&record).await?;
        let is_refused = |token: &SecretString| {
            refused.is_some_and(|refused| refused.expose_secret() == token.expose_secret())
        };
        match self.due(&record) {
            _ if is_refused(&token) => {}
            Due::Never => return Ok(token),
            Due::Soon => {
                // The token is still good: nobody waits, and a failure is found out about when it matters.
                if record.refused.is_none() && has_refresh(&record) {
                    drop(self.inner.flight(&record));
                }
                return Ok(token);
            }
            Due::Now => {}
        }
        let credential = record.credential.id.clone();
        if let Some(refusal) = &record.refused {
            let why = refused_text(&refusal.reason);
            return Err(NoToken::Invalid { credential, why });
        }
        let invalid = |why: &str| NoToken::Invalid {
            credential: credential.clone(),
            why: why.to_owned(),
        };
        match self.inner.flight(&record).await {
            Attempt::Refreshed(record) => {
                let token = self.open(&record).await?;
                if is_refused(&token) {
                    return Err(invalid(
                        "was refused by the server, and has no other token now",
                    ));
                }
                Ok(token)
            }
            Attempt::Refused { why, .. } => Err(invalid(&refused_text(&why))),
            Attempt::Failed { why, .. } | Attempt::Unanswered { why } => {
                Err(NoToken::Unavailable {
                    why: format!("could not be refreshed: {why}"),
                    credential,
                })
            }
            Attempt::NoRefreshToken if refused.is_some() => Err(invalid(
                "was refused by the server, and has no refresh token",
            )),
            Attempt::NoRefreshToken => Err(invalid("has expired, and has no refresh token")),
            Attempt::Gone => Err(invalid("is archived or deleted")),
        }
    }

    /// Refreshes a credential now, also one whose last refresh was refused.
    pub async fn refresh(&self, record: &CredentialRecord) -> Attempt {
        self.inner.flight(record).await
    }

    fn due(&self, record: &CredentialRecord) -> Due {
        let CredentialAuth::McpOauth { expires_at, .. } = &record.credential.auth else {
            return Due::Never;
        };
        let since = record.credential.updated_at;
        due::due(*expires_at, since, self.inner.clock.now(), rand::random())
    }

    async fn open(&self, record: &CredentialRecord) -> Result<SecretString, NoToken> {
        let credential = record.credential.id.clone();
        match self
            .inner
            .vaults
            .open_field(record, Field::AccessToken)
            .await
        {
            Ok(Some(token)) => Ok(token),
            Ok(None) => Err(NoToken::Invalid {
                credential,
                why: "has no access token".to_owned(),
            }),
            Err(error) => Err(unopened(credential, &error)),
        }
    }
}

/// Why a credential's secret was not given: told to the log as it is, and to the session in short.
pub(crate) fn unopened(credential: CredentialId, error: &Error) -> NoToken {
    tracing::warn!(%credential, %error, "a credential cannot be opened");
    let why = match error {
        Error::Sealed { .. } => "cannot be opened: the server has no master key",
        Error::Damaged { .. } => "cannot be opened: it is damaged",
        _ => "cannot be opened now",
    };
    NoToken::Unavailable {
        credential,
        why: why.to_owned(),
    }
}

fn refused_text(why: &str) -> String {
    format!("needs a new grant: its authorization server refused to refresh it: {why}")
}

/// Whether there is something to refresh it with.
fn has_refresh(record: &CredentialRecord) -> bool {
    matches!(
        &record.credential.auth,
        CredentialAuth::McpOauth {
            refresh: Some(_),
            ..
        }
    ) && record.secrets.contains_key(Field::RefreshToken.as_str())
}

impl Inner {
    /// The refresh of a credential that is under way, or a new one.
    fn flight(self: &Arc<Self>, record: &CredentialRecord) -> Flight {
        let mut flights = self.flights();
        if let Some(flight) = flights.get(&record.credential.id) {
            return flight.clone();
        }
        let flight = flight::start(Arc::clone(self), record.clone());
        flights.insert(record.credential.id.clone(), flight.clone());
        flight
    }

    fn flights(&self) -> std::sync::MutexGuard<'_, HashMap<CredentialId, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
