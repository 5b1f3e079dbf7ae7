//! Names of files and what they say of the content (api §18).

use std::fmt::Write as _;

use crate::api::error::ApiError;

/// The longest name, in characters (api §29).
const LONGEST: usize = 255;
/// When nothing is known.
const UNKNOWN: &str = "application/octet-stream";

/// The name that a sent file gets: the last part of what it was sent with, or `unnamed` and what its kind ends with.
pub(crate) fn of_upload(sent: Option<&str>, sent_type: Option<&str>) -> Result<String, ApiError> {
    let sent = sent.unwrap_or_default();
    let base = sent.rsplit(['/', '\\']).next().unwrap_or_default();
    if base.is_empty() {
        return Ok(match sent_type.and_then(ending) {
            Some(ending) => format!("unnamed.{ending}"),
            None => "unnamed".to_owned(),
        });
    }
    if base.chars().count() > LONGEST {
        let problem = format!("its filename has more than {LONGEST} characters");
        return Err(ApiError::field("file", problem));
    }
    if base.contains(is_forbidden) || matches!(base, "." | "..") {
        let problem = "its filename has one of < > : \" | ? * or a control character";
        return Err(ApiError::field("file", problem));
    }
    Ok(base.to_owned())
}

/// What the names of this kind of content end with.
fn ending(mime_type: &str) -> Option<&str> {
    let (_, kind) = mime_type.split_once('/')?;
    match mime_type {
        UNKNOWN => None,
        "text/plain" => Some("txt"),
        "text/markdown" => Some("md"),
        "image/jpeg" => Some("jpg"),
        _ => {
            let all = mime_guess::get_mime_extensions_str(mime_type)?;
            // The list is by letters; what is called as its kind is the usual one.
            all.iter()
                .find(|ending| **ending == kind)
                .or(all.first())
                .copied()
        }
    }
}

/// The name of what a sandbox has written at `path`: nobody can be told to rename it, so what no name may have is replaced.
pub(crate) fn of_output(path: &str) -> String {
    let base = path.rsplit('/').next().unwrap_or_default();
    let allowed = |character| match is_forbidden(character) {
        true => '_',
        false => character,
    };
    let mut name: String = base.chars().map(allowed).take(LONGEST).collect();
    if matches!(&*name, "" | "." | "..") {
        name = "unnamed".to_owned();
    }
    name
}

fn is_forbidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '<' | '>' | ':' | '"' | '|' | '?' | '*' | '\\' | '/'
        )
}

/// The kind of content: what the sender says, if that says anything, or what the name ends with.
pub(crate) fn mime_type(name: &str, sent: Option<&str>) -> String {
    let says = |sent: &&str| *sent != UNKNOWN && is_mime_type(sent);
    match sent.filter(says) {
        Some(sent) => sent.to_ascii_lowercase(),
        None => mime_guess::from_path(name)
            .first_raw()
            .unwrap_or(UNKNOWN)
            .to_owned(),
    }
}

fn is_mime_type(text: &str) -> bool {
    let token = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
        !part.is_empty() && part.bytes().all(plain)
    };
    text.len() <= 127
        && text
            .split_once('/')
            .is_some_and(|(kind, rest)| token(kind) && token(rest))
}

/// The header that has a client save what it is sent under this name: in ASCII for old ones, and as it is.
pub(crate) fn disposition(name: &str) -> String {
    let plain = |character: char| match character {
        ' '..='~' if !matches!(character, '"' | '\\' | '%') => character,
        _ => '_',
    };
    let ascii: String = name.chars().map(plain).collect();
    let mut value = format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''");
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                value.push(char::from(byte));
            }
            // Writing to a text does not fail.
            _ => drop(write!(value, "%{byte:02X}")),
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fi_8_a_sent_file_keeps_the_last_part_of_its_name() {
        #[track_caller]
        fn check(sent: Option<&str>, kind: Option<&str>, expected: &str) {
            assert_eq!(of_upload(sent, kind).expect(expected), expected);
        }
        check(Some("data.csv"), None, "data.csv");
        check(Some("a/b/data.csv"), None, "data.csv");
        check(Some("C:\\temp\\data.csv"), None, "data.csv");
        check(Some("über uns.txt"), None, "über uns.txt");
        check(Some(""), Some("application/pdf"), "unnamed.pdf");
        check(None, None, "unnamed");
        check(None, Some("application/octet-stream"), "unnamed");
        check(None, Some("text/plain"), "unnamed.txt");
        check(None, Some("application/json"), "unnamed.json");
        check(Some("dir/"), Some("no/such"), "unnamed");
        check(Some(&"a".repeat(255)), None, &"a".repeat(255));
        for refused in ["a\nb", "a<b", "a:b", "a\"b", "..", ".", &"ä".repeat(256)] {
            assert!(of_upload(Some(refused), None).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn inp_5_what_a_sandbox_calls_a_file_becomes_a_name() {
        for (path, expected) in [
            ("report.csv", "report.csv"),
            ("d/e/report.csv", "report.csv"),
            ("a<b>:\"|?*\\c", "a_b_______c"),
            ("d/..", "unnamed"),
        ] {
            assert_eq!(of_output(path), expected);
        }
        assert_eq!(of_output(&"x".repeat(400)).len(), 255);
    }

    #[test]
    fn the_kind_of_content_is_told_by_the_sender_or_the_name() {
        for (name, sent, expected) in [
            ("a.csv", None, "text/csv"),
            ("a.csv", Some("application/octet-stream"), "text/csv"),
            ("a.csv", Some("Text/Plain"), "text/plain"),
            ("a.csv", Some("text/plain\r\nx: y"), "text/csv"),
            ("a", Some("text"), "application/octet-stream"),
            ("a.pdf", None, "application/pdf"),
        ] {
            assert_eq!(mime_type(name, sent), expected, "{name} {sent:?}");
        }
    }

    #[test]
    fn api_7_no_name_breaks_out_of_its_header() {
        for (name, expected) in [
            (
                "a.csv",
                "attachment; filename=\"a.csv\"; filename*=UTF-8''a.csv",
            ),
            (
                "a\" b\r\n.csv",
                "attachment; filename=\"a_ b__.csv\"; filename*=UTF-8''a%22%20b%0D%0A.csv",
            ),
            ("ü", "attachment; filename=\"_\"; filename*=UTF-8''%C3%BC"),
        ] {
            assert_eq!(disposition(name), expected);
        }
    }
}
