//! What a token endpoint answered, sorted by what is to be done (RFC 6749 §5). Pure.

use http::StatusCode;
use secrecy::SecretString;
use serde::Deserialize;

/// The most bytes of an answer that are read.
pub(super) const LONGEST: usize = 128 << 10;
/// The longest token, in bytes: it has to fit into a header.
const TOKEN: usize = 16 << 10;
/// The longest life that is believed, in seconds: ten years.
const LIFE: u64 = 10 * 366 * 24 * 3600;

/// What a refresh came to.
#[derive(Debug)]
pub(super) enum Answer {
    /// New tokens. The old refresh token may be worth nothing now.
    Granted(Granted),
    /// Asking again gives the same (runtime VA-17: `invalid`). Its text is a code of the RFC, or the status.
    Refused(String),
    /// The server has trouble of its own, and says so: it may go better later.
    Busy(String),
    /// Whether the refresh token was used up cannot be told from this.
    Unclear(String),
}

/// New tokens.
#[derive(Debug)]
pub(super) struct Granted {
    /// The access token: legal in a header.
    pub(super) access_token: SecretString,
    /// Its life from now, in seconds, where it is said.
    pub(super) expires_in: Option<u64>,
    /// The refresh token that takes the old one's place; the old one stays where there is none.
    pub(super) refresh_token: Option<SecretString>,
}

/// Sorts an answer. `body` is `None` when it was longer than [`LONGEST`].
pub(super) fn read(status: StatusCode, body: Option<&[u8]>) -> Answer {
    if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        return Answer::Busy(format!("the token endpoint answered {}", status.as_u16()));
    }
    if status.is_redirection() {
        let reason = format!(
            "the token endpoint answered {}, and redirects are not followed",
            status.as_u16()
        );
        return Answer::Busy(reason);
    }
    // A list could be read as an object without names.
    let object = body.filter(|body| body.trim_ascii_start().starts_with(b"{"));
    let members = object.and_then(|body| serde_json::from_slice::<Members>(body).ok());
    // Some servers refuse with status 200.
    let code = members
        .as_ref()
        .and_then(|members| members.error.as_deref());
    if status.is_client_error() || code.is_some() {
        return Answer::Refused(refusal(status, code));
    }
    if !status.is_success() {
        return Answer::Unclear(format!("the token endpoint answered {}", status.as_u16()));
    }
    match members {
        Some(members) => granted(members),
        None if body.is_none() => {
            Answer::Unclear("the answer of the token endpoint is too long".to_owned())
        }
        None => Answer::Unclear("the answer of the token endpoint is not JSON".to_owned()),
    }
}

/// The code of an error where it is a plain word, so that nothing else of the answer is told.
fn refusal(status: StatusCode, code: Option<&str>) -> String {
    let plain = |code: &&str| {
        (1..=64).contains(&code.len())
            && code
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    match code.filter(plain) {
        Some(code) => format!("{code} ({})", status.as_u16()),
        None => format!("status {}", status.as_u16()),
    }
}

fn granted(members: Members) -> Answer {
    let unclear = |what: &str| Answer::Unclear(format!("the answer of the token endpoint {what}"));
    let bearer = |kind: &String| kind.eq_ignore_ascii_case("bearer");
    if !members.token_type.as_ref().is_none_or(bearer) {
        return Answer::Refused("another token type than Bearer".to_owned());
    }
    let Some(access_token) = members.access_token else {
        return unclear("has no access token");
    };
    let legal = |token: &str| {
        (1..=TOKEN).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if !legal(&access_token) {
        return unclear("has an access token that fits into no header");
    }
    let refresh_token = members.refresh_token.filter(|token| !token.is_empty());
    if refresh_token
        .as_ref()
        .is_some_and(|token| token.len() > TOKEN)
    {
        return unclear("has a refresh token that is too long");
    }
    Answer::Granted(Granted {
        access_token: SecretString::from(access_token),
        expires_in: members.expires_in.and_then(Seconds::get),
        refresh_token: refresh_token.map(SecretString::from),
    })
}

/// The members that are looked at; null is absent.
#[derive(Deserialize)]
struct Members {
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    token_type: Option<String>,
    #[serde(default)]
    expires_in: Option<Seconds>,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    error: Option<String>,
}

/// A number of seconds, which some servers write as a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
    Other(serde::de::IgnoredAny),
}

impl Seconds {
    /// `None` where it says nothing sensible: 0 stands for "does not expire" with some.
    fn get(self) -> Option<u64> {
        let number = match self {
            Self::Number(number) => number,
            Self::Text(text) => text.trim().parse().ok()?,
            Self::Other(_) => return None,
        };
        (number.is_finite() && number >= 1.0).then(|| (number as u64).min(LIFE))
    }
}

#[cfg(test)]
mod tests;
