//! Doors for the fuzz targets to what is private here (security INP-6). No part of the server.

use url::Url;

use crate::provider::namespace;
use crate::repositories;

/// What is read of a page: its title, if it has one, and its text.
pub fn page(html: &str, url: &Url) -> Option<(Option<String>, String)> {
    crate::web::fuzzing::page(html, url)
}

/// A URL that may be fetched.
pub fn url(text: &str) -> Option<Url> {
    crate::web::fuzzing::url(text)
}

/// A path of a sandbox as it is told.
pub fn path(path: &[u8]) -> String {
    namespace::outputs::text(path)
}

/// Why a clone failed, as its user reads it; `None` when the repository is there.
pub fn clone_failure(said: &str) -> Option<(repositories::Cause, String)> {
    repositories::failure(said)
}
