//! The server's own requests to places that a model or a client names: `web_fetch`, images by URL (security NET-9).
//!
//! Same parser, same address check as for sandboxes. Each redirect is decided anew. Bounded in bytes, time and hops; no
//! cookies, no credentials, nothing kept between requests but the connections of a [`Conversation`].

mod conversation;

pub use conversation::{Conversation, Repeat};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;

use crate::dial::{Dialler, Error as DialError};
use crate::host::Host;

/// Redirects that are followed.
const HOPS: u32 = 5;

/// How long a request may take with all its redirects, its last byte included.
const PATIENCE: Duration = Duration::from_secs(30);

/// For a connection with its handshake, and for the next bytes.
const SILENCE: Duration = Duration::from_secs(10);

/// The guarded client. Clones share everything.
#[derive(Clone)]
pub struct Outbound {
    client: reqwest::Client,
    /// Waits for the next bytes as long as its caller does.
    patient: reqwest::Client,
    ports: Arc<[u16]>,
    dials: Arc<Dials>,
}

/// A request of the server's own that may carry a credential. Its answer is the caller's to read, bounded and in time.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Headers; a credential's is marked as sensitive.
    pub headers: HeaderMap,
    /// The body; empty for none.
    pub body: Vec<u8>,
}

/// Why a request has no answer, by whether it may have been acted upon.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// It was never sent. Repeating it repeats nothing.
    #[error(transparent)]
    Unsent(Refusal),
    /// It may have arrived. What it asks for may have been done.
    #[error(transparent)]
    Sent(Refusal),
}

/// A page that came whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Where it was in the end.
    pub url: Url,
    /// Lower case, without parameters; `application/octet-stream` where none was said.
    pub media_type: String,
    /// The declared set of characters.
    pub charset: Option<String>,
    /// Its bytes.
    pub body: Vec<u8>,
}

/// Why a page was not fetched. Tell the model; none is worth a retry of our own.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Not `http` or `https`.
    #[error("only http and https are spoken")]
    Scheme,
    /// The host is no canonical name.
    #[error("{host:?} is not the name of a host: {why}")]
    Host {
        /// As it was given.
        host: String,
        /// What is wrong with it.
        why: String,
    },
    /// The port is not open to anybody.
    #[error("port {port} is not allowed")]
    Port {
        /// The port.
        port: u16,
    },
    /// The caller's rules do not admit the place.
    #[error("{host} is not allowed")]
    NotAdmitted {
        /// The host.
        host: String,
    },
    /// The name leads to an address that is not public.
    #[error("{host} has an address that is not public")]
    Address {
        /// The host.
        host: String,
    },
    /// Too many redirects, or one to nowhere.
    #[error("it redirects too often, or to nowhere")]
    Redirects,
    /// The answer is not a page.
    #[error("the server answered {status}")]
    Status {
        /// The HTTP status.
        status: u16,
    },
    /// The answer is longer than what is taken.
    #[error("the answer is longer than {most} bytes")]
    TooLarge {
        /// The most that is taken, in bytes.
        most: usize,
    },
    /// The whole took too long.
    #[error("the answer did not come in time")]
    Time,
    /// Nobody answered, or not to the end.
    #[error("{host} cannot be reached: {why}")]
    Unreachable {
        /// The host.
        host: String,
        /// What went wrong, in short.
        why: &'static str,
    },
}

impl Outbound {
    /// A client that dials by these rules, and only these ports.
    ///
    /// # Errors
    /// When the machine's trust store cannot be read.
    pub fn new(dialler: Dialler, ports: &[u16]) -> Result<Self, crate::Error> {
        Self::trusting(dialler, ports, &[])
    }

    /// The same for an operator whose own hosts show certificates of these authorities, beside those that the machine trusts.
    ///
    /// # Errors
    /// When the machine's trust store cannot be read, or one of these is no certificate.
    pub fn trusting(
        dialler: Dialler,
        ports: &[u16],
        authorities: &[CertificateDer<'static>],
    ) -> Result<Self, crate::Error> {
        crate::install_crypto();
        let guarded = Arc::new(Guarded(dialler));
        let tls = || crate::tls::own_client(authorities.to_vec());
        let fetches = Dials {
            guarded: Arc::clone(&guarded),
            tls: tls()?,
        };
        let dials = Dials {
            guarded,
            tls: tls()?,
        };
        let once = |dials: &Dials| dials.builder().pool_max_idle_per_host(0);
        Ok(Self {
            client: once(&fetches).read_timeout(SILENCE).build()?,
            patient: once(&dials).build()?,
            ports: ports.into(),
            dials: Arc::new(dials),
        })
    }

    /// The same gate for requests that belong together.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn conversation(&self) -> Result<Conversation, crate::Error> {
        Conversation::new(self.clone())
    }

    /// Sends one request to one place and gives the head of the answer, whatever its status. A redirect is an answer as any
    /// other: nothing is sent to a second place (security CRED-7, NET-9). A connection is not used twice.
    ///
    /// # Errors
    /// See [`Unanswered`]. Only a connection has a limit of time; the caller sets the others.
    pub async fn send(&self, request: Request) -> Result<Response, Unanswered> {
        self.send_by(&self.patient, request).await
    }

    async fn send_by(
        &self,
        client: &reqwest::Client,
        request: Request,
    ) -> Result<Response, Unanswered> {
        let host = self
            .check(&request.url, &|_, _| true)
            .map_err(Unanswered::Unsent)?;
        let mut builder = client
            .request(request.method, request.url)
            .headers(request.headers);
        if !request.body.is_empty() {
            builder = builder.body(request.body);
        }
        builder.send().await.map_err(|error| {
            let refusal = failed(&host, &error);
            if error.is_connect() || error.is_builder() {
                Unanswered::Unsent(refusal)
            } else {
                Unanswered::Sent(refusal)
            }
        })
    }

    /// Fetches a page of at most `most` bytes, unpacked. `admits` is asked for the URL and for each redirect.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub async fn get(
        &self,
        url: &Url,
        admits: &(dyn Fn(&Host, &Url) -> bool + Sync),
        most: usize,
    ) -> Result<Fetched, Refusal> {
        let work = async {
            let mut url = url.clone();
            for _ in 0..=HOPS {
                let host = self.check(&url, admits)?;
                let request = self.client.get(url.clone()).header(ACCEPT, "*/*");
                let response = request
                    .send()
                    .await
                    .map_err(|error| failed(&host, &error))?;
                let status = response.status();
                if status.is_success() {
                    return whole(&host, url, response, most).await;
                }
                let to = response
                    .headers()
                    .get(LOCATION)
                    .filter(|_| is_redirect(status));
                let Some(to) = to else {
                    let status = status.as_u16();
                    return Err(Refusal::Status { status });
                };
                let to = to.to_str().map_err(|_| Refusal::Redirects)?;
                url = url.join(to).map_err(|_| Refusal::Redirects)?;
            }
            Err(Refusal::Redirects)
        };
        let done = tokio::time::timeout(PATIENCE, work).await;
        done.unwrap_or(Err(Refusal::Time))
    }

    fn check(
        &self,
        url: &Url,
        admits: &(dyn Fn(&Host, &Url) -> bool + Sync),
    ) -> Result<Host, Refusal> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refusal::Scheme);
        }
        // An address in the place of a name would never be asked of the resolver: it is no host here.
        let given = url.host_str().unwrap_or_default();
        let host = Host::parse(given).map_err(|error| Refusal::Host {
            host: given.to_owned(),
            why: error.to_string(),
        })?;
        let port = url.port_or_known_default().unwrap_or_default();
        if !self.ports.contains(&port) {
            return Err(Refusal::Port { port });
        }
        if !url.username().is_empty() || url.password().is_some() || !admits(&host, url) {
            let host = host.to_string();
            return Err(Refusal::NotAdmitted { host });
        }
        Ok(host)
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

async fn whole(
    host: &Host,
    url: Url,
    mut response: Response,
    most: usize,
) -> Result<Fetched, Refusal> {
    let declared = response.headers().get(CONTENT_TYPE);
    let declared = declared.and_then(|value| value.to_str().ok());
    let (media_type, charset) = content_type(declared.unwrap_or_default());
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| failed(host, &error))?
    {
        if body.len() + chunk.len() > most {
            return Err(Refusal::TooLarge { most });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Fetched {
        url,
        media_type,
        charset,
        body,
    })
}

fn content_type(declared: &str) -> (String, Option<String>) {
    let mut parts = declared.split(';');
    let media_type = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        let value = value.trim().trim_matches('"').to_ascii_lowercase();
        name.trim().eq_ignore_ascii_case("charset").then_some(value)
    });
    if media_type.is_empty() {
        ("application/octet-stream".to_owned(), charset)
    } else {
        (media_type, charset)
    }
}

fn failed(host: &Host, error: &reqwest::Error) -> Refusal {
    let host = host.to_string();
    let why = match causes(error).find_map(|cause| cause.downcast_ref::<DialError>()) {
        Some(DialError::NotGlobal(_)) => return Refusal::Address { host },
        Some(DialError::Unresolved { .. }) => "its name cannot be resolved",
        _ if error.is_timeout() => "it did not answer in time",
        _ if error.is_connect() => "no connection, or no valid certificate",
        _ => "the connection broke off",
    };
    Refusal::Unreachable { host, why }
}

fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// How clients reach places.
struct Dials {
    guarded: Arc<Guarded>,
    tls: ClientConfig,
}

impl Dials {
    fn builder(&self) -> reqwest::ClientBuilder {
        reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .dns_resolver(Arc::clone(&self.guarded))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(SILENCE)
            .user_agent(concat!("manyhands/", env!("CARGO_PKG_VERSION")))
    }
}

/// Names are resolved by the one dialler, which checks what they lead to; what it gives is what is dialled.
struct Guarded(Dialler);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let dialler = self.0.clone();
        Box::pin(async move {
            let host = Host::parse(name.as_str())?;
            let addresses = dialler.addresses(&host).await?;
            let addresses = addresses
                .into_iter()
                .map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests;
