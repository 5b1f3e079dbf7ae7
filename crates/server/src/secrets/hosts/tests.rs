//! The server's own question to a host of git, over TLS, and what counts as a yes.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, TcpListener};
use std::sync::{Mutex, PoisonError};
use std::thread;

use manyhands_egress::address::Allowed;
use manyhands_egress::authority::Authority;
use manyhands_egress::dial::{Dialler, Resolve, Tcp, Timeouts};
use manyhands_egress::host::Host;
use manyhands_egress::policy::{Decision, Operator, Policy};
use manyhands_egress::secrets::{Asked, Attached, Basic, Unavailable};
use manyhands_protocol::environment::Networking;
use manyhands_protocol::time::SystemClock;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use secrecy::SecretString;

use super::*;

const HOST: &str = "code.example.com";
/// `x-access-token:gh-token`, as `Authorization: Basic` has it.
const SENT: &str = "authorization: Basic eC1hY2Nlc3MtdG9rZW46Z2gtdG9rZW4=";

/// A host of git that answers each name of a repository in its own way, and what it was asked.
struct World {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    outbound: Outbound,
    _folder: tempfile::TempDir,
}

/// What the holder of secrets says.
#[derive(Clone, Copy, PartialEq)]
enum Says {
    NotItsOwn,
    Public,
    Token,
    Nothing,
}

#[async_trait]
impl Secrets for Says {
    async fn attached(&self, _: &str) -> Result<Attached, Unavailable> {
        Ok(Attached::default())
    }

    async fn release(&self, _: &Asked<'_>) -> Result<Option<SecretString>, Unavailable> {
        Ok(None)
    }

    async fn repository(&self, visit: &Visit<'_>) -> Result<Option<Passage>, Unavailable> {
        assert!(visit.session.starts_with("sesn_") && *visit.method == Method::GET);
        let basic = Basic {
            user: "x-access-token".to_owned(),
            token: "gh-token".into(),
        };
        match self {
            Self::NotItsOwn => Ok(None),
            Self::Public => Ok(Some(Passage::Public)),
            Self::Token => Ok(Some(Passage::With(basic))),
            Self::Nothing => Err(Unavailable("the store is away".to_owned())),
        }
    }
}

/// All names are this machine.
struct Here;

#[async_trait]
impl Resolve for Here {
    async fn resolve(&self, _: &Host) -> io::Result<Vec<IpAddr>> {
        Ok(vec!["127.0.0.1".parse().expect("an address")])
    }
}

/// The head of an answer: `yes` wants no token, `private` wants the one.
fn answer(head: &str) -> String {
    let path = head.split(' ').nth(1).unwrap_or_default();
    let has_token = head.lines().any(|line| line == SENT);
    let name = path.split('/').nth(2).unwrap_or_default();
    let (status, kind, more) = match name {
        "yes" => ("200 OK", REFERENCES, ""),
        "private" if has_token => ("200 OK", REFERENCES, ""),
        "private" => ("401 Unauthorized", REFERENCES, ""),
        "login" => ("200 OK", "text/html", ""),
        "likewise" => ("200 OK", "application/x-git-upload-pack-advertisement2", ""),
        "empty" => ("204 No Content", REFERENCES, ""),
        "moved" => ("302 Found", REFERENCES, "location: /acme/yes/info/refs\r\n"),
        "gone" => ("404 Not Found", REFERENCES, ""),
        _ => ("503 Service Unavailable", REFERENCES, ""),
    };
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{more}content-length: 0\r\nconnection: close\r\n\r\n"
    )
}

/// Answers one connection. One that breaks off is the client's matter.
fn serve(
    stream: std::net::TcpStream,
    config: Arc<ServerConfig>,
    heads: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let answer = answer(&head);
    heads
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(head);
    let stream = stream.get_mut();
    stream.write_all(answer.as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()
}

impl World {
    fn new() -> Self {
        manyhands_egress::install_crypto();
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::open(folder.path(), Arc::new(SystemClock)).expect("one");
        let policy = Policy::new(&Networking::Unrestricted {}, &[], &Operator::default());
        let target = Target::parse(HOST, Some(443)).expect("a place");
        let Decision::Allow(allowed) = policy.expect("a policy").decide(&target) else {
            panic!("refused")
        };
        let config = authority.leaf(&allowed).expect("a certificate");
        let root = CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("a root");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&heads);
        // It ends with the process.
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                drop(serve(stream, Arc::clone(&config), &seen));
            }
        });
        let addresses = Allowed::parse(["127.0.0.1/32"]).expect("networks");
        let dialler = Dialler::new(
            Arc::new(Here),
            Arc::new(Tcp),
            addresses,
            Timeouts::default(),
        );
        Self {
            port,
            heads,
            outbound: Outbound::trusting(dialler, &[port], &[root]).expect("a client"),
            _folder: folder,
        }
    }

    /// What the session is told of a repository, and what the host was asked for that.
    async fn ask(&self, says: Says, url: &str) -> (bool, Vec<String>) {
        let asker = Asker::new(Arc::new(says), self.outbound.clone());
        let shown = asker.shows(&SessionId::generate(), url).await;
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        (shown, heads.drain(..).collect())
    }

    fn url(&self, name: &str) -> String {
        format!("https://{HOST}:{}/acme/{name}", self.port)
    }
}

/// security CRED-9, runtime GH-3, GH-4: git's own first question, once, with the session's credential or none, is answered with
/// references; whatever else comes is a no.
#[tokio::test]
async fn cred_9_only_references_for_the_sessions_own_credential_are_a_yes() {
    let world = World::new();
    for (says, name, expected) in [
        (Says::Public, "yes", true),
        (Says::Token, "yes", true),
        (Says::Token, "private", true),
        (Says::Public, "private", false),
        (Says::Token, "login", false),
        (Says::Token, "likewise", false),
        (Says::Token, "empty", false),
        (Says::Token, "moved", false),
        (Says::Token, "gone", false),
        (Says::Token, "broken", false),
    ] {
        let (shown, heads) = world.ask(says, &world.url(name)).await;
        assert_eq!(shown, expected, "{name}");
        let [head] = &heads[..] else {
            panic!("{name}: {heads:?}")
        };
        let first = format!("GET /acme/{name}/info/refs?service=git-upload-pack HTTP/1.1\r\n");
        assert!(head.starts_with(&first), "{head}");
        let has_token = head.contains(SENT);
        assert_eq!(has_token, says == Says::Token, "{head}");
        assert!(has_token || !head.contains("authorization"), "{head}");
    }
}

/// security CRED-9, NET-9: where it is not known what the session may, or that the host is the right one, nobody is asked and the
/// answer is no.
#[tokio::test]
async fn cred_9_nobody_is_asked_without_a_credential_or_a_place() {
    let world = World::new();
    let url = world.url("yes");
    for says in [Says::NotItsOwn, Says::Nothing] {
        assert_eq!(world.ask(says, &url).await, (false, Vec::new()));
    }
    for url in [
        url.replace("https:", "http:"),
        url.replace(HOST, "127.0.0.1"),
        url.replace(&world.port.to_string(), "1"),
        url.replace(HOST, "token@code.example.com"),
        // A certificate that is another host's.
        url.replace(HOST, "other.example.com"),
        "https://".to_owned(),
        String::new(),
    ] {
        let asked = world.ask(Says::Public, &url).await;
        assert_eq!(asked, (false, Vec::new()), "{url}");
    }
}
