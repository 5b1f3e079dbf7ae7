//! The client of a person at a terminal: `manyhands quickstart`, `manyhands run`, `manyhands why`.
//!
//! It knows the public API and nothing else: what it does can be done with any SDK. Two things it can do because it
//! runs on the server's machine: start a server (its own executable) where none answers, and read the key and the
//! produced file from the data directory.
//!
//! Start at [`run`] for one task against a server, at [`quickstart`] for the story that shows a stranger what this is.
//! `client` is the API as the commands need it, `local` finds or starts the server, `render` turns events into text
//! for people (pure), `outputs` reads what the agent produced.

#![warn(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "they panic on a closed pipe; `printer` does not"
)]

pub mod quickstart;
pub mod run;
pub mod why;

mod client;
mod local;
mod outputs;
mod printer;
mod render;
