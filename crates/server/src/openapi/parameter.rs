//! Parameters of queries (api §1.4), as rows of the route table name them.

use manyhands_protocol::Timestamp;
use manyhands_protocol::event::PERSISTED_TYPES;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

/// One parameter of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parameter {
    /// Its name, without the brackets of a list.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) about: &'static str,
}

/// What a parameter's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text.
    Text,
    /// A whole number, from the first to the second.
    Count(u32, u32),
    /// `true` or `false`.
    Flag,
    /// RFC 3339.
    Instant,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// Given any number of times, as `name[]`.
    List,
    /// Any of these, as `name[]`.
    ListOf(&'static [&'static str]),
    /// Known from the contract and refused, because what it asks for is not built.
    NotBuilt,
}

impl Parameter {
    const fn new(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self { name, kind, about }
    }

    const fn limit(most: u32) -> Self {
        Self::new("limit", Kind::Count(1, most), "How many at most.")
    }

    const fn not_built(name: &'static str) -> Self {
        Self::new(name, Kind::NotBuilt, "")
    }

    /// As an OpenAPI document says it; `None` for what is refused.
    pub(super) fn shown(&self) -> Option<Value> {
        let text = || json!({"type": "string"});
        let (name, schema) = match self.kind {
            Kind::Text => (self.name.to_owned(), text()),
            Kind::Count(least, most) => {
                let schema = json!({"type": "integer", "minimum": least, "maximum": most});
                (self.name.to_owned(), schema)
            }
            Kind::Flag => (self.name.to_owned(), json!({"type": "boolean"})),
            Kind::Instant => {
                let schema = Timestamp::json_schema(&mut SchemaGenerator::default());
                (self.name.to_owned(), schema.to_value())
            }
            Kind::OneOf(values) => {
                let schema = json!({"type": "string", "enum": values});
                (self.name.to_owned(), schema)
            }
            Kind::List => {
                let schema = json!({"type": "array", "items": text()});
                (format!("{}[]", self.name), schema)
            }
            Kind::ListOf(values) => {
                let items = json!({"type": "string", "enum": values});
                let schema = json!({"type": "array", "items": items});
                (format!("{}[]", self.name), schema)
            }
            Kind::NotBuilt => return None,
        };
        Some(
            json!({"name": name, "in": "query", "required": false, "description": self.about, "schema": schema}),
        )
    }
}

pub(crate) const PAGE: Parameter =
    Parameter::new("page", Kind::Text, "Where to go on: `next_page` of a page.");
pub(crate) const INCLUDE_ARCHIVED: Parameter = Parameter::new(
    "include_archived",
    Kind::Flag,
    "Whether archived ones are listed too.",
);
pub(crate) const ORDER: Parameter = Parameter::new(
    "order",
    Kind::OneOf(&["asc", "desc"]),
    "Oldest or newest first.",
);
pub(crate) const CREATED_FROM: Parameter =
    Parameter::new("created_at[gte]", Kind::Instant, "Created then or later.");
pub(crate) const CREATED_TO: Parameter =
    Parameter::new("created_at[lte]", Kind::Instant, "Created then or earlier.");
pub(crate) const CREATED_AFTER: Parameter =
    Parameter::new("created_at[gt]", Kind::Instant, "Created later.");
pub(crate) const CREATED_BEFORE: Parameter =
    Parameter::new("created_at[lt]", Kind::Instant, "Created earlier.");
pub(crate) const LIMIT_100: Parameter = Parameter::limit(100);
pub(crate) const LIMIT_1000: Parameter = Parameter::limit(1000);
pub(crate) const AFTER_ID: Parameter =
    Parameter::new("after_id", Kind::Text, "The page behind this one.");
pub(crate) const BEFORE_ID: Parameter =
    Parameter::new("before_id", Kind::Text, "The page before this one.");
pub(crate) const VERSION: Parameter = Parameter::new(
    "version",
    Kind::Count(1, u32::MAX),
    "The newest when absent.",
);
pub(crate) const AGENT_ID: Parameter =
    Parameter::new("agent_id", Kind::Text, "Sessions of this agent.");
pub(crate) const AGENT_VERSION: Parameter = Parameter::new(
    "agent_version",
    Kind::Count(1, u32::MAX),
    "Sessions of this version; only with `agent_id`.",
);
pub(crate) const STATUSES: Parameter = Parameter::new(
    "statuses",
    Kind::ListOf(&["rescheduling", "running", "idle", "terminated"]),
    "In any of these states.",
);
pub(crate) const TYPES: Parameter = Parameter::new(
    "types",
    Kind::ListOf(&PERSISTED_TYPES),
    "Events of these types.",
);
pub(crate) const EVENT_DELTAS: Parameter = Parameter::new(
    "event_deltas",
    Kind::ListOf(&["agent.message", "agent.thinking"]),
    "Events whose making is shown.",
);
pub(crate) const MEMORY_STORE_ID: Parameter = Parameter::new(
    "memory_store_id",
    Kind::Text,
    "Sessions that have this memory store.",
);
pub(crate) const VIEW: Parameter = Parameter::new(
    "view",
    Kind::OneOf(&["basic", "full"]),
    "Without or with contents; pages with contents have 20 items at most.",
);
pub(crate) const DEPTH: Parameter = Parameter::new(
    "depth",
    Kind::Count(0, 1),
    "0 for all below the prefix, 1 for its direct children and one item per folder.",
);
pub(crate) const PATH_PREFIX: Parameter = Parameter::new(
    "path_prefix",
    Kind::Text,
    "Memories whose paths begin with this, which ends in a slash.",
);
pub(crate) const EXPECTED_CONTENT_SHA256: Parameter = Parameter::new(
    "expected_content_sha256",
    Kind::Text,
    "Delete only if the content has this hash.",
);
pub(crate) const MEMORY_ID: Parameter =
    Parameter::new("memory_id", Kind::Text, "Versions of this memory.");
pub(crate) const OPERATION: Parameter = Parameter::new(
    "operation",
    Kind::OneOf(&["created", "modified", "deleted"]),
    "Versions of this kind.",
);
pub(crate) const SESSION_ID: Parameter =
    Parameter::new("session_id", Kind::Text, "Versions that this session made.");
pub(crate) const API_KEY_ID: Parameter =
    Parameter::new("api_key_id", Kind::Text, "Versions made with this API key.");
pub(crate) const SERVICE_ACCOUNT_ID: Parameter = Parameter::new(
    "service_account_id",
    Kind::Text,
    "Versions that this service account made.",
);
pub(crate) const IDS: Parameter = Parameter::new("ids", Kind::List, "These files, 100 at most.");
pub(crate) const SCOPE_ID: Parameter =
    Parameter::new("scope_id", Kind::Text, "Files of this session.");
pub(crate) const SKILL_SOURCE: Parameter = Parameter::new(
    "source",
    Kind::OneOf(&["custom", "anthropic"]),
    "Those of the workspace, or those that come with the server.",
);
pub(crate) const LIFECYCLE: Parameter = Parameter::new(
    "lifecycle",
    Kind::ListOf(&["active", "deprecated", "retired"]),
    "In these stages; all but retired ones when absent.",
);
pub(crate) const ENFORCEMENT_STATUS: Parameter = Parameter::new(
    "enforcement_status",
    Kind::List,
    "Profiles in any of these states.",
);
pub(crate) const ORDER_BY: Parameter = Parameter::new(
    "order_by",
    Kind::OneOf(&["created_at", "name"]),
    "What the list is sorted by.",
);
pub(crate) const WORKSPACE_ID: Parameter = Parameter::new(
    "workspace_id",
    Kind::Text,
    "Another workspace than the key's own; for the operator.",
);

pub(crate) const NOT_CREATED_AFTER: Parameter = Parameter::not_built("created_at[gt]");
pub(crate) const NOT_CREATED_FROM: Parameter = Parameter::not_built("created_at[gte]");
pub(crate) const NOT_CREATED_BEFORE: Parameter = Parameter::not_built("created_at[lt]");
pub(crate) const NOT_CREATED_TO: Parameter = Parameter::not_built("created_at[lte]");
pub(crate) const NOT_ORDER: Parameter = Parameter::not_built("order");
pub(crate) const NOT_TYPES: Parameter = Parameter::not_built("types");
pub(crate) const NOT_DEPLOYMENT_ID: Parameter = Parameter::not_built("deployment_id");
