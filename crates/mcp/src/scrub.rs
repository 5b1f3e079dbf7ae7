//! Tokens are taken out of what a server says, in the forms in which one comes back by accident or by design (security
//! CRED-2, CRED-9: the loop never holds one).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manyhands_egress::Scrubber;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::task::spawn_blocking;

use crate::fault::Fault;

/// Shorter ones are not looked for: too much would be taken for them.
const SHORTEST: usize = 8;
/// Tokens that are remembered: what a conversation and its refreshes used last.
const TOKENS: usize = 4;
/// What stands in the place of a token.
const MARK: &str = "[credential]";
/// How much is repeated of what a server said, in characters.
const SAID: usize = 500;

/// The tokens that were sent to one server.
#[derive(Default)]
pub(crate) struct Scrub(Mutex<Known>);

#[derive(Default)]
struct Known {
    tokens: Vec<SecretString>,
    /// Of all of them; `None` as long as there are none.
    scrubber: Option<Scrubber>,
}

impl Scrub {
    /// From now on this token is looked for.
    pub(crate) fn learn(&self, token: &SecretString) {
        let secret = token.expose_secret();
        let mut known = self.known();
        let mut tokens = known.tokens.iter();
        if secret.len() < SHORTEST || tokens.any(|known| known.expose_secret() == secret) {
            return;
        }
        if known.tokens.len() == TOKENS {
            known.tokens.remove(0);
        }
        known.tokens.push(token.clone());
        known.scrubber = Scrubber::new(&known.tokens);
    }

    /// Cleans an answer of any length where nobody waits for the processor: who knows a token can make the search long.
    pub(crate) async fn beside<T: Send + 'static>(
        self: &Arc<Self>,
        clean: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let scrub = Arc::clone(self);
        let cleaned = spawn_blocking(move || clean(&scrub)).await;
        cleaned.map_err(|_| Fault::Lost("the search for tokens in the answer broke off".to_owned()))
    }

    /// The text without tokens.
    pub(crate) fn text(&self, text: String) -> String {
        let scrubber = self.known().scrubber.clone();
        let marked = scrubber.and_then(|scrubber| scrubber.marked(&text, MARK));
        marked.unwrap_or(text)
    }

    /// The value without tokens, in keys as well.
    pub(crate) fn value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => items.into_iter().map(|item| self.value(item)).collect(),
            Value::Object(fields) => fields
                .into_iter()
                .map(|(key, value)| (self.text(key), self.value(value)))
                .collect(),
            other => other,
        }
    }

    /// What a server said, fit for an error: without tokens and control characters, in one line, cut.
    pub(crate) fn said(&self, bytes: &[u8]) -> String {
        let text = self.text(String::from_utf8_lossy(bytes).into_owned());
        let words: Vec<&str> = text
            .split(|c: char| c.is_whitespace() || c.is_control())
            .collect();
        let line = words
            .into_iter()
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        let short: String = line.chars().take(SAID).collect();
        if short.len() < line.len() {
            short + "…"
        } else {
            short
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scrub() -> Scrub {
        let scrub = Scrub::default();
        scrub.learn(&"s3cret/token+canary".into());
        scrub.learn(&"short".into());
        scrub
    }

    #[test]
    fn cred_2_a_token_that_comes_back_is_taken_out() {
        for (said, kept) in [
            ("it is s3cret/token+canary!", "it is [credential]!"),
            // The last letter is its neighbour's as well.
            ("czNjcmV0L3Rva2VuK2NhbmFyeQ==", "[credential]Q=="),
            ("dTpzM2NyZXQvdG9rZW4rY2FuYXJ5", "dTp[credential]"),
            ("s3cret%2Ftoken%2Bcanary", "[credential]"),
            ("7333637265742f746f6b656e2b63616e617279", "[credential]"),
            ("short and sweet", "short and sweet"),
            ("s3cret/token", "s3cret/token"),
        ] {
            assert_eq!(scrub().text(said.to_owned()), kept);
        }
        let value = json!({"s3cret/token+canary": ["a", {"b": "s3cret/token+canary"}, 1, null]});
        let expected = json!({"[credential]": ["a", {"b": "[credential]"}, 1, null]});
        assert_eq!(scrub().value(value), expected);
    }

    #[test]
    fn cred_2_of_what_a_server_said_little_is_repeated() {
        let said = scrub().said(b"no\r\n\x1b[31m s3cret/token+canary \xff");
        assert_eq!(said, "no [31m [credential] \u{fffd}");
        let said = scrub().said("ä".repeat(5_000).as_bytes());
        assert_eq!(said.chars().count(), SAID + 1);
    }

    #[test]
    fn cred_8_the_last_tokens_of_a_conversation_are_known() {
        let scrub = scrub();
        for number in 0..TOKENS {
            scrub.learn(&format!("another-token-{number}").into());
        }
        let text = "s3cret/token+canary another-token-0 another-token-3".to_owned();
        assert_eq!(
            scrub.text(text),
            "s3cret/token+canary [credential] [credential]"
        );
    }
}
