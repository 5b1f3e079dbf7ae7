//! Requests of forms that hide a placeholder, confuse readers, or are made to come back.

use super::*;

pub(super) fn encoded_body(generator: &mut Generator) -> Attempt {
    let held = generator.held();
    let coding = generator.pick(&[
        "gzip",
        "br",
        "deflate",
        "zstd",
        "x-unknown",
        "identity, gzip",
    ]);
    // A stored block of a compressed body holds its text as it is.
    let body = format!("\x01\x24{}", held.placeholder);
    let mut steps = tls("good.example");
    let header = format!("Content-Encoding: {coding}\r\n");
    steps.push(request("POST", "good.example", "/bytes/9", &header, &body));
    generator.attempt("encoded body", held, steps)
}

pub(super) fn long_body(generator: &mut Generator) -> Attempt {
    let held = generator.held();
    let filler = FILLER.repeat(1 << 20);
    let body = format!("{filler} {}", held.placeholder);
    let mut steps = tls("good.example");
    steps.push(match generator.random.random_bool(0.5) {
        true => request("POST", "good.example", "/bytes/9", "", &body),
        false => {
            let body = chunks(body.as_bytes(), 70_000);
            let head = "POST /bytes/9 HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
            send([head.as_bytes(), &body, b"0\r\n\r\n"].concat())
        }
    });
    generator.attempt("long body", held, steps)
}

pub(super) fn in_trailers(generator: &mut Generator) -> Attempt {
    let held = generator.held();
    let head = "POST /echo HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let name = generator.pick(&["X-Api-Key", "Authorization", "Cookie", "X-Sum"]);
    let mut steps = tls("good.example");
    steps.push(send(format!(
        "{head}2\r\nhi\r\n0\r\n{name}: {}\r\n\r\n",
        held.placeholder
    )));
    generator.attempt("trailers", held, steps)
}

/// Behind a request that may have it comes one that may not.
pub(super) fn pipelined(generator: &mut Generator) -> Attempt {
    let held = generator.held();
    let header = format!("X-Api-Key: {}\r\n", held.placeholder);
    let first = format!("GET /may/9 HTTP/1.1\r\nHost: good.example\r\n{header}\r\n");
    let host = generator.pick(&[
        "a.wild.example",
        "evil.example",
        "good.example.",
        "good.example:80",
        "GOOD.example",
    ]);
    let second = format!("GET /bytes/9 HTTP/1.1\r\nHost: {host}\r\n{header}\r\n");
    let mut steps = tls("good.example");
    steps.push(send(format!("{first}{second}")));
    Attempt {
        arrives: 1,
        ..generator.attempt("pipelined", held, steps)
    }
}

/// A request that two readers could read differently.
pub(super) fn smuggled(generator: &mut Generator) -> Attempt {
    let held = generator.held();
    let it = &held.placeholder;
    let odd = generator.pick(&[
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "X-Folded: a\r\n b\r\n",
        "X-Bare: a\nX-Other: b\r\n",
        "Bad Name: a\r\n",
        "Host: a.wild.example\r\n",
        "Connection: authorization\r\n",
    ]);
    let inner =
        format!("GET /smuggled HTTP/1.1\r\nHost: a.wild.example\r\nX-Api-Key: {it}\r\n\r\n");
    let mut steps = tls("good.example");
    steps.push(send(format!(
        "POST /echo HTTP/1.1\r\nHost: good.example\r\nX-Api-Key: {it}\r\n{odd}\r\n0\r\n\r\n{inner}"
    )));
    generator.attempt("smuggled", held, steps)
}

/// Requests that are made to come back, and those whose answers are no text.
pub(super) fn echo_forms(generator: &mut Generator) -> Attempt {
    let held = generator.held();
    let header = format!("X-Api-Key: {}\r\n", held.placeholder);
    let (method, more) = generator.pick(&[
        ("TRACE", ""),
        ("TRACK", ""),
        ("OPTIONS", "Max-Forwards: 0\r\n"),
        ("GET", "X-HTTP-Method-Override: TRACE\r\n"),
        ("GET", "X-HTTP-Method: track\r\n"),
        ("GET", "X-Method-Override: Trace\r\n"),
        ("GET", "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
    ]);
    let mut steps = tls("good.example");
    let path = if more.starts_with("Upgrade") {
        "/ws"
    } else {
        "/echo"
    };
    steps.push(send(format!(
        "{method} {path} HTTP/1.1\r\nHost: good.example\r\n{header}{more}\r\n"
    )));
    generator.attempt("echo form", held, steps)
}

/// A host whose certificate is another one's.
pub(super) fn unverified(generator: &mut Generator) -> Attempt {
    let mut held = generator.held();
    held.credential.hosts = Hosts::Any;
    let (method, headers, body) = given(generator, &held.placeholder);
    let steps = vec![
        Step::Connect("false.example:443"),
        Step::Tls("false.example"),
        request(method, "false.example", "/echo", &headers, &body),
    ];
    Attempt {
        open: true,
        ..generator.attempt("unverified", held, steps)
    }
}

/// A host of the operator's whose TLS is not opened: the request inside is no HTTP to anybody here.
pub(super) fn unopened(generator: &mut Generator) -> Attempt {
    let mut held = generator.held();
    held.credential.hosts =
        Hosts::Listed(vec![Pattern::parse("*.wild.example").expect("a pattern")]);
    let (method, headers, body) = given(generator, &held.placeholder);
    let steps = vec![
        Step::Connect("pinned.wild.example:443"),
        request(method, "pinned.wild.example", "/echo", &headers, &body),
    ];
    generator.attempt("unopened", held, steps)
}

/// What a client does that follows a redirect with everything it has.
pub(super) fn after_a_redirect(generator: &mut Generator) -> Attempt {
    let held = generator.held();
    let header = format!("Authorization: Bearer {}\r\n", held.placeholder);
    let mut steps = tls("good.example");
    steps.push(send(format!(
        "GET /redirect/a.wild.example HTTP/1.1\r\nHost: good.example\r\n{header}\r\n"
    )));
    steps.push(Step::Answer);
    let host = generator.pick(&["a.wild.example", "evil.example"]);
    steps.push(request(
        "GET",
        host,
        &format!("https://{host}/bytes/9"),
        &header,
        "",
    ));
    Attempt {
        arrives: 1,
        ..generator.attempt("redirect", held, steps)
    }
}

/// It arrives where it should and comes back.
pub(super) fn mirrored(generator: &mut Generator) -> Attempt {
    let held = generator.held();
    let way = mirror::WAYS[(generator.number / 22 * 3 + generator.number % 3) % mirror::WAYS.len()];
    mirror_of(generator, held, way)
}

pub(super) fn mirror_of(generator: &mut Generator, held: Held, way: &str) -> Attempt {
    let it = &held.placeholder;
    let path = format!("/mirror/{way}");
    let in_body = !matches!(way, "head" | "range" | "multi") && generator.random.random_bool(0.4);
    let mut steps = tls("good.example");
    steps.push(match (in_body, way) {
        (true, _) => request(
            "POST",
            "good.example",
            &path,
            "Accept-Encoding: gzip, br\r\n",
            it,
        ),
        (false, "head") => request(
            "HEAD",
            "good.example",
            &path,
            &format!("X-Api-Key: {it}\r\n"),
            "",
        ),
        (false, _) => {
            let more = "Range: bytes=0-3\r\nIf-Range: \"x\"\r\nAccept-Encoding: gzip, br\r\n";
            request(
                "GET",
                "good.example",
                &path,
                &format!("{more}X-Api-Key: {it}\r\n"),
                "",
            )
        }
    });
    Attempt {
        arrives: 1,
        ..generator.attempt("mirrored", held, steps)
    }
}
