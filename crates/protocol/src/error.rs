//! The error body and its closed list of types (api §26, runtime HT-11, HT-12).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::tag;

/// The `error.type` values this server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorType {
    /// 400.
    InvalidRequestError,
    /// 401.
    AuthenticationError,
    /// 402.
    BillingError,
    /// 403.
    PermissionError,
    /// 404.
    NotFoundError,
    /// 409.
    ConflictError,
    /// 409: another memory is at the path (api §17.3).
    MemoryPathConflictError,
    /// 409: the memory is not as the caller expects it (api §17.3).
    MemoryPreconditionFailedError,
    /// 413.
    RequestTooLarge,
    /// 429.
    RateLimitError,
    /// 500 and transient 503.
    ApiError,
    /// 504.
    TimeoutError,
    /// 529.
    OverloadedError,
}

/// Machine-readable detail of an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorDetails {
    /// A code of api §26.2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
}

/// The inner object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorObject {
    /// The class of the error.
    #[serde(rename = "type")]
    pub kind: ErrorType,
    /// What is wrong and what to do, for a person.
    pub message: String,
    /// Machine-readable detail, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<ErrorDetails>,
    /// Of a path conflict: the memory that is in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflicting_memory_id: Option<String>,
    /// Of a path conflict: where that memory is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflicting_path: Option<String>,
}

/// `{"type":"error","error":{…},"request_id":…}`; in an SSE `error` frame the request id is absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// Always `"error"`.
    #[serde(rename = "type")]
    pub kind: tag::Error,
    /// What went wrong.
    pub error: ErrorObject,
    /// The request's id, also in the `request-id` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}
