//! The six tools of the agent toolset that work inside a sandbox (runtime TL-1).
//!
//! `bash` has a shell of its own ([`crate::shell`]); the file tools are plain functions from input to text, and
//! [`run`] makes a capped [`Output`] of what they say.

mod edit;
mod file;
mod glob;
mod grep;
mod input;
mod read;
mod spill;
mod stop;
mod write;

use std::path::{Path, PathBuf};

pub use input::{Bash, Edit, Glob, Grep, Input, Read, Write};
pub use spill::{MAX_CHARS, Spill};
pub use stop::{Stop, Stopped};

use crate::output::Output;

/// Where tools work.
#[derive(Debug, Clone)]
pub struct Place {
    /// The working directory: relative paths start here (runtime TL-19).
    pub root: PathBuf,
    /// Where over-long outputs go (runtime TL-3); made when first needed.
    pub spill: PathBuf,
}

impl Place {
    /// The path a tool means. Absolute paths are taken as they are: the operating system decides (runtime TL-19).
    pub fn path(&self, given: &str) -> PathBuf {
        self.root.join(given)
    }

    fn path_or_root(&self, given: Option<&str>) -> PathBuf {
        given
            .filter(|path| !path.is_empty())
            .map_or_else(|| self.root.clone(), |path| self.path(path))
    }
}

/// Runs a file tool to its end. Text over [`MAX_CHARS`] goes to a file, with a preview in its place (runtime TL-3).
///
/// `bash` is not run here: it is an error, as a tool that does not exist would be.
pub fn run(input: &Input, place: &Place, stop: &Stop) -> Output {
    let (name, result) = match input {
        Input::Bash(_) => (
            "bash",
            Err("bash: runs in the session's shell only".to_owned()),
        ),
        Input::Read(input) => ("read", read::run(input, place)),
        Input::Write(input) => ("write", write::run(input, place).map(Output::text)),
        Input::Edit(input) => ("edit", edit::run(input, place).map(Output::text)),
        Input::Glob(input) => ("glob", glob::run(input, place, stop).map(Output::text)),
        Input::Grep(input) => ("grep", grep::run(input, place, stop).map(Output::text)),
    };
    let output = result.unwrap_or_else(Output::error);
    spill::cap(output, name, &place.spill)
}

/// The path as the model reads it.
fn shown(path: &Path) -> std::borrow::Cow<'_, str> {
    path.to_string_lossy()
}
