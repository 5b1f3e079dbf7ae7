//! Answers that are the content of clients or of agents.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderName, HeaderValue};

/// This content, for a client that keeps it. Whatever it is, no browser shall run it here (security API-7).
pub(crate) fn answer(content: Body, mime_type: &str, disposition: &str) -> Response {
    let mut response = content.into_response();
    let headers = response.headers_mut();
    let unknown = HeaderValue::from_static("application/octet-stream");
    let mime_type = HeaderValue::from_str(mime_type).unwrap_or(unknown);
    headers.insert(CONTENT_TYPE, mime_type);
    if let Ok(disposition) = HeaderValue::from_str(disposition) {
        headers.insert(CONTENT_DISPOSITION, disposition);
    }
    headers.insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    response
}
