//! The supervisor inside every sandbox: it runs the tools and keeps the journal of executions.
//!
//! The library holds what both sides of the control channel share, the [`frame`]s and the [`output`] of a call, the
//! [`tools`] themselves, and what the small binary beside it is made of. It knows nothing of sessions, logs or
//! models, and is trusted with nothing: what it says is data to the server. Start at [`frame::Op`] for what it can
//! be asked, at [`serve`] for how it answers; [`door`] is the way out,
//! [`bridge`] the way into a container, [`exchange`] that of its files, [`memory`] that of its memories, [`parcel`] that of
//! all that it has written, in the form of an [`archive`].

mod ansi;
pub mod archive;
pub mod bridge;
pub mod door;
pub mod exchange;
pub mod filter;
pub mod frame;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod journal;
pub mod memory;
pub mod output;
pub mod parcel;
pub mod reaper;
pub mod serve;
pub mod shell;
mod tail;
pub mod tools;
mod tree;
