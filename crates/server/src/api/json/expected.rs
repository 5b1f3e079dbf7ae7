//! What serde says is expected, in words of JSON: a client knows no types of this program.

/// What stands before what is expected, in the texts of serde's errors.
const EXPECTED: &str = ", expected ";

/// What serde's words begin with, and what is meant.
const WORDS: &[(&[&str], &str)] = &[
    (
        &[
            "struct ",
            "internally tagged enum ",
            "adjacently tagged enum ",
            "map",
            "a map",
        ],
        "an object",
    ),
    (&["tuple ", "a tuple ", "sequence", "a sequence"], "a list"),
    (
        &["enum ", "unit ", "string or map", "variant i"],
        "a string",
    ),
    (
        &["u8", "u16", "u32", "u64", "usize", "a nonzero u"],
        "a whole number that is not negative",
    ),
    (&["i8", "i16", "i32", "i64", "isize"], "a whole number"),
    (&["f32", "f64"], "a number"),
    (&["bool"], "a boolean"),
];

/// The text of an error of serde's, with what is expected in words of JSON.
pub(super) fn in_words(text: String) -> String {
    if text.starts_with("data did not match any variant of ") {
        return "is in none of its documented forms".to_owned();
    }
    let Some((found, expected)) = text.rsplit_once(EXPECTED) else {
        return text;
    };
    let place = expected.rfind(" at line ").unwrap_or(expected.len());
    let (expected, place) = expected.split_at(place);
    let meant = WORDS
        .iter()
        .find(|(begins, _)| begins.iter().any(|begin| expected.starts_with(begin)));
    match meant {
        Some((_, meant)) => format!("{found}{EXPECTED}{meant}{place}"),
        None => text,
    }
}

#[cfg(test)]
mod tests;
