use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const SECRET: &str = r#"sk-live/aB3+x=%41 "z\9&"#;

fn scrubber(secret: &str) -> Scrubber {
    let secret = SecretString::from(secret);
    Scrubber::new([&secret]).expect("a secret")
}

fn percent(bytes: &[u8], kept: impl Fn(u8) -> bool, upper: bool) -> String {
    let encode = |byte: &u8| match (kept(*byte), upper) {
        (true, _) => char::from(*byte).to_string(),
        (false, true) => format!("%{byte:02X}"),
        (false, false) => format!("%{byte:02x}"),
    };
    bytes.iter().map(encode).collect()
}

fn hex(bytes: &[u8], upper: bool) -> String {
    percent(bytes, |_| false, upper).replace('%', "")
}

fn json(text: &str, slashes: bool) -> String {
    let quoted = serde_json::to_string(text).expect("text");
    let inner = quoted[1..quoted.len() - 1].to_owned();
    match slashes {
        true => inner.replace('/', "\\/"),
        false => inner,
    }
}

/// Every form in which a host may give a secret back.
fn encodings(secret: &str) -> Vec<String> {
    let bytes = secret.as_bytes();
    let alphanumeric = |byte: u8| byte.is_ascii_alphanumeric();
    let mut all = vec![
        secret.to_owned(),
        percent(bytes, alphanumeric, true),
        percent(bytes, alphanumeric, false),
        percent(bytes, |_| false, true),
        percent(bytes, |byte| alphanumeric(byte) || byte == b'/', true),
        percent(bytes, |byte| alphanumeric(byte) || byte == b' ', true).replace(' ', "+"),
        json(secret, false),
        json(secret, true),
        bytes.iter().map(|byte| format!("\\u{byte:04x}")).collect(),
        hex(bytes, false),
        hex(bytes, true),
    ];
    for before in ["", "u", "us", "user:", "user:p"] {
        for behind in ["", "x", "xy", "\n"] {
            let text = format!("{before}{secret}{behind}");
            all.push(STANDARD.encode(&text));
            all.push(STANDARD_NO_PAD.encode(&text));
            all.push(URL_SAFE.encode(&text));
            all.push(URL_SAFE_NO_PAD.encode(&text));
            all.push(percent(
                STANDARD.encode(&text).as_bytes(),
                alphanumeric,
                true,
            ));
        }
    }
    all
}

fn run(scrubber: &Scrubber, pieces: &[&[u8]]) -> Vec<u8> {
    let mut stream = scrubber.stream();
    let mut all = Vec::new();
    for piece in pieces {
        all.extend(stream.push(piece));
    }
    all.extend(stream.finish());
    all
}

/// What is left of a secret's encoding when its inner part is gone: letters that neighbours have a part in.
#[track_caller]
fn check_gone(encoded: &str, before: &str, clean: &[u8], behind: &str) {
    let clean = String::from_utf8_lossy(clean);
    let inner = clean
        .strip_prefix(before)
        .and_then(|rest| rest.strip_suffix(behind))
        .unwrap_or_else(|| panic!("{encoded}: {clean}"));
    assert_eq!(inner.len(), encoded.len(), "{encoded}: {clean}");
    assert!(inner.contains("****"), "{encoded}: {clean}");
    // Of base64 with neighbours up to eight letters of theirs and five that are shared stay; of everything else nothing.
    let left = inner.bytes().filter(|byte| *byte != MASK).count();
    assert!(left <= 18, "{encoded}: {clean}");
}

/// security CRED-6: in every form, however it is split.
#[test]
fn cred_6_a_secret_is_found_in_every_form_and_split() {
    let scrubber = scrubber(SECRET);
    for encoded in encodings(SECRET) {
        let (before, behind) = ("{\"a\": \"", "\"}\r\n");
        let text = format!("{before}{encoded}{behind}");
        let bytes = text.as_bytes();
        for at in 0..bytes.len() {
            let clean = run(&scrubber, &[&bytes[..at], &bytes[at..]]);
            check_gone(&encoded, before, &clean, behind);
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        check_gone(&encoded, before, &run(&scrubber, &single), behind);
    }
    // Plain and percent-encoded nothing of it stays at all.
    for encoded in &encodings(SECRET)[..11] {
        let clean = run(&scrubber, &[encoded.as_bytes()]);
        assert_eq!(clean, vec![MASK; encoded.len()], "{encoded}");
    }
}

/// security CRED-6: base64 in lines, as mail and `base64` write it.
#[test]
fn cred_6_wrapped_base64_is_found() {
    let secret = "0123456789abcdef".repeat(6);
    let scrubber = scrubber(&secret);
    let encoded = STANDARD.encode(format!("user:{secret}"));
    for width in [20, 64, 76] {
        for newline in ["\n", "\r\n", "\\n"] {
            let lines: Vec<&[u8]> = encoded.as_bytes().chunks(width).collect();
            let wrapped = lines.join(newline.as_bytes());
            let clean = run(&scrubber, &[&wrapped]);
            let left = clean.iter().filter(|byte| **byte != MASK).count();
            assert!(left <= 12, "{}", String::from_utf8_lossy(&clean));
        }
    }
}

/// What is no secret is passed on as it is, at once where nothing can be one.
#[test]
fn other_bytes_pass_at_once() {
    let scrubber = scrubber("hunter2-secret");
    let mut stream = scrubber.stream();
    for event in ["data: {\"text\": \"hello\"}\n\n", "data: 100%\n\n", ": \n"] {
        assert_eq!(stream.push(event.as_bytes()), event.as_bytes());
    }
    assert_eq!(stream.push(b"data: hunt"), b"data: ");
    assert_eq!(stream.push(b"ing\n\n"), b"hunting\n\n");
    assert_eq!(stream.push(b"data: hunter2-sec"), b"data: ");
    assert_eq!(stream.finish(), b"hunter2-sec");
}

#[test]
fn headers_are_cleaned() {
    let scrubber = scrubber("Hunter2-Secret");
    let mut headers = HeaderMap::new();
    let mut add = |name: &'static str, value: &str| {
        headers.append(name, HeaderValue::from_str(value).expect("a value"));
    };
    add("location", "https://evil.example/?key=Hunter2%2DSecret");
    add("set-cookie", "a=b");
    add("set-cookie", "key=Hunter2-Secret; Secure");
    add("x-hunter2-secret", "1");
    add("content-length", "12");
    scrubber.headers(&mut headers);
    assert_eq!(
        headers["location"],
        "https://evil.example/?key=****************"
    );
    let cookies: Vec<_> = headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=b", "key=**************; Secure"]);
    assert!(!headers.contains_key("x-hunter2-secret"));
    assert_eq!(headers["content-length"], "12");
}

/// security CRED-2, CRED-6: where a text is whole, a mark says what was there, once for each.
#[test]
fn cred_2_a_mark_stands_in_the_place_of_each_secret() {
    let two = [
        SecretString::from("abc-1"),
        SecretString::from("abc-1-long"),
    ];
    let two = Scrubber::new(&two).expect("secrets");
    #[track_caller]
    fn check(scrubber: &Scrubber, text: &str, marked: Option<&str>) {
        assert_eq!(scrubber.marked(text, "<>").as_deref(), marked);
    }
    check(&two, "nothing of abc-2, \u{e4}", None);
    check(&two, "\u{e4}abc-1\u{e4}", Some("\u{e4}<>\u{e4}"));
    check(&two, "abc-1abc-1 abc-1-long", Some("<><> <>"));
    check(
        &two,
        "abc-1-lo, abc%2D1, YWJjLTE, 6162632d31",
        Some("<>-lo, <>, <>E, <>"),
    );
    check(&scrubber("aaa"), "baaaab", Some("b<>b"));
    for encoded in encodings(SECRET) {
        let text = format!("{{\"a\": \"{encoded}\"}}");
        let marked = scrubber(SECRET).marked(&text, "<>").expect(&encoded);
        let inner = marked
            .strip_prefix("{\"a\": \"")
            .and_then(|rest| rest.strip_suffix("\"}"));
        let left = inner.and_then(|inner| inner.split_once("<>"));
        let (before, behind) = left.unwrap_or_else(|| panic!("{encoded}: {marked}"));
        assert!(before.len() + behind.len() <= 18, "{encoded}: {marked}");
    }
}

#[test]
fn short_and_odd_secrets() {
    let one = scrubber("ab");
    assert_eq!(run(&one, &[b"xabx cab %61b"]), b"x**x c** ****");
    let overlapping = scrubber("aaa");
    assert_eq!(run(&overlapping, &[b"baaaab"]), b"b****b");
    let newline = scrubber("ab\ncdef\ngh");
    assert_eq!(run(&newline, &[b"[ab\ncd", b"ef\ngh]"]), b"[**********]");
    assert_eq!(run(&newline, &[br"[ab\ncdef\ngh]"]), b"[************]");
    let escape = scrubber("key%4");
    assert_eq!(run(&escape, &[b"key%41 key%4"]), b"*****1 *****");
    assert!(Scrubber::new([&SecretString::from("")]).is_none());
    let two = [
        SecretString::from("first-secret"),
        SecretString::from("second-secret"),
    ];
    let two = Scrubber::new(&two).expect("secrets");
    assert_eq!(
        run(&two, &[b"<second-secret|first-secret>"]),
        b"<*************|************>"
    );
}

proptest! {
    /// security CRED-6: no text around it, and no split, hides a secret; and no text without one is changed.
    #[test]
    fn cred_6_any_secret_in_any_text(
        secret in "[ -~]{4,40}",
        before in "[ -~\n]{0,40}",
        behind in "[ -~\n]{0,40}",
        form in 0_usize..11,
        splits in vec(0_usize..400, 0..4),
    ) {
        let scrubber = scrubber(&secret);
        let encoded = &encodings(&secret)[form];
        let text = format!("{before}{encoded}{behind}");
        let bytes = text.as_bytes();
        let mut splits: Vec<usize> = splits.into_iter().map(|at| at.min(bytes.len())).collect();
        splits.extend([0, bytes.len()]);
        splits.sort_unstable();
        let pieces: Vec<&[u8]> = splits.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        let clean = run(&scrubber, &pieces);
        prop_assert_eq!(clean.len(), bytes.len());
        let encoded = encoded.as_bytes();
        prop_assert!(!clean.windows(encoded.len()).any(|window| window == encoded), "{}", String::from_utf8_lossy(&clean));
        let whole = run(&scrubber, &[bytes]);
        prop_assert_eq!(whole, clean);
    }

    #[test]
    fn other_texts_are_unchanged(text in "[a-y0-9%\\\\u\n ]{0,300}", split in 0_usize..300) {
        let scrubber = scrubber("ZZ-ZZ-ZZ!");
        let bytes = text.as_bytes();
        let split = split.min(bytes.len());
        let clean = run(&scrubber, &[&bytes[..split], &bytes[split..]]);
        prop_assert_eq!(clean, bytes);
    }
}
