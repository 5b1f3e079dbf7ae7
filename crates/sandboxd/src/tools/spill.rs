//! Outputs that are too long for a model go to a file; the model gets a preview and the path (runtime TL-3).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::output::{Block, Output};

/// The most characters of text that a result may hold.
pub const MAX_CHARS: usize = 100_000;
/// How much of a longer one is shown, in characters.
const PREVIEW: usize = 20_000;
/// The most that is kept in a file, in bytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// A file that takes an over-long output.
#[derive(Debug)]
pub struct Spill {
    file: File,
    path: PathBuf,
    written: u64,
    chars: u64,
    failed: Option<io::Error>,
}

impl Spill {
    /// A new file for an output of `tool`.
    ///
    /// # Errors
    /// When the directory or the file cannot be made.
    pub fn new(directory: &Path, tool: &str) -> io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        fs::create_dir_all(directory)?;
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = directory.join(format!("{tool}-{number}.txt"));
            match OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o644)
                .open(&path)
            {
                Ok(file) => {
                    return Ok(Self {
                        file,
                        path,
                        written: 0,
                        chars: 0,
                        failed: None,
                    });
                }
                // Left from an earlier start of this sandbox.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Adds to the file. A failure is kept for [`Spill::note`]: the call itself goes on.
    pub fn push(&mut self, bytes: &[u8]) {
        // Counts characters of valid UTF-8: every byte that is not a continuation.
        self.chars += bytes.iter().filter(|byte| (**byte & 0xc0) != 0x80).count() as u64;
        let room = usize::try_from(MAX_FILE - self.written).unwrap_or(usize::MAX);
        let taken = &bytes[..bytes.len().min(room)];
        if self.failed.is_none() {
            match self.file.write_all(taken) {
                Ok(()) => self.written += taken.len() as u64,
                Err(error) => self.failed = Some(error),
            }
        }
    }

    /// How many characters were added.
    pub fn chars(&self) -> u64 {
        self.chars
    }

    /// A line that tells the model where the whole output is.
    pub fn note(&self) -> String {
        let (chars, path) = (self.chars, self.path.display());
        match &self.failed {
            Some(error) => {
                format!("[full output: {chars} characters; it could not be saved: {error}]")
            }
            None if self.written >= MAX_FILE => {
                format!(
                    "[full output: {chars} characters; the first {MAX_FILE} bytes are in {path}]"
                )
            }
            None => format!("[full output: {chars} characters, in {path}]"),
        }
    }
}

/// Replaces every text over [`MAX_CHARS`] by a preview of its beginning and the path of the whole.
pub(super) fn cap(mut output: Output, tool: &str, directory: &Path) -> Output {
    for block in &mut output.content {
        if let Block::Text { text } = block
            && text.len() > MAX_CHARS
            && text.chars().count() > MAX_CHARS
        {
            let preview: String = text.chars().take(PREVIEW).collect();
            let note = match Spill::new(directory, tool) {
                Ok(mut spill) => {
                    spill.push(text.as_bytes());
                    spill.note()
                }
                Err(error) => format!("[the full output could not be saved: {error}]"),
            };
            *text = format!("{preview}\n[output truncated]\n{note}");
        }
    }
    output
}
