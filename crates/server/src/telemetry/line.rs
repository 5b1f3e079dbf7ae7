//! A log of lines: whatever a client, a tool or a peer has said is in its event's line, and makes none of its own
//! (security INP-5).

use std::fmt::Write as _;
use std::io::{self, Write};

/// A writer of events, each in one call and with a newline at its end, that keeps each on one line.
pub(super) struct OneLine<W> {
    to: W,
    /// Whether the terminal's sequences for colours pass, which only the log itself has written.
    colours: bool,
}

impl<W> OneLine<W> {
    /// Around `to`.
    pub(super) fn new(to: W, colours: bool) -> Self {
        Self { to, colours }
    }
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = event.strip_suffix(b"\n").unwrap_or(event);
        let odd = |character: char| {
            (character.is_control() && !(self.colours && character == '\u{1b}'))
                || matches!(character, '\u{2028}' | '\u{2029}')
        };
        let text = String::from_utf8_lossy(line);
        if !text.contains(odd) {
            self.to.write_all(event)?;
            return Ok(event.len());
        }
        let mut escaped = String::with_capacity(text.len() + 16);
        for character in text.chars() {
            match odd(character) {
                // Writing to a text does not fail.
                true => drop(write!(escaped, "{}", character.escape_default())),
                false => escaped.push(character),
            }
        }
        escaped.push_str(&String::from_utf8_lossy(&event[line.len()..]));
        self.to.write_all(escaped.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// security INP-5: as the log is set up, in every way in which a value can be logged.
    #[test]
    fn inp_5_no_text_becomes_a_log_line_of_its_own() {
        let hostile = "a\n2026-11-22T00:00:00Z  INFO forged\r\x1b[2Kb\u{85}c\u{2028}d\0";
        let kept = Kept::default();
        let to = kept.clone();
        let log = super::super::subscriber("debug", false, move || to.clone());
        tracing::subscriber::with_default(log, || {
            tracing::info!(shown = %hostile, debugged = ?hostile, plain = hostile, "{hostile}");
            let error = io::Error::other(hostile);
            tracing::warn!(%error, "failed");
            tracing::error!(error = &error as &dyn std::error::Error, "failed");
        });
        let text = String::from_utf8(kept.0.lock().expect("no panic").clone()).expect("text");
        assert_eq!(text.matches('\n').count(), 3, "{text}");
        assert!(text.ends_with('\n'));
        let odd = |character: char| character.is_control() && character != '\n';
        assert!(
            !text.contains(odd) && !text.contains('\u{2028}'),
            "{text:?}"
        );
        assert_eq!(
            text.lines().filter(|line| line.contains("forged")).count(),
            3
        );
        assert!(
            text.lines().all(|line| line.contains("manyhands_server")),
            "{text}"
        );
    }

    #[test]
    fn plain_lines_and_colours_pass() {
        let mut bytes = Vec::new();
        let mut log = OneLine::new(&mut bytes, true);
        log.write_all(b"\x1b[2mplain\x1b[0m \xc3\xbc\n")
            .expect("written");
        assert_eq!(bytes, b"\x1b[2mplain\x1b[0m \xc3\xbc\n");
    }
}
