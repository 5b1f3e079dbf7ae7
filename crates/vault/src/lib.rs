//! What secrets are sealed with, who may open them, and which one goes where (security CRED-1, invariant I7).
//!
//! The store keeps secrets sealed; this room alone opens them. [`Vaults`] is what others hold: it finds a credential for a
//! purpose and gives its secret as a [`SecretString`](secrecy::SecretString), which is neither printed nor serialised. The way of
//! a key: a [master key](master) wraps each workspace's data key, which [seals](seal) each secret field.
//!
//! This room knows no route and no sandbox.

mod error;
mod failpoint;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod master;
mod mcp;
pub mod oauth;
pub mod rotate;
pub mod seal;
pub mod server_url;
mod uses;
mod vaults;

pub use error::Error;
pub use master::{KeyError, KeySource, Source};
pub use mcp::McpTokens;
pub use seal::Place;
pub use server_url::ServerUrl;
pub use uses::Uses;
pub use vaults::{Field, Replaced, Sealer, Tokens, Vaults};
