//! Doors for the fuzz targets to what is private here (security INP-6). No part of the server.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::Output;
use crate::events::Events;
use crate::{content, listing, mirror, wire};

/// The data of each event of a stream that comes in these pieces, and whether it was read to its end. Bounded as said.
pub async fn events(
    pieces: Vec<Vec<u8>>,
    most: usize,
    total: usize,
) -> (Vec<Option<String>>, bool) {
    let pieces = futures::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
    let body = reqwest::Body::wrap_stream(pieces);
    let mut events = Events::new(http::Response::new(body).into(), most, total);
    let mut all = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => all.push(event.data),
            Err(_) => return (all, false),
        }
    }
    (all, true)
}

/// How many messages these bytes are; `None` when they are none.
pub fn messages(bytes: &[u8]) -> Option<usize> {
    wire::read(bytes).ok().map(|messages| messages.len())
}

/// What a tool's result is to a model.
pub fn output(result: Value) -> Output {
    content::output(result)
}

/// The names of the tools of a page of a server's list, each with the headers that it wants, and how many were left out.
pub fn page(result: Value, input: &Map<String, Value>) -> Option<(Vec<String>, usize)> {
    let mut names = HashSet::new();
    let page = listing::page(result, &mut names, true).ok()?;
    for (_, parameters) in &page.tools {
        // What it gives are legal headers, by their type.
        drop(mirror::headers("tools/call", None, parameters, input));
    }
    let tools = page.tools.into_iter().map(|(tool, _)| tool.name).collect();
    Some((tools, page.left_out.len()))
}
