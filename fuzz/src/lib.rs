//! What must hold of every reader of outside bytes, whatever the bytes (security INP-6).
//!
//! A target is a function that takes any bytes and panics when something does not hold that always must: what was read can be
//! written and read again, two readers agree, an answer does not depend on how its bytes came, nothing gets outside. The inputs
//! that were once of interest are kept in `fuzz/corpus/<target>`. `tests/corpus.rs` runs them, and changes of them, with every
//! other test; `scripts/fuzz` searches for new ones with libFuzzer.
//!
//! To add a target: a function in one of the modules, a row in [`TARGETS`], and inputs to begin with in `fuzz/corpus/<name>`.

mod bodies;
mod keys;
mod knowledge;
mod models;
mod network;
mod peers;
mod queries;
mod sandbox;
mod secrets;
mod sse;
mod words;

/// One reader, and what must hold of it.
pub struct Target {
    /// Its name, which is that of its corpus.
    pub name: &'static str,
    /// Panics when something does not hold for these bytes.
    pub hold: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("body", bodies::body),
    target("typed_body", bodies::typed),
    target("secret_body", bodies::secret),
    target("parts", bodies::parts),
    target("events", bodies::events),
    target("query", queries::query),
    target("cursor", queries::cursor),
    target("mount_path", queries::mount_path),
    target("file_name", queries::file_name),
    target("frame", queries::frame),
    target("config", keys::config),
    target("master_key", keys::master_key),
    target("sealed", keys::sealed),
    target("token_answer", keys::token_answer),
    target("id", words::id),
    target("timestamp", words::timestamp),
    target("event_body", words::event_body),
    target("host", network::host),
    target("target", network::target),
    target("address", network::address),
    target("head", network::head),
    target("hello", network::hello),
    target("repository", network::repository),
    target("server_url", network::server_url),
    target("web_url", network::web_url),
    target("shown_urls", network::shown),
    target("substitute", secrets::substitute),
    target("substitute_headers", secrets::headers),
    target("scrub", secrets::scrub),
    target("model_stream", models::stream),
    target("message", models::message),
    target("completion", models::completion),
    target("translate", models::translate),
    target("model_refusal", models::refusal),
    target("script", models::script),
    target("mcp_stream", peers::stream),
    target("mcp_message", peers::message),
    target("mcp_result", peers::result),
    target("mcp_tools", peers::tools),
    target("web_page", peers::page),
    target("sandbox_frame", sandbox::frame),
    target("journal", sandbox::journal),
    target("archive", sandbox::archive),
    target("lay", sandbox::lay),
    target("show", sandbox::show),
    target("terminal", sandbox::terminal),
    target("tool_input", sandbox::tool_input),
    target("patterns", sandbox::patterns),
    target("output_path", sandbox::output_path),
    target("clone", sandbox::clone),
    target("skill_archive", knowledge::skill_archive),
    target("skill_front", knowledge::front),
    target("memory_path", knowledge::memory_path),
];

const fn target(name: &'static str, hold: fn(&[u8])) -> Target {
    Target { name, hold }
}

/// The bytes as text, for readers that are given text.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// The bytes behind the first one, cut into pieces as that one says.
fn pieces(bytes: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let Some((&how, bytes)) = bytes.split_first() else {
        return (Vec::new(), bytes);
    };
    let (mut state, mut rest, mut pieces) = (u32::from(how), bytes, Vec::new());
    let longest = usize::from(how % 16) + 1;
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = (1 + (state >> 16) as usize % longest).min(rest.len());
        let (piece, behind) = rest.split_at(length);
        pieces.push(piece);
        rest = behind;
    }
    (pieces, bytes)
}

/// Runs a reader that waits for what it reads.
fn wait<T>(reading: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(reading))
}

/// Whether a text stays on one line of a log or a header, whoever reads it.
fn is_one_line(text: &str) -> bool {
    !text.contains(|character: char| character.is_control())
}
