//! An MCP server on this machine that says byte by byte what a test wants, and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::gate::PATIENCE;

/// The longest body that is read, in bytes.
const BODY: usize = 1 << 20;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The HTTP method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body; `null` where there is none.
    pub body: Value,
    /// The connection that it came over: they are counted from 0 as they come.
    pub connection: usize,
}

impl Asked {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The method of its message, or the method of HTTP where it has none.
    pub fn what(&self) -> &str {
        self.body["method"].as_str().unwrap_or(&self.method)
    }

    /// The tool that it calls.
    pub fn tool(&self) -> &str {
        self.body["params"]["name"].as_str().unwrap_or_default()
    }
}

/// What is done after the bytes of an answer.
#[derive(Clone, Debug)]
enum Then {
    Close,
    Keep,
    Hold,
    Repeat(Vec<u8>),
    Give(watch::Receiver<Given>),
}

/// An answer: the bytes, and what follows them.
#[derive(Clone, Debug)]
pub struct Reply {
    bytes: Vec<u8>,
    then: Then,
}

impl Reply {
    /// A whole answer; the connection is closed behind it.
    pub fn new(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let mut bytes = head(status, headers).into_bytes();
        bytes.extend(format!("content-length: {}\r\n\r\n", body.len()).into_bytes());
        bytes.extend_from_slice(body);
        Self::raw(bytes)
    }

    /// These bytes and nothing else; the connection is closed behind them.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            bytes: bytes.into(),
            then: Then::Close,
        }
    }

    /// JSON.
    pub fn json(body: &Value) -> Self {
        let kind = ("content-type", "application/json");
        Self::new(200, &[kind], body.to_string().as_bytes())
    }

    /// The result of the request that was asked.
    pub fn result(asked: &Asked, result: &Value) -> Self {
        Self::json(&json!({"jsonrpc": "2.0", "id": asked.body["id"], "result": result}))
    }

    /// An error in the protocol's own form.
    pub fn error(asked: &Asked, code: i64, message: &str) -> Self {
        let error = json!({"code": code, "message": message});
        Self::json(&json!({"jsonrpc": "2.0", "id": asked.body["id"], "error": error}))
    }

    /// An empty answer of this status.
    pub fn status(status: u16) -> Self {
        Self::new(status, &[], b"")
    }

    /// Events as they stand; the stream ends behind them.
    pub fn events(events: &str) -> Self {
        let head = head(200, &[("content-type", "text/event-stream")]);
        Self::raw(format!("{head}\r\n{events}"))
    }

    /// With another header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        let line = self.bytes.windows(2).position(|two| two == b"\r\n");
        let at = line.map_or(self.bytes.len(), |line| line + 2);
        let header = format!("{name}: {value}\r\n").into_bytes();
        self.bytes.splice(at..at, header);
        self
    }

    /// The connection stays open for the next request, and the answer does not say otherwise. The bytes say where it ends.
    #[must_use]
    pub fn keep(mut self) -> Self {
        let closes = b"connection: close\r\n";
        let found = self.bytes.windows(closes.len()).position(|it| it == closes);
        if let Some(at) = found {
            self.bytes.drain(at..at + closes.len());
        }
        self.then = Then::Keep;
        self
    }

    /// The connection is closed behind the answer, which does not say so.
    #[must_use]
    pub fn close_unsaid(self) -> Self {
        let mut kept = self.keep();
        kept.then = Then::Close;
        kept
    }

    /// The connection stays open and silent until the other side goes.
    #[must_use]
    pub fn hold(mut self) -> Self {
        self.then = Then::Hold;
        self
    }

    /// These bytes follow again and again until the other side goes.
    #[must_use]
    pub fn repeat(mut self, bytes: &str) -> Self {
        self.then = Then::Repeat(bytes.as_bytes().to_vec());
        self
    }

    /// What the test gives follows as it is given, until the other side goes.
    #[must_use]
    pub fn give(mut self, pieces: &Pieces) -> Self {
        self.then = Then::Give(pieces.0.subscribe());
        self
    }
}

fn head(status: u16, headers: &[(&str, &str)]) -> String {
    let mut head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head
}

/// Bytes that a test gives to an answer while it runs.
#[derive(Clone, Debug, Default)]
pub struct Pieces(watch::Sender<Given>);

#[derive(Debug, Default)]
struct Given {
    pieces: Vec<Vec<u8>>,
    ended: bool,
}

impl Pieces {
    /// The next bytes.
    pub fn push(&self, bytes: &str) {
        let bytes = bytes.as_bytes().to_vec();
        self.0.send_modify(|given| given.pieces.push(bytes));
    }

    /// The answer ends behind what it was given.
    pub fn end(&self) {
        self.0.send_modify(|given| given.ended = true);
    }
}

/// A running server. Clones share it; it ends with the runtime.
#[derive(Clone)]
pub struct Peer {
    address: SocketAddr,
    log: watch::Sender<Log>,
}

#[derive(Default)]
struct Log {
    asked: Vec<Asked>,
    /// Connections that the other side left before a request, or while an answer was held or repeated.
    left: usize,
}

impl Peer {
    /// Starts a server that answers each request as `answer` says.
    ///
    /// # Panics
    /// When this machine has no port left.
    pub async fn start(answer: impl FnMut(&Asked) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let peer = Self {
            address,
            log: watch::Sender::default(),
        };
        let (log, answer) = (peer.log.clone(), Arc::new(Mutex::new(answer)));
        tokio::spawn(async move {
            let mut connections = 0..;
            while let (Ok((stream, _)), Some(number)) =
                (listener.accept().await, connections.next())
            {
                tokio::spawn(serve(number, stream, Arc::clone(&answer), log.clone()));
            }
        });
        peer
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A URL of it under this host name.
    pub fn url(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.address.port())
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.log.borrow().asked.clone()
    }

    /// What all requests so far were, in order.
    pub fn what(&self) -> Vec<String> {
        let log = self.log.borrow();
        log.asked
            .iter()
            .map(|asked| asked.what().to_owned())
            .collect()
    }

    /// Waits until there are so many requests of this kind, and gives them.
    ///
    /// # Panics
    /// When they do not come within [`PATIENCE`].
    pub async fn wait_for(&self, what: &str, times: usize) -> Vec<Asked> {
        let mut log = self.log.subscribe();
        let of_kind = |log: &Log| -> Vec<Asked> {
            let found = log.asked.iter().filter(|asked| asked.what() == what);
            found.cloned().collect()
        };
        let enough = log.wait_for(|log| of_kind(log).len() >= times);
        let seen = tokio::time::timeout(PATIENCE, enough).await;
        let Ok(Ok(seen)) = seen else {
            panic!("{times} of {what:?} did not come: {:?}", self.what());
        };
        of_kind(&seen)
    }

    /// Waits until the other side has left so many held answers and kept connections.
    ///
    /// # Panics
    /// When it has not within [`PATIENCE`].
    pub async fn wait_for_left(&self, times: usize) {
        let mut log = self.log.subscribe();
        let left = log.wait_for(|log| log.left >= times);
        let left = tokio::time::timeout(PATIENCE, left).await;
        assert!(matches!(left, Ok(Ok(_))), "nobody left");
    }
}

/// The answer of a server that does what it should: it shakes hands, has these tools, and answers calls as `call` says
/// with a result.
pub fn polite(asked: &Asked, tools: &Value, call: impl FnOnce(&str, &Value) -> Value) -> Reply {
    let params = &asked.body["params"];
    match asked.what() {
        "initialize" => Reply::result(asked, &greeting()),
        "tools/list" => Reply::result(asked, &json!({ "tools": tools })),
        "tools/call" => Reply::result(asked, &call(asked.tool(), &params["arguments"])),
        "ping" => Reply::result(asked, &json!({})),
        "GET" | "DELETE" => Reply::status(405),
        _ if asked.body["id"].is_null() => Reply::status(202),
        _ => Reply::error(asked, -32601, "no such method"),
    }
}

/// The result of a handshake.
pub fn greeting() -> Value {
    json!({
        "protocolVersion": "2025-06-18",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "peer", "version": "1"},
    })
}

async fn serve<F: FnMut(&Asked) -> Reply>(
    connection: usize,
    stream: TcpStream,
    answer: Arc<Mutex<F>>,
    log: watch::Sender<Log>,
) {
    let mut stream = BufReader::new(stream);
    let then = loop {
        let Some(asked) = read(&mut stream, connection).await else {
            return log.send_modify(|log| log.left += 1);
        };
        let reply = {
            let mut answer = answer.lock().unwrap_or_else(PoisonError::into_inner);
            answer(&asked)
        };
        log.send_modify(|log| log.asked.push(asked));
        // A client that has gone is the client's matter.
        if stream.write_all(&reply.bytes).await.is_err() {
            log.send_modify(|log| log.left += 1);
            return;
        }
        if !matches!(reply.then, Then::Keep) {
            break reply.then;
        }
    };
    match then {
        Then::Close | Then::Keep => return,
        Then::Hold => gone(&mut stream).await,
        Then::Repeat(bytes) => while stream.write_all(&bytes).await.is_ok() {},
        Then::Give(mut given) => {
            let mut done = 0;
            loop {
                let (new, ended) = {
                    let given = given.borrow_and_update();
                    let new = given.pieces[done..].concat();
                    done = given.pieces.len();
                    (new, given.ended)
                };
                if stream.write_all(&new).await.is_err() {
                    break;
                }
                if ended {
                    return;
                }
                tokio::select! {
                    changed = given.changed() => if changed.is_err() { return },
                    () = gone(&mut stream) => break,
                }
            }
        }
    }
    log.send_modify(|log| log.left += 1);
}

/// Waits until the other side has closed.
async fn gone(stream: &mut BufReader<TcpStream>) {
    let mut rest = [0; 1024];
    while matches!(stream.read(&mut rest).await, Ok(read) if read > 0) {}
}

async fn read(stream: &mut BufReader<TcpStream>, connection: usize) -> Option<Asked> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; BODY.min(length)];
    stream.read_exact(&mut body).await.ok()?;
    let body = serde_json::from_slice(&body).unwrap_or_default();
    Some(Asked {
        method,
        path,
        headers,
        body,
        connection,
    })
}
