//! What a refresh request has to look like (RFC 6749 §2.3.1, §6).

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::Method;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};

use super::Registered;

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// It does not: a public client.
    None,
    /// By HTTP Basic.
    Basic,
    /// By members of the form.
    Post,
}

/// Reads a request.
///
/// # Errors
/// What is wrong with it: `invalid_request` or `invalid_client`, and why.
pub(super) fn read(
    client: &Registered,
    method: &Method,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<HashMap<String, String>, (&'static str, String)> {
    let request = |why: String| ("invalid_request", why);
    if method != Method::POST {
        return Err(request(format!("the method {method}")));
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if text(CONTENT_TYPE) != Some("application/x-www-form-urlencoded") {
        return Err(request(format!("the type {:?}", text(CONTENT_TYPE))));
    }
    let mut form = HashMap::new();
    for (name, value) in url::form_urlencoded::parse(body) {
        if form
            .insert(name.clone().into_owned(), value.into_owned())
            .is_some()
        {
            return Err(request(format!("{name} came twice")));
        }
    }
    let known = [
        "grant_type",
        "refresh_token",
        "scope",
        "resource",
        "client_id",
        "client_secret",
    ];
    if let Some(name) = form.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(request(format!("the parameter {name}")));
    }
    if form
        .get("grant_type")
        .is_none_or(|kind| kind != "refresh_token")
    {
        return Err(request("another grant_type".to_owned()));
    }
    if form.get("refresh_token").is_none_or(String::is_empty) {
        return Err(request("no refresh_token".to_owned()));
    }
    check_client(client, text(AUTHORIZATION), &form).map_err(|why| ("invalid_client", why))?;
    Ok(form)
}

/// The client proves who it is in its one way, and tries no second.
fn check_client(
    client: &Registered,
    authorization: Option<&str>,
    form: &HashMap<String, String>,
) -> Result<(), String> {
    let in_form = |name: &str| form.get(name).map(String::as_str);
    let id = Some(client.id.as_str());
    match client.authentication {
        Authentication::Basic => {
            if in_form("client_secret").is_some() || in_form("client_id").is_some() {
                return Err("Basic, and the form too".to_owned());
            }
            let encoded = |text: &str| {
                url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>()
            };
            let secret = client.secret.as_deref().unwrap_or_default();
            let pair = format!("{}:{}", encoded(&client.id), encoded(secret));
            let expected = format!("Basic {}", BASE64_STANDARD.encode(pair));
            if authorization != Some(expected.as_str()) {
                return Err("another Authorization".to_owned());
            }
        }
        Authentication::Post | Authentication::None => {
            if authorization.is_some() {
                return Err("an Authorization header".to_owned());
            }
            if in_form("client_id") != id {
                return Err("another client_id".to_owned());
            }
            if in_form("client_secret") != client.secret.as_deref() {
                return Err("another client_secret".to_owned());
            }
        }
    }
    Ok(())
}
