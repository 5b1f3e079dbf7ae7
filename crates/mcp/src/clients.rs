//! Who has which connection: one for a caller and a server, while somebody holds it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use manyhands_egress::outbound::{Conversation, Outbound};
use serde_json::{Map, Value};
use url::Url;

use crate::client::Client;
use crate::door::Keys;
use crate::handshake::Memory;
use crate::scrub::Scrub;
use crate::{Authorization, Caller, Connection, Connector, Failure};
use crate::{Output, Server, Settings, Tool};

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

    fn client(&self, caller: &Caller, url: Url) -> Result<Arc<Client>, Failure> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (caller.clone(), url.clone());
        if let Some(client) = state.open.get(&key).and_then(Weak::upgrade) {
            return Ok(client);
        }
        let keys = Keys {
            outbound: Arc::new(conversation(&self.outbound)?),
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
        Ok(client)
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

/// Connections for the one client of one server.
pub(crate) fn conversation(outbound: &Outbound) -> Result<Conversation, Failure> {
    let reason = |error: manyhands_egress::Error| error.to_string();
    let conversation = outbound.conversation().map_err(reason);
    conversation.map_err(|reason| Failure::Connection { reason })
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
        let handle = Handle::new(self.client(caller, url.clone())?);
        let opened = handle.client.link().await;
        self.remember(url, handle.client.memory());
        match opened {
            Ok(_) => Ok(Arc::new(handle)),
            Err(fault) => Err(fault.of_greeting()),
        }
    }
}

/// A connection as one of its users has it: the conversation ends when the last of them closes it, so that who closes late
/// takes it from nobody.
struct Handle {
    client: Arc<Client>,
    is_open: AtomicBool,
}

impl Handle {
    fn new(client: Arc<Client>) -> Self {
        client.join();
        let is_open = AtomicBool::new(true);
        Self { client, is_open }
    }

    /// Whether nobody uses the connection any more; once.
    fn leave(&self) -> bool {
        self.is_open.swap(false, Ordering::AcqRel) && self.client.leave()
    }
}

#[async_trait]
impl Connection for Handle {
    async fn tools(&self) -> Result<Vec<Tool>, Failure> {
        self.client.tools().await
    }

    async fn call(
        &self,
        name: &str,
        input: &Map<String, Value>,
        within: Duration,
    ) -> Result<Output, Failure> {
        self.client.call(name, input, within).await
    }

    async fn close(&self) {
        if self.leave() {
            self.client.close().await;
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // The client ends what is left when it is dropped itself.
        self.leave();
    }
}
