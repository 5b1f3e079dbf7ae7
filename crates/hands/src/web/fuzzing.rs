//! The part of the doors for fuzz targets that is about the web.

use url::Url;

use super::{fetch, readable};

/// See [`crate::fuzzing::page`].
pub(crate) fn page(html: &str, url: &Url) -> Option<(Option<String>, String)> {
    let page = readable::read(html, url).ok()?;
    Some((page.title, page.text))
}

/// See [`crate::fuzzing::url`].
pub(crate) fn url(text: &str) -> Option<Url> {
    fetch::parse(text).ok()
}
