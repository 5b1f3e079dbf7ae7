//! An answer as it is shown to whoever tries a credential out (runtime VA-17). Pure.

use http::StatusCode;
use secrecy::SecretString;

/// The most characters of a body that are shown.
const SHOWN: usize = 4096;

/// An HTTP answer without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// The status.
    pub status: u16,
    /// The `Content-Type`; empty where there was none.
    pub content_type: String,
    /// The body's beginning. Secrets in it are overwritten.
    pub body: String,
    /// Whether the body was longer.
    pub truncated: bool,
}

impl Captured {
    /// Captures an answer. `body` is what was read of it, `whole` says whether that was all; `secrets` are those that the request
    /// had, and may come back.
    pub fn new<'a>(
        status: StatusCode,
        content_type: Option<&str>,
        body: &[u8],
        whole: bool,
        secrets: impl IntoIterator<Item = &'a SecretString> + Clone,
    ) -> Self {
        let clean = |bytes: &[u8]| manyhands_egress::scrubbed(bytes, secrets.clone());
        let text = String::from_utf8_lossy(&clean(body)).into_owned();
        let end = text.char_indices().nth(SHOWN).map(|(end, _)| end);
        let content_type = content_type.unwrap_or_default().chars().take(200);
        let content_type: String = content_type.collect();
        Self {
            status: status.as_u16(),
            content_type: String::from_utf8_lossy(&clean(content_type.as_bytes())).into_owned(),
            body: text[..end.unwrap_or(text.len())].to_owned(),
            truncated: end.is_some() || !whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// runtime VA-17, security CRED-2
    #[test]
    fn va_17_what_is_shown_is_short_and_has_no_secret() {
        let secrets = [
            SecretString::from("s3cret/value+1"),
            SecretString::from("refresh-token-9"),
        ];
        let body = "no: s3cret/value+1, s3cret%2Fvalue%2B1, refresh-token-9, cmVmcmVzaC10b2tlbi05";
        let captured = Captured::new(
            StatusCode::BAD_REQUEST,
            Some("text/plain; x=refresh-token-9"),
            body.as_bytes(),
            true,
            &secrets,
        );
        assert_eq!((captured.status, captured.truncated), (400, false));
        assert!(captured.body.starts_with("no: *"), "{captured:?}");
        for secret in ["s3cret", "refresh-token", "cmVmcmVza"] {
            assert!(!captured.body.contains(secret), "{captured:?}");
        }
        assert_eq!(captured.content_type, "text/plain; x=***************");
        let long = "é".repeat(SHOWN + 1);
        let captured = Captured::new(StatusCode::OK, None, long.as_bytes(), true, &secrets);
        assert_eq!(captured.body.chars().count(), SHOWN);
        assert!(captured.truncated);
        let cut = Captured::new(StatusCode::OK, None, b"x", false, &secrets);
        assert_eq!((cut.body.as_str(), cut.truncated), ("x", true));
    }
}
