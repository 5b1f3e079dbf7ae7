//! Errors as clients read them: one table of status codes, one body (runtime HT-11, HT-12, api §26).
//!
//! Handlers answer with [`ApiError`]; the outermost layer ([`crate::routes`]) turns it into the envelope, because
//! only there the request's id is known.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use manyhands_protocol::error::{ErrorBody, ErrorDetails, ErrorObject, ErrorType};
use manyhands_protocol::id::{IdError, RequestId};

/// `x-should-retry`: overrides the retry policy of the official clients (api §1.7).
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// What kind of refusal it is: a row of the status table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// The request makes no sense, or cannot be done now.
    InvalidRequest,
    /// Nobody known is asking.
    Authentication,
    /// Whoever is asking may not do this.
    Permission,
    /// There is no such thing for this caller.
    NotFound,
    /// The path is there, the method is not.
    MethodNotAllowed,
    /// The thing has changed in the meantime.
    Conflict,
    /// Another memory is at the path.
    OccupiedPath,
    /// The memory is not as the caller expects it.
    UnexpectedMemory,
    /// It contradicts what was asked before.
    Unprocessable,
    /// The body is over its cap.
    TooLarge,
    /// There were too many requests in too little time.
    RateLimit,
    /// This server failed.
    Internal,
    /// This version of the server does not have what the path is for.
    NotImplemented,
    /// This server cannot do it now and may soon.
    Unavailable,
    /// This server takes no new work now.
    Overloaded,
}

impl Class {
    /// The status table (runtime HT-12).
    pub(crate) fn wire(self) -> (StatusCode, ErrorType) {
        match self {
            Self::InvalidRequest => (StatusCode::BAD_REQUEST, ErrorType::InvalidRequestError),
            Self::Authentication => (StatusCode::UNAUTHORIZED, ErrorType::AuthenticationError),
            Self::Permission => (StatusCode::FORBIDDEN, ErrorType::PermissionError),
            Self::NotFound => (StatusCode::NOT_FOUND, ErrorType::NotFoundError),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                ErrorType::InvalidRequestError,
            ),
            Self::Conflict => (StatusCode::CONFLICT, ErrorType::ConflictError),
            Self::OccupiedPath => (StatusCode::CONFLICT, ErrorType::MemoryPathConflictError),
            Self::UnexpectedMemory => (
                StatusCode::CONFLICT,
                ErrorType::MemoryPreconditionFailedError,
            ),
            Self::Unprocessable => (
                StatusCode::UNPROCESSABLE_ENTITY,
                ErrorType::InvalidRequestError,
            ),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, ErrorType::RequestTooLarge),
            Self::RateLimit => (StatusCode::TOO_MANY_REQUESTS, ErrorType::RateLimitError),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, ErrorType::ApiError),
            Self::NotImplemented => (StatusCode::NOT_IMPLEMENTED, ErrorType::ApiError),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, ErrorType::ApiError),
            Self::Overloaded => (
                StatusCode::from_u16(529).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
                ErrorType::OverloadedError,
            ),
        }
    }
}

/// A refusal, or a failure, as the caller will read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    class: Class,
    message: String,
    code: Option<&'static str>,
    should_retry: Option<bool>,
    retry_after: Option<Duration>,
    conflicting: Option<Conflicting>,
}

/// A memory that is in the way of another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Conflicting {
    memory: String,
    path: String,
}

impl ApiError {
    fn new(class: Class, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            code: None,
            should_retry: None,
            retry_after: None,
            conflicting: None,
        }
    }

    /// 400: what is wrong with the request.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Class::InvalidRequest, message)
    }

    /// 400: what is wrong with one field.
    pub(crate) fn field(path: impl AsRef<str>, problem: impl AsRef<str>) -> Self {
        Self::invalid(format!("{}: {}", path.as_ref(), problem.as_ref()))
    }

    /// 400: a documented value whose feature this version does not have. Never accepted and ignored.
    pub(crate) fn not_built(path: impl AsRef<str>, what: impl AsRef<str>) -> Self {
        Self::field(
            path,
            format!(
                "{} is not supported by this version of the server",
                what.as_ref()
            ),
        )
    }

    /// 401.
    pub(crate) fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(Class::Authentication, message)
    }

    /// 403.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(Class::Permission, message)
    }

    /// 404. The same for foreign and for missing things (security API-2): `what` is a kind, never more.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(Class::NotFound, format!("{what} not found"))
    }

    /// 404: no such route, or not without its beta header (runtime HT-1).
    pub(crate) fn no_route(message: impl Into<String>) -> Self {
        Self::new(Class::NotFound, message)
    }

    /// 405.
    pub(crate) fn method_not_allowed() -> Self {
        Self::new(
            Class::MethodNotAllowed,
            "this path does not have this method; updates are POST",
        )
    }

    /// 409 that repeating the same request cannot cure (runtime HT-13).
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self {
            should_retry: Some(false),
            ..Self::new(Class::Conflict, message)
        }
    }

    /// 409 that goes away by itself: clients repeat the request.
    pub(crate) fn repeatable_conflict(message: impl Into<String>, retry_after: Duration) -> Self {
        Self {
            should_retry: Some(true),
            retry_after: Some(retry_after),
            ..Self::new(Class::Conflict, message)
        }
    }

    /// 422: the request contradicts an earlier one.
    pub(crate) fn unprocessable(message: impl Into<String>) -> Self {
        Self {
            should_retry: Some(false),
            ..Self::new(Class::Unprocessable, message)
        }
    }

    /// 409: this memory is in the way (runtime ME-5, api §17.3).
    pub(crate) fn occupied_path(message: impl Into<String>, memory: &str, path: &str) -> Self {
        Self {
            should_retry: Some(false),
            conflicting: Some(Conflicting {
                memory: memory.to_owned(),
                path: path.to_owned(),
            }),
            ..Self::new(Class::OccupiedPath, message)
        }
    }

    /// 409: a memory is not as the caller expects it (runtime ME-6, api §17.3).
    pub(crate) fn unexpected_memory(message: impl Into<String>) -> Self {
        Self {
            should_retry: Some(false),
            ..Self::new(Class::UnexpectedMemory, message)
        }
    }

    /// 413.
    pub(crate) fn too_large(cap: usize) -> Self {
        let mib = cap >> 20;
        Self::new(
            Class::TooLarge,
            format!("the request body is larger than {mib} MB"),
        )
    }

    /// 429.
    pub(crate) fn rate_limited(message: impl Into<String>, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(Class::RateLimit, message)
        }
    }

    /// 500: a bug, or damage. The details are in the log and not in the answer. What was done before it failed is not known:
    /// clients do not repeat it by themselves (security API-6).
    pub(crate) fn internal() -> Self {
        Self {
            should_retry: Some(false),
            ..Self::new(Class::Internal, "the server failed; its log says more")
        }
    }

    /// 501: a documented path whose resource this version does not have (api §2).
    pub(crate) fn not_implemented(what: &str) -> Self {
        Self {
            should_retry: Some(false),
            ..Self::new(
                Class::NotImplemented,
                format!("not implemented: this version of the server does not have {what}"),
            )
        }
    }

    /// 500: damage of one stored item.
    pub(crate) fn damaged(item: &str) -> Self {
        Self {
            should_retry: Some(false),
            message: format!("{item} is damaged on disk and cannot be shown"),
            ..Self::internal()
        }
    }

    /// 503: this server cannot do it now.
    pub(crate) fn unavailable(message: impl Into<String>, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(Class::Unavailable, message)
        }
    }

    /// 529: new work is refused, and what is there goes on.
    pub(crate) fn overloaded(message: impl Into<String>, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(Class::Overloaded, message)
        }
    }

    /// Adds a machine-readable code of api §26.2.
    pub(crate) fn with_code(self, code: &'static str) -> Self {
        Self {
            code: Some(code),
            ..self
        }
    }

    /// The same refusal, of a field one level further in.
    pub(crate) fn inside(self, path: &str) -> Self {
        let message = format!(
            "{path}{}{}",
            if self.message.starts_with('[') {
                ""
            } else {
                "."
            },
            self.message
        );
        Self { message, ..self }
    }

    /// How long the caller is told to wait.
    #[cfg(test)]
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Its status code.
    pub(crate) fn status(&self) -> StatusCode {
        self.class.wire().0
    }

    /// The text for people.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The envelope; in an SSE `error` frame there is the same (api §9.4).
    pub(crate) fn body(&self, request: Option<&RequestId>) -> String {
        let conflicting = self.conflicting.as_ref();
        let body = ErrorBody {
            kind: Default::default(),
            error: ErrorObject {
                kind: self.class.wire().1,
                message: self.message.clone(),
                details: self.code.map(|code| ErrorDetails {
                    error_code: Some(code.to_owned()),
                }),
                conflicting_memory_id: conflicting.map(|other| other.memory.clone()),
                conflicting_path: conflicting.map(|other| other.path.clone()),
            },
            request_id: request.map(|id| id.as_str().to_owned()),
        };
        serde_json::to_string(&body).unwrap_or_default()
    }

    /// The whole answer.
    pub(crate) fn respond(&self, request: &RequestId) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some(retry) = self.should_retry {
            let text = if retry { "true" } else { "false" };
            headers.insert(SHOULD_RETRY, HeaderValue::from_static(text));
        }
        if let Some(after) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        (self.class.wire().0, headers, self.body(Some(request))).into_response()
    }
}

/// Only a mark for the outermost layer, which makes the answer with [`ApiError::respond`].
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.class.wire().0.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// What the store could not do. The operator reads the cause in the log; the caller, what to do.
impl From<manyhands_store::Error> for ApiError {
    fn from(error: manyhands_store::Error) -> Self {
        use manyhands_store::Error as Store;
        match &error {
            Store::NoSpace { .. } => {
                metrics::counter!("manyhands_refused_total", "reason" => "disk_full").increment(1);
                Self::overloaded(
                    "the server's disk is full: nothing was written, and no new work is taken until there is room; \
                     what is stored can be read, and interrupts work",
                    Duration::from_secs(10),
                )
            }
            Store::Unavailable { .. } => {
                tracing::error!(%error, "the database did not answer");
                Self::unavailable(
                    "the database did not answer; try again",
                    Duration::from_secs(1),
                )
            }
            Store::Unknown { .. } => {
                tracing::error!(%error, "the database went away during a commit");
                Self {
                    should_retry: Some(false),
                    message: "the database went away while it kept this: it may be there or not; look before you repeat it"
                        .to_owned(),
                    ..Self::internal()
                }
            }
            Store::Damaged { item, .. } => {
                tracing::error!(%error, "a stored item is damaged");
                Self::damaged(item)
            }
            Store::OverQuota { what, quota, used } => {
                metrics::counter!("manyhands_refused_total", "reason" => "quota").increment(1);
                Self::invalid(format!(
                    "the workspace keeps {used} of the {quota} {what} that it may keep, and this would be more: delete some, or \
                     ask the operator for a higher quota"
                ))
                .with_code("storage_quota_exceeded")
            }
            Store::Setup { .. } | Store::InUse { .. } | Store::Invalid { .. } => {
                tracing::error!(%error, "the database cannot be used");
                Self::internal()
            }
        }
    }
}

/// An id of the wrong kind in a body or a path (runtime ID-4).
impl From<IdError> for ApiError {
    fn from(error: IdError) -> Self {
        Self::invalid(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(error: ApiError, status: u16, kind: &str, headers: &[(&str, &str)]) {
        let id = RequestId::generate();
        let response = error.respond(&id);
        assert_eq!(response.status().as_u16(), status);
        for (name, value) in headers {
            assert_eq!(response.headers()[*name], *value);
        }
        assert_eq!(
            response.headers().len(),
            headers.len() + 1,
            "{:?}",
            response.headers()
        );
        let body: serde_json::Value = serde_json::from_str(&error.body(Some(&id))).expect("JSON");
        assert_eq!(body["type"], "error");
        assert_eq!(body["error"]["type"], kind);
        assert_eq!(body["request_id"], id.as_str());
    }

    #[test]
    fn ht_12_every_class_has_its_status_and_type() {
        let second = Duration::from_secs(1);
        check(ApiError::invalid("x"), 400, "invalid_request_error", &[]);
        check(
            ApiError::unauthenticated("x"),
            401,
            "authentication_error",
            &[],
        );
        check(ApiError::forbidden("x"), 403, "permission_error", &[]);
        check(
            ApiError::rate_limited("x", second),
            429,
            "rate_limit_error",
            &[("retry-after", "1")],
        );
        check(ApiError::not_found("agent"), 404, "not_found_error", &[]);
        check(ApiError::no_route("x"), 404, "not_found_error", &[]);
        check(
            ApiError::method_not_allowed(),
            405,
            "invalid_request_error",
            &[],
        );
        check(
            ApiError::conflict("x"),
            409,
            "conflict_error",
            &[("x-should-retry", "false")],
        );
        check(
            ApiError::occupied_path("x", "mem_1", "/a"),
            409,
            "memory_path_conflict_error",
            &[("x-should-retry", "false")],
        );
        check(
            ApiError::unexpected_memory("x"),
            409,
            "memory_precondition_failed_error",
            &[("x-should-retry", "false")],
        );
        check(ApiError::too_large(1 << 20), 413, "request_too_large", &[]);
        check(
            ApiError::unprocessable("x"),
            422,
            "invalid_request_error",
            &[("x-should-retry", "false")],
        );
        check(
            ApiError::repeatable_conflict("x", second),
            409,
            "conflict_error",
            &[("x-should-retry", "true"), ("retry-after", "1")],
        );
        check(
            ApiError::internal(),
            500,
            "api_error",
            &[("x-should-retry", "false")],
        );
        check(
            ApiError::not_implemented("x"),
            501,
            "api_error",
            &[("x-should-retry", "false")],
        );
        check(
            ApiError::unavailable("x", second),
            503,
            "api_error",
            &[("retry-after", "1")],
        );
        check(
            ApiError::overloaded("x", second),
            529,
            "overloaded_error",
            &[("retry-after", "1")],
        );
    }

    #[test]
    fn store_4_a_failing_store_is_a_typed_answer_without_its_words() {
        use manyhands_store::Error as Store;
        let operation = "append";
        let reason = || "password=hunter2".to_owned();
        let (retry, never) = (&[("retry-after", "10")], &[("x-should-retry", "false")]);
        check(
            Store::NoSpace { operation }.into(),
            529,
            "overloaded_error",
            retry,
        );
        let unavailable = ApiError::from(Store::Unavailable {
            operation,
            reason: reason(),
        });
        assert!(!unavailable.message().contains("hunter2"));
        check(unavailable, 503, "api_error", &[("retry-after", "1")]);
        let damaged = Store::Damaged {
            item: "sevt_1".to_owned(),
            reason: reason(),
        };
        check(damaged.into(), 500, "api_error", never);
        check(
            Store::Setup {
                operation,
                reason: reason(),
            }
            .into(),
            500,
            "api_error",
            never,
        );
    }

    #[test]
    fn a_code_and_a_path_are_shown() {
        let error = ApiError::field("name", "is required")
            .inside("agents[0]")
            .with_code("environment_archived");
        let body: serde_json::Value = serde_json::from_str(&error.body(None)).expect("JSON");
        let expected = serde_json::json!({"type": "error", "error": {
            "type": "invalid_request_error", "message": "agents[0].name: is required",
            "details": {"error_code": "environment_archived"}}});
        assert_eq!(body, expected);
    }
}
