//! Escapes at the end of a text: `%41`, and JSON's `\u0041` and `\/`.

/// The longest escape, in bytes.
pub(super) const LONGEST: usize = 6;

/// An escape: how long it is, and what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Escape {
    pub(super) length: usize,
    pub(super) letter: Letter,
}

/// What an escape stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Letter {
    Byte(u8),
    Char(char),
}

impl Letter {
    /// As bytes.
    pub(super) fn bytes(self, room: &mut [u8; 4]) -> &[u8] {
        match self {
            Self::Byte(byte) => {
                room[0] = byte;
                &room[..1]
            }
            Self::Char(letter) => letter.encode_utf8(room).as_bytes(),
        }
    }
}

/// The escapes that end where the text ends: every reading of it.
pub(super) fn ending(text: &[u8]) -> impl Iterator<Item = Escape> {
    let of = |length: usize| text.len().checked_sub(length).map(|at| &text[at..]);
    let percent = of(3).and_then(|bytes| match bytes {
        [b'%', digits @ ..] => Some(Letter::Byte(u8::try_from(number(digits)?).ok()?)),
        _ => None,
    });
    let short = of(2).and_then(|bytes| match bytes {
        [b'\\', letter @ (b'"' | b'\\' | b'/')] => Some(Letter::Byte(*letter)),
        [b'\\', b'n'] => Some(Letter::Byte(b'\n')),
        [b'\\', b'r'] => Some(Letter::Byte(b'\r')),
        [b'\\', b't'] => Some(Letter::Byte(b'\t')),
        _ => None,
    });
    let long = of(6).and_then(|bytes| match bytes {
        [b'\\', b'u', digits @ ..] => Some(Letter::Char(char::from_u32(number(digits)?)?)),
        _ => None,
    });
    let found = |length, letter: Option<Letter>| letter.map(|letter| Escape { length, letter });
    [found(3, percent), found(2, short), found(6, long)]
        .into_iter()
        .flatten()
}

/// How many of the last bytes could be the beginning of an escape.
pub(super) fn begun(text: &[u8]) -> usize {
    let is_begun = |bytes: &[u8]| match bytes {
        [b'%', digits @ ..] => digits.len() < 2 && digits.iter().all(u8::is_ascii_hexdigit),
        [b'\\'] => true,
        [b'\\', b'u', digits @ ..] => digits.len() < 4 && digits.iter().all(u8::is_ascii_hexdigit),
        _ => false,
    };
    let longest = text.len().min(LONGEST - 1);
    (1..=longest)
        .rev()
        .find(|count| is_begun(&text[text.len() - count..]))
        .unwrap_or(0)
}

fn number(digits: &[u8]) -> Option<u32> {
    let digit = |number: u32, digit: &u8| Some(number * 16 + char::from(*digit).to_digit(16)?);
    digits.iter().try_fold(0, digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read_at_the_end_and_seen_coming() {
        #[track_caller]
        fn check(text: &str, whole: &[(usize, &str)], partial: usize) {
            let all: Vec<(usize, Vec<u8>)> = ending(text.as_bytes())
                .map(|escape| (escape.length, escape.letter.bytes(&mut [0; 4]).to_vec()))
                .collect();
            let whole: Vec<_> = whole
                .iter()
                .map(|(length, letter)| (*length, letter.as_bytes().to_vec()))
                .collect();
            assert_eq!(all, whole, "{text}");
            assert_eq!(begun(text.as_bytes()), partial, "{text}");
        }
        check("plain", &[], 0);
        check("%41", &[(3, "A")], 0);
        check("x%2f", &[(3, "/")], 0);
        check("x%4", &[], 2);
        check("%", &[], 1);
        check("%%", &[], 1);
        check("%zz", &[], 0);
        check(r"\u0041", &[(6, "A")], 0);
        check(r"\u00e9", &[(6, "\u{e9}")], 0);
        check(r"\u00", &[], 4);
        check(r"x\u", &[], 2);
        check(r"\ud800", &[], 0);
        check(r"a\/", &[(2, "/")], 0);
        check(r"a\\", &[(2, r"\")], 1);
        check(r"a\n", &[(2, "\n")], 0);
        check(r"a\x", &[], 0);
        check("", &[], 0);
    }
}
