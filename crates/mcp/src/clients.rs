//! Who has which connection: one for a caller and a server, while somebody holds it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use manyhands_egress::outbound::Outbound;
use url::Url;

use crate::client::Client;
use crate::door::Keys;
use crate::handshake::Memory;
use crate::scrub::Scrub;
use crate::{Authorization, Caller, Connection, Connector, Failure, Server, Settings};

/// Servers of which is remembered how they speak.
const REMEMBERED: usize = 1_000;

/// The connector to real servers. Clones share everything.
#[derive(Clone)]
pub struct Clients {
    outbound: Outbound,
    authorization: Arc<dyn Authorization>,
    settings: Settings,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    open: HashMap<(Caller, Url), Weak<Client>>,
    /// Which is no secret of anybody: only whether a server shakes hands.
    memories: HashMap<Url, Memory>,
}

impl Clients {
    /// Requests leave through `outbound`, with the credentials of `authorization`.
    pub fn new(
        outbound: Outbound,
        authorization: Arc<dyn Authorization>,
        settings: Settings,
    ) -> Self {
        Self {
            outbound,
            authorization,
            settings,
            state: Arc::default(),
        }
    }

    fn client(&self, caller: &Caller, url: Url) -> Arc<Client> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (caller.clone(), url.clone());
        if let Some(client) = state.open.get(&key).and_then(Weak::upgrade) {
            return client;
        }
        let keys = Keys {
            outbound: self.outbound.clone(),
            authorization: Arc::clone(&self.authorization),
            caller: caller.clone(),
            scrub: Arc::new(Scrub::default()),
            in_plain_http: self.settings.tokens_in_plain_http,
            witness: None,
        };
        let memory = state.memories.get(&url).copied().unwrap_or(Memory::None);
        let client = Arc::new(Client::new(keys, url, self.settings, memory));
        state.open.retain(|_, client| client.strong_count() > 0);
        state.open.insert(key, Arc::downgrade(&client));
        client
    }

    fn remember(&self, url: Url, memory: Memory) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if memory == Memory::None {
            state.memories.remove(&url);
            return;
        }
        if state.memories.len() >= REMEMBERED {
            state.memories.clear();
        }
        state.memories.insert(url, memory);
    }
}

#[async_trait]
impl Connector for Clients {
    async fn connect(
        &self,
        caller: &Caller,
        server: &Server,
    ) -> Result<Arc<dyn Connection>, Failure> {
        let url = Url::parse(&server.url).map_err(|error| Failure::Connection {
            reason: format!("the server's URL cannot be read: {error}"),
        })?;
        let client = self.client(caller, url.clone());
        let opened = client.link().await;
        self.remember(url, client.memory());
        match opened {
            Ok(_) => Ok(client),
            Err(fault) => Err(fault.of_greeting()),
        }
    }
}
