//! The folders of a session's memory stores in its sandbox (runtime ME-13 to ME-17): how whoever knows the stores reaches them.
//!
//! A folder is a copy of a store. What was last the same on both sides is noted beside it by whoever reconciles them, outside of
//! what the sandbox sees, and goes with the copy. See `docs/design/knowledge.md`.

use async_trait::async_trait;
pub use manyhands_sandboxd::memory::{Answer, Ask, MOUNT, Odd, Oddity, Over, Seen, Stamp};

use crate::Error;

/// Where files are that a tool has written and no store has taken: the sandbox's own, so that the agent can read and remove
/// them, and they are in its checkpoints.
pub const KEPT: &str = "/tmp";

/// The folder of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Its name below [`MOUNT`]: one plain segment.
    pub name: String,
    /// Whether the sandbox writes it.
    pub writable: bool,
}

/// A note, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What was written.
    pub bytes: Vec<u8>,
    /// Whether the host has run since without a break: else what lies in the folders may be older than the note says.
    pub unbroken: bool,
}

/// The folders of one session's sandbox, as they lie on this host.
#[async_trait]
pub trait Memories: Send + Sync {
    /// Does what is asked, in this order; as many answers. Answers are what the sandbox makes of its files: data.
    ///
    /// # Errors
    /// When they cannot be reached; what was asked for may have been done.
    async fn ask(&self, asks: Vec<Ask>) -> Result<Vec<Answer>, Error>;

    /// Returns when something may have changed in a folder that the sandbox writes since the last look at all. It may never
    /// return although something has: only a look is certain.
    async fn stirred(&self);

    /// What was noted last, unless the folders were made anew since.
    ///
    /// # Errors
    /// When it cannot be told.
    async fn noted(&self) -> Result<Option<Note>, Error>;

    /// Notes something, in the place of what was noted before.
    ///
    /// # Errors
    /// When it is not written down; what was noted before stays.
    async fn note(&self, bytes: Vec<u8>) -> Result<(), Error>;
}

/// What tells one run of the host from another.
pub(crate) fn boot() -> &'static str {
    use std::sync::OnceLock;
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        id.unwrap_or_default().trim().to_owned()
    })
}

/// A note as it is written: the run of the host, a line's end, and the rest.
pub(crate) fn written(bytes: &[u8]) -> Vec<u8> {
    [boot().as_bytes(), b"\n", bytes].concat()
}

/// A note as it was read; `None` when it is none.
pub(crate) fn read(bytes: &[u8]) -> Option<Note> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some(Note {
        bytes: bytes[end + 1..].to_owned(),
        unbroken: &bytes[..end] == boot().as_bytes() && end > 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_3_a_note_of_another_run_of_the_host_is_told_apart() {
        let note = |bytes: &[u8]| read(bytes);
        let own = Note {
            bytes: b"{\n}".to_vec(),
            unbroken: true,
        };
        assert_eq!(note(&written(b"{\n}")), Some(own.clone()));
        let other = Note {
            unbroken: false,
            ..own
        };
        assert_eq!(note(b"another\n{\n}"), Some(other.clone()));
        assert_eq!(note(b"\n{\n}"), Some(other));
        assert_eq!(note(b"{}"), None);
    }
}
