//! The bytes of files and checkpoints: in a folder or in S3, each with its size and SHA-256, checked when they are read
//! (security STORE-3).
//!
//! A blob is written once and never changed. It is visible when it is complete, and durable when its writer says so, for rows
//! of the store will point to it (security LOG-1). This room knows nobody: not who owns a blob, nor whether anybody does. The
//! first part of a blob's name says what it is for, and whoever uses that part removes what nobody needs.
//!
//! Start at [`Blobs`]: [`create`](Blobs::create) gives a [`Writer`], [`get`](Blobs::get) a [`Reader`].

mod blobs;
mod error;
mod format;
mod name;
mod read;
mod write;

pub use blobs::{Blobs, Listed, S3};
pub use error::Error;
pub use format::Stored;
pub use name::fresh;
pub use read::Reader;
pub use write::Writer;
