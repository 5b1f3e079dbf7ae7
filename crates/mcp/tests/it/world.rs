//! A scripted server, and the client that talks to it through the real gate.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use manyhands_egress::address::Allowed;
use manyhands_egress::dial::{Dialler, Resolve, Tcp, Timeouts};
use manyhands_egress::host::Host;
use manyhands_egress::outbound::Outbound;
use manyhands_mcp::{
    Authorization, Caller, Clients, Connection, Connector, Denied, Failure, Output, Server,
    Settings, Token,
};
use manyhands_protocol::content::ContentBlock;
use manyhands_protocol::{CredentialId, SessionId, WorkspaceId};
use manyhands_testkit::mcp::{Asked, Peer, Reply, polite};
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value, json};
use url::Url;

/// What calls may take where nothing is to go wrong.
pub(crate) const AMPLE: Duration = Duration::from_secs(60);

/// A server and a client.
pub(crate) struct World {
    pub(crate) peer: Peer,
    pub(crate) vault: Arc<Vault>,
    pub(crate) clients: Clients,
    pub(crate) caller: Caller,
    pub(crate) server: Server,
}

impl World {
    /// Without credentials, with ample time.
    pub(crate) async fn new(answer: impl FnMut(&Asked) -> Reply + Send + 'static) -> Self {
        Self::with(Settings::default(), Vault::default(), answer).await
    }

    pub(crate) async fn with(
        settings: Settings,
        vault: Vault,
        answer: impl FnMut(&Asked) -> Reply + Send + 'static,
    ) -> Self {
        let peer = Peer::start(answer).await;
        let vault = Arc::new(vault);
        Self {
            clients: clients(settings, Arc::clone(&vault), &[peer.address().port()]),
            server: Server {
                name: "peer".to_owned(),
                url: peer.url("mcp.example.com", "/mcp"),
            },
            caller: caller(),
            peer,
            vault,
        }
    }

    /// As this world, but its client may dial this port as well; it talks to servers without certificates.
    pub(crate) fn reaching(mut self, port: u16) -> Self {
        let ports = [self.peer.address().port(), port];
        self.clients = clients(in_plain_http(), Arc::clone(&self.vault), &ports);
        self
    }

    pub(crate) async fn connect(&self) -> Result<Arc<dyn Connection>, Failure> {
        self.clients.connect(&self.caller, &self.server).await
    }

    /// Connects and calls the tool of this name.
    pub(crate) async fn call(&self, name: &str) -> Result<Output, Failure> {
        let connection = self.connect().await.expect("a connection");
        connection.call(name, &Map::new(), AMPLE).await
    }

    pub(crate) fn times(&self, what: &str) -> usize {
        self.peer
            .what()
            .iter()
            .filter(|asked| *asked == what)
            .count()
    }
}

/// A new session of a new workspace.
pub(crate) fn caller() -> Caller {
    Caller {
        workspace: WorkspaceId::generate(),
        session: SessionId::generate(),
        vaults: Vec::new(),
    }
}

/// A client that may dial this machine, and these ports.
pub(crate) fn clients(settings: Settings, vault: Arc<Vault>, ports: &[u16]) -> Clients {
    Clients::new(outbound(ports), vault, settings)
}

/// The gate to this machine, and these ports.
pub(crate) fn outbound(ports: &[u16]) -> Outbound {
    let allowed = Allowed::parse(["127.0.0.1/32"]).expect("a network");
    let dialler = Dialler::new(Arc::new(Here), Arc::new(Tcp), allowed, Timeouts::default());
    Outbound::new(dialler, ports).expect("a client")
}

/// What tests with tokens need: the scripted server has no certificate.
pub(crate) fn in_plain_http() -> Settings {
    Settings {
        tokens_in_plain_http: true,
        ..Settings::default()
    }
}

/// A well-behaved server, but for calls.
pub(crate) fn but_calls(mut call: impl FnMut(&Asked) -> Reply) -> impl FnMut(&Asked) -> Reply {
    move |asked| match asked.what() {
        "tools/call" => call(asked),
        _ => polite(asked, &json!([]), |_, _| Value::Null),
    }
}

/// The result of a call with this text.
pub(crate) fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

/// The text of an output that has one block.
#[track_caller]
pub(crate) fn said(output: Result<Output, Failure>) -> String {
    match output.as_ref().map(|output| &output.content[..]) {
        Ok([ContentBlock::Text { text }]) => text.clone(),
        _ => panic!("{output:?} is no text"),
    }
}

/// All names are this machine, but those below `private`.
struct Here;

#[async_trait]
impl Resolve for Here {
    async fn resolve(&self, host: &Host) -> io::Result<Vec<IpAddr>> {
        let address = match host.as_str() {
            name if name.starts_with("private.") => "10.0.0.1",
            _ => "127.0.0.1",
        };
        Ok(vec![address.parse().expect("an address")])
    }
}

/// A vault of one credential. Each refusal brings its next token.
#[derive(Default)]
pub(crate) struct Vault {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    credential: Option<CredentialId>,
    tokens: Vec<String>,
    denied: bool,
    asked: usize,
}

impl Vault {
    /// With these tokens, the first of which is in use.
    pub(crate) fn of(tokens: &[&str]) -> Self {
        let vault = Self::default();
        vault.replace(tokens);
        vault
    }

    /// Another credential is in its place.
    pub(crate) fn replace(&self, tokens: &[&str]) {
        let mut state = self.state.lock().expect("the vault");
        state.credential = Some(CredentialId::generate());
        state.tokens = tokens.iter().map(|token| (*token).to_owned()).collect();
    }

    /// From now on it gives nothing.
    pub(crate) fn deny(&self) {
        self.state.lock().expect("the vault").denied = true;
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.state.lock().expect("the vault").asked
    }
}

#[async_trait]
impl Authorization for Vault {
    async fn token(
        &self,
        _: &Caller,
        _: &Url,
        refused: Option<&Token>,
    ) -> Result<Option<Token>, Denied> {
        let mut state = self.state.lock().expect("the vault");
        state.asked += 1;
        if state.denied {
            return Err(Denied("the refresh was refused".to_owned()));
        }
        if refused.is_some_and(|token| token.secret.expose_secret() == state.tokens[0])
            && state.tokens.len() > 1
        {
            state.tokens.remove(0);
        }
        let token = state.credential.clone().map(|credential| Token {
            credential,
            secret: state.tokens[0].clone().into(),
        });
        Ok(token)
    }
}
