use proptest::prelude::*;

use super::hold::hold;
use super::*;

/// Texts that were once of interest: kept, and read by the parser in every run (security INP-6).
const CORPUS: &str = include_str!("corpus.txt");

/// security NET-2
#[test]
fn net_2_a_host_has_one_spelling() {
    #[track_caller]
    fn check(text: &str, expected: Result<(), NotCanonical>) {
        let read = Host::parse(text);
        match expected {
            Ok(()) => assert_eq!(read.expect(text).as_str(), text),
            Err(refused) => assert_eq!(read, Err(refused), "{text:?}"),
        }
    }
    let label = |length: usize| "a".repeat(length);
    let long = [label(63), label(63), label(63), label(61)].join(".");
    check("example.com", Ok(()));
    check("localhost", Ok(()));
    check("xn--bcher-kva.example", Ok(()));
    check("r3---sn-4g5e.example", Ok(()));
    check("1.2.3.4.in-addr.arpa", Ok(()));
    check("3com.example", Ok(()));
    check("0xg", Ok(()));
    check(&label(63), Ok(()));
    check(&long, Ok(()));

    check(&format!("{long}a"), Err(NotCanonical::Long));
    check(&label(64), Err(NotCanonical::Long));
    check("", Err(NotCanonical::Empty));
    check("Example.com", Err(NotCanonical::Capitals));
    check("example.com.", Err(NotCanonical::TrailingDot));
    check(".", Err(NotCanonical::TrailingDot));
    check(".example.com", Err(NotCanonical::EmptyLabel));
    check("example..com", Err(NotCanonical::EmptyLabel));
    check("https://x.example", Err(NotCanonical::Scheme));
    check("HTTP://127.0.0.1:8080/x", Err(NotCanonical::Scheme));
    check("://", Err(NotCanonical::Scheme));
    check("x.example:443", Err(NotCanonical::WithPort));
    check("127.0.0.1:80", Err(NotCanonical::WithPort));
    check("x.example:", Err(NotCanonical::Address));
    check(":443", Err(NotCanonical::Address));
    check("-a.example", Err(NotCanonical::Hyphen));
    check("a-.example", Err(NotCanonical::Hyphen));
    for odd in [
        "a_b.example",
        "a b",
        "a@b",
        "a/b",
        "a\\b",
        "a\0b",
        "a\nb",
        "*.a",
        "bücher.example",
        "ex\u{ad}ample.com",
        "example\u{3002}com",
        "１２７.0.0.1",
    ] {
        check(odd, Err(NotCanonical::Character));
    }
}

/// security NET-2, NET-3: an address is no host, however it is written.
#[test]
fn net_2_an_address_is_no_host() {
    for text in [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "0",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0x7f.1",
        "017700000001",
        "0177.0.0.1",
        "127.0.0.0x1",
        "127.0.0.01",
        "0x",
        "a.0x",
        "example.1",
        "example.0x7f",
        "256.256.256.256",
        "4294967296",
        "::1",
        "[::1]",
        "[::1%25eth0]",
        "fe80::1%eth0",
        "::ffff:127.0.0.1",
        "[::ffff:7f00:1]",
        "0:0:0:0:0:0:0:1",
        "1::",
        "%31",
    ] {
        assert_eq!(Host::parse(text), Err(NotCanonical::Address), "{text}");
    }
}

/// runtime ER-7
#[test]
fn er_7_patterns_overlap_where_a_host_is_named_by_both() {
    #[track_caller]
    fn check(one: &str, other: &str, overlap: bool) {
        let [left, right] = [one, other].map(|text| Pattern::parse(text).expect(text));
        assert_eq!(left.overlaps(&right), overlap, "{one} {other}");
        assert_eq!(right.overlaps(&left), overlap, "{other} {one}");
    }
    check("a.example", "a.example", true);
    check("a.example", "b.example", false);
    check("*.example", "a.example", true);
    check("*.a.example", "a.example", false);
    check("*.a.example", "*.a.example", true);
    check("*.a.example", "*.example", true);
    check("*.a.example", "*.b.example", false);
    check("*.a.example", "*.ba.example", false);
}

/// security NET-2, runtime EN-10
#[test]
fn net_2_a_pattern_ends_at_a_label() {
    #[track_caller]
    fn check(pattern: &str, host: &str, matches: bool) {
        let read = Pattern::parse(pattern).expect(pattern);
        assert_eq!(read.to_string(), pattern);
        let host = Host::parse(host).expect(host);
        assert_eq!(read.matches(&host), matches, "{pattern} {host}");
    }
    check("example.com", "example.com", true);
    check("example.com", "a.example.com", false);
    check("example.com", "example.com.evil.example", false);
    check("*.example.com", "a.example.com", true);
    check("*.example.com", "b.a.example.com", true);
    check("*.example.com", "example.com", false);
    check("*.example.com", "evilexample.com", false);
    check("*.example.com", "a.example.com.evil.example", false);
    for refused in [
        "*",
        "*.",
        "*.*.com",
        "a.*.com",
        "**.com",
        "*com",
        "https://a.example",
        "a.example:443",
        "a.example/",
        "*.10.0.0.1",
        " a.example",
        "a.example ",
    ] {
        assert!(Pattern::parse(refused).is_err(), "{refused}");
    }
}

/// security NET-2
#[test]
fn net_2_a_port_is_a_plain_number() {
    let read = |text: &str, default| Target::parse(text, default).map(|target| target.to_string());
    assert_eq!(read("a.example:443", None), Ok("a.example:443".into()));
    assert_eq!(read("a.example", Some(80)), Ok("a.example:80".into()));
    assert_eq!(read("a.example:65535", None), Ok("a.example:65535".into()));
    for port in [
        "", "0", "00", "080", "65536", "99999", "100000", "+80", "-1", " 80", "80 ", "0x50",
        "８０", "443:443", "443@b", "443/",
    ] {
        assert!(
            read(&format!("a.example:{port}"), Some(80)).is_err(),
            "{port}"
        );
    }
    assert_eq!(read("a.example", None), Err(NotCanonical::Port));
    assert_eq!(read("[::1]:80", None), Err(NotCanonical::Address));
    assert_eq!(read("127.0.0.1:80", None), Err(NotCanonical::Address));
    assert_eq!(
        read("user@a.example:80", None),
        Err(NotCanonical::Character)
    );
}

/// security INP-6
#[test]
fn inp_6_kept_texts_are_read_as_every_other_reader_reads_them() {
    let mut count = 0;
    for line in CORPUS.lines().filter(|line| !line.starts_with("# ")) {
        let text: String = serde_json::from_str(line).expect(line);
        hold(&text);
        assert!(
            Target::parse(&text, None).is_err() || text.contains(':'),
            "{text}"
        );
        count += 1;
    }
    assert!(count > 100, "{count}");
}

proptest! {
    /// security INP-6
    #[test]
    fn inp_6_any_text_is_refused_or_canonical(text in "\\PC{0,80}") {
        hold(&text);
    }

    /// security INP-6
    #[test]
    fn inp_6_texts_like_names_and_addresses(
        text in "[a-zA-Z0-9xX._%:\\[\\]@/-]{0,40}|(0x[0-9a-f]{1,8}|[0-9]{1,10})(\\.(0x[0-9a-f]{0,3}|[0-9]{0,3})){0,4}",
    ) {
        hold(&text);
    }

    /// security NET-2: what matches ends with the pattern's name after a dot, and only that.
    #[test]
    fn net_2_patterns_match_on_label_boundaries(front in "[a-z.-]{0,12}", name in "[a-z]{1,4}(\\.[a-z]{1,4}){0,2}") {
        if let Ok(host) = Host::parse(&format!("{front}{name}")) {
            let below = Pattern::parse(&format!("*.{name}")).expect("a pattern");
            prop_assert_eq!(below.matches(&host), host.as_str().ends_with(&format!(".{name}")));
        }
    }
}
