//! The end of a command's output, bounded; the whole of an over-long one goes to a file (runtime TL-3, TL-10).

use std::io;
use std::path::{Path, PathBuf};

use crate::ansi::Strip;
use crate::tools::{MAX_CHARS, Spill};

/// How much of the end is kept, in bytes.
const LIMIT: usize = 100 * 1024;

/// Takes output as it comes.
#[derive(Debug)]
pub(crate) struct Tail {
    strip: Strip,
    kept: Vec<u8>,
    spill: Option<io::Result<Spill>>,
    directory: PathBuf,
}

impl Tail {
    /// An empty one, whose file would go to `directory`.
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            strip: Strip::default(),
            kept: Vec::new(),
            spill: None,
            directory: directory.to_owned(),
        }
    }

    /// Adds raw output.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        let from = self.kept.len();
        self.strip.push(chunk, &mut self.kept);
        match &mut self.spill {
            Some(Ok(spill)) => spill.push(&self.kept[from..]),
            Some(Err(_)) => {}
            None if self.kept.len() > LIMIT => self.start_spill(),
            None => {}
        }
        // Dropping the front now and then keeps the copying linear.
        if self.kept.len() > 2 * LIMIT {
            self.kept.drain(..self.kept.len() - LIMIT);
        }
    }

    /// The text for the model, without newlines at its end.
    pub(crate) fn finish(mut self) -> String {
        if self.spill.is_none()
            && self.kept.len() > MAX_CHARS
            && as_text(&self.kept).chars().count() > MAX_CHARS
        {
            self.start_spill();
        }
        let note = match &self.spill {
            None => return as_text(&self.kept).trim_end_matches('\n').to_owned(),
            Some(Ok(spill)) => spill.note(),
            Some(Err(error)) => format!("[the full output could not be saved: {error}]"),
        };
        let tail = as_text(&self.kept[self.kept.len().saturating_sub(LIMIT)..]);
        let surplus = tail.chars().count().saturating_sub(MAX_CHARS);
        let tail: String = tail.chars().skip(surplus).collect();
        format!(
            "[output truncated]\n{note}\n{}",
            tail.trim_end_matches('\n')
        )
    }

    fn start_spill(&mut self) {
        let mut spill = Spill::new(&self.directory, "bash");
        if let Ok(spill) = &mut spill {
            spill.push(&self.kept);
        }
        self.spill = Some(spill);
    }
}

/// The bytes as text; half a character at the front, left by a cut, is dropped.
fn as_text(bytes: &[u8]) -> String {
    let start = bytes
        .iter()
        .take(3)
        .take_while(|byte| (**byte & 0xc0) == 0x80)
        .count();
    String::from_utf8_lossy(&bytes[start..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(chunks: &[&[u8]]) -> (String, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let mut tail = Tail::new(&directory.path().join("spill"));
        chunks.iter().for_each(|chunk| tail.push(chunk));
        (tail.finish(), directory)
    }

    #[test]
    fn tl_10_short_output_is_itself() {
        assert_eq!(of(&[b"a\x1b[1mb\n", b"\xff c\n\n"]).0, "ab\n\u{fffd} c");
        assert_eq!(of(&[]).0, "");
        let edge = "x".repeat(MAX_CHARS);
        assert_eq!(of(&[edge.as_bytes()]).0, edge);
    }

    #[test]
    fn tl_10_the_last_100_kib_are_kept_and_tl_3_the_whole_is_in_a_file() {
        let line = "0123456789abcde\n".repeat(4096);
        let chunks: Vec<&[u8]> = vec![line.as_bytes(); 10];
        let (text, directory) = of(&chunks);
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("[output truncated]"));
        let path = directory.path().join("spill");
        let file = std::fs::read_dir(path)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        assert_eq!(
            lines.next().unwrap(),
            format!("[full output: 655360 characters, in {}]", file.display())
        );
        assert_eq!(std::fs::read_to_string(file).unwrap(), line.repeat(10));
        let rest: Vec<_> = lines.collect();
        assert!(
            rest.iter()
                .rev()
                .take(1000)
                .all(|line| *line == "0123456789abcde")
        );
        assert!(text.len() <= LIMIT + 200, "{}", text.len());
    }

    #[test]
    fn tl_3_counts_characters_and_cuts_between_them() {
        let wide = "ü".repeat(MAX_CHARS + 10);
        let (text, _directory) = of(&[wide.as_bytes()]);
        assert!(text.starts_with("[output truncated]\n[full output: 100010 characters"));
        assert!(text.lines().nth(2).unwrap().chars().all(|c| c == 'ü'));
        let narrow = "x".repeat(MAX_CHARS + 1);
        let (text, _directory) = of(&[narrow.as_bytes()]);
        assert!(
            text.starts_with("[output truncated]\n"),
            "over 100,000 characters, under 100 KiB"
        );
    }
}
