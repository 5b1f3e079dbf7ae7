//! Which model id goes where: exact ids and patterns → provider, limits, prices.

mod known;

use std::path::PathBuf;
use std::sync::Arc;

use manyhands_protocol::model::{Lifecycle, Model as Listed};
use manyhands_protocol::time::SharedClock;
use manyhands_protocol::{Timestamp, tag};
use reqwest::{Client, Url};
use secrecy::SecretString;

use super::anthropic::Anthropic;
use super::endpoint::Timeouts;
use super::openai::{Dialect, OpenAi, OutputLimit};
use super::scripted::{ScriptError, Scripted};
use super::{Model, Prices};
use known::{KNOWN, context_window, mid_conversation_system, upstream, usual_output};

/// The Messages endpoint that `claude-*` means when no other is named.
const ANTHROPIC: &str = "https://api.anthropic.com";

/// One configured model, or a family of them.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    /// A model id, or a pattern with one `*` (`claude-*`, `*`). An exact id wins over a pattern, an earlier entry over
    /// a later one.
    pub id: String,
    /// Who serves it.
    pub provider: ProviderSpec,
    /// The id the provider knows it by; absent: the same.
    pub upstream_id: Option<String>,
    /// A name for people; absent: the id.
    pub display_name: Option<String>,
    /// Context window in tokens; absent: 200,000 for Claude models at a Messages endpoint, else unknown.
    pub context_window: Option<u64>,
    /// Whether the model takes a system message in the middle of a conversation (runtime SE-10); absent: as is known of
    /// the model.
    pub mid_conversation_system: Option<bool>,
    /// Most output tokens of one request; absent: 32,000, of a smaller window a quarter.
    pub max_output: Option<u32>,
    /// What to ask for in thinking.
    pub thinking: Thinking,
    /// Whether the model knows `output_config.effort`.
    pub effort: bool,
    /// List prices.
    pub prices: Option<Prices>,
}

impl ModelSpec {
    /// An entry with the defaults.
    pub fn new(id: impl Into<String>, provider: ProviderSpec) -> Self {
        Self {
            id: id.into(),
            provider,
            upstream_id: None,
            display_name: None,
            context_window: None,
            mid_conversation_system: None,
            max_output: None,
            thinking: Thinking::Unset,
            effort: true,
            prices: None,
        }
    }
}

/// Who serves a model.
#[derive(Clone, Debug)]
pub enum ProviderSpec {
    /// An endpoint that speaks the Messages API.
    Anthropic {
        /// Without `/v1/messages`; absent: the Anthropic API.
        base_url: Option<Url>,
        /// Sent as `x-api-key`; absent for endpoints that need none.
        key: Option<SecretString>,
        /// How long silence may last.
        timeouts: Timeouts,
    },
    /// An endpoint that speaks streaming chat completions.
    OpenAi {
        /// Without `/chat/completions`; absent: the OpenAI API.
        base_url: Option<Url>,
        /// Sent as a bearer token; absent for endpoints that need none.
        key: Option<SecretString>,
        /// How the most output tokens are named, where the entry has a `max_output`; absent: `max_tokens`, at the
        /// OpenAI API `max_completion_tokens`.
        output_limit: Option<OutputLimit>,
        /// How long silence may last.
        timeouts: Timeouts,
    },
    /// A script.
    Scripted {
        /// A YAML file; absent: the built-in script.
        script: Option<PathBuf>,
    },
}

/// What a request says about thinking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Thinking {
    /// Nothing: the provider's default.
    #[default]
    Unset,
    /// The model decides how much.
    Adaptive,
    /// At most this many tokens.
    Budget(u32),
}

/// The models of this server.
pub struct Registry {
    entries: Vec<(ModelSpec, Arc<dyn Model>)>,
}

/// A model id, resolved.
#[derive(Clone)]
pub struct Resolved {
    /// Who answers.
    pub model: Arc<dyn Model>,
    /// The id to send.
    pub upstream_id: String,
    /// Output tokens to ask for.
    pub max_output: u32,
    /// Context window in tokens, input and output together; `None` where it is not known.
    pub context_window: Option<u64>,
    /// Whether a system message may stand in the middle of a conversation (runtime SE-10).
    pub mid_conversation_system: bool,
    /// What to say about thinking.
    pub thinking: Thinking,
    /// Whether effort is sent.
    pub effort: bool,
    /// List prices, where configured.
    pub prices: Option<Prices>,
}

/// Why a registry cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A pattern with more than one `*`, or an empty id.
    #[error("the model id {0:?} is neither an id nor a pattern with one `*`")]
    Id(String),
    /// A script file cannot be read.
    #[error("the script {path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A script cannot be used.
    #[error("the script {path} cannot be used")]
    Script {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: ScriptError,
    },
}

/// The entries of a server whose configuration names no models (architecture "Model layer"): with a key or an endpoint,
/// `claude-*` goes there; without either it is scripted. `scripted` always is.
pub fn default_specs(
    key: Option<SecretString>,
    base_url: Option<Url>,
    script: Option<PathBuf>,
) -> Vec<ModelSpec> {
    let scripted = ProviderSpec::Scripted { script };
    let claude = if key.is_some() || base_url.is_some() {
        ProviderSpec::Anthropic {
            base_url,
            key,
            timeouts: Timeouts::default(),
        }
    } else {
        scripted.clone()
    };
    vec![
        ModelSpec::new("claude-*", claude),
        ModelSpec {
            display_name: Some("Scripted (answers from a fixed script)".to_owned()),
            ..ModelSpec::new("scripted", scripted)
        },
    ]
}

impl Registry {
    /// Builds the providers of all entries. `client` makes every outbound request.
    ///
    /// # Errors
    /// When an id is no id, or a script cannot be used.
    pub fn new(
        specs: Vec<ModelSpec>,
        client: &Client,
        clock: &SharedClock,
    ) -> Result<Self, RegistryError> {
        let mut registry = Self {
            entries: Vec::with_capacity(specs.len()),
        };
        for spec in specs {
            let model = provider(&spec, client, clock)?;
            registry.add(spec, model)?;
        }
        Ok(registry)
    }

    /// A registry without entries.
    pub fn empty() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// Adds an entry that a model of the caller's own serves; `spec.provider` is only shown.
    ///
    /// # Errors
    /// When the id is no id.
    pub fn add(&mut self, spec: ModelSpec, model: Arc<dyn Model>) -> Result<(), RegistryError> {
        if spec.id.is_empty() || spec.id.matches('*').count() > 1 {
            return Err(RegistryError::Id(spec.id));
        }
        self.entries.push((spec, model));
        Ok(())
    }

    /// The model of this id; `None` when nothing is configured for it.
    pub fn resolve(&self, id: &str) -> Option<Resolved> {
        let exact = self.entries.iter().find(|(spec, _)| spec.id == id);
        let (spec, model) =
            exact.or_else(|| self.entries.iter().find(|(spec, _)| fits(&spec.id, id)))?;
        let window = context_window(spec, id);
        Some(Resolved {
            model: Arc::clone(model),
            upstream_id: upstream(spec, id).to_owned(),
            max_output: spec.max_output.unwrap_or_else(|| usual_output(window)),
            context_window: window,
            mid_conversation_system: mid_conversation_system(spec, id),
            thinking: spec.thinking,
            effort: spec.effort,
            prices: spec.prices,
        })
    }

    /// The list prices of a request for `id` that `served` answered, by the name the provider gave it (runtime US-6):
    /// of the entry that names this model exactly, else of the one that was asked.
    pub fn prices(&self, id: &str, served: Option<&str>) -> Option<Prices> {
        let names = |spec: &&ModelSpec, served: &str| {
            spec.id == served || spec.upstream_id.as_deref() == Some(served)
        };
        let other = served.and_then(|served| {
            let mut specs = self.entries.iter().map(|(spec, _)| spec);
            specs.find(|spec| names(spec, served) && spec.id != id)
        });
        other
            .and_then(|spec| spec.prices)
            .or_else(|| self.resolve(id)?.prices)
    }

    /// Whether `claude-*` ids are answered by a script: worth a warning at start.
    pub fn claude_is_scripted(&self) -> bool {
        self.entries.iter().any(|(spec, _)| {
            spec.id == "claude-*" && matches!(spec.provider, ProviderSpec::Scripted { .. })
        })
    }

    /// The models by name: configured ids in their order, patterns spelled out as the known ids they cover.
    pub fn list(&self) -> Vec<Listed> {
        let mut listed: Vec<Listed> = Vec::new();
        for (spec, _) in &self.entries {
            let names: Vec<(&str, &str, Option<&str>)> = if spec.id.contains('*') {
                KNOWN
                    .iter()
                    .filter(|(id, ..)| fits(&spec.id, id))
                    .map(|(id, name, line)| (*id, *name, Some(*line)))
                    .collect()
            } else {
                let known = KNOWN.iter().find(|(id, ..)| *id == spec.id);
                let name = spec.display_name.as_deref();
                let name = name.or(known.map(|(_, name, _)| *name)).unwrap_or(&spec.id);
                vec![(spec.id.as_str(), name, known.map(|(.., line)| *line))]
            };
            for (id, name, line) in names {
                if listed.iter().all(|model| model.id != id) {
                    listed.push(entry(spec, id, name, line));
                }
            }
        }
        listed
    }
}

/// Who serves an entry.
fn provider(
    spec: &ModelSpec,
    client: &Client,
    clock: &SharedClock,
) -> Result<Arc<dyn Model>, RegistryError> {
    Ok(match &spec.provider {
        ProviderSpec::Anthropic {
            base_url,
            key,
            timeouts,
        } => Arc::new(Anthropic::new(
            client.clone(),
            &base_url
                .clone()
                .unwrap_or_else(|| ANTHROPIC.parse().expect("the constant is a URL")),
            key.clone(),
            *timeouts,
            Arc::clone(clock),
        )),
        ProviderSpec::OpenAi {
            base_url,
            key,
            output_limit,
            timeouts,
        } => {
            let usual = match base_url {
                Some(_) => OutputLimit::MaxTokens,
                None => OutputLimit::MaxCompletionTokens,
            };
            let dialect = Dialect {
                // Without a figure of the operator the endpoint decides: a small model would refuse ours.
                output_limit: spec.max_output.map(|_| output_limit.unwrap_or(usual)),
                effort: spec.effort,
            };
            Arc::new(OpenAi::new(
                client.clone(),
                &base_url.clone().unwrap_or_else(OpenAi::default_base_url),
                key.clone(),
                *timeouts,
                dialect,
                Arc::clone(clock),
            ))
        }
        ProviderSpec::Scripted { script: None } => Arc::new(Scripted::built_in()),
        ProviderSpec::Scripted { script: Some(path) } => {
            let yaml = std::fs::read_to_string(path).map_err(|source| RegistryError::Read {
                path: path.clone(),
                source,
            })?;
            let script = Scripted::parse(&yaml).map_err(|source| RegistryError::Script {
                path: path.clone(),
                source,
            })?;
            Arc::new(script)
        }
    })
}

fn entry(spec: &ModelSpec, id: &str, name: &str, line: Option<&str>) -> Listed {
    let scripted = matches!(spec.provider, ProviderSpec::Scripted { .. });
    let display_name = if scripted && id != "scripted" {
        format!("{name} (scripted: no model key is configured)")
    } else {
        name.to_owned()
    };
    Listed {
        id: id.to_owned(),
        kind: tag::Model::Value,
        display_name,
        created_at: Timestamp::from_micros(0),
        lifecycle: Lifecycle::Active,
        line: line.map(str::to_owned),
        max_input_tokens: context_window(spec, id),
        max_tokens: spec.max_output.map(u64::from),
        deprecated_at: None,
        retires_at: None,
        allowed_fallback_models: None,
        capabilities: None,
    }
}

/// Whether an id fits a pattern with at most one `*`.
fn fits(pattern: &str, id: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == id,
        Some((head, tail)) => {
            id.len() >= head.len() + tail.len() && id.starts_with(head) && id.ends_with(tail)
        }
    }
}

#[cfg(test)]
mod tests;
