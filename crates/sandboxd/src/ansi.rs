//! Takes terminal control sequences out of a stream of bytes (runtime TL-10).

/// Where in a sequence the stream is; a sequence may be split over any number of chunks.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Strip {
    state: State,
}

/// An operating-system command that does not end after this many bytes is taken for plain text again.
const LONGEST_COMMAND: u16 = 4096;

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate byte: one more byte ends it, as in a change of character set.
    Intermediate,
    /// After ESC [: parameters, until a final byte.
    Control,
    /// After ESC ]: until BEL or ESC \.
    Command { length: u16, escape: bool },
}

impl Strip {
    /// Appends what is text in `chunk` to `out`.
    pub(crate) fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        for &byte in chunk {
            self.state = match (self.state, byte) {
                (State::Text, 0x1b) => State::Escape,
                (State::Text, _) => {
                    out.push(byte);
                    State::Text
                }
                (State::Escape, b'[') => State::Control,
                (State::Escape, b']') => State::Command {
                    length: 0,
                    escape: false,
                },
                (State::Escape | State::Intermediate, 0x20..=0x2f) => State::Intermediate,
                (State::Escape | State::Intermediate | State::Control, 0x1b) => State::Escape,
                (State::Escape | State::Intermediate, _) => State::Text,
                (State::Control, 0x20..=0x3f) => State::Control,
                (State::Control, _) => State::Text,
                (State::Command { .. }, 0x07) => State::Text,
                (State::Command { escape: true, .. }, _) => State::Text,
                (State::Command { length, .. }, _) if length >= LONGEST_COMMAND => State::Text,
                (State::Command { length, .. }, _) => State::Command {
                    length: length + 1,
                    escape: byte == 0x1b,
                },
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tl_10_sequences_are_stripped_wherever_the_stream_is_cut() {
        #[track_caller]
        fn check(input: &str, expected: &str) {
            for cut in 0..=input.len() {
                let (mut strip, mut out) = (Strip::default(), Vec::new());
                let (head, tail) = input.as_bytes().split_at(cut);
                strip.push(head, &mut out);
                strip.push(tail, &mut out);
                assert_eq!(String::from_utf8_lossy(&out), expected, "cut at {cut}");
            }
        }
        check("plain, with ümlaut\n", "plain, with ümlaut\n");
        check(
            "\x1b[31mred\x1b[0m and \x1b[1;38;5;4mbold\x1b[m",
            "red and bold",
        );
        check("\x1b[?25lhidden\x1b[2K\x1b[1A", "hidden");
        check("\x1b]0;title\x07shell", "shell");
        check("\x1b]8;;link\x1b\\text", "text");
        check("\x1b(Bset\x1b=key", "setkey");
        check("\x1b\x1b[0mtwice", "twice");
    }

    #[test]
    fn tl_10_a_command_that_never_ends_does_not_swallow_everything() {
        let (mut strip, mut out) = (Strip::default(), Vec::new());
        strip.push(b"\x1b]", &mut out);
        strip.push(&[b'x'; 10_000], &mut out);
        assert!(out.len() > 5_000);
    }
}
