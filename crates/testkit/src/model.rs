//! A scripted model over HTTP.
//!
//! It speaks two public streaming forms exactly (`POST /v1/messages` and `POST /v1/chat/completions`,
//! server-sent events), checks every request like a strict endpoint would, remembers what was wrong so that the test
//! fails even if the caller shrugs off the 400, and misbehaves at any byte a test asks for.
//!
//! ```no_run
//! # async fn story() {
//! use manyhands_testkit::model::{ModelServer, Reply};
//! let model = ModelServer::start().await;
//! model.push(Reply::text("Let me look.").then_tool_use("toolu_1", "bash", serde_json::json!({"command": "ls"})));
//! model.push(Reply::text("Two files."));
//! // … drive the product against model.url() …
//! let second = model.request(2).await;
//! assert_eq!(second.tool_results()[0].text, "a\nb\n");
//! model.assert_clean();
//! # }
//! ```

mod chat;
mod check;
mod check_chat;
mod format;
mod pace;
mod prefix;
mod reply;
mod request;
pub mod script;
mod server;
pub mod told;
mod wire;

pub use check::check;
pub use check_chat::check_chat;
pub use format::Format;
pub use prefix::Prefixes;
pub use reply::{Block, Reply, RetryAfter, Usage};
pub use request::{Request, ToolResult};
pub use server::{ModelServer, Outcome};
