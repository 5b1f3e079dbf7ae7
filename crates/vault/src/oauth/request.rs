//! The request of a refresh grant (RFC 6749 §2.3.1 and §6, RFC 8707). Pure.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use manyhands_egress::outbound::Request;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};
use zeroize::Zeroizing;

/// Everything that is asked with. The secrets are the client's and the grant's.
#[derive(Debug)]
pub(super) struct Asking {
    /// Where.
    pub(super) token_endpoint: Url,
    /// Who asks.
    pub(super) client_id: String,
    /// How it proves that.
    pub(super) client: ClientSecret,
    /// What it has.
    pub(super) refresh_token: SecretString,
    /// The resource that the token is for.
    pub(super) resource: Option<String>,
    /// The scope that the token is for.
    pub(super) scope: Option<String>,
}

/// How a client proves who it is.
#[derive(Debug)]
pub(super) enum ClientSecret {
    /// It does not: it only says its id.
    None,
    /// By HTTP Basic.
    Basic(SecretString),
    /// By members of the form.
    Post(SecretString),
}

/// The request, for the guarded client.
pub(super) fn request(asking: &Asking) -> Request {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token");
    form.append_pair("refresh_token", asking.refresh_token.expose_secret());
    let optional = [("scope", &asking.scope), ("resource", &asking.resource)];
    for (name, value) in optional {
        // An empty one is none: the server's own choice.
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            form.append_pair(name, value);
        }
    }
    let mut headers = HeaderMap::new();
    let form_type = "application/x-www-form-urlencoded";
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(form_type));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    match &asking.client {
        ClientSecret::None => {
            form.append_pair("client_id", &asking.client_id);
        }
        ClientSecret::Post(secret) => {
            form.append_pair("client_id", &asking.client_id);
            form.append_pair("client_secret", secret.expose_secret());
        }
        ClientSecret::Basic(secret) => {
            headers.insert(AUTHORIZATION, basic(&asking.client_id, secret));
        }
    }
    Request {
        method: Method::POST,
        url: asking.token_endpoint.clone(),
        headers,
        body: form.finish().into_bytes(),
    }
}

/// Both are form-encoded before they are joined, so that a colon in an id is no end of it (RFC 6749 §2.3.1).
fn basic(id: &str, secret: &SecretString) -> HeaderValue {
    let encoded = |text: &str| Zeroizing::new(byte_serialize(text.as_bytes()).collect::<String>());
    let pair = Zeroizing::new(format!(
        "{}:{}",
        encoded(id).as_str(),
        encoded(secret.expose_secret()).as_str()
    ));
    let text = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(pair.as_str())));
    // Base64 is always legal in a header.
    let mut value = HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests;
