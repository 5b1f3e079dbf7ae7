//! The client that a person meets first: `manyhands quickstart`.
//!
//! It knows the public API and nothing else: what it does can be done with any SDK. Two things it can do because it
//! runs on the server's machine: start a server (its own executable) where none answers, and read the key and the
//! produced file from the data directory.
//!
//! Start at [`quickstart`]: the story, step by step. `client` is the API as this story needs it, `local` finds or
//! starts the server, `render` turns events into text for people (pure), `outputs` reads what the agent produced.

pub mod quickstart;

mod client;
mod local;
mod outputs;
mod render;
