use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::headers::{NoValue, find, may_carry, substitute};
use super::*;

const ONE: &str = "mhp_abcdefghijklmnopqrstuvwxyz234567";
const TWO: &str = "mhp_76543zzyxwvutsrqponmlkjihgfedcba";

fn released() -> Released {
    let mut released = Released::default();
    released.insert(ONE.to_owned(), "s3cr$t".into());
    // Which looks like the other one's place.
    released.insert(TWO.to_owned(), format!("<{ONE}>").into());
    released
}

/// security CRED-5: whole placeholders only, one pass.
#[test]
fn cred_5_whole_placeholders_are_replaced_in_one_pass() {
    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let replaced = replace(text.as_bytes(), &released());
        let replaced = replaced.map(|bytes| String::from_utf8(bytes.to_vec()).expect("text"));
        assert_eq!(replaced.as_deref(), expected, "{text}");
    }
    let fill = |pattern: &str| pattern.replace("{1}", ONE).replace("{2}", TWO);
    for (text, expected) in [
        ("{1}", Some("s3cr$t")),
        ("Bearer {1}", Some("Bearer s3cr$t")),
        ("key%3D{1}%26", Some("key%3Ds3cr$t%26")),
        ("x{1},{1};y", Some("xs3cr$t,s3cr$t;y")),
        ("mhp_{1}", Some("mhp_s3cr$t")),
        // What was put in is not looked at again.
        ("{2}", Some("<{1}>")),
        ("{2}.{1}", Some("<{1}>.s3cr$t")),
        // The first is a part of a longer word.
        ("{2}{1}", Some("{2}s3cr$t")),
        ("{1}a", None),
        ("{1}_", None),
        ("{1}A", None),
        ("{1}\u{e9}", Some("s3cr$t\u{e9}")),
        ("", None),
        ("mhp_", None),
    ] {
        check(&fill(text), expected.map(fill).as_deref());
    }
    check(&ONE[..35], None);
    check(&ONE[1..], None);
    check(&ONE.to_uppercase(), None);
    check(&ONE.replace('z', "1"), None);
    check(&ONE.replace("mhp_", "MHP_"), None);
    // Nobody's.
    check("mhp_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", None);
}

/// security CRED-5: the reviewed list of headers.
#[test]
fn cred_5_headers_that_are_echoed_forwarded_or_logged_carry_no_secret() {
    for (name, carries) in [
        ("authorization", true),
        ("cookie", true),
        ("x-api-key", true),
        ("api-key", true),
        ("private-token", true),
        ("x-goog-api-key", true),
        ("apikey", true),
        ("host", false),
        ("referer", false),
        ("origin", false),
        ("user-agent", false),
        ("x-forwarded-for", false),
        ("x-forwarded-host", false),
        ("x-forwarded", false),
        ("forwarded", false),
        ("via", false),
        ("from", false),
        ("x-request-id", false),
        ("traceparent", false),
        ("range", false),
        ("if-none-match", false),
        ("if-range", false),
        ("access-control-request-headers", false),
        ("accept", false),
        ("accept-language", false),
        ("content-type", false),
        ("expect", false),
        ("upgrade", false),
        ("sec-websocket-protocol", false),
        ("sec-fetch-site", false),
        ("x-http-method-override", false),
        ("idempotency-key", false),
        ("max-forwards", false),
    ] {
        let name = HeaderName::from_static(name);
        assert_eq!(may_carry(&name), carries, "{name}");
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_static(ONE);
        headers.insert(name.clone(), value.clone());
        assert_eq!(find(&headers).len(), usize::from(carries), "{name}");
        substitute(&mut headers, &released()).expect("headers");
        assert_eq!(headers[&name] != value, carries, "{name}");
    }
}

/// security CRED-5: Basic is decoded, replaced and encoded again; what is no Basic stays text.
#[test]
fn cred_5_basic_credentials_are_encoded_again() {
    #[track_caller]
    fn check(value: &str, expected: &str) {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", value.parse().expect("a value"));
        let any = find(&headers).len();
        substitute(&mut headers, &released()).expect("headers");
        assert_eq!(headers["authorization"], expected);
        assert_eq!(any > 0, value != expected, "{value}");
        assert_eq!(headers["authorization"].is_sensitive(), value != expected);
    }
    let encode = |text: &str| STANDARD.encode(text);
    let with = encode(&format!("user:{ONE}"));
    let secret = encode("user:s3cr$t");
    check(&format!("Basic {with}"), &format!("Basic {secret}"));
    check(&format!("bAsIc   {with}"), &format!("bAsIc   {secret}"));
    let user = encode(&format!("{ONE}:"));
    check(
        &format!("Basic {user}"),
        &format!("Basic {}", encode("s3cr$t:")),
    );
    let other = format!("Basic {}", encode("user:password"));
    check(&other, &other);
    check("Basic ???", "Basic ???");
    check(&format!("Basic {ONE}"), "Basic s3cr$t");
    check(&format!("Bearer {with}"), &format!("Bearer {with}"));
    check("Basic", "Basic");
    check(&format!("token {ONE}"), "token s3cr$t");
}

/// security CRED-5: the request stays well formed, or is not made.
#[test]
fn cred_5_a_secret_that_no_header_can_carry_is_not_sent() {
    let mut headers = HeaderMap::new();
    headers.insert("x-api-key", HeaderValue::from_static(ONE));
    for bad in ["line\r\nX-Evil: 1", "nul\0", "line\n"] {
        let mut released = Released::default();
        released.insert(ONE.to_owned(), bad.into());
        let refused = substitute(&mut headers.clone(), &released);
        assert_eq!(refused, Err(NoValue::Control));
    }
    let mut released = Released::default();
    released.insert(ONE.to_owned(), "x".repeat(200 << 10).into());
    assert_eq!(substitute(&mut headers.clone(), &released), Ok(()));
    headers.append("x-api-key", HeaderValue::from_static(ONE));
    assert_eq!(substitute(&mut headers, &released), Err(NoValue::Long));
}

/// security INP-1: a request that names very many placeholders asks for some of them.
#[test]
fn inp_1_the_placeholders_of_a_request_are_bounded() {
    let mut headers = HeaderMap::new();
    for number in 0..200_u8 {
        let (high, low) = (b'a' + number / 26, b'a' + number % 26);
        let letters = format!("{}{}", char::from(high), char::from(low)).repeat(LETTERS / 2);
        let value = format!("{PREFIX}{letters}").parse().expect("a value");
        headers.append("x-key", value);
    }
    assert_eq!(find(&headers).len(), MOST);
}
