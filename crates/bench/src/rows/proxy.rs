//! The inspecting proxy against a direct request: a host with TLS on this machine, asked with and without the proxy between, and with
//! a secret put into each request and looked for in each answer.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::try_join_all;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use manyhands_egress::address::Allowed;
use manyhands_egress::dial::{Dialler, Resolve, Tcp, Timeouts};
use manyhands_egress::host::{Host, Pattern};
use manyhands_egress::policy::Operator;
use manyhands_egress::proxy::{Door, Proxy, Settings};
use manyhands_egress::secrets::{
    Asked, Attached, Credential, Hosts, Passage, Secrets, Unavailable, Visit,
};
use manyhands_protocol::environment::Networking;
use manyhands_protocol::time::SystemClock;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::report::Row;
use crate::sample::Samples;
use crate::subject::Setup;

const HOST: &str = "host.example.com";
const PLACEHOLDER: &str = "mhp_abcdefghijklmnopqrstuvwxyz234567";
const SECRET: &str = "sk-live-0123456789abcdef0123456789abcdef";
/// Connections at once for the rate.
const CONNECTIONS: usize = 32;
/// What the host answers: as long as a short answer of an API.
const ANSWER: &[u8] = &[b'x'; 2048];

/// Asks `count` times each way, then for `seconds` as fast as it goes.
pub(crate) async fn run(setup: &Setup, count: usize, seconds: u64) -> Result<Vec<Row>> {
    let folder = tempfile::Builder::new()
        .prefix("manyhands-bench-")
        .tempdir_in(&setup.folder)?;
    // Beside the generator, as a server would be.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let path = folder.path().to_owned();
    let bed = runtime
        .spawn(async move { Bed::start(&path).await })
        .await??;
    let measured = measure(&bed, count, seconds).await;
    runtime.shutdown_background();
    measured
}

async fn measure(bed: &Bed, count: usize, seconds: u64) -> Result<Vec<Row>> {
    let direct = bed.one_after_the_other(Way::Direct, false, count).await?;
    let through = bed.one_after_the_other(Way::Proxy, false, count).await?;
    let filled = bed.one_after_the_other(Way::Proxy, true, count).await?;
    let own_direct = bed.each_on_its_own(Way::Direct, count / 4).await?;
    let own_through = bed.each_on_its_own(Way::Proxy, count / 4).await?;
    let over = |name, samples: &Samples, floor: &Samples| {
        let added = samples.median() - floor.median();
        Row::new(name, added, "ms", samples.count())
            .below(2.0)
            .floor("a direct request", floor.median())
            .note(format!(
                "whole p50 {:.2} ms, p99 {:.2} ms",
                samples.median(),
                samples.percentile(99)
            ))
    };
    let rate = bed.rate(seconds).await?;
    Ok(vec![
        over(
            "request through the egress proxy, added p50",
            &through,
            &direct,
        ),
        over(
            "… with a secret put in and looked for, added p50",
            &filled,
            &direct,
        ),
        over(
            "… on a connection of its own, added p50",
            &own_through,
            &own_direct,
        ),
        Row::new(
            "requests a second through the egress proxy",
            rate,
            "",
            CONNECTIONS,
        )
        .above(1000.0)
        .note("each with a secret; client and host share the machine"),
    ])
}

#[derive(Clone, Copy)]
enum Way {
    Direct,
    Proxy,
}

/// The host, the proxy, and what a client trusts.
struct Bed {
    host: SocketAddr,
    door: PathBuf,
    own: TlsConnector,
    proxys: TlsConnector,
    _door: Door,
}

impl Bed {
    async fn start(folder: &Path) -> Result<Self> {
        manyhands_egress::install_crypto();
        let (acceptor, root) = certificates()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let host = listener.local_addr()?;
        tokio::spawn(serve(listener, acceptor));
        let allowed = Allowed::parse(["127.0.0.1/32"]).context("the address of this machine")?;
        let dialler = Dialler::new(Arc::new(Here), Arc::new(Tcp), allowed, Timeouts::default());
        let settings = Settings {
            roots: vec![root.clone()],
            operator: Operator {
                ports: vec![host.port()],
                ..Operator::default()
            },
            secrets: Arc::new(Holder),
            ..Settings::new(folder.to_owned(), dialler, Arc::new(SystemClock))
        };
        let proxy = Proxy::new(settings)?;
        let networking = Networking::Limited {
            allowed_hosts: vec![HOST.to_owned()],
            allow_mcp_servers: false,
            allow_package_managers: false,
        };
        let door = folder.join("door");
        let open = proxy.open(
            "bench",
            proxy.policy(&networking, &[]),
            UnixListener::bind(&door)?,
        )?;
        let authority = CertificateDer::from_pem_slice(proxy.authority().as_bytes());
        Ok(Self {
            host,
            door,
            own: trusting(root)?,
            proxys: trusting(authority.context("the proxy's authority")?)?,
            _door: open,
        })
    }

    async fn connect(&self, way: Way) -> Result<SendRequest<Empty<Bytes>>> {
        let name = ServerName::try_from(HOST)?;
        match way {
            Way::Direct => {
                let stream = TcpStream::connect(self.host).await?;
                stream.set_nodelay(true)?;
                speak(self.own.connect(name, stream).await?).await
            }
            Way::Proxy => {
                let mut stream = UnixStream::connect(&self.door).await?;
                let target = format!("{HOST}:{}", self.host.port());
                let connect = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
                stream.write_all(connect.as_bytes()).await?;
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
                ensure!(head.starts_with(b"HTTP/1.1 200 "), "no tunnel");
                speak(self.proxys.connect(name, stream).await?).await
            }
        }
    }

    async fn ask(&self, client: &mut SendRequest<Empty<Bytes>>, secret: bool) -> Result<()> {
        let key = if secret { PLACEHOLDER } else { "public" };
        let request = Request::get("/answer")
            .header("host", format!("{HOST}:{}", self.host.port()))
            .header("x-api-key", key)
            .body(Empty::new())?;
        client.ready().await?;
        let response = client.send_request(request).await?;
        let wanted = if secret { "secret" } else { "public" };
        let told = response.headers().get("x-told").cloned();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(
            body == ANSWER && told.is_some_and(|told| told == wanted),
            "the host was not told what it should be"
        );
        Ok(())
    }

    async fn one_after_the_other(&self, way: Way, secret: bool, count: usize) -> Result<Samples> {
        let mut client = self.connect(way).await?;
        self.ask(&mut client, secret).await?;
        let mut samples = vec![];
        for _ in 0..count {
            let started = Instant::now();
            self.ask(&mut client, secret).await?;
            samples.push(started.elapsed());
        }
        Ok(Samples::new(samples))
    }

    async fn each_on_its_own(&self, way: Way, count: usize) -> Result<Samples> {
        let mut samples = vec![];
        for _ in 0..count {
            let started = Instant::now();
            let mut client = self.connect(way).await?;
            self.ask(&mut client, false).await?;
            samples.push(started.elapsed());
        }
        Ok(Samples::new(samples))
    }

    /// Requests a second, with a secret each, over many connections.
    async fn rate(&self, seconds: u64) -> Result<f64> {
        let limit = Duration::from_secs(seconds);
        let clients = (0..CONNECTIONS).map(|_| self.connect(Way::Proxy));
        let clients = try_join_all(clients).await?;
        let started = Instant::now();
        let each = clients.into_iter().map(async |mut client| {
            let mut count = 0_u64;
            while started.elapsed() < limit {
                self.ask(&mut client, true).await?;
                count += 1;
            }
            Ok::<_, anyhow::Error>(count)
        });
        let counts = try_join_all(each).await?;
        Ok(counts.iter().sum::<u64>() as f64 / started.elapsed().as_secs_f64())
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<SendRequest<Empty<Bytes>>> {
    let (client, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn trusting(root: CertificateDer<'static>) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(root)?;
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The host: it says whether it was told the secret, and nothing else of it.
async fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            drop(stream.set_nodelay(true));
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let answer = service_fn(async |request: Request<hyper::body::Incoming>| {
                let key = request.headers().get("x-api-key");
                let told = match key.map(|key| key.as_bytes()) {
                    Some(key) if key == SECRET.as_bytes() => "secret",
                    Some(b"public") => "public",
                    _ => "something else",
                };
                let response = Response::builder()
                    .header("x-told", told)
                    .header("content-type", "application/octet-stream")
                    .body(Full::new(Bytes::from_static(ANSWER)));
                Ok::<_, Infallible>(response.unwrap_or_default())
            });
            let server = hyper::server::conn::http1::Builder::new();
            // A client that goes away ends its connection.
            drop(server.serve_connection(TokioIo::new(stream), answer).await);
        });
    }
}

fn certificates() -> Result<(TlsAcceptor, CertificateDer<'static>)> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(Vec::new())?;
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&key)?;
    let issuer = rcgen::Issuer::new(params, key);
    let leaf_key = rcgen::KeyPair::generate()?;
    let leaf = rcgen::CertificateParams::new(vec![HOST.to_owned()])?;
    let leaf = leaf.signed_by(&leaf_key, &issuer)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![leaf.into()], key)?;
    Ok((TlsAcceptor::from(Arc::new(config)), root.into()))
}

/// Every name is this machine's.
struct Here;

#[async_trait]
impl Resolve for Here {
    async fn resolve(&self, _: &Host) -> std::io::Result<Vec<IpAddr>> {
        Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)])
    }
}

/// One credential, of the only session.
struct Holder;

#[async_trait]
impl Secrets for Holder {
    async fn attached(&self, _: &str) -> Result<Attached, Unavailable> {
        let host = Pattern::parse(HOST).map_err(|error| Unavailable(error.to_string()))?;
        let credential = Credential {
            hosts: Hosts::Listed(vec![host]),
            header: true,
            body: true,
        };
        Ok(Attached {
            credentials: vec![credential],
            repositories: Vec::new(),
        })
    }

    async fn release(&self, asked: &Asked<'_>) -> Result<Option<SecretString>, Unavailable> {
        Ok((asked.placeholder == PLACEHOLDER).then(|| SECRET.into()))
    }

    async fn repository(&self, _: &Visit<'_>) -> Result<Option<Passage>, Unavailable> {
        Ok(None)
    }
}
