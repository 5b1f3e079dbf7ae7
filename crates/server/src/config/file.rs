//! `manyhands.toml`. An unknown key is an error: a setting that is not understood would silently not hold.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use manyhands_brain::models;
use manyhands_hands::provider::namespace::ReadOnly;
use secrecy::SecretString;
use serde::Deserialize;

use super::blobs::{BlobsSection, FilesSection};
use super::container::ContainerSection;
use super::egress::EgressSection;
use super::environments::EnvironmentsSection;
use super::limits::LimitsSection;
use super::mcp::McpSection;
use super::repositories::RepositoriesSection;
use super::server::ServerSection;
use super::vault::VaultSection;
use super::web::WebSection;
use super::{Environment, Error, Sandbox, variable, wrong};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub(super) listen: Option<String>,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) script: Option<PathBuf>,
    pub(super) server: ServerSection,
    pub(super) database: DatabaseSection,
    pub(super) models: Vec<Model>,
    pub(super) stream: StreamSection,
    pub(super) sandbox: SandboxSection,
    pub(super) environments: EnvironmentsSection,
    pub(super) egress: EgressSection,
    pub(super) web: WebSection,
    pub(super) mcp: McpSection,
    pub(super) vault: VaultSection,
    pub(super) blobs: BlobsSection,
    pub(super) files: FilesSection,
    pub(super) repositories: RepositoriesSection,
    pub(super) limits: LimitsSection,
    pub(super) permissions: PermissionsSection,
}

impl File {
    /// Without whom to ask, whose keys are then not looked for.
    pub(super) fn without_services(self) -> Self {
        Self {
            models: Vec::new(),
            web: self.web.without_search(),
            ..self
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct DatabaseSection {
    pub(super) url: Option<SecretString>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct StreamSection {
    pub(super) legacy_event_names: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PermissionsSection {
    pub(super) judge: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SandboxSection {
    provider: SandboxProvider,
    container: Option<ContainerSection>,
    idle_seconds: Option<u64>,
    first_uid: Option<u32>,
    uids: Option<u32>,
    read_only: Vec<ReadOnlyEntry>,
    retention_days: Option<u32>,
    spare_megabytes: Option<u32>,
}

/// What makes sandboxes.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum SandboxProvider {
    #[default]
    Namespace,
    Container,
}

/// One `[[sandbox.read_only]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadOnlyEntry {
    from: PathBuf,
    to: String,
}

impl SandboxSection {
    pub(super) fn effective(
        self,
        data_dir: &Path,
        environment: Environment<'_>,
    ) -> Result<Sandbox, Error> {
        let default = Sandbox::default();
        let container = match (self.provider, self.container) {
            (SandboxProvider::Namespace, None) => None,
            (SandboxProvider::Namespace, Some(_)) => {
                return Err(wrong(
                    "sandbox.container",
                    "is for sandbox.provider = \"container\"",
                ));
            }
            (SandboxProvider::Container, _) if !self.read_only.is_empty() => {
                return Err(wrong(
                    "sandbox.read_only",
                    "is for name spaces: put it into the image",
                ));
            }
            (SandboxProvider::Container, section) => {
                Some(section.unwrap_or_default().effective(environment)?)
            }
        };
        if self.idle_seconds == Some(0) {
            return Err(wrong("sandbox.idle_seconds", "must be at least 1"));
        }
        if self.retention_days == Some(0) {
            return Err(wrong("sandbox.retention_days", "must be at least 1"));
        }
        let first_uid = self.first_uid.unwrap_or(default.first_uid);
        let uids = self.uids.unwrap_or(default.uids);
        // Ids below 1000 belong to the host's own services, root above all.
        if first_uid < 1000 {
            return Err(wrong("sandbox.first_uid", "must be at least 1000"));
        }
        if uids == 0 || first_uid.checked_add(uids).is_none() {
            return Err(wrong("sandbox.uids", "is not a range of user ids"));
        }
        let mut read_only: Vec<ReadOnly> = Vec::new();
        for (index, ReadOnlyEntry { from, to }) in self.read_only.into_iter().enumerate() {
            let entry = ReadOnly { from, to };
            entry.check(data_dir, &read_only).map_err(|(member, why)| {
                wrong(format!("sandbox.read_only[{index}].{member}"), why)
            })?;
            read_only.push(entry);
        }
        Ok(Sandbox {
            container,
            retention: self.retention_days.map_or(default.retention, |days| {
                Duration::from_secs(u64::from(days) * super::DAY)
            }),
            spare: self
                .spare_megabytes
                .map_or(default.spare, |megabytes| u64::from(megabytes) << 20),
            idle: self.idle_seconds.map_or(default.idle, Duration::from_secs),
            first_uid,
            uids,
            read_only,
        })
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Model {
    pub(super) id: String,
    pub(super) provider: Provider,
    pub(super) base_url: Option<String>,
    pub(super) key: Option<KeySource>,
    pub(super) script: Option<PathBuf>,
    pub(super) upstream_id: Option<String>,
    pub(super) display_name: Option<String>,
    pub(super) context_window: Option<u64>,
    pub(super) mid_conversation_system: Option<bool>,
    pub(super) max_output: Option<u32>,
    pub(super) output_limit: Option<OutputLimit>,
    pub(super) first_byte_seconds: Option<u64>,
    pub(super) silence_seconds: Option<u64>,
    pub(super) thinking: Option<Thinking>,
    pub(super) effort: Option<bool>,
    pub(super) prices: Option<Prices>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Provider {
    Anthropic,
    OpenAi,
    Scripted,
}

/// The member that tells an endpoint the most output tokens.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OutputLimit {
    MaxTokens,
    MaxCompletionTokens,
}

impl OutputLimit {
    pub(super) fn spec(self) -> models::OutputLimit {
        match self {
            Self::MaxTokens => models::OutputLimit::MaxTokens,
            Self::MaxCompletionTokens => models::OutputLimit::MaxCompletionTokens,
        }
    }
}

/// Where a key is, never the key: `{ env = "NAME" }` or `{ file = "PATH" }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum KeySource {
    Env(String),
    File(PathBuf),
}

impl KeySource {
    pub(super) fn read(
        &self,
        at: &str,
        environment: Environment<'_>,
    ) -> Result<SecretString, Error> {
        let text = match self {
            Self::Env(name) => variable(environment, name)?
                .ok_or_else(|| wrong(at, format!("the environment variable {name} is not set")))?,
            Self::File(path) => {
                let text = fs::read_to_string(path);
                let text = text.map_err(|error| {
                    wrong(at, format!("{} cannot be read: {error}", path.display()))
                })?;
                text.trim().to_owned()
            }
        };
        if text.is_empty() {
            return Err(wrong(at, "the key is empty"));
        }
        Ok(SecretString::from(text))
    }
}

/// `"adaptive"`, or `{ budget = TOKENS }`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Thinking {
    Adaptive,
    Budget(u32),
}

impl Thinking {
    pub(super) fn spec(self) -> models::Thinking {
        match self {
            Self::Adaptive => models::Thinking::Adaptive,
            Self::Budget(tokens) => models::Thinking::Budget(tokens),
        }
    }
}

/// USD per million tokens, with at most six decimals.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Prices {
    input: f64,
    output: f64,
    cache_read: f64,
    cache_write: f64,
    cache_write_1h: Option<f64>,
}

impl Prices {
    pub(super) fn spec(self, at: &str) -> Result<models::Prices, Error> {
        let price = |name: &str, dollars: f64| {
            models::Price::per_million(dollars).ok_or_else(|| {
                let problem = "expected dollars per million tokens with at most six decimals";
                wrong(format!("{at}.prices.{name}"), problem)
            })
        };
        Ok(models::Prices {
            input: price("input", self.input)?,
            output: price("output", self.output)?,
            cache_read: price("cache_read", self.cache_read)?,
            cache_write: price("cache_write", self.cache_write)?,
            // Providers that tell the two apart ask more for the longer one; those that do not never report it.
            cache_write_1h: price(
                "cache_write_1h",
                self.cache_write_1h.unwrap_or(self.cache_write),
            )?,
        })
    }
}

pub(super) fn read(path: &Path) -> Result<File, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &text)
}

/// Reads the text of the file at `path`.
pub(super) fn parse(path: &Path, text: &str) -> Result<File, Error> {
    // The parser's error quotes the line it is about, which may hold a database password: only place and problem go on.
    toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| {
            1 + text[..span.start.min(text.len())].matches('\n').count()
        });
        Error::File {
            path: path.to_owned(),
            message: format!("line {line}: {}", error.message()),
        }
    })
}
