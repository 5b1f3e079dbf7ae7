//! The supervisor inside every sandbox: it runs the tools and keeps the journal of executions.
//!
//! The library holds what both sides of the control channel share, the [`frame`]s and the [`output`] of a call, and
//! the [`tools`] themselves. It knows nothing of sessions, logs or models, and is trusted with nothing: what it says
//! is data to the server. Start at [`frame::Op`] for what it can be asked.

pub mod frame;
pub mod output;
pub mod tools;
