//! Doors for the fuzz targets to what is private here (security INP-6). No part of the server.

/// The tokens that a token endpoint's answer grants, access token first; `None` when it grants none.
pub fn granted(status: u16, body: &[u8]) -> Option<Vec<String>> {
    crate::oauth::fuzzing::granted(status, body)
}
