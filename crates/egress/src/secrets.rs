//! What the proxy asks about secrets: who holds them answers (runtime VA-9, GH-4; security CRED-4).
//!
//! The proxy knows requests and nothing of vaults. Here are its three questions, and the words of the answers.

use async_trait::async_trait;
use http::HeaderValue;
use secrecy::SecretString;

use crate::host::{Host, Pattern, Target};
use crate::substitute::headers;

/// Who holds the secrets of sessions. The proxy asks anew for every request, so that a rotation, an archive or a removal
/// counts from the next one on (security CRED-8).
#[async_trait]
pub trait Secrets: Send + Sync + 'static {
    /// What is attached to a session, now. Nothing secret, and for names alone: what is not named here is never asked for. It may
    /// be some seconds old when it is used. A session that nobody knows has nothing.
    ///
    /// # Errors
    /// [`Unavailable`]: it is not known. The request fails, for it could need something.
    async fn attached(&self, session: &str) -> Result<Attached, Unavailable>;

    /// The secret of a placeholder, when all conditions hold that are not the proxy's own (security CRED-4): the placeholder is
    /// this session's, its credential active, the host on its list, the place enabled. The audit row is committed before this
    /// returns one. `None`: the placeholder is passed on as it came (runtime VA-12).
    ///
    /// The proxy has checked that the session's policy admits the host and that the connection there is TLS with a verified
    /// certificate (or that the operator allows plain HTTP).
    ///
    /// # Errors
    /// [`Unavailable`]: nobody knows whether. The request fails.
    async fn release(&self, asked: &Asked<'_>) -> Result<Option<SecretString>, Unavailable>;

    /// Whether a request is one of git, or of the host's own interface, for a repository that is attached to the session (runtime
    /// GH-4, GH-5), and what it carries then. The audit row is committed before this returns a token. Asked for hosts of
    /// [`Attached::repositories`] alone, and over verified TLS alone.
    ///
    /// # Errors
    /// [`Unavailable`]: nobody knows whether. The request fails.
    async fn repository(&self, visit: &Visit<'_>) -> Result<Option<Passage>, Unavailable>;
}

/// What is attached to a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// Its active credentials with a placeholder.
    pub credentials: Vec<Credential>,
    /// Where its repositories are. Under `limited` their paths are reachable there, and nothing else.
    pub repositories: Vec<Target>,
}

impl Attached {
    /// The credentials for this host.
    pub fn credentials_for(&self, host: &Host) -> impl Iterator<Item = &Credential> {
        self.credentials
            .iter()
            .filter(move |credential| credential.hosts.admit(host))
    }
}

/// Where a credential may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// To which hosts.
    pub hosts: Hosts,
    /// Whether in values of headers.
    pub header: bool,
    /// Whether in bodies.
    pub body: bool,
}

/// The hosts of a credential (runtime VA-10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// All that the environment permits.
    Any,
    /// These.
    Listed(Vec<Pattern>),
}

impl Hosts {
    /// Whether this host is one of them.
    pub fn admit(&self, host: &Host) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(patterns) => patterns.iter().any(|pattern| pattern.matches(host)),
        }
    }
}

/// A placeholder that was found in a request.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The session at whose door it was (security NET-8).
    pub session: &'a str,
    /// The placeholder, whole.
    pub placeholder: &'a str,
    /// Where the request goes.
    pub target: &'a Target,
    /// Where in the request it stands.
    pub place: Place,
}

/// Where a placeholder may stand (runtime VA-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the value of a header.
    Header,
    /// In the body.
    Body,
}

/// A request to a host that has a session's repository.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// The session at whose door it was.
    pub session: &'a str,
    /// Where it goes.
    pub target: &'a Target,
    /// Its method.
    pub method: &'a http::Method,
    /// Its path and query, as they will be sent.
    pub path: &'a http::uri::PathAndQuery,
}

/// A request for an attached repository may pass.
#[derive(Clone, Debug)]
pub enum Passage {
    /// As it is: the repository has no token.
    Public,
    /// With these in the place of whatever it says about itself.
    With(Basic),
}

/// A user and a token, for `Authorization: Basic`.
#[derive(Clone, Debug)]
pub struct Basic {
    /// For example `x-access-token`.
    pub user: String,
    /// The token, which is scrubbed from the answer.
    pub token: SecretString,
}

impl Basic {
    /// The value of `Authorization`, marked as sensitive; `None` when it would be no value of a header.
    pub fn value(&self) -> Option<HeaderValue> {
        headers::basic_value(self).ok()
    }
}

/// The holder of secrets cannot answer now: the store is away, or the server is sealed. Nothing is released, and a retry may
/// help.
#[derive(Debug, thiserror::Error)]
#[error("the session's credentials cannot be looked up: {0}")]
pub struct Unavailable(pub String);

/// Nobody holds anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSecrets;

#[async_trait]
impl Secrets for NoSecrets {
    async fn attached(&self, _: &str) -> Result<Attached, Unavailable> {
        Ok(Attached::default())
    }

    async fn release(&self, _: &Asked<'_>) -> Result<Option<SecretString>, Unavailable> {
        Ok(None)
    }

    async fn repository(&self, _: &Visit<'_>) -> Result<Option<Passage>, Unavailable> {
        Ok(None)
    }
}
