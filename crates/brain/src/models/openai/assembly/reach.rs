//! How far a JSON text has come that arrives in pieces: each byte is looked at once, however many pieces there are (pure).

use std::cell::OnceCell;

use serde_json::value::RawValue;

/// The longest number or name (`true`, `null`) that is taken for a whole text.
const SCALAR: usize = 32;

/// How far a text has come.
#[derive(Debug, Default)]
pub(super) struct Reach {
    place: Place,
    /// Whether the text is JSON, once it is closed and somebody has asked.
    valid: OnceCell<bool>,
}

#[derive(Debug, Default, Clone, Copy)]
enum Place {
    /// Nothing has come but white space.
    #[default]
    Before,
    /// In a list, an object or a text, so many deep.
    Within { depth: usize, text: Text },
    /// What began is closed.
    Closed,
    /// A number or a name, which has no end of its own.
    Scalar,
    /// Something comes behind the end: this is no JSON, whatever follows.
    Beyond,
}

/// Where in a text between quotes.
#[derive(Debug, Clone, Copy)]
enum Text {
    Outside,
    Inside,
    /// Behind a backslash.
    Escaped,
}

impl Reach {
    /// The text goes on.
    pub(super) fn push(&mut self, piece: &str) {
        for byte in piece.bytes() {
            self.place = self.place.after(byte);
        }
    }

    /// Whether `text`, which is all that was pushed, is a whole JSON document.
    pub(super) fn is_complete(&self, text: &str) -> bool {
        match self.place {
            Place::Closed => *self.valid.get_or_init(|| is_json(text)),
            Place::Scalar => text.len() <= SCALAR && is_json(text),
            Place::Before | Place::Within { .. } | Place::Beyond => false,
        }
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

impl Place {
    fn after(self, byte: u8) -> Self {
        let white = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        match self {
            Self::Before if white => Self::Before,
            Self::Before => match byte {
                b'{' | b'[' => Self::Within {
                    depth: 1,
                    text: Text::Outside,
                },
                b'"' => Self::Within {
                    depth: 0,
                    text: Text::Inside,
                },
                _ => Self::Scalar,
            },
            Self::Within { depth, text } => within(depth, text, byte),
            Self::Closed if white => Self::Closed,
            Self::Closed | Self::Beyond => Self::Beyond,
            Self::Scalar => Self::Scalar,
        }
    }
}

fn within(depth: usize, text: Text, byte: u8) -> Place {
    let (depth, text) = match (text, byte) {
        (Text::Escaped, _) => (depth, Text::Inside),
        (Text::Inside, b'\\') => (depth, Text::Escaped),
        (Text::Inside, b'"') => (depth, Text::Outside),
        (Text::Inside, _) => (depth, Text::Inside),
        (Text::Outside, b'"') => (depth, Text::Inside),
        (Text::Outside, b'{' | b'[') => (depth + 1, Text::Outside),
        (Text::Outside, b'}' | b']') => (depth - 1, Text::Outside),
        (Text::Outside, _) => (depth, Text::Outside),
    };
    match (depth, text) {
        (0, Text::Outside) => Place::Closed,
        _ => Place::Within { depth, text },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks after each piece, as a stream that names its call each time makes it ask.
    #[track_caller]
    fn check(whole: &str) {
        for size in 1..=whole.len().max(1) {
            let (mut reach, mut text) = (Reach::default(), String::new());
            for piece in whole.as_bytes().chunks(size) {
                let piece = std::str::from_utf8(piece).expect("ASCII");
                reach.push(piece);
                text.push_str(piece);
                let complete = reach.is_complete(&text);
                assert_eq!(complete, is_json(&text), "{text:?} in pieces of {size}");
            }
        }
    }

    /// security MODEL-1
    #[test]
    fn model_1_arguments_are_complete_when_they_are_a_document() {
        for whole in [
            "",
            "  ",
            "{}",
            " { \"a\" : [1, {\"b\": \"}\"}] } \n",
            r#"{"a":"\"}\\","b":"\\"}"#,
            "[]",
            "[[1,2],[]]",
            "\"text \\\" more\"",
            "null",
            "12.5e3",
            "{}{}",
            "{} x",
            "{a}",
            "[}",
            "]",
            "nothing",
            "{\"a\":",
        ] {
            check(whole);
        }
    }

    /// security MODEL-4: many pieces cost no more than their bytes.
    #[test]
    fn model_4_many_pieces_are_read_once() {
        let (mut reach, mut text) = (Reach::default(), String::from("{\"a\":\""));
        reach.push(&text);
        for _ in 0..1_000_000 {
            reach.push("x");
            text.push('x');
            assert!(!reach.is_complete(&text));
        }
        reach.push("\"}");
        text.push_str("\"}");
        assert!(reach.is_complete(&text));
    }
}
