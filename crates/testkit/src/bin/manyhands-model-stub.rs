//! A model as a process of its own, in both wire forms, which answers at once: the floor of the bench
//! and the model of acceptance tests.
//!
//! It prints `listening on http://ADDR:PORT` as its first line and ends on SIGTERM or when its
//! standard input does. `GET /stats` counts what it was asked; `GET /frames/N` is a stream of N
//! short events, all ready, for a bench of streams to compare itself with.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use futures::{StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Response};
use hyper_util::rt::TokioIo;
use manyhands_testkit::model::told::{Answer, told};
use manyhands_testkit::model::{Format, check, check_chat, script};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

#[derive(Parser)]
#[command(about = "A model that answers at once, for benchmarks and tests")]
struct Flags {
    /// Where to listen; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// What to answer
    #[arg(long, value_enum, default_value = "text")]
    mode: Mode,
    /// The replies of mode `script`, as JSON
    #[arg(long, required_if_eq("mode", "script"))]
    script: Option<PathBuf>,
    /// Refuse what the hosted API refuses, and count it in /stats
    #[arg(long)]
    check: bool,
    /// Answer after this many milliseconds, as a model that thinks
    #[arg(long, default_value = "0", value_name = "MILLIS")]
    delay: u64,
    /// Refuse requests of more bytes, as a model whose context is full
    #[arg(long, value_name = "BYTES")]
    window: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    /// One greeting, the same each time
    Text,
    /// One `bash` call a turn, of what follows `run:` in the user's text
    Bash,
    /// The replies of --script
    Script,
    /// What the user's message dictates behind `reply:`; GET /requests shows what was asked, POST /gates/NAME opens a
    /// gate
    Told,
    /// Nothing, ever: the caller waits
    Silent,
}

struct Stub {
    answers: Answers,
    check: bool,
    delay: Duration,
    window: usize,
    /// The bodies of mode `told`, in their order.
    requests: Mutex<Vec<Bytes>>,
    /// The gates of mode `told` that are open.
    gates: watch::Sender<HashSet<String>>,
    hits: AtomicU64,
    refused: AtomicU64,
    received_bytes: AtomicU64,
}

impl Stub {
    /// Remembers a request, where somebody may ask for it.
    fn keep(&self, raw: &Bytes) {
        if matches!(self.answers, Answers::Told) {
            let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            requests.push(raw.clone());
        }
    }

    /// Waits until somebody opens a gate.
    async fn pass(&self, gate: &str) {
        let mut gates = self.gates.subscribe();
        // The sender lives as long as the stub, so the wait cannot fail.
        let _ = gates.wait_for(|open| open.contains(gate)).await;
    }

    /// All that it remembers, as a JSON list.
    fn requests(&self) -> Bytes {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        Bytes::from([b"[", requests.join(&b',').as_slice(), b"]"].concat())
    }
}

enum Answers {
    /// The same bytes each time.
    Fixed {
        messages: Bytes,
        chat: Bytes,
    },
    Bash,
    Script(script::Script),
    Told,
    Silent,
}

// One thread: the stub shall take as little as possible of the machine it measures.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    let run = async {
        let answers = match flags.mode {
            Mode::Text => Answers::Fixed {
                messages: script::greeting(Format::Messages),
                chat: script::greeting(Format::Chat),
            },
            Mode::Bash => Answers::Bash,
            Mode::Told => Answers::Told,
            Mode::Silent => Answers::Silent,
            Mode::Script => Answers::Script(script::Script::read(
                flags.script.as_deref().expect("clap requires it"),
            )?),
        };
        let listener = TcpListener::bind(flags.listen)
            .await
            .map_err(|error| format!("listening on {}: {error}", flags.listen))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let stub = Arc::new(Stub {
            answers,
            check: flags.check,
            delay: Duration::from_millis(flags.delay),
            window: flags.window.unwrap_or(usize::MAX),
            requests: Mutex::default(),
            gates: watch::Sender::default(),
            hits: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
        });
        println!("listening on http://{address}");
        std::io::stdout()
            .flush()
            .map_err(|error| error.to_string())?;
        let mut terminated = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
        tokio::select! {
            _ = accept(listener, stub) => {}
            _ = stdin_ends() => {}
            _ = terminated.recv() => {}
        }
        Ok::<(), String>(())
    };
    match run.await {
        // Not a return from main: the runtime would wait for the blocking read of stdin.
        Ok(()) => std::process::exit(0),
        Err(problem) => {
            eprintln!("manyhands-model-stub: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn stdin_ends() {
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 1024];
    while matches!(stdin.read(&mut ignored).await, Ok(read) if read > 0) {}
}

async fn accept(listener: TcpListener, stub: Arc<Stub>) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, stub.clone()));
        }
    }
}

async fn serve(stream: TcpStream, stub: Arc<Stub>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let stub = stub.clone();
        async move { Ok::<_, Infallible>(answer(&stub, request).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    // Clients break connections when they are killed; that is no news here.
    let _ = http
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn answer(stub: &Stub, request: hyper::Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return respond(400, "application/json", Bytes::from_static(b"{}"));
    };
    match (&head.method, head.uri.path()) {
        (&Method::POST, "/v1/messages") => {
            message(stub, Format::Messages, &head.headers, body.to_bytes()).await
        }
        (&Method::POST, "/v1/chat/completions") => {
            message(stub, Format::Chat, &head.headers, body.to_bytes()).await
        }
        (&Method::GET, "/v1/models") => json_response(200, &script::models()),
        (&Method::GET, path) if path.starts_with("/frames/") => {
            let count = path["/frames/".len()..].parse().unwrap_or(1);
            let frames = script::FRAME.repeat(count);
            respond(200, EVENT_STREAM, Bytes::from(frames))
        }
        (&Method::POST, path) if path.starts_with("/gates/") => {
            let gate = path["/gates/".len()..].to_owned();
            stub.gates.send_modify(|open| _ = open.insert(gate));
            json_response(200, &json!({}))
        }
        (&Method::GET, "/requests") => respond(200, "application/json", stub.requests()),
        (&Method::GET, "/stats") => json_response(
            200,
            &json!({
                "hits": stub.hits.load(Relaxed),
                "refused": stub.refused.load(Relaxed),
                "received_bytes": stub.received_bytes.load(Relaxed),
            }),
        ),
        (method, path) => refuse(
            404,
            "not_found_error",
            &format!("{method} {path}: no such route"),
        ),
    }
}

async fn message(stub: &Stub, format: Format, headers: &HeaderMap, raw: Bytes) -> Response<Body> {
    stub.hits.fetch_add(1, Relaxed);
    stub.received_bytes.fetch_add(raw.len() as u64, Relaxed);
    if stub.check {
        let body = serde_json::from_slice(&raw).unwrap_or_default();
        let violations = match format {
            Format::Messages => check(headers, &body),
            Format::Chat => check_chat(headers, &body),
        };
        if !violations.is_empty() {
            stub.refused.fetch_add(1, Relaxed);
            return refuse(400, "invalid_request_error", &violations.join("; "));
        }
    }
    if !stub.delay.is_zero() {
        tokio::time::sleep(stub.delay).await;
    }
    stub.keep(&raw);
    if raw.len() > stub.window {
        let problem = format!(
            "prompt is too long: {} tokens > {} maximum",
            raw.len(),
            stub.window
        );
        return refuse(400, "invalid_request_error", &problem);
    }
    let body = match &stub.answers {
        Answers::Told => match told(format, &raw) {
            Ok(told) => {
                if let Some(gate) = told.gate {
                    stub.pass(&gate).await;
                }
                match told.answer {
                    Answer::Held(begin) => return hold(begin),
                    Answer::Error(error) => {
                        return refuse(error.status, &error.kind, &error.message);
                    }
                    Answer::Silent => std::future::pending().await,
                    Answer::Whole(body) => Ok(body),
                }
            }
            Err(problem) => Err(problem),
        },
        Answers::Fixed { messages, chat } => Ok(match format {
            Format::Messages => messages.clone(),
            Format::Chat => chat.clone(),
        }),
        Answers::Bash => script::bash(format, &raw),
        Answers::Script(script) => script.answer(format, &raw),
        Answers::Silent => std::future::pending().await,
    };
    match body {
        Ok(body) => respond(200, EVENT_STREAM, body),
        Err(problem) => {
            stub.refused.fetch_add(1, Relaxed);
            refuse(400, "invalid_request_error", &problem)
        }
    }
}

fn refuse(status: u16, kind: &str, message: &str) -> Response<Body> {
    let body = json!({
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": "req_stub",
    });
    json_response(status, &body)
}

fn json_response(status: u16, body: &serde_json::Value) -> Response<Body> {
    respond(status, "application/json", Bytes::from(body.to_string()))
}

fn respond(status: u16, kind: &'static str, body: Bytes) -> Response<Body> {
    with_body(status, kind, Full::new(body).boxed_unsync())
}

/// A beginning that never gets its end.
fn hold(body: Bytes) -> Response<Body> {
    let begin = stream::once(async move { Ok(Frame::data(body)) });
    let held = StreamBody::new(begin.chain(stream::pending()));
    with_body(200, EVENT_STREAM, held.boxed_unsync())
}

fn with_body(status: u16, kind: &'static str, body: Body) -> Response<Body> {
    Response::builder()
        .status(status)
        .header("content-type", kind)
        .header("request-id", "req_stub")
        .body(body)
        .expect("constant headers")
}
