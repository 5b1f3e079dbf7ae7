//! Standard output: for people, or for machines.

use std::io::Write;

use anyhow::Context;

/// Where a command's story goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Printer {
    /// Onto standard output, for people.
    Loud,
    /// Nowhere, because the output is for machines.
    Quiet,
}

impl Printer {
    /// Prints at once, so that deltas show as they come.
    pub(crate) fn print(self, text: &str) -> anyhow::Result<()> {
        if self == Self::Quiet || text.is_empty() {
            return Ok(());
        }
        write(text)
    }

    /// Prints a line for a machine, where the output is for one.
    pub(crate) fn machine_line(self, line: &str) -> anyhow::Result<()> {
        match self {
            Self::Loud => Ok(()),
            Self::Quiet => write(&format!("{line}\n")),
        }
    }
}

fn write(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}
