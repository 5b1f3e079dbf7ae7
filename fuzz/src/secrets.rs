//! Secrets put into requests, and taken out of answers (security CRED-5, CRED-6).

use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use http::HeaderMap;
use manyhands_egress::fuzzing;
use regex::bytes::Regex;

use crate::pieces;

const ONE: &str = "mhp_abcdefghijklmnopqrstuvwxyz234567";
const TWO: &str = "mhp_76543zzyxwvutsrqponmlkjihgfedcba";
/// The second one's secret looks like the first one's place.
const RELEASED: [(&str, &str); 2] = [
    (ONE, "s3cr$t"),
    (TWO, "<mhp_abcdefghijklmnopqrstuvwxyz234567>"),
];

const SECRET: &str = r#"sk-live/aB3+x=%41 "z\9&"#;

/// The bytes, with these texts for each of the first control characters.
fn filled(bytes: &[u8], texts: &[&str]) -> Vec<u8> {
    let mut filled = Vec::with_capacity(bytes.len());
    for &byte in bytes {
        match usize::from(byte)
            .checked_sub(1)
            .and_then(|place| texts.get(place))
        {
            Some(text) => filled.extend_from_slice(text.as_bytes()),
            None => filled.push(byte),
        }
    }
    filled
}

/// As a reader that is slow and simple replaces whole placeholders.
fn replaced(bytes: &[u8]) -> Vec<u8> {
    static PLACEHOLDER: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("(?-u)^mhp_[a-z2-7]{32}").expect("a pattern"));
    let mut all = Vec::new();
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        let found = PLACEHOLDER.find(rest).map(|found| found.as_bytes());
        let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        match found {
            Some(found) if !rest.get(found.len()).is_some_and(word) => {
                let secret = RELEASED.iter().find(|(place, _)| place.as_bytes() == found);
                all.extend_from_slice(secret.map_or(found, |(_, secret)| secret.as_bytes()));
                rest = &rest[found.len()..];
            }
            _ => {
                all.push(*first);
                rest = &rest[1..];
            }
        }
    }
    all
}

/// One pass, whole placeholders, nothing else touched.
pub(crate) fn substitute(bytes: &[u8]) {
    let body = filled(bytes, &[ONE, TWO, "mhp_"]);
    let expected = replaced(&body);
    match fuzzing::replaced(&body, &RELEASED) {
        Some(replaced) => assert_eq!(replaced, expected),
        None => assert_eq!(body, expected),
    }
    let named = fuzzing::named(&body);
    assert!(expected == body || named.contains(ONE) || named.contains(TWO));
}

/// No header gets a secret that may not carry one; none is added, lost or renamed, and what has no placeholder stays.
pub(crate) fn headers(bytes: &[u8]) {
    let encoded = BASE64_STANDARD.encode(format!("user:{ONE}"));
    let head = [
        b"GET / HTTP/1.1\r\n",
        &*filled(
            bytes,
            &[ONE, TWO, "\r\n", "authorization: Basic ", &encoded],
        ),
        b"\r\n\r\n",
    ]
    .concat();
    let Some(before) = fuzzing::headers(&head) else {
        return;
    };
    let mut after = before.clone();
    if !fuzzing::substitute(&mut after, &RELEASED) {
        return;
    }
    let lines = |headers: &HeaderMap| -> Vec<(String, Vec<u8>)> {
        let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.to_string(), value.as_bytes().to_vec())
        };
        headers.iter().map(line).collect()
    };
    for ((name, value), (name_after, value_after)) in lines(&before).iter().zip(lines(&after)) {
        assert_eq!(*name, name_after);
        let name = name.parse().expect("a name");
        let changed = *value != value_after;
        assert!(!changed || fuzzing::may_carry(&name), "{name}");
        if name != http::header::AUTHORIZATION {
            let expected = match fuzzing::may_carry(&name) {
                true => replaced(value),
                false => value.clone(),
            };
            assert_eq!(value_after, expected, "{name}");
        }
    }
    assert_eq!(before.len(), after.len());
}

/// An answer loses no byte, its secrets are gone in every form, and how it came makes no difference.
pub(crate) fn scrub(bytes: &[u8]) {
    let Some((how, rest)) = bytes.split_first() else {
        return;
    };
    let percent: String = SECRET.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let escaped: String = SECRET
        .bytes()
        .map(|byte| format!("\\u{byte:04x}"))
        .collect();
    let hex = percent.replace('%', "");
    let standard = BASE64_STANDARD.encode(SECRET);
    let other = BASE64_URL_SAFE_NO_PAD.encode(format!("u:{SECRET}"));
    let forms = [SECRET, &percent, &escaped, &hex, &standard, &other];
    let body = [&[*how][..], &filled(rest, &forms)].concat();
    let (pieces, body) = pieces(&body);
    let clean = fuzzing::scrub(&pieces, &[SECRET]);
    assert_eq!(clean.len(), body.len());
    assert_eq!(clean, fuzzing::scrub(&[body], &[SECRET]), "in one piece");
    for form in &forms[..5] {
        let form = form.as_bytes();
        assert!(!clean.windows(form.len()).any(|window| window == form));
    }
    let touched = body
        .iter()
        .zip(&clean)
        .filter(|(before, after)| before != after);
    for (_, after) in touched {
        assert_eq!(*after, b'*');
    }
}
