//! What a skill may be: one folder with a `SKILL.md` in it (runtime SK-1), and the one archive that it is kept and given away
//! as.
//!
//! Pure: no I/O, no task, nothing of sessions or sandboxes. Whatever comes from outside is read here under caps (security
//! INP-1), entry by entry as plain files with safe names (security INP-3, INP-4), and written anew: an archive that another
//! part of the server opens was made by [`Folder::archive`]. Start at [`Folder`].

mod archive;
pub mod builtin;
mod folder;
mod manifest;
mod path;

pub use archive::{is_archive, read};
pub use folder::{Entry, File, Folder};
pub use manifest::{Manifest, front_matter, is_name};

/// Bytes of all files of a skill together (api §29).
pub const TOTAL: usize = 30 << 20;
/// Bytes of an archive: what cannot be packed, and names beside it.
pub const ARCHIVE: usize = TOTAL + (8 << 20);
/// Files of a skill.
pub const FILES: usize = 2_000;
/// The longest description, in characters (api §19).
pub const DESCRIPTION: usize = 1024;
/// The longest name, in characters (api §19).
pub const NAME: usize = 64;
/// The file that makes a folder a skill.
pub const MANIFEST: &str = "SKILL.md";

/// Why something is no skill. The text is for the client, and names the entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is more than a skill may have, packed or unpacked.
    #[error("a skill has at most {} MB", TOTAL >> 20)]
    TooLarge,
    /// It has another shape, or something in it that a skill must not have.
    #[error("{0}")]
    Refused(String),
}

impl Problem {
    fn refused(text: impl Into<String>) -> Self {
        Self::Refused(text.into())
    }

    /// Refused because of the entry of this name.
    fn at(name: &str, why: &str) -> Self {
        let shown: String = name.chars().take(200).collect();
        Self::Refused(format!("{shown:?} {why}"))
    }
}
