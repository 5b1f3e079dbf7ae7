//! An OAuth authorization server on this machine: the refresh grant of RFC 6749, as strict as good ones are.
//!
//! It rotates refresh tokens and watches for one that comes twice: then the whole grant is gone, as RFC 9700 (4.14.2) wants
//! it. It verifies the client's authentication exactly, counts everything, and can misbehave on demand. Nothing expires by
//! itself: the test says when.

mod endpoint;
mod form;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::watch;

pub use form::Authentication;

use crate::gate::{Gate, PATIENCE};

/// The client that is registered at the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its id.
    pub id: String,
    /// Its secret; none for a public client.
    pub secret: Option<String>,
    /// How it has to prove who it is.
    pub authentication: Authentication,
}

/// What a server does with one request instead of granting it.
#[derive(Clone, Debug)]
pub enum Misdeed {
    /// Answers with this status and an OAuth error of this code, and grants nothing.
    Refuse(u16, &'static str),
    /// Answers with this status and body, and grants nothing.
    Answer(u16, String),
    /// Sends the client elsewhere.
    Redirect(String),
    /// Grants, and breaks the connection before the answer.
    Lose,
    /// Grants, and answers with so many bytes more than needed.
    Bloat(usize),
    /// Grants when the gate opens.
    Hold(Gate),
    /// Grants, and says neither how long it is good for nor a new refresh token.
    Terse,
}

/// A grant, as the client would have it from a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The access token.
    pub access_token: String,
    /// The refresh token.
    pub refresh_token: String,
}

/// A running server. Clones share it; it ends with the runtime.
#[derive(Clone)]
pub struct AuthorizationServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    client: Registered,
    state: Mutex<State>,
    granted: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    made: u64,
    /// Each access token that is good, and the grant it belongs to.
    access: HashMap<String, u64>,
    /// Each refresh token ever given, its grant, and whether it was used.
    refresh: HashMap<String, (u64, bool)>,
    /// Grants that are gone.
    revoked: Vec<u64>,
    misdeeds: VecDeque<Misdeed>,
    forms: Vec<HashMap<String, String>>,
    problems: Vec<String>,
    expires_in: u64,
}

impl AuthorizationServer {
    /// Starts a server with one client.
    ///
    /// # Panics
    /// When this machine has no port left.
    pub async fn start(client: Registered) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = State {
            expires_in: 3600,
            ..State::default()
        };
        let shared = Arc::new(Shared {
            client,
            state: Mutex::new(state),
            granted: watch::Sender::new(0),
        });
        tokio::spawn(endpoint::serve(listener, Arc::clone(&shared)));
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of its token endpoint under this host name.
    pub fn token_endpoint(&self, host: &str) -> String {
        format!("http://{host}:{}/token", self.address.port())
    }

    /// A new grant, as if somebody had agreed in a browser.
    pub fn grant(&self) -> Grant {
        let mut state = self.shared.state();
        let family = state.next();
        state.issue(family)
    }

    /// Whether an access token opens doors now.
    pub fn admits(&self, access_token: &str) -> bool {
        self.shared.state().access.contains_key(access_token)
    }

    /// Ends an access token; its grant stays.
    pub fn expire(&self, access_token: &str) {
        self.shared.state().access.remove(access_token);
    }

    /// Ends all access tokens; their grants stay.
    pub fn expire_all(&self) {
        self.shared.state().access.clear();
    }

    /// Ends all grants, as when somebody takes their consent back.
    pub fn revoke_all(&self) {
        let mut state = self.shared.state();
        let families: Vec<u64> = state.refresh.values().map(|(family, _)| *family).collect();
        families.into_iter().for_each(|family| state.revoke(family));
    }

    /// What the next answers say about the life of access tokens, in seconds.
    pub fn set_expires_in(&self, seconds: u64) {
        self.shared.state().expires_in = seconds;
    }

    /// Misbehaves once, after the misdeeds that are lined up already.
    pub fn misbehave(&self, misdeed: Misdeed) {
        self.shared.state().misdeeds.push_back(misdeed);
    }

    /// How many requests came to the token endpoint.
    pub fn asked(&self) -> usize {
        self.shared.state().forms.len()
    }

    /// How many of them were granted, whether or not their answer arrived.
    pub fn granted(&self) -> usize {
        *self.shared.granted.borrow()
    }

    /// Waits until so many requests were granted.
    ///
    /// # Panics
    /// When they are not within [`PATIENCE`].
    pub async fn until_granted(&self, count: usize) {
        let mut granted = self.shared.granted.subscribe();
        let reached = granted.wait_for(|granted| *granted >= count);
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        assert!(reached.is_ok(), "{count} grants within {PATIENCE:?}");
    }

    /// The parameters of the last request.
    ///
    /// # Panics
    /// When there was none.
    pub fn last(&self) -> HashMap<String, String> {
        self.shared.state().forms.last().expect("a request").clone()
    }

    /// What was wrong with requests: not asked as the RFC asks, another client, a refresh token that came twice.
    pub fn problems(&self) -> Vec<String> {
        self.shared.state().problems.clone()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    fn issue(&mut self, family: u64) -> Grant {
        let number = self.next();
        // Characters that need care in forms and headers are part of both kinds.
        let grant = Grant {
            access_token: format!("access-{number}.~+/=="),
            refresh_token: format!("refresh {number}+&=%/é"),
        };
        self.access.insert(grant.access_token.clone(), family);
        self.refresh
            .insert(grant.refresh_token.clone(), (family, false));
        grant
    }

    fn revoke(&mut self, family: u64) {
        self.revoked.push(family);
        self.access.retain(|_, of| *of != family);
    }

    /// Takes a refresh token and gives a new pair; the reason when it does not.
    fn rotate(&mut self, refresh_token: &str) -> Result<Grant, String> {
        let Some(&(family, used)) = self.refresh.get(refresh_token) else {
            return Err("an unknown refresh token".to_owned());
        };
        if self.revoked.contains(&family) {
            return Err("a grant that is gone".to_owned());
        }
        if used {
            self.revoke(family);
            return Err("a refresh token that came twice".to_owned());
        }
        self.refresh
            .insert(refresh_token.to_owned(), (family, true));
        Ok(self.issue(family))
    }
}

#[cfg(test)]
mod tests;
