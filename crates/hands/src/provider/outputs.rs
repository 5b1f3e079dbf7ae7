//! What a sandbox has written and is kept.

/// An output of a session that was captured before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Where it is, below the outputs.
    pub path: String,
    /// What told that it was written.
    pub stamp: String,
    /// Its SHA-256, in hex.
    pub sha256: String,
}

/// An output that is new or was changed, among the blobs now (runtime FI-5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Where it is, below the outputs: text without control characters, whatever bytes its name has.
    pub path: String,
    /// Changes when it is written again.
    pub stamp: String,
    /// The name of its bytes among the blobs.
    pub blob: String,
    /// How many bytes.
    pub size: u64,
    /// Their SHA-256, in hex.
    pub sha256: String,
}

/// What a look at a session's outputs has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capture {
    /// New or changed files.
    pub files: Vec<Captured>,
    /// Files that were written again with the content that was seen, and their new stamps.
    pub same: Vec<Seen>,
    /// Whether something was being written and has to be looked at again.
    pub unsteady: bool,
}

/// Files of a sandbox that are to be kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Join<'a> {
    /// Where they are: an absolute path below `/workspace`, of plain segments.
    pub folder: &'a str,
    /// Their paths below it, of plain segments; at least one.
    pub files: &'a [&'a str],
    /// The fewest bytes of all of them that are worth keeping.
    pub least: u64,
    /// The most that they may have.
    pub cap: u64,
}

/// Files that are among the blobs now, one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The name of their blob.
    pub blob: String,
    /// How many bytes it has.
    pub size: u64,
    /// How many of them are the first file's.
    pub head: u64,
    /// The SHA-256 of all, in hex.
    pub sha256: String,
}
