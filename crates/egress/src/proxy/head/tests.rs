use proptest::prelude::*;

use super::hold::hold;
use super::*;

/// Heads that were once of interest: kept, and read in every run (security INP-6).
const CORPUS: &str = include_str!("corpus.txt");

#[track_caller]
fn refused(bytes: &[u8], expected: &str) {
    let shown = String::from_utf8_lossy(bytes);
    let Malformed(why) = match find_end(bytes, &mut 0) {
        Ok(Some(_)) => read(bytes).expect_err(&shown),
        Ok(None) => panic!("not ended: {shown:?}"),
        Err(malformed) => malformed,
    };
    assert!(why.contains(expected), "{shown:?}: {why}");
}

#[track_caller]
fn framed(headers: &str, expected: Framing) {
    let head = read(format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n").as_bytes());
    assert_eq!(head.expect(headers).framing, expected);
}

/// security NET-5
#[test]
fn net_5_a_head_is_read_in_one_way() {
    let head =
        read(b"GET http://a.example/x?y HTTP/1.1\r\nHost: a.example\r\nX-Y:  z \t\r\nX-Y:\r\n\r\n")
            .expect("a head");
    assert_eq!(
        (head.method, head.target.as_str()),
        (Method::GET, "http://a.example/x?y")
    );
    assert_eq!(
        (head.version, head.framing),
        (Version::HTTP_11, Framing::Empty)
    );
    let values: Vec<_> = head.headers.get_all("x-y").iter().collect();
    assert_eq!(values, ["z", ""]);
    framed("", Framing::Empty);
    framed("Content-Length: 0\r\n", Framing::Length(0));
    framed(
        "Content-Length: 18014398509481984\r\n",
        Framing::Length(1 << 54),
    );
    framed("Transfer-Encoding: chunked\r\n", Framing::Chunked);
}

/// security NET-5
#[test]
fn net_5_what_two_readers_could_read_differently_is_refused() {
    let with = |headers: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n").into_bytes();
    for (headers, why) in [
        (
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "both",
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
            "both",
        ),
        (
            "Content-Length: 1\r\nContent-Length: 2\r\n",
            "more than one Content-Length",
        ),
        (
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "more than one Content-Length",
        ),
        ("Content-Length: 1, 1\r\n", "plain number"),
        ("Content-Length: +1\r\n", "plain number"),
        ("Content-Length: -1\r\n", "plain number"),
        ("Content-Length: 0x1\r\n", "plain number"),
        ("Content-Length: 01\r\n", "plain number"),
        ("Content-Length: \r\n", "plain number"),
        ("Content-Length: 1 1\r\n", "plain number"),
        ("Content-Length: 99999999999999999999\r\n", "plain number"),
        ("Transfer-Encoding: Chunked\r\n", "other than chunked"),
        ("Transfer-Encoding: xchunked\r\n", "other than chunked"),
        (
            "Transfer-Encoding: chunked, identity\r\n",
            "other than chunked",
        ),
        ("Transfer-Encoding: gzip, chunked\r\n", "other than chunked"),
        ("Transfer-Encoding: \"chunked\"\r\n", "other than chunked"),
        ("Transfer-Encoding:\r\n", "other than chunked"),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "more than one Transfer-Encoding",
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
            "more than one Transfer-Encoding",
        ),
        ("Transfer-Encoding : chunked\r\n", "no token"),
        ("Content-Length : 1\r\n", "no token"),
        (" Content-Length: 1\r\n", "folded"),
        ("X: a\r\n b\r\n", "folded"),
        ("X: a\r\n\tb\r\n", "folded"),
        ("X\r\n", "no colon"),
        (": x\r\n", "no token"),
        ("X Y: z\r\n", "no token"),
        ("X\u{e9}: z\r\n", "no token"),
        ("X: a\nY: b\r\n", "bare LF"),
        ("X: a\rY: b\r\n", "bare CR"),
        ("X: a\0b\r\n", "control"),
        ("X: a\x7fb\r\n", "control"),
        ("X: a\x0bTransfer-Encoding: chunked\r\n", "control"),
    ] {
        refused(&with(headers), why);
    }
    for (line, why) in [
        ("GET /", "three parts"),
        ("GET  / HTTP/1.1", "three parts"),
        ("GET / HTTP/1.1 ", "three parts"),
        (" GET / HTTP/1.1", "three parts"),
        ("GET / x HTTP/1.1", "three parts"),
        ("GET / HTTP/0.9", "version"),
        ("GET / HTTP/1.2", "version"),
        ("GET / HTTP/2.0", "version"),
        ("GET / http/1.1", "version"),
        ("GET / HTTP/1.1\u{a0}", "version"),
        ("PRI * HTTP/2.0", "version"),
        ("G@T / HTTP/1.1", "no HTTP request"),
        ("GET /\u{e9} HTTP/1.1", "printable"),
        ("GET /\t HTTP/1.1", "printable"),
    ] {
        refused(format!("{line}\r\nHost: a\r\n\r\n").as_bytes(), why);
    }
    refused(
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.0",
    );
    refused(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "no HTTP request");
    refused(b"GET / HTTP/1.1\nHost: a\n\n", "bare LF");
    refused(b"\x05\x01\x00", "no HTTP request");
    refused(b"\x04\x01\x00P\x7f\0\0\x01\0", "no HTTP request");
    refused(b"\x16\x03\x01\x02\x00", "no HTTP request");
    refused(b"{\"a\":1}", "no HTTP request");
}

/// security INP-1
#[test]
fn inp_1_heads_are_bounded() {
    let long = "a".repeat(LINE);
    refused(format!("GET /{long} HTTP/1.1\r\n\r\n").as_bytes(), "URL");
    refused(
        format!("GET / HTTP/1.1\r\nX: {long}\r\n\r\n").as_bytes(),
        "longer than 16 KiB",
    );
    let many: String = (0..=MOST)
        .map(|number| format!("X{number}: y\r\n"))
        .collect();
    refused(
        format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes(),
        "128 headers",
    );
    let endless = format!(
        "GET / HTTP/1.1\r\n{}",
        format!("X: {}\r\n", &long[..1000]).repeat(70)
    );
    refused(endless.as_bytes(), "64 KiB");
}

/// security NET-5
#[test]
fn net_5_a_chunk_has_a_plain_size() {
    assert_eq!(read_chunk_size(b"0"), Ok(0));
    assert_eq!(read_chunk_size(b"1aF"), Ok(0x1af));
    for line in [
        "",
        " 1",
        "1 ",
        "0x1",
        "+1",
        "-1",
        "1;a=b",
        "1;",
        "g",
        "1_0",
        "fffffffffffffffff",
        "1\t",
        "\u{661}",
    ] {
        assert!(read_chunk_size(line.as_bytes()).is_err(), "{line:?}");
    }
}

/// security INP-6
#[test]
fn inp_6_kept_heads() {
    let mut count = 0;
    for line in CORPUS.lines().filter(|line| !line.starts_with("# ")) {
        let text: String = serde_json::from_str(line).expect(line);
        // A character is a byte here.
        let bytes: Vec<u8> = text
            .chars()
            .map(|it| u8::try_from(it).expect(line))
            .collect();
        hold(&bytes);
        count += 1;
    }
    assert!(count > 50, "{count}");
}

proptest! {
    /// security INP-6
    #[test]
    fn inp_6_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        hold(&bytes);
    }

    /// security INP-6
    #[test]
    fn inp_6_bytes_like_heads(
        line in "(GET|POST|CONNECT|P T|[a-zA-Z]{0,5}) [ -~]{0,20} ?HTTP/[0-9.]{1,3}",
        headers in prop::collection::vec("(Host|Content-Length|Transfer-Encoding|[a-zA-Z -]{0,8}) ?: ?[ -~\t\r\n]{0,12}", 0..5),
        ends in prop::collection::vec("\r\n|\r\n|\r\n|\r\n|\n|\r|", 7),
    ) {
        let mut text = line;
        let mut ends = ends.into_iter();
        for header in headers {
            text += &ends.next().unwrap_or_default();
            text += &header;
        }
        text += "\r\n\r\n";
        hold(text.as_bytes());
    }

    /// security INP-6
    #[test]
    fn inp_6_chunk_sizes(line in prop::collection::vec(any::<u8>(), 0..20)) {
        if let Ok(size) = read_chunk_size(&line) {
            let text = std::str::from_utf8(&line).expect("ASCII");
            prop_assert_eq!(u64::from_str_radix(text, 16), Ok(size));
        }
    }
}
