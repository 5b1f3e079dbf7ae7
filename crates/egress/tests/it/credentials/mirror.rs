//! A host that gives back what it was asked, in every way in which a secret could come back.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use super::percent;
use crate::origin::Arrived;

/// How something is given back: the last part of the path `/mirror/...`.
pub(crate) const WAYS: [&str; 31] = [
    "plain",
    "base64",
    "base64url",
    "base64-1",
    "base64-2",
    "wrapped",
    "percent",
    "lower",
    "plus",
    "json",
    "hex",
    "header",
    "location",
    "cookie",
    "name",
    "reason",
    "trailer",
    "bytes",
    "chunks",
    "401",
    "500",
    "head",
    "early",
    "old",
    "gzip",
    "deflate",
    "br",
    "coded",
    "range",
    "multi",
    "switch",
];

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("compressed");
    encoder.finish().expect("compressed")
}

fn chunked(pieces: impl Iterator<Item = Vec<u8>>, last: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        bytes.extend(piece);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("0\r\n{last}\r\n").as_bytes());
    bytes
}

/// The whole answer of `/mirror/<way>`: of the header `X-Api-Key`, or of the body.
pub(crate) fn answer(way: &str, arrived: &Arrived) -> Vec<u8> {
    let key = match arrived.header("x-api-key") {
        Some(key) => key.as_bytes().to_vec(),
        None => arrived.body.clone(),
    };
    let text = String::from_utf8_lossy(&key).into_owned();
    let page = |head: &str, body: &[u8]| {
        let length = body.len();
        let head = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n");
        [head.as_bytes(), body].concat()
    };
    let fine = |body: String| page("200 OK", body.as_bytes());
    let in_head = |line: String| page(&format!("200 OK\r\n{line}"), b"fine");
    let one_by_one = || key.iter().map(|byte| vec![*byte]);
    let coded = |coding: &str| {
        page(
            &format!("200 OK\r\nContent-Encoding: {coding}"),
            &gzip(&key),
        )
    };
    match way {
        "base64" => fine(STANDARD.encode(&key)),
        "base64url" => fine(URL_SAFE.encode(&key)),
        "base64-1" => fine(STANDARD.encode(format!("u{text}"))),
        "base64-2" => fine(STANDARD.encode(format!("u:{text}:"))),
        "wrapped" => {
            let encoded = STANDARD.encode(&key);
            let lines: Vec<&[u8]> = encoded.as_bytes().chunks(12).collect();
            page("200 OK", &lines.join(&b"\r\n"[..]))
        }
        "percent" => fine(percent(&key, true)),
        "lower" => fine(percent(&key, false)),
        "plus" => fine(percent(&key, true).replace("%20", "+")),
        "json" => fine(serde_json::json!({"headers": {"X-Api-Key": text}}).to_string().replace('/', "\\/")),
        "hex" => fine(key.iter().map(|byte| format!("{byte:02x}")).collect()),
        "header" => in_head(format!("X-Echo: {text}")),
        "location" => page(&format!("302 Found\r\nLocation: https://a.wild.example/?key={}", percent(&key, true)), b""),
        "cookie" => in_head(format!("Set-Cookie: key={text}; Secure")),
        "name" => {
            let token: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
            match token == text {
                true => in_head(format!("X-{text}: 1")),
                false => fine(text),
            }
        }
        "reason" => page(&format!("200 {text}"), b"fine"),
        "trailer" => {
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Echo\r\n\r\n";
            let body = chunked([b"fine".to_vec()].into_iter(), &format!("X-Echo: {text}\r\n"));
            [&head[..], &body].concat()
        }
        "bytes" | "chunks" => {
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            [&head[..], &chunked(one_by_one(), "")].concat()
        }
        "401" => page("401 Unauthorized\r\nWWW-Authenticate: Basic", format!("{text} is wrong").as_bytes()),
        "500" => page("500 Oops", format!("<pre>{text}</pre>").as_bytes()),
        "head" => in_head(format!("ETag: \"{text}\"")),
        "early" => {
            let hint = format!("HTTP/1.1 103 Early Hints\r\nLink: </{text}>\r\n\r\n");
            [hint.as_bytes(), &fine("fine".to_owned())].concat()
        }
        "old" => format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{text}", key.len()).into_bytes(),
        "gzip" => coded("gzip"),
        "deflate" => coded("deflate"),
        "br" => coded("br"),
        "coded" => {
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
            [&head[..], &chunked([gzip(&key)].into_iter(), "")].concat()
        }
        "range" => {
            let part = &key[..key.len() / 2];
            let head = format!("206 Partial Content\r\nContent-Range: bytes 0-{}/{}", part.len() - 1, key.len());
            page(&head, part)
        }
        "multi" => {
            let body = format!("--x\r\nContent-Range: bytes 0-1/9\r\n\r\n{text}\r\n--x--");
            page("206 Partial Content\r\nContent-Type: multipart/byteranges; boundary=x", body.as_bytes())
        }
        "switch" => format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n{text}").into_bytes(),
        _ => fine(text),
    }
}
