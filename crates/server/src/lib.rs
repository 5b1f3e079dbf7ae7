//! The front door: HTTP routes, streams, configuration, and the wiring of the parts.
//!
//! It builds the parts (store, brain, hands, models), gives them to handlers, and decides nothing about sessions that
//! the pure modules of `api` do not decide from the session's own state. Start at `routes.rs`: every route, its principal
//! and its handler on one page; then `server.rs`, where the parts come together.
//!
//! For the command line there is one module a command below [`commands`], each with its `Args` and its `run`.

#![warn(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "they panic on a closed pipe; commands have a writer that does not"
)]

mod api;
mod app;
mod authorities;
mod background;
pub mod commands;
mod config;
mod failpoint;
mod failure;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod gate;
mod keys;
mod listener;
mod openapi;
mod parts;
mod routes;
mod secrets;
mod server;
pub mod service;
mod telemetry;
mod tidy;

pub use config::{
    BlobPlace, Config, Container, Egress, Environments, Error as ConfigError, Files, Flags, Limits,
    MasterKey, Rates, Repositories, Sandbox, Search, Web,
};
pub use failure::Failure;
pub use server::{Overrides, Server};
