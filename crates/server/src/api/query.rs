//! Query strings and path ids (api §1.4): repeated `name[]`, comparators such as `created_at[gte]`, typed ids.

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;
use manyhands_protocol::id::{IdError, UserProfileId};
use manyhands_protocol::page::Order;
use manyhands_protocol::{
    AgentId, CredentialId, EnvironmentId, FileId, MemoryId, MemoryStoreId, MemoryVersionId,
    ResourceId, SessionId, SkillId, ThreadId, Timestamp, VaultId, WorkspaceId,
};
use percent_encoding::percent_decode_str;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::api::error::ApiError;
use crate::openapi::parameter::{Kind, Parameter};

/// What a route's query may hold, set by its door.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Declared(pub(crate) &'static [Parameter]);

/// The decoded query, in request order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = Self::parse(parts.uri.query().unwrap_or_default())?;
        if let Some(Declared(parameters)) = parts.extensions.get() {
            query.check(parameters)?;
        }
        Ok(query)
    }
}

impl Query {
    /// Reads `text`, the part after the question mark. What is no UTF-8 is refused: read with other characters in its place it
    /// would ask for something else (security INP-2).
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        match percent_decode_str(text).decode_utf8() {
            Ok(_) => Ok(Self::from_text(text)),
            Err(_) => Err(ApiError::invalid("the query of the URL is not UTF-8")),
        }
    }

    /// Decodes `text`, which is UTF-8.
    pub(crate) fn from_text(text: &str) -> Self {
        let pairs = url::form_urlencoded::parse(text.as_bytes());
        Self(
            pairs
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect(),
        )
    }

    /// The names and values, in request order.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// Refuses filters that are known and not built; names nobody knows are logged at debug.
    fn check(&self, parameters: &[Parameter]) -> Result<(), ApiError> {
        for (name, _) in &self.0 {
            let bare = name.strip_suffix("[]").unwrap_or(name);
            match parameters.iter().find(|parameter| parameter.name == bare) {
                Some(known) if known.kind == Kind::NotBuilt => {
                    return Err(ApiError::not_built(bare, "this filter"));
                }
                None if bare != "beta" => {
                    tracing::debug!(parameter = %name.escape_debug(), "unknown query parameter");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A parameter that may be given once. An empty text counts as absent.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, ApiError> {
        let mut values = self
            .0
            .iter()
            .filter(|(given, _)| given == name)
            .map(|(_, value)| value.as_str());
        let first = values.next();
        if values.next().is_some() {
            return Err(ApiError::field(name, "is given more than once"));
        }
        Ok(first.filter(|value| !value.is_empty()))
    }

    /// All values of `name[]`.
    pub(crate) fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        let values = self
            .0
            .iter()
            .filter(move |(given, _)| given == name || given.strip_suffix("[]") == Some(name));
        values.map(|(_, value)| value.as_str())
    }

    /// `limit`, from 1 to `max`.
    pub(crate) fn limit(&self, default: u32, max: u32) -> Result<u32, ApiError> {
        let Some(text) = self.text("limit")? else {
            return Ok(default);
        };
        match text.parse() {
            Ok(limit) if (1..=max).contains(&limit) => Ok(limit),
            _ => Err(ApiError::field(
                "limit",
                format!("expected a whole number from 1 to {max}"),
            )),
        }
    }

    /// `order`.
    pub(crate) fn order(&self, default: Order) -> Result<Order, ApiError> {
        match self.text("order")? {
            None => Ok(default),
            Some("asc") => Ok(Order::Asc),
            Some("desc") => Ok(Order::Desc),
            Some(_) => Err(ApiError::field("order", "expected asc or desc")),
        }
    }

    /// A boolean.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.text(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(ApiError::field(name, "expected true or false")),
        }
    }

    /// A version number, from 1.
    pub(crate) fn version(&self, name: &str) -> Result<Option<u32>, ApiError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        match text.parse() {
            Ok(version) if version >= 1 => Ok(Some(version)),
            _ => Err(ApiError::field(name, "expected a whole number from 1")),
        }
    }

    /// An instant, RFC 3339. A `+` that was not encoded arrives as a space and is taken as meant.
    pub(crate) fn instant(&self, name: &str) -> Result<Option<Timestamp>, ApiError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let parsed = Timestamp::parse(&text.replace(' ', "+"));
        parsed
            .map(Some)
            .map_err(|problem| ApiError::field(name, problem))
    }
}

/// The ids in the path, in order of the route's pattern.
#[derive(Clone, Debug)]
pub(crate) struct Ids(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Ids {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|_| ApiError::invalid("the path cannot be read"))?;
        Ok(Self(
            params
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        ))
    }
}

impl Ids {
    fn id<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, IdError>) -> Result<T, ApiError> {
        parse(self.text(name)).map_err(|problem| ApiError::field(name, problem.to_string()))
    }

    /// The raw text of a parameter.
    pub(crate) fn text(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(given, _)| given == name);
        found.map_or("", |(_, value)| value)
    }

    /// `{agent_id}`.
    pub(crate) fn agent(&self) -> Result<AgentId, ApiError> {
        self.id("agent_id", AgentId::parse)
    }

    /// `{environment_id}`.
    pub(crate) fn environment(&self) -> Result<EnvironmentId, ApiError> {
        self.id("environment_id", EnvironmentId::parse)
    }

    /// `{session_id}`.
    pub(crate) fn session(&self) -> Result<SessionId, ApiError> {
        self.id("session_id", SessionId::parse)
    }

    /// `{file_id}`.
    pub(crate) fn file(&self) -> Result<FileId, ApiError> {
        self.id("file_id", FileId::parse)
    }

    /// `{resource_id}`.
    pub(crate) fn resource(&self) -> Result<ResourceId, ApiError> {
        self.id("resource_id", ResourceId::parse)
    }

    /// `{vault_id}`.
    pub(crate) fn vault(&self) -> Result<VaultId, ApiError> {
        self.id("vault_id", VaultId::parse)
    }

    /// `{credential_id}`.
    pub(crate) fn credential(&self) -> Result<CredentialId, ApiError> {
        self.id("credential_id", CredentialId::parse)
    }

    /// `{user_profile_id}`.
    pub(crate) fn user_profile(&self) -> Result<UserProfileId, ApiError> {
        self.id("user_profile_id", UserProfileId::parse)
    }

    /// `{memory_store_id}`.
    pub(crate) fn memory_store(&self) -> Result<MemoryStoreId, ApiError> {
        self.id("memory_store_id", MemoryStoreId::parse)
    }

    /// `{memory_id}`.
    pub(crate) fn memory(&self) -> Result<MemoryId, ApiError> {
        self.id("memory_id", MemoryId::parse)
    }

    /// `{memory_version_id}`.
    pub(crate) fn memory_version(&self) -> Result<MemoryVersionId, ApiError> {
        self.id("memory_version_id", MemoryVersionId::parse)
    }

    /// `{skill_id}`.
    pub(crate) fn skill(&self) -> Result<SkillId, ApiError> {
        self.id("skill_id", SkillId::parse)
    }

    /// `{thread_id}`.
    pub(crate) fn thread(&self) -> Result<ThreadId, ApiError> {
        self.id("thread_id", ThreadId::parse)
    }
}

/// The schema of a path's parameter.
pub(crate) fn path_schema(name: &str) -> Schema {
    let generator = &mut SchemaGenerator::default();
    match name {
        "agent_id" => AgentId::json_schema(generator),
        "environment_id" => EnvironmentId::json_schema(generator),
        "session_id" => SessionId::json_schema(generator),
        "resource_id" => ResourceId::json_schema(generator),
        "thread_id" => ThreadId::json_schema(generator),
        "vault_id" => VaultId::json_schema(generator),
        "credential_id" => CredentialId::json_schema(generator),
        "file_id" => FileId::json_schema(generator),
        "memory_store_id" => MemoryStoreId::json_schema(generator),
        "memory_id" => MemoryId::json_schema(generator),
        "memory_version_id" => MemoryVersionId::json_schema(generator),
        "skill_id" => SkillId::json_schema(generator),
        "user_profile_id" => UserProfileId::json_schema(generator),
        "workspace_id" => WorkspaceId::json_schema(generator),
        _ => json_schema!({"type": "string"}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openapi::parameter::{NOT_DEPLOYMENT_ID, PAGE};

    #[test]
    fn lists_are_read_with_brackets_encoded_raw_or_absent() {
        for text in [
            "types%5B%5D=a&types%5B%5D=b",
            "types[]=a&types[]=b",
            "types=a&types=b",
            "x=1&types[]=a&beta=true&types[]=b",
        ] {
            let query = Query::from_text(text);
            assert_eq!(
                query.list("types").collect::<Vec<_>>(),
                ["a", "b"],
                "{text}"
            );
        }
    }

    #[test]
    fn instants_keep_their_offset() {
        for text in [
            "created_at%5Bgte%5D=2026-11-21T11:30:05%2B00:00",
            "created_at[gte]=2026-11-21T11:30:05+00:00",
            "created_at[gte]=2026-11-21T11%3A30%3A05Z",
        ] {
            let instant = Query::from_text(text)
                .instant("created_at[gte]")
                .expect(text);
            assert_eq!(
                instant.expect("given").to_string(),
                "2026-11-21T11:30:05.000000Z",
                "{text}"
            );
        }
    }

    #[test]
    fn bad_values_are_refused_by_name() {
        #[track_caller]
        fn check<T>(result: Result<T, ApiError>, problem: &str) {
            let error = result.err().expect("refused");
            assert!(error.message().starts_with(problem), "{}", error.message());
        }
        for text in ["limit=0", "limit=101", "limit=-1", "limit=x", "limit=1.5"] {
            check(
                Query::from_text(text).limit(20, 100),
                "limit: expected a whole number from 1 to 100",
            );
        }
        check(
            Query::from_text("limit=1&limit=2").limit(20, 100),
            "limit: is given more than once",
        );
        check(
            Query::from_text("order=up").order(Order::Asc),
            "order: expected asc or desc",
        );
        check(
            Query::from_text("include_archived=1").flag("include_archived"),
            "include_archived: expected true",
        );
        check(
            Query::from_text("version=0").version("version"),
            "version: expected a whole number",
        );
        check(
            Query::from_text("t=yesterday").instant("t"),
            "t: not an RFC 3339 timestamp",
        );
        check(
            Query::from_text("deployment_id=x").check(&[NOT_DEPLOYMENT_ID]),
            "deployment_id: this filter is not supported",
        );
    }

    #[test]
    fn empty_texts_count_as_absent() {
        let query = Query::from_text("page=&limit=&order=&beta=true");
        assert_eq!(query.text("page").expect("fine"), None);
        assert_eq!(query.limit(20, 100).expect("fine"), 20);
        query.check(&[PAGE]).expect("tolerated");
    }
}
