//! Standard output: for people, or for machines.

use std::fmt::Display;
use std::io::{self, Write};

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

/// Prints text on standard output, at once. Whoever reads the beginning alone has seen enough: a closed pipe ends the printing,
/// not the command, whose status says how it ended all the same.
pub(crate) fn write(text: &str) -> anyhow::Result<()> {
    write_to(&mut io::stdout().lock(), text)
}

fn write_to(out: &mut impl Write, text: &str) -> anyhow::Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// Says a line on standard error. Where nobody hears it there is nobody to be told so.
pub(crate) fn aside(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_the_end_and_any_other_failure_an_error() {
        assert!(write_to(&mut Failing(io::ErrorKind::BrokenPipe), "text").is_ok());
        assert!(write_to(&mut Failing(io::ErrorKind::StorageFull), "text").is_err());
        let mut written = Vec::new();
        write_to(&mut written, "text").expect("written");
        assert_eq!(written, b"text");
    }
}
