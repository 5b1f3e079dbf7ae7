//! The one way from here to a server: guarded, with the caller's credential, and to the server's own origin only.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use http::header::{AUTHORIZATION, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use manyhands_egress::outbound::{Conversation, Repeat, Request, Unanswered};
use manyhands_protocol::CredentialId;
use reqwest::Response;
use secrecy::ExposeSecret as _;
use url::Url;

use crate::fault::Fault;
use crate::probe::Witness;
use crate::scrub::Scrub;
use crate::{Authorization, Caller, Token};

/// Redirects within the origin that are followed: servers that mind a slash at the end.
const HOPS: u32 = 3;

/// What all doors of one client share.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) outbound: Arc<Conversation>,
    pub(crate) authorization: Arc<dyn Authorization>,
    pub(crate) caller: Caller,
    pub(crate) scrub: Arc<Scrub>,
    pub(crate) in_plain_http: bool,
    /// Who looks at what the server answers to requests that ask something.
    pub(crate) witness: Option<Witness>,
}

/// The way to one server for one conversation.
pub(crate) struct Door {
    keys: Keys,
    /// As the agent names it: what credentials are found by.
    url: Url,
    /// Where the server has sent us within its origin.
    moved: Mutex<Url>,
    /// Whose conversation it is, once something was sent.
    credential: OnceLock<Option<CredentialId>>,
}

impl Door {
    pub(crate) fn new(keys: Keys, url: Url) -> Self {
        Self {
            keys,
            moved: Mutex::new(url.clone()),
            url,
            credential: OnceLock::new(),
        }
    }

    /// The server's endpoint.
    pub(crate) fn url(&self) -> Url {
        self.moved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn scrub(&self) -> &Arc<Scrub> {
        &self.keys.scrub
    }

    /// Sends a request to the endpoint, with a fresh token once more where the first was refused. 401 and 403 are faults;
    /// all other statuses are the caller's.
    pub(crate) async fn send(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Vec<u8>,
        repeat: Repeat,
    ) -> Result<Response, Fault> {
        let url = self.url();
        let response = self.send_to(url, method, headers, body, repeat).await?;
        let at = response.url();
        if at.origin() == self.url.origin() {
            *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = at.clone();
        }
        Ok(response)
    }

    /// As [`Self::send`], to another place of the same origin.
    pub(crate) async fn send_to(
        &self,
        url: Url,
        method: Method,
        headers: HeaderMap,
        body: Vec<u8>,
        repeat: Repeat,
    ) -> Result<Response, Fault> {
        let mut refused: Option<Token> = None;
        loop {
            let token = self.token(refused.as_ref()).await?;
            let attempt = Request {
                method: method.clone(),
                url: url.clone(),
                headers: headers.clone(),
                body: body.clone(),
            };
            let response = self.follow(attempt, token.as_ref(), repeat).await?;
            let status = response.status();
            return match (status, token) {
                (StatusCode::UNAUTHORIZED, Some(token)) if refused.is_none() => {
                    refused = Some(token);
                    continue;
                }
                (StatusCode::UNAUTHORIZED, None) => Err(unauthorized(
                    "the server wants a credential (401) and no vault has one for it",
                )),
                (StatusCode::UNAUTHORIZED, Some(_)) => {
                    Err(unauthorized("the server refuses the credential (401)"))
                }
                (StatusCode::FORBIDDEN, _) => Err(unauthorized(
                    "the server forbids this to the credential (403)",
                )),
                (_, _) => Ok(response),
            };
        }
    }

    async fn token(&self, refused: Option<&Token>) -> Result<Option<Token>, Fault> {
        let keys = &self.keys;
        let token = keys
            .authorization
            .token(&keys.caller, &self.url, refused)
            .await;
        let token = token.map_err(|denied| Fault::Unauthorized(denied.0))?;
        if let Some(token) = &token {
            keys.scrub.learn(&token.secret);
            if self.url.scheme() != "https" && !keys.in_plain_http {
                return Err(unauthorized(
                    "there is a credential for the server, and credentials are not sent over plain http",
                ));
            }
        }
        let secret = |token: &Token| token.secret.expose_secret().to_owned();
        if let Some(refused) = refused
            && token
                .as_ref()
                .is_none_or(|token| secret(token) == secret(refused))
        {
            return Err(unauthorized("the server refuses the credential (401)"));
        }
        let credential = token.as_ref().map(|token| token.credential.clone());
        if *self.credential.get_or_init(|| credential.clone()) != credential {
            return Err(Fault::Forgotten);
        }
        Ok(token)
    }

    /// Follows redirects that keep method, body and origin; each goes through the gate as if it were the first.
    async fn follow(
        &self,
        mut request: Request,
        token: Option<&Token>,
        repeat: Repeat,
    ) -> Result<Response, Fault> {
        if let Some(token) = token {
            let value = format!("Bearer {}", token.secret.expose_secret());
            let value = HeaderValue::try_from(value);
            let mut value = value.map_err(|_| {
                unauthorized("the credential has characters that no header can have")
            })?;
            value.set_sensitive(true);
            request.headers.insert(AUTHORIZATION, value);
        }
        for _ in 0..=HOPS {
            // Also of what a server names itself (security CRED-7).
            if request.url.origin() != self.url.origin() {
                return Err(Fault::Barred(
                    "the server sends us to another origin, where we do not go".to_owned(),
                ));
            }
            let sent = self.keys.outbound.send(request.clone(), repeat).await;
            let response = sent.map_err(|unanswered| match unanswered {
                Unanswered::Unsent(refusal) => Fault::unsent(&refusal),
                Unanswered::Sent(refusal) => Fault::Lost(refusal.to_string()),
            })?;
            let status = response.status();
            if !status.is_redirection() {
                return Ok(match &self.keys.witness {
                    Some(witness) if request.method == Method::POST => witness.see(response).await,
                    _ => response,
                });
            }
            let to = response
                .headers()
                .get(LOCATION)
                .and_then(|to| to.to_str().ok());
            let to = to.and_then(|to| request.url.join(to).ok());
            match to {
                Some(to) if matches!(status.as_u16(), 307 | 308) => request.url = to,
                _ => break,
            }
        }
        Err(Fault::Barred(
            "the server redirects, and not within itself".to_owned(),
        ))
    }
}

fn unauthorized(reason: &str) -> Fault {
    Fault::Unauthorized(reason.to_owned())
}
