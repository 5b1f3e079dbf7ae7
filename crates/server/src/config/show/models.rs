//! The effective settings of models: who serves them and how, and of keys only whether there is one.

use std::time::Duration;

use manyhands_brain::models::{ModelSpec, OutputLimit, ProviderSpec, Thinking};
use secrecy::SecretString;
use toml::{Table, Value};

use super::{number, table};

/// Whether there is a key, and nothing else of it.
fn key_state(key: &Option<SecretString>) -> &'static str {
    if key.is_some() { "(set)" } else { "(none)" }
}

/// A model, as an entry of the file.
pub(super) fn shown(spec: &ModelSpec) -> Value {
    let mut shown = Table::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            shown.insert(name.to_owned(), value);
        }
    };
    let text = |text: &Option<String>| text.clone().map(Value::from);
    set("id", Some(spec.id.clone().into()));
    if let ProviderSpec::Anthropic { timeouts, .. } | ProviderSpec::OpenAi { timeouts, .. } =
        &spec.provider
    {
        let seconds = |time: Duration| Some(number(time.as_secs()));
        set("first_byte_seconds", seconds(timeouts.headers));
        set("silence_seconds", seconds(timeouts.between));
    }
    match &spec.provider {
        ProviderSpec::Anthropic { base_url, key, .. } => {
            set("provider", Some("anthropic".into()));
            set("base_url", base_url.as_ref().map(|url| url.as_str().into()));
            set("key", Some(key_state(key).into()));
        }
        ProviderSpec::OpenAi {
            base_url,
            key,
            output_limit,
            ..
        } => {
            set("provider", Some("openai".into()));
            set("base_url", base_url.as_ref().map(|url| url.as_str().into()));
            set("key", Some(key_state(key).into()));
            set(
                "output_limit",
                output_limit.map(|limit| match limit {
                    OutputLimit::MaxTokens => "max_tokens".into(),
                    OutputLimit::MaxCompletionTokens => "max_completion_tokens".into(),
                }),
            );
        }
        ProviderSpec::Scripted { script } => {
            set("provider", Some("scripted".into()));
            let script = script
                .as_ref()
                .map_or("(built in)".to_owned(), |path| path.display().to_string());
            set("script", Some(script.into()));
        }
    }
    set("upstream_id", text(&spec.upstream_id));
    set("display_name", text(&spec.display_name));
    set("context_window", spec.context_window.map(number));
    set(
        "mid_conversation_system",
        spec.mid_conversation_system.map(Value::from),
    );
    set(
        "max_output",
        spec.max_output.map(|tokens| number(u64::from(tokens))),
    );
    set("effort", Some(spec.effort.into()));
    set(
        "thinking",
        match spec.thinking {
            Thinking::Unset => None,
            Thinking::Adaptive => Some("adaptive".into()),
            Thinking::Budget(tokens) => Some(table([("budget", number(u64::from(tokens)))])),
        },
    );
    set(
        "prices",
        spec.prices.map(|prices| {
            table([
                ("input", prices.input.dollars().into()),
                ("output", prices.output.dollars().into()),
                ("cache_read", prices.cache_read.dollars().into()),
                ("cache_write", prices.cache_write.dollars().into()),
                ("cache_write_1h", prices.cache_write_1h.dollars().into()),
            ])
        }),
    );
    Value::Table(shown)
}
