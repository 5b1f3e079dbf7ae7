//! What is known of models that the configuration does not say (pure).

use super::{ModelSpec, ProviderSpec};

/// Output tokens a request asks for when nothing else is configured: all current models can give as many.
const MAX_OUTPUT: u32 = 32_000;

/// The ids that are listed when `claude-*` is configured, newest first (api §4.5); any other is taken too.
pub(super) const KNOWN: [(&str, &str, &str); 17] = [
    ("claude-fable-5-2", "Claude Fable 5.2", "fable"),
    ("claude-haiku-5-5", "Claude Haiku 5.5", "haiku"),
    ("claude-sonnet-5-5", "Claude Sonnet 5.5", "sonnet"),
    ("claude-opus-5-5", "Claude Opus 5.5", "opus"),
    ("claude-fable-5-1", "Claude Fable 5.1", "fable"),
    ("claude-sonnet-5", "Claude Sonnet 5", "sonnet"),
    ("claude-fable-5", "Claude Fable 5", "fable"),
    ("claude-opus-5", "Claude Opus 5", "opus"),
    ("claude-opus-4-8", "Claude Opus 4.8", "opus"),
    ("claude-opus-4-7", "Claude Opus 4.7", "opus"),
    ("claude-opus-4-6", "Claude Opus 4.6", "opus"),
    ("claude-sonnet-4-6", "Claude Sonnet 4.6", "sonnet"),
    ("claude-haiku-4-5", "Claude Haiku 4.5", "haiku"),
    ("claude-opus-4-5", "Claude Opus 4.5", "opus"),
    ("claude-sonnet-4-5", "Claude Sonnet 4.5", "sonnet"),
    (
        "claude-opus-4-5-20251101",
        "Claude Opus 4.5 (2025-11-01)",
        "opus",
    ),
    (
        "claude-haiku-4-5-20251001",
        "Claude Haiku 4.5 (2025-10-01)",
        "haiku",
    ),
];

/// The window of the Claude models, in tokens.
const CLAUDE_WINDOW: u64 = 200_000;

/// The models behind a Messages endpoint that take system messages in the middle of a conversation (runtime SE-10).
const MID_CONVERSATION_SYSTEM: [&str; 9] = [
    "claude-fable-5",
    "claude-fable-5-1",
    "claude-mythos-5",
    "claude-mythos-5-1",
    "claude-opus-4-8",
    "claude-opus-5",
    "claude-opus-5-5",
    "claude-sonnet-5-5",
    "claude-haiku-5-5",
];

/// The id the provider knows the model by.
pub(super) fn upstream<'s>(spec: &'s ModelSpec, id: &'s str) -> &'s str {
    spec.upstream_id.as_deref().unwrap_or(id)
}

pub(super) fn context_window(spec: &ModelSpec, id: &str) -> Option<u64> {
    spec.context_window.or(match spec.provider {
        ProviderSpec::Anthropic { .. } => upstream(spec, id)
            .starts_with("claude-")
            .then_some(CLAUDE_WINDOW),
        ProviderSpec::OpenAi { .. } | ProviderSpec::Scripted { .. } => None,
    })
}

/// The most output tokens where none are configured: a quarter of a small window at most.
pub(super) fn usual_output(window: Option<u64>) -> u32 {
    let quarter = window.map_or(MAX_OUTPUT, |window| {
        u32::try_from(window / 4).unwrap_or(MAX_OUTPUT)
    });
    quarter.clamp(1, MAX_OUTPUT)
}

pub(super) fn mid_conversation_system(spec: &ModelSpec, id: &str) -> bool {
    spec.mid_conversation_system
        .unwrap_or_else(|| match spec.provider {
            ProviderSpec::Anthropic { .. } => {
                MID_CONVERSATION_SYSTEM.contains(&undated(upstream(spec, id)))
            }
            ProviderSpec::OpenAi { .. } | ProviderSpec::Scripted { .. } => true,
        })
}

/// A model id without the date of its release at the end (`-20251101`).
fn undated(id: &str) -> &str {
    match id.rsplit_once('-') {
        Some((name, date)) if date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit()) => {
            name
        }
        _ => id,
    }
}
