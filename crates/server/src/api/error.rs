//! Errors as clients read them: one table of status codes, one body (runtime HT-11, HT-12, api §26).
//!
//! Handlers answer with [`ApiError`]; the outermost layer ([`crate::routes`]) turns it into the envelope, because
//! only there the request's id is known.

mod store;

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

    /// 413: the files that an archive holds, or that were sent one by one, whatever the length of the body.
    pub(crate) fn too_large_in_all(cap: usize) -> Self {
        let mib = cap >> 20;
        Self::new(
            Class::TooLarge,
            format!("the files have more than {mib} MB in all when they are unpacked"),
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

/// An id of the wrong kind in a body or a path (runtime ID-4).
impl From<IdError> for ApiError {
    fn from(error: IdError) -> Self {
        Self::invalid(error.to_string())
    }
}

#[cfg(test)]
mod tests;
