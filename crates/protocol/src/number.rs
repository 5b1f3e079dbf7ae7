//! Numbers that a reader of JSON would change.

/// Whether this JSON text has a whole number that fits no integer of 64 bits. Readers make a floating-point number of it, and lose
/// digits. Numbers with a fraction or an exponent are floating-point numbers to everybody. The text must be valid JSON.
pub fn has_wide_integer(json: &[u8]) -> bool {
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        at += match byte {
            b'"' => string(&json[at..]),
            b'-' | b'0'..=b'9' => {
                let number = number(&json[at..]);
                if is_wide(number) {
                    return true;
                }
                number.len()
            }
            _ => 1,
        };
    }
    false
}

/// The bytes of the string that begins here, with its quotes.
fn string(json: &[u8]) -> usize {
    let mut at = 1;
    while let Some(&byte) = json.get(at) {
        at += match byte {
            b'"' => return at + 1,
            b'\\' => 2,
            _ => 1,
        };
    }
    json.len()
}

/// The number that begins here.
fn number(json: &[u8]) -> &[u8] {
    let belongs = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    let end = json.iter().position(|byte| !belongs(byte));
    &json[..end.unwrap_or(json.len())]
}

fn is_wide(number: &[u8]) -> bool {
    let (negative, digits) = match number.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, number),
    };
    // As many digits as every number of 64 bits may have.
    if digits.len() <= 18 || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let text = std::str::from_utf8(number).unwrap_or_default();
    match negative {
        true => text.parse::<i64>().is_err(),
        false => text.parse::<u64>().is_err(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[track_caller]
    fn check(json: &str, wide: bool) {
        assert_eq!(has_wide_integer(json.as_bytes()), wide, "{json}");
        let value: Value = serde_json::from_str(json).expect("JSON");
        let back = value.to_string();
        assert!(wide || back == json, "{json} comes back as {back}");
    }

    /// security INP-2: what is not refused comes back as it was sent.
    #[test]
    fn inp_2_whole_numbers_come_back_as_they_were_or_are_told() {
        check("0", false);
        check("18446744073709551615", false);
        check("18446744073709551616", true);
        check("-9223372036854775808", false);
        check("-9223372036854775809", true);
        check(r#"{"a":[1,{"b":-100000000000000000000}]}"#, true);
        check(r#"{"a":"18446744073709551616"}"#, false);
        check(r#"{"18446744073709551616":1}"#, false);
        check(r#"{"a\"18446744073709551616":"\\","b":2}"#, false);
        check(r#"["\\",18446744073709551616]"#, true);
        check("1.8446744073709552e+19", false);
        check("0.1234567890123456", false);
        check("[true,null,\"\"]", false);
    }

    /// security INP-1: it reads what is no JSON too, and comes to its end.
    #[test]
    fn inp_1_what_is_no_json_ends() {
        for text in ["\"", "\"\\", "-", "\"abc", "1e", "--++..", ""] {
            assert!(!has_wide_integer(text.as_bytes()), "{text}");
        }
    }
}
