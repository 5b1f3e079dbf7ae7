//! One refresh, from the claim to the stored tokens.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::Shared;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use manyhands_egress::outbound::Unanswered;
use manyhands_protocol::vault::{CredentialAuth, TokenEndpointAuth};
use manyhands_protocol::{CredentialId, Timestamp};
use manyhands_store::audit::{Act, Action, Actor, Outcome};
use manyhands_store::vault::{Claim, CredentialRecord, Refusal};
use secrecy::SecretString;
use tokio::time::{Instant, sleep, timeout};
use url::Url;
use zeroize::Zeroizing;

use super::answer::{self, Answer, Granted};
use super::captured::Captured;
use super::request::{Asking, ClientSecret, request};
use super::{Attempt, Inner};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::vaults::{Field, Replaced, Tokens};

/// A refresh that is under way; all who wait for it get the same.
pub(super) type Flight = Shared<Pin<Box<dyn Future<Output = Attempt> + Send>>>;

/// Between two looks at a credential that another server refreshes: the first, and the longest.
const LOOK: Duration = Duration::from_millis(50);
const SELDOM: Duration = Duration::from_secs(1);

/// Starts a refresh that goes on when nobody waits for it any more. The caller holds the lock on the flights: the flight is in
/// the table before it can take itself out.
pub(super) fn start(inner: Arc<Inner>, record: CredentialRecord) -> Flight {
    let task = tokio::spawn(async move {
        let landing = Landing {
            inner,
            credential: record.credential.id.clone(),
        };
        landing.inner.refresh(record).await
    });
    let flight = async move {
        task.await.unwrap_or_else(|_| Attempt::Unanswered {
            why: "the refresh broke off".to_owned(),
        })
    };
    let flight: Pin<Box<dyn Future<Output = Attempt> + Send>> = Box::pin(flight);
    flight.shared()
}

/// Takes a flight out of the table, however it ends.
struct Landing {
    inner: Arc<Inner>,
    credential: CredentialId,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.inner.flights().remove(&self.credential);
    }
}

/// What came of asking.
enum Asked {
    /// An answer.
    Answered {
        answer: Answer,
        /// As it is shown, where it was an error's.
        response: Option<Captured>,
    },
    /// Nothing was sent.
    Unsent(String),
    /// It was sent, and nobody knows what became of it.
    Lost(String),
}

impl Inner {
    /// Claims a credential, unless somebody else has refreshed it, and refreshes it.
    async fn refresh(&self, mut record: CredentialRecord) -> Attempt {
        let access = Field::AccessToken.as_str();
        let before = record.secrets.get(access).cloned();
        let refused_before = record.refused.clone();
        let store = self.vaults.store();
        let until = Instant::now() + self.settings.claim + self.settings.patience;
        let mut pause = LOOK;
        loop {
            let credential = &record.credential;
            let claim = store
                .claim_refresh(
                    &record.workspace,
                    &credential.id,
                    record.generation,
                    self.settings.claim,
                )
                .await;
            match claim {
                Err(error) => return failed(&credential.id, &error.into()),
                Ok(Claim::Gone) => return Attempt::Gone,
                Ok(Claim::Won { until }) => return self.ask_and_keep(record, until).await,
                Ok(Claim::Changed(now)) => {
                    if now.secrets.get(access) != before.as_ref() {
                        return Attempt::Refreshed(now);
                    }
                    if let Some(refusal) = now
                        .refused
                        .clone()
                        .filter(|_| now.refused != refused_before)
                    {
                        return Attempt::Refused {
                            why: refusal.reason,
                            response: None,
                        };
                    }
                    record = *now;
                }
                Ok(Claim::Held { remaining }) => {
                    if Instant::now() >= until {
                        let why = "another server refreshes it and does not come to an end";
                        return Attempt::Unanswered {
                            why: why.to_owned(),
                        };
                    }
                    sleep(pause.min(remaining.max(Duration::from_millis(1)))).await;
                    pause = (pause * 2).min(SELDOM);
                }
            }
        }
    }

    /// Refreshes a credential that is claimed.
    async fn ask_and_keep(&self, record: CredentialRecord, claim: Timestamp) -> Attempt {
        failpoint!("vault::oauth::claimed");
        let id = record.credential.id.clone();
        let asking = match self.asking(&record).await {
            Ok(Some(asking)) => asking,
            Ok(None) => {
                self.give_back(&id, claim).await;
                return Attempt::NoRefreshToken;
            }
            Err(NotAsked(why)) => {
                self.give_back(&id, claim).await;
                return Attempt::Unanswered { why };
            }
        };
        // The row comes before the secrets leave (security OPS-3).
        let mut act = act(&record, Outcome::Done);
        act.host = asking.token_endpoint.host_str().map(str::to_owned);
        if let Err(error) = self.vaults.store().audit(act).await {
            self.give_back(&id, claim).await;
            return failed(&id, &error.into());
        }
        let asked = self.ask(&asking).await;
        let (answer, response) = match asked {
            Asked::Answered { answer, response } => (answer, response),
            Asked::Unsent(why) => {
                self.give_back(&id, claim).await;
                return Attempt::Unanswered { why };
            }
            // The claim ends by its time: nobody sends the same refresh token right behind.
            Asked::Lost(why) => {
                return Attempt::Unanswered { why };
            }
        };
        failpoint!("vault::oauth::answered");
        match answer {
            Answer::Granted(granted) => self.keep(record, granted).await,
            Answer::Refused(why) => self.refused(record, why, response).await,
            Answer::Busy(why) => {
                self.give_back(&id, claim).await;
                Attempt::Failed { why, response }
            }
            Answer::Unclear(why) => Attempt::Failed { why, response },
        }
    }

    /// Opens what is asked with; `None` where there is no refresh token.
    async fn asking(&self, record: &CredentialRecord) -> Result<Option<Asking>, NotAsked> {
        let CredentialAuth::McpOauth {
            refresh: Some(refresh),
            ..
        } = &record.credential.auth
        else {
            return Ok(None);
        };
        let open = async |field| {
            let opened = self.vaults.open_field(record, field).await;
            opened.map_err(|error| {
                NotAsked(super::unopened(record.credential.id.clone(), &error).to_string())
            })
        };
        let Some(refresh_token) = open(Field::RefreshToken).await? else {
            return Ok(None);
        };
        let secret = async || {
            let secret = open(Field::ClientSecret).await?;
            secret.ok_or_else(|| NotAsked("it has no client secret".to_owned()))
        };
        let client = match refresh.token_endpoint_auth {
            TokenEndpointAuth::None {} => ClientSecret::None,
            TokenEndpointAuth::ClientSecretBasic {} => ClientSecret::Basic(secret().await?),
            TokenEndpointAuth::ClientSecretPost {} => ClientSecret::Post(secret().await?),
        };
        let token_endpoint = Url::parse(&refresh.token_endpoint)
            .map_err(|_| NotAsked("its token endpoint is no URL".to_owned()))?;
        if token_endpoint.scheme() != "https" && !self.settings.plain_http {
            return Err(NotAsked("its token endpoint is not https".to_owned()));
        }
        Ok(Some(Asking {
            token_endpoint,
            client_id: refresh.client_id.clone(),
            client,
            refresh_token,
            resource: refresh.resource.clone(),
            scope: refresh.scope.clone(),
        }))
    }

    /// Asks the token endpoint, once.
    async fn ask(&self, asking: &Asking) -> Asked {
        let work = async {
            let mut response = match self.outbound.send(request(asking)).await {
                Ok(response) => response,
                Err(Unanswered::Unsent(refusal)) => return Asked::Unsent(refusal.to_string()),
                Err(Unanswered::Sent(refusal)) => return Asked::Lost(refusal.to_string()),
            };
            let status = response.status();
            let content_type = response.headers().get(CONTENT_TYPE).cloned();
            let mut body = Zeroizing::new(Vec::new());
            let whole = loop {
                match response.chunk().await {
                    Ok(Some(chunk)) if body.len() + chunk.len() > answer::LONGEST => break false,
                    Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                    Ok(None) => break true,
                    Err(_) => {
                        return Asked::Lost(
                            "the answer of the token endpoint broke off".to_owned(),
                        );
                    }
                }
            };
            let content_type = content_type.as_ref().and_then(|value| value.to_str().ok());
            Asked::Answered {
                response: captured(asking, status, content_type, &body, whole),
                answer: answer::read(status, whole.then_some(&body)),
            }
        };
        let lost = || Asked::Lost("the token endpoint did not answer in time".to_owned());
        timeout(self.settings.patience, work)
            .await
            .unwrap_or_else(|_| lost())
    }

    /// Stores new tokens. Tried until the claim's time is over: they are the only ones there are.
    async fn keep(&self, record: CredentialRecord, granted: Granted) -> Attempt {
        let at = self.clock.now();
        let life = granted.expires_in.map(Duration::from_secs);
        let tokens = Tokens {
            access_token: granted.access_token,
            refresh_token: granted.refresh_token,
            expires_at: life.map(|life| at.after(life)),
            at,
        };
        let until = Instant::now() + self.settings.claim;
        let mut pause = LOOK;
        loop {
            let act = Act {
                action: Action::CredentialUpdate,
                ..act(&record, Outcome::Done)
            };
            let error = match self.vaults.replace_oauth(act, &record, &tokens).await {
                Ok(Replaced::Done(record) | Replaced::Changed(record)) => {
                    return Attempt::Refreshed(record);
                }
                Ok(Replaced::Gone) => return Attempt::Gone,
                Err(error) => error,
            };
            let id = &record.credential.id;
            if Instant::now() >= until {
                tracing::error!(credential = %id, %error, "refreshed tokens could not be stored and are lost");
                return failed(id, &error);
            }
            tracing::warn!(credential = %id, %error, "refreshed tokens are not stored yet");
            sleep(pause).await;
            pause = (pause * 2).min(SELDOM);
        }
    }

    /// Notes down that the authorization server refuses. The one place where a credential becomes invalid.
    async fn refused(
        &self,
        record: CredentialRecord,
        why: String,
        response: Option<Captured>,
    ) -> Attempt {
        let id = &record.credential.id;
        tracing::warn!(credential = %id, why, "an authorization server refuses to refresh a credential");
        let refusal = Refusal {
            at: self.clock.now(),
            reason: why.clone(),
        };
        match self
            .vaults
            .refuse(act(&record, Outcome::Refused), &record, refusal)
            .await
        {
            // A client has given it other secrets meanwhile: they were not refused.
            Ok(Replaced::Changed(now)) => Attempt::Refreshed(now),
            Ok(Replaced::Gone) => Attempt::Gone,
            Ok(Replaced::Done(_)) => Attempt::Refused { why, response },
            Err(error) => {
                tracing::warn!(credential = %id, %error, "that a credential was refused is not noted down");
                Attempt::Refused { why, response }
            }
        }
    }

    async fn give_back(&self, id: &CredentialId, claim: Timestamp) {
        if let Err(error) = self.vaults.store().release_refresh(id, claim).await {
            tracing::warn!(credential = %id, %error, "a claim to refresh ends by its time only");
        }
    }
}

/// Why nothing was asked.
struct NotAsked(String);

/// The answer as it is shown: only an error's, since any other may have tokens in it that nobody knows yet.
fn captured(
    asking: &Asking,
    status: StatusCode,
    content_type: Option<&str>,
    body: &[u8],
    whole: bool,
) -> Option<Captured> {
    if status.is_success() {
        return None;
    }
    let client: Option<&SecretString> = match &asking.client {
        ClientSecret::None => None,
        ClientSecret::Basic(secret) | ClientSecret::Post(secret) => Some(secret),
    };
    let secrets: Vec<&SecretString> = client.into_iter().chain([&asking.refresh_token]).collect();
    Some(Captured::new(status, content_type, body, whole, secrets))
}

fn act(record: &CredentialRecord, outcome: Outcome) -> Act {
    let credential = &record.credential;
    Act::new(&record.workspace, Actor::Server, Action::CredentialRefresh)
        .to_credential(&credential.vault_id, &credential.id)
        .ending(outcome)
}

fn failed(credential: &CredentialId, error: &Error) -> Attempt {
    tracing::warn!(%credential, %error, "a credential cannot be refreshed now");
    Attempt::Unanswered {
        why: "the server cannot read or write the credential now".to_owned(),
    }
}
