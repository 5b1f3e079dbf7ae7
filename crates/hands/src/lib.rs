//! Where work is done: sandboxes and tools.
//!
//! A [`Provider`] makes a [`Sandbox`] per session when its first tool call needs one; the sandbox executes calls,
//! each at most once, and outlives the server that asked. The [`toolset`] is what a model is told about the tools.
//! This room does not know the database, the model, or that there is a log. Start at [`provider`].

mod archive;
mod error;
mod failpoint;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod memory;
pub mod packages;
pub mod provider;
pub mod repositories;
pub mod skills;
pub mod toolset;
pub mod web;

pub use error::{Advice, Error};
pub use failpoint::FAILPOINTS;
pub use provider::container::Container;
pub use provider::namespace::Namespace;
pub use provider::{Block, Call, Gate, Limits, Output, Probe, Provider, Recipe, Sandbox, Source};
