//! What the model reads with a result about what it has written to memory stores (runtime ME-17).

use manyhands_hands::memory::KEPT;
use serde::{Deserialize, Serialize};

/// So many lines are told at once.
const LINES: usize = 20;

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// One line.
    pub(crate) text: String,
    /// Whether something was refused, so that the call has failed.
    pub(crate) refused: bool,
}

impl Told {
    /// A file that was not saved.
    pub(super) fn refused(file: &str, why: &str, kept: Option<&str>) -> Self {
        let kept = match kept {
            Some(name) => format!(" What was written is kept as {KEPT}/{name}."),
            None => String::new(),
        };
        Self {
            text: format!("{file:?} was not saved: {why}. It is as the store has it.{kept}"),
            refused: true,
        }
    }

    /// A file that was changed elsewhere as well.
    pub(super) fn conflict(file: &str, gone: bool, kept: Option<&str>) -> Self {
        let elsewhere = if gone { "removed" } else { "changed" };
        let text = match kept {
            Some(name) => format!(
                "{file:?} was {elsewhere} elsewhere in the meantime, and stays so. What was written here is kept as {KEPT}/{name}: \
                 look at both and write what is right."
            ),
            None => format!(
                "{file:?} was {elsewhere} elsewhere in the meantime, and stays so: it was not removed."
            ),
        };
        Self {
            text,
            refused: false,
        }
    }

    /// Anything else.
    pub(super) fn plain(text: String) -> Self {
        Self {
            text,
            refused: false,
        }
    }

    /// A folder that could not be saved now.
    pub(crate) fn unsaved(why: &str) -> Self {
        Self {
            text: format!(
                "What was written to memory stores could not be saved now: {why}. It is tried again after the next call."
            ),
            refused: true,
        }
    }
}

/// All of it as one text, and whether the call has failed; `None` when there is nothing.
pub(crate) fn tell(told: &[Told]) -> Option<(String, bool)> {
    if told.is_empty() {
        return None;
    }
    let mut text = "[Memory stores:".to_owned();
    for told in told.iter().take(LINES) {
        text.push_str("\n- ");
        text.push_str(&told.text);
    }
    if told.len() > LINES {
        text.push_str(&format!("\n- … and {} more", told.len() - LINES));
    }
    text.push(']');
    Some((text, told.iter().any(|told| told.refused)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// security INP-5 as well: a path makes no line of its own.
    #[test]
    fn me_17_what_is_told_names_the_file_and_why() {
        assert_eq!(tell(&[]), None);
        let refused = Told::refused("/mnt/memory/notes/a\nb", "why", Some("memory-kept-1"));
        let conflict = Told::conflict("/mnt/memory/notes/c", true, None);
        let (text, failed) = tell(std::slice::from_ref(&conflict)).expect("a text");
        assert!(
            !failed
                && text.starts_with(
                    "[Memory stores:\n- \"/mnt/memory/notes/c\" was removed elsewhere"
                ),
            "{text}"
        );
        let (text, failed) = tell(&[refused, conflict]).expect("a text");
        assert!(
            failed && text.contains("a\\nb\" was not saved: why. It is as"),
            "{text}"
        );
        assert!(text.contains("kept as /tmp/memory-kept-1"), "{text}");
        assert_eq!(text.lines().count(), 3);
        let many = vec![Told::plain("x".to_owned()); 30];
        let (text, failed) = tell(&many).expect("a text");
        assert!(!failed && text.ends_with("- … and 10 more]"), "{text}");
    }
}
