//! For tests only: what surrounds the product in a story, played by us.
//!
//! - [`model`]: a model over HTTP, in both wire forms, that follows a script, checks every request
//!   it gets and can misbehave at any byte.
//! - [`daemon`]: the real `manyhands serve` as a child process, to be talked to, killed and restarted.
//! - [`http`] and [`events`]: a small client for the two above, and for load generators.
//! - [`postgres`]: one private PostgreSQL per test process, one fresh database per test.
//! - [`containers`]: one private Podman per test process, with an image of its own.
//! - [`clock`]: a clock that stands still.
//! - [`disk`]: a small disk that can be filled.
//! - [`site`]: a web site that answers by path.
//! - [`mcp`]: an MCP server that says what a test wants.
//! - [`oauth`]: an authorization server that grants and rotates tokens.
//! - [`resources`]: an agent and an environment as a server keeps them.
//! - [`sandboxes`]: what servers have left running, ended with all that it holds.
//! - [`gate`]: how a test holds something still without sleeping.
//!
//! Of the product it knows the wire contract and the words of `protocol`, and nothing of its inside, so that a story told
//! with it can be told of any implementation. Start with [`model::ModelServer`].

pub mod clock;
pub mod containers;
pub mod daemon;
pub mod disk;
pub mod events;
pub mod gate;
pub mod http;
pub mod mcp;
pub mod model;
pub mod oauth;
pub mod postgres;
pub mod resources;
pub mod sandboxes;
pub mod site;
