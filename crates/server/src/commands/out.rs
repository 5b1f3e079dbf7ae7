//! Where commands print: what was asked for on standard output, what is said beside it on standard error.

use std::fmt::Display;
use std::io::{self, Write};

use anyhow::Context as _;

/// Standard output. Whoever reads the beginning alone has seen enough: a closed pipe ends the printing, not the command, whose
/// status says what it found all the same. Any other failure is told by [`finish`](Self::finish).
pub(super) struct Out {
    to: Box<dyn Write + Send>,
    failed: Option<io::Error>,
}

impl Out {
    /// This process's.
    pub(super) fn standard() -> Self {
        Self::into(io::stdout())
    }

    fn into(to: impl Write + Send + 'static) -> Self {
        Self {
            to: Box::new(to),
            failed: None,
        }
    }

    /// Prints a line.
    pub(super) fn line(&mut self, line: impl Display) {
        self.text(format_args!("{line}\n"));
    }

    /// Prints text that ends its own lines.
    pub(super) fn text(&mut self, text: impl Display) {
        if self.failed.is_none() {
            self.failed = write!(self.to, "{text}").err();
        }
    }

    /// To be called when everything is printed.
    ///
    /// # Errors
    /// When something was not, although somebody reads it.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        let printed = self.failed.map_or_else(|| self.to.flush(), Err);
        match printed {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            printed => printed.context("standard output cannot be written"),
        }
    }
}

/// Says a line on standard error. Where nobody hears it there is nobody to be told so.
pub(super) fn aside(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// Takes the first line, then fails.
    struct Failing(Sender<Vec<u8>>, Option<io::ErrorKind>);

    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(kind) = self.1
                && !bytes.starts_with(b"first")
                && bytes != b"\n"
            {
                return Err(kind.into());
            }
            self.0.send(bytes.to_vec()).expect("a listener");
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_the_end_and_any_other_failure_an_error() {
        #[track_caller]
        fn check(fails: Option<io::ErrorKind>, written: &str, error: Option<&str>) {
            let (sender, receiver) = channel();
            let mut out = Out::into(Failing(sender, fails));
            out.line("first");
            out.line("second");
            out.text("first again");
            let finished = out.finish().err().map(|error| error.to_string());
            assert_eq!(finished.as_deref(), error);
            let all: Vec<u8> = receiver.iter().flatten().collect();
            assert_eq!(String::from_utf8_lossy(&all), written);
        }
        check(None, "first\nsecond\nfirst again", None);
        check(Some(io::ErrorKind::BrokenPipe), "first\n", None);
        let full = Some(io::ErrorKind::StorageFull);
        check(full, "first\n", Some("standard output cannot be written"));
    }
}
