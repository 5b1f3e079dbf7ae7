//! A proxy with doors, the world behind it, and clients at the doors.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use manyhands_egress::address::Allowed;
use manyhands_egress::audit::{self, Entry, Outcome};
use manyhands_egress::dial::{Connect, Dialler, Resolve, Tcp, Timeouts as DialTimeouts};
use manyhands_egress::host::{Host, Pattern};
use manyhands_egress::policy::Operator;
use manyhands_egress::proxy::{Door, Proxy, Settings, Timeouts};
use manyhands_protocol::environment::Networking;
use manyhands_protocol::time::SystemClock;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::origin::{self, Arrived, Journal};

/// How long a step of a test may take before it has failed: a bound, never a wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// The address of the one host that is really there.
pub(crate) const GOOD: &str = "93.184.216.34";
/// The address of a host that nobody may reach.
pub(crate) const EVIL: &str = "45.33.32.156";

/// Names, addresses, and what was asked and dialled.
pub(crate) struct World {
    /// Names and their answers, one after the other; the last one stays.
    names: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    asked: Mutex<Vec<String>>,
    /// Addresses that were dialled and are not the good host's.
    sunk: Mutex<Vec<SocketAddr>>,
    http: SocketAddr,
    https: SocketAddr,
    pub(crate) journal: Journal,
}

#[async_trait]
impl Resolve for World {
    async fn resolve(&self, host: &Host) -> io::Result<Vec<IpAddr>> {
        self.asked.lock().expect("a lock").push(host.to_string());
        let mut names = self.names.lock().expect("a lock");
        let answers = names
            .get_mut(host.as_str())
            .ok_or(io::ErrorKind::NotFound)?;
        match answers.len() {
            1 => Ok(answers[0].clone()),
            _ => Ok(answers.remove(0)),
        }
    }
}

#[async_trait]
impl Connect for World {
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        match (address.ip().to_string().as_str(), address.port()) {
            (GOOD, 80) => TcpStream::connect(self.http).await,
            (GOOD, 443) => TcpStream::connect(self.https).await,
            _ => {
                self.sunk.lock().expect("a lock").push(address);
                Err(io::ErrorKind::ConnectionRefused.into())
            }
        }
    }
}

impl World {
    pub(crate) fn name(&self, name: &str, answers: &[&[&str]]) {
        let read = |answer: &&[&str]| answer.iter().map(|it| it.parse().expect(it)).collect();
        let answers = answers.iter().map(read).collect();
        self.names
            .lock()
            .expect("a lock")
            .insert(name.to_owned(), answers);
    }

    /// Every trace of something at a destination that was refused: a dial, a question for a name that is not allowed, a request
    /// that only a misreading could make.
    pub(crate) fn arrivals(&self) -> Vec<String> {
        let sunk = self.sunk.lock().expect("a lock");
        let asked = self.asked.lock().expect("a lock");
        let journal = self.journal.lock().expect("a lock");
        let allowed = |name: &str| name == "good.example" || name.ends_with(".wild.example");
        let ours = |name: Option<&str>| {
            name.is_some_and(|name| allowed(name.split(':').next().unwrap_or_default()))
        };
        let strange = |arrived: &&Arrived| {
            let whole = !arrived.head.starts_with("BROKEN");
            let misled = !ours(arrived.header("host"))
                || arrived
                    .tls_name
                    .as_deref()
                    .is_some_and(|name| !allowed(name));
            misled
                || (whole && arrived.head.contains("smuggled"))
                || arrived.head.contains("BROKEN GET")
        };
        let dials = sunk.iter().map(|address| format!("dialled {address}"));
        let questions = asked
            .iter()
            .filter(|name| !allowed(name))
            .map(|name| format!("asked for {name}"));
        let requests = journal
            .iter()
            .filter(strange)
            .map(|arrived| format!("{arrived:?}"));
        dials.chain(questions).chain(requests).collect()
    }

    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        self.journal.lock().expect("a lock").clone()
    }
}

/// A proxy, its world, and the doors of sessions.
pub(crate) struct Bed {
    pub(crate) world: Arc<World>,
    pub(crate) proxy: Proxy,
    directory: tempfile::TempDir,
    trusting: TlsConnector,
    doors: Mutex<Vec<Door>>,
}

impl Bed {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::make(false, change).await
    }

    /// In a network of its own, where the good host has its address and sinkholes listen at all others: connections are the
    /// machine's own.
    pub(crate) async fn routed(sinkholes: &[&str]) -> Self {
        let bed = Self::make(true, |_| {}).await;
        for address in sinkholes {
            let listener = TcpListener::bind(address).await.expect(address);
            let world = bed.world.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let address = stream.local_addr().expect("an address");
                    world.sunk.lock().expect("a lock").push(address);
                }
            });
        }
        bed
    }

    async fn make(routed: bool, change: impl FnOnce(&mut Settings)) -> Self {
        let (acceptor, root) = certificates();
        let journal = Journal::default();
        let any = "127.0.0.1:0".to_owned();
        let at = |port| {
            if routed {
                format!("{GOOD}:{port}")
            } else {
                any.clone()
            }
        };
        let http = listen(&at(80), None, journal.clone()).await;
        let https = listen(&at(443), Some(acceptor), journal.clone()).await;
        let world = Arc::new(World {
            names: Mutex::default(),
            asked: Mutex::default(),
            sunk: Mutex::default(),
            http,
            https,
            journal,
        });
        world.name("good.example", &[&[GOOD]]);
        world.name("a.wild.example", &[&[GOOD]]);
        world.name("evil.example", &[&[EVIL]]);
        let directory = tempfile::tempdir().expect("a directory");
        let connect: Arc<dyn Connect> = match routed {
            true => Arc::new(Tcp),
            false => world.clone(),
        };
        let dialler = Dialler::new(
            world.clone(),
            connect,
            Allowed::default(),
            DialTimeouts::default(),
        );
        let mut settings =
            Settings::new(directory.path().to_owned(), dialler, Arc::new(SystemClock));
        settings.roots = vec![root];
        settings.operator = operator();
        change(&mut settings);
        let proxy = Proxy::new(settings).expect("a proxy");
        let trusting = connector(proxy.authority());
        Self {
            world,
            proxy,
            directory,
            trusting,
            doors: Mutex::default(),
        }
    }

    /// Opens the door of a session and gives the path of its socket.
    pub(crate) fn open(&self, session: &str, networking: &Networking) -> PathBuf {
        let path = self.directory.path().join(session);
        let socket = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
        let policy = self.proxy.policy(networking, &[]);
        let door = self.proxy.open(session, policy, socket).expect("a door");
        self.doors.lock().expect("a lock").push(door);
        path
    }

    pub(crate) fn limited(&self, session: &str) -> PathBuf {
        self.open(session, &limited(&["good.example", "*.wild.example"]))
    }

    /// Ends all doors, so that the journal is whole, and reads a session's part of it.
    pub(crate) fn audited(&self, session: &str) -> Vec<Entry> {
        self.doors.lock().expect("a lock").clear();
        self.journal(session)
    }

    /// The sessions that were refused something.
    pub(crate) fn refused_sessions(&self) -> BTreeSet<String> {
        let journal = std::fs::read_to_string(self.directory.path().join("egress.log"));
        let journal = journal.expect("a journal");
        let entries = journal
            .lines()
            .map(|line| serde_json::from_str::<Entry>(line).expect(line));
        let refused = entries.filter(|entry| matches!(entry.outcome, Outcome::Refused { .. }));
        refused.map(|entry| entry.session).collect()
    }

    pub(crate) fn journal(&self, session: &str) -> Vec<Entry> {
        let found = audit::read(self.directory.path(), session).expect("a journal");
        assert_eq!(found.damaged, 0);
        found.entries
    }

    /// TLS as a client inside speaks it: it trusts the proxy's authority alone.
    pub(crate) async fn tls<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        name: &str,
    ) -> io::Result<tokio_rustls::client::TlsStream<S>> {
        let name = ServerName::try_from(name.to_owned()).expect(name);
        bounded(self.trusting.connect(name, stream)).await
    }
}

pub(crate) fn limited(hosts: &[&str]) -> Networking {
    Networking::Limited {
        allowed_hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        allow_mcp_servers: false,
        allow_package_managers: false,
    }
}

fn operator() -> Operator {
    Operator {
        tunnel_hosts: vec![Pattern::parse("pinned.wild.example").expect("a pattern")],
        ..Operator::default()
    }
}

/// Times that a test can wait out.
pub(crate) fn hurried() -> Timeouts {
    let short = Duration::from_millis(300);
    Timeouts {
        head: short,
        idle: short,
        silence: short,
        answer: short,
        tunnel: short,
    }
}

pub(crate) async fn bounded<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("in time")
}

async fn listen(at: &str, tls: Option<TlsAcceptor>, journal: Journal) -> SocketAddr {
    let listener = TcpListener::bind(at).await.expect(at);
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, journal) = (tls.clone(), journal.clone());
            tokio::spawn(async move {
                match tls {
                    None => origin::serve(stream, None, journal).await,
                    // A handshake that fails is the proxy's to tell.
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            let name = stream.get_ref().1.server_name().map(str::to_owned);
                            origin::serve(stream, name, journal).await;
                        }
                    }
                }
            });
        }
    });
    address
}

/// The good host's certificate, and the root that it is checked by.
fn certificates() -> (TlsAcceptor, CertificateDer<'static>) {
    manyhands_egress::install_crypto();
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).expect("a root");
    let issuer = rcgen::Issuer::new(params, key);
    let leaf_key = rcgen::KeyPair::generate().expect("a key");
    let names = ["good.example", "*.wild.example"]
        .map(str::to_owned)
        .to_vec();
    let params = rcgen::CertificateParams::new(names).expect("parameters");
    let leaf = params.signed_by(&leaf_key, &issuer).expect("a leaf");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config
        .with_single_cert(vec![leaf.into()], key)
        .expect("a configuration");
    (TlsAcceptor::from(Arc::new(config)), root.into())
}

pub(crate) fn connector(root: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(root.as_bytes()).expect("a certificate");
    roots.add(root).expect("a root");
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// A client at a door.
pub(crate) async fn knock(path: &PathBuf) -> UnixStream {
    bounded(UnixStream::connect(path))
        .await
        .expect("a connection")
}

/// Sends bytes; a door that has closed already takes none.
pub(crate) async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    drop(bounded(stream.write_all(bytes)).await);
    drop(bounded(stream.flush()).await);
}

/// Everything until the proxy ends the connection.
pub(crate) async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    // Cut off is an end as well.
    drop(bounded(stream.read_to_end(&mut all)).await);
    all
}

/// A head, and nothing behind it.
pub(crate) async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match bounded(stream.read_u8()).await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).expect("a head")
}

/// A CONNECT; the answer's head.
pub(crate) async fn connect(stream: &mut UnixStream, target: &str) -> String {
    send(
        stream,
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes(),
    )
    .await;
    head(stream).await
}
