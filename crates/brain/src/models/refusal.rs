//! What an endpoint's error means (pure): its status, and the words of all the forms that error bodies come in.
//!
//! Bodies differ: `{"error": {"message", "type", "code"}}` of the hosted APIs, vLLM's older `{"object": "error",
//! "message"}`, a bare `{"error": "text"}`, a framework's `{"detail": …}`, a proxy's page. Codes and words decide where
//! they are known, then the status (security MODEL-2, MODEL-3).

use serde_json::Value;

use super::error::{Error, ErrorKind};

/// What an error body says; all of it may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// For people.
    pub(super) message: String,
    /// The class of the error.
    pub(super) kind: String,
    /// A finer class, or a status as text.
    pub(super) code: String,
}

impl Said {
    /// Reads a body; one that is not understood says nothing.
    pub(super) fn parse(body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        Self::of(&body).unwrap_or_default()
    }

    /// The error that a JSON object tells, if it tells one.
    pub(super) fn of(body: &Value) -> Option<Self> {
        let inner = match &body["error"] {
            Value::Null if body["object"] == "error" => body,
            Value::Null if !body["detail"].is_null() => {
                return Some(Self {
                    message: text(&body["detail"]),
                    ..Self::default()
                });
            }
            Value::Null => return None,
            Value::String(message) => {
                return Some(Self {
                    message: message.clone(),
                    ..Self::default()
                });
            }
            inner => inner,
        };
        Some(Self {
            message: text(&inner["message"]),
            kind: text(&inner["type"]),
            code: text(&inner["code"]),
        })
    }

    fn names(&self, names: &[&str]) -> bool {
        names.contains(&self.kind.as_str()) || names.contains(&self.code.as_str())
    }

    fn mentions(&self, parts: &[&str]) -> bool {
        let message = self.message.to_lowercase();
        parts.iter().any(|part| message.contains(part))
    }

    fn is_billing(&self) -> bool {
        self.names(&[
            "billing_error",
            "insufficient_quota",
            "billing_not_active",
            "billing_hard_limit_reached",
        ]) || self.mentions(&["credit balance", "billing"])
    }

    fn is_overflow(&self) -> bool {
        self.names(&["context_length_exceeded", "exceed_context_size_error"])
            || self.mentions(&[
                "prompt is too long",
                "exceed context limit",
                "context window",
                "context length",
                "context size",
                "reduce the length of the messages",
            ])
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The error that an answer with this status stands for.
pub(super) fn of_status(status: u16, said: &Said, place: &str) -> Error {
    let kind = kind_of_status(status, said);
    let words = &said.message;
    let message = match (kind, status) {
        (ErrorKind::Billing, _) => format!(
            "The account behind the model key cannot make calls ({status}): {words} Settle it with the provider, then send a message."
        ),
        (ErrorKind::Overflow, _) => {
            format!("The request is too large for {place} ({status}): {words}")
        }
        (ErrorKind::Auth, 401) => format!(
            "{place} does not accept the model key (401): {words} Set a valid key for this model and send a message."
        ),
        (ErrorKind::Auth, _) => format!(
            "The model key may not do this at {place} ({status}): {words} Use a key that may call this model."
        ),
        (ErrorKind::NotFound, 404) => format!(
            "{place} has no such model or path (404): {words} Check the model's id and the base URL."
        ),
        (ErrorKind::NotFound, _) => format!(
            "{place} answered with status {status}, which is no answer of a model endpoint: check the base URL."
        ),
        (ErrorKind::Refused, _) => format!("{place} refuses the request ({status}): {words}"),
        (ErrorKind::RateLimited, _) => {
            format!("{place} limits the rate of requests ({status}): {words}")
        }
        (ErrorKind::Overloaded, _) => format!("{place} is overloaded ({status}): {words}"),
        (ErrorKind::Failed, _) => format!("{place} failed ({status}): {words}"),
    };
    Error::new(kind, message.trim_end_matches([' ', ':']))
}

fn kind_of_status(status: u16, said: &Said) -> ErrorKind {
    match status {
        401 => ErrorKind::Auth,
        402 => ErrorKind::Billing,
        403 => ErrorKind::Auth,
        404 => ErrorKind::NotFound,
        413 => ErrorKind::Overflow,
        400 | 422 if said.is_billing() => ErrorKind::Billing,
        400 | 422 if said.is_overflow() => ErrorKind::Overflow,
        400 | 422 => ErrorKind::Refused,
        // An empty account is no matter of waiting.
        429 if said.names(&["insufficient_quota", "billing_hard_limit_reached"]) => {
            ErrorKind::Billing
        }
        429 => ErrorKind::RateLimited,
        529 => ErrorKind::Overloaded,
        500.. if said.names(&["context_length_exceeded", "exceed_context_size_error"]) => {
            ErrorKind::Overflow
        }
        408 | 409 | 500.. => ErrorKind::Failed,
        _ => ErrorKind::NotFound,
    }
}

/// The error that an error event after the 200 stands for: by its type, its code, or its code read as a status.
pub(super) fn in_stream(said: &Said) -> Error {
    let kind = match said.kind.as_str() {
        "overloaded_error" => ErrorKind::Overloaded,
        "rate_limit_error" => ErrorKind::RateLimited,
        "invalid_request_error" => kind_of_status(400, said),
        "authentication_error" | "permission_error" => ErrorKind::Auth,
        "not_found_error" => ErrorKind::NotFound,
        "billing_error" => ErrorKind::Billing,
        "exceed_context_size_error" => ErrorKind::Overflow,
        _ => match (said.code.as_str(), said.code.parse::<u16>()) {
            ("context_length_exceeded", _) => ErrorKind::Overflow,
            ("insufficient_quota", _) => ErrorKind::Billing,
            ("rate_limit_exceeded", _) => ErrorKind::RateLimited,
            (_, Ok(status @ 400..)) => kind_of_status(status, said),
            _ => ErrorKind::Failed,
        },
    };
    let class = if said.kind.is_empty() {
        &said.code
    } else {
        &said.kind
    };
    let text = match class.as_str() {
        "" => format!("The model's answer ended in an error: {}", said.message),
        class => format!(
            "The model's answer ended in an error: {} ({class}).",
            said.message
        ),
    };
    Error::new(kind, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, body: &str, kind: ErrorKind, words: &str) {
        let error = of_status(status, &Said::parse(body.as_bytes()), "http://host");
        assert_eq!(error.kind, kind, "{status} {body}");
        assert!(error.message.contains(words), "{}", error.message);
    }

    #[test]
    fn model_3_error_bodies_of_all_forms_are_told_apart() {
        use ErrorKind::*;
        check(
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#,
            Overflow,
            "210000 tokens",
        );
        check(
            400,
            r#"{"error":{"message":"Your credit balance is too low","type":"invalid_request_error"}}"#,
            Billing,
            "Settle it",
        );
        check(
            400,
            r#"{"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
            Overflow,
            "too long",
        );
        check(
            400,
            r#"{"object":"error","message":"This model's maximum context length is 6048 tokens. However, you requested 6616 tokens","type":"BadRequestError","param":null,"code":400}"#,
            Overflow,
            "6616",
        );
        for status in [400, 500] {
            check(
                status,
                r#"{"error":{"code":400,"message":"the request exceeds the available size","type":"exceed_context_size_error","n_ctx":256}}"#,
                Overflow,
                "available size",
            );
        }
        check(
            429,
            r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#,
            Billing,
            "quota",
        );
        check(
            429,
            r#"{"error":{"message":"Slow down","type":"requests","code":"rate_limit_exceeded"}}"#,
            RateLimited,
            "Slow down",
        );
        check(
            401,
            r#"{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}"#,
            Auth,
            "Incorrect API key",
        );
        check(
            404,
            r#"{"error":"model 'x' not found, try pulling it first"}"#,
            NotFound,
            "try pulling",
        );
        check(
            422,
            r#"{"detail":[{"msg":"field required"}]}"#,
            Refused,
            "field required",
        );
        check(400, "", Refused, "refuses the request (400)");
        check(402, "{}", Billing, "cannot make calls");
        check(403, "{}", Auth, "may not do this");
        check(413, "<html>", Overflow, "too large");
        check(
            503,
            r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#,
            Failed,
            "Loading model",
        );
        check(529, "{}", Overloaded, "overloaded");
        check(
            502,
            "<html>bad gateway</html>",
            Failed,
            "http://host failed (502)",
        );
        check(301, "", NotFound, "check the base URL");
    }

    #[test]
    fn model_3_errors_in_a_stream_are_told_apart() {
        #[track_caller]
        fn check(body: &str, expected: ErrorKind) {
            let body: Value = serde_json::from_str(body).unwrap();
            let said = Said::of(&body).unwrap();
            assert_eq!(in_stream(&said).kind, expected, "{body}");
        }
        use ErrorKind::*;
        check(
            r#"{"error":{"type":"overloaded_error","message":"x"}}"#,
            Overloaded,
        );
        check(r#"{"error":{"message":"x","code":502}}"#, Failed);
        check(r#"{"error":{"message":"x","code":429}}"#, RateLimited);
        check(
            r#"{"error":{"message":"x","code":"rate_limit_exceeded"}}"#,
            RateLimited,
        );
        check(
            r#"{"error":{"message":"x","type":"server_error","code":null}}"#,
            Failed,
        );
        check(
            r#"{"error":{"message":"x","type":"BadRequestError","code":400}}"#,
            Refused,
        );
        check(
            r#"{"object":"error","message":"maximum context length is 9","code":400}"#,
            Overflow,
        );
        check(
            r#"{"error":{"message":"x","type":"exceed_context_size_error"}}"#,
            Overflow,
        );
        check(r#"{"error":"something"}"#, Failed);
        assert_eq!(Said::of(&serde_json::json!({"choices": []})), None);
        assert_eq!(
            Said::of(&serde_json::json!({"error": null, "choices": []})),
            None
        );
    }
}
