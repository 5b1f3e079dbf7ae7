//! The gate out: how sandboxes and the server itself reach the outside.
//!
//! What is decided is pure: [`host`] reads names, [`address`] knows which addresses are public, [`policy`] what a session may
//! reach. [`dial`] is the one way to a connection from a name. Over it, [`proxy`] is the only way out of sandboxes (security
//! NET-1), with the deployment's own [`authority`] and its journal in [`audit`]; [`outbound`] is the server's own client for
//! places that a model or a client names. What it has to know of secrets it asks through [`secrets`].
//!
//! One place makes every HTTP client, so that the rules of a request that leaves this machine are written once: `http` and
//! `https` only, certificates checked, no redirects, a limit on how long a connection and each read may take, and never a
//! limit on the whole answer of a model, which may stream for minutes. This room knows neither the database nor the brain.

pub mod address;
pub mod audit;
pub mod authority;
pub mod dial;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod host;
pub mod outbound;
pub mod policy;
pub mod proxy;
pub mod repository;
pub mod resolver;
mod scrub;
pub mod secrets;
pub mod substitute;
mod tls;

pub use scrub::{Scrubber, scrubbed};

use std::time::Duration;

/// How long a client waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, the TLS handshake included.
    pub connect: Duration,
    /// For the next bytes of an answer. A stream may last as long as bytes keep coming.
    pub read: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            read: Duration::from_secs(300),
        }
    }
}

/// Why there is no client, or why a URL is refused. Stop and tell the operator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client cannot be built on this machine.
    #[error("the HTTP client cannot be built")]
    Client(#[from] reqwest::Error),
    /// There are no authorities to check certificates by, or one of the operator's is none.
    #[error("the HTTP client cannot be built")]
    Authorities(#[from] rustls::Error),
    /// The URL cannot be an endpoint.
    #[error("{url:?} cannot be an endpoint: {reason}")]
    Endpoint {
        /// The URL as it was given, without credentials.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Makes the TLS implementation the process's only one. Repeating it is fine.
pub fn install_crypto() {
    // The only error is that a provider is installed, and this house knows one.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

/// A client for model endpoints.
///
/// # Errors
/// When the machine's trust store cannot be read.
pub fn client(timeouts: Timeouts) -> Result<reqwest::Client, Error> {
    install_crypto();
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls::own_client(Vec::new())?)
        .connect_timeout(timeouts.connect)
        .read_timeout(timeouts.read)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("manyhands/", env!("CARGO_PKG_VERSION")))
        .tcp_nodelay(true)
        .build()?)
}

/// Checks that `url` can be an endpoint's base: `http` or `https`, a host, no credentials, query or fragment.
///
/// # Errors
/// [`Error::Endpoint`] with what is wrong. Credentials in the URL are not repeated.
pub fn check_endpoint(url: &str) -> Result<reqwest::Url, Error> {
    let refuse = |reason: &str, shown: &str| {
        Err(Error::Endpoint {
            url: shown.to_owned(),
            reason: reason.to_owned(),
        })
    };
    let parsed = match reqwest::Url::parse(url) {
        Ok(parsed) => parsed,
        Err(error) => return refuse(&error.to_string(), url.rsplit('@').next().unwrap_or("")),
    };
    let mut shown = parsed.clone();
    // Only URLs without a host refuse these, and those have no credentials.
    let _ = (shown.set_username(""), shown.set_password(None));
    let shown = shown.as_str();
    if !matches!(parsed.scheme(), "http" | "https") {
        return refuse("only http and https are spoken", shown);
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return refuse(
            "keys do not belong into a URL; name the key's source instead",
            shown,
        );
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return refuse("paths are appended to it, so it ends with its path", shown);
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_plain_http_url() {
        #[track_caller]
        fn check(url: &str, refused: Option<&str>) {
            match (check_endpoint(url), refused) {
                (Ok(_), None) => {}
                (Err(error), Some(part)) => {
                    let text = error.to_string();
                    assert!(text.contains(part), "{text}");
                    assert!(!text.contains("hunter2"), "{text}");
                }
                (result, _) => panic!("{url}: {result:?}"),
            }
        }
        check("https://models.example.com", None);
        check("http://127.0.0.1:8080/prefix/", None);
        check("ftp://models.example.com", Some("only http and https"));
        check("file:///etc/passwd", Some("only http and https"));
        check("models.example.com", Some("cannot be an endpoint"));
        check(
            "https://me:hunter2@models.example.com",
            Some("keys do not belong"),
        );
        check(
            "https://models.example.com/?key=hunter3",
            Some("ends with its path"),
        );
    }

    #[test]
    fn a_client_can_be_built_twice() {
        client(Timeouts::default()).expect("a client");
        client(Timeouts {
            connect: Duration::from_secs(1),
            read: Duration::from_secs(1),
        })
        .expect("a second client");
    }
}
