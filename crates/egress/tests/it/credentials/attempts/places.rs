//! Where a placeholder may not become a secret: hosts, places in a request, doors, moments.

use super::*;

pub(super) fn other_host(generator: &mut Generator) -> Attempt {
    let held = generator.held();
    let (method, headers, body) = given(generator, &held.placeholder);
    let mut steps = tls("a.wild.example");
    steps.push(request(method, "a.wild.example", "/echo", &headers, &body));
    generator.attempt("other host", held, steps)
}

pub(super) fn in_the_target(generator: &mut Generator) -> Attempt {
    let held = generator.held();
    let it = &held.placeholder;
    let path = match generator.random.random_range(0..4) {
        0 => format!("/bytes/9?key={it}"),
        1 => format!("/{it}/x"),
        2 => format!("https://good.example/echo?{it}"),
        _ => format!("/echo?a=%20{it}%26"),
    };
    let mut steps = tls("good.example");
    steps.push(request("GET", "good.example", &path, "", ""));
    generator.attempt("target", held, steps)
}

pub(super) fn in_an_echoed_header(generator: &mut Generator) -> Attempt {
    let held = generator.held();
    let name = generator.pick(&ECHOED);
    let around = generator.pick(&["", "https://x.example/?", "Bearer ", "\""]);
    let mut steps = tls("good.example");
    let header = format!("{name}: {around}{}\r\n", held.placeholder);
    steps.push(request("GET", "good.example", "/bytes/9", &header, ""));
    generator.attempt("echoed header", held, steps)
}

pub(super) fn in_a_name(generator: &mut Generator) -> Attempt {
    let held = generator.held();
    let it = &held.placeholder;
    let header = generator.pick(&[
        "{}: 1\r\n",
        "X-{}: 1\r\n",
        "Connection: {}\r\n",
        "TE: {}\r\n",
    ]);
    let mut steps = tls("good.example");
    let header = header.replace("{}", it);
    steps.push(send(format!(
        "GET /bytes/9 HTTP/1.1\r\nHost: good.example\r\n{header}\r\n"
    )));
    steps.push(request("GET", "good.example", "/bytes/9", "", ""));
    generator.attempt("header name", held, steps)
}

pub(super) fn in_the_host(generator: &mut Generator) -> Attempt {
    let held = generator.held();
    let it = held.placeholder.clone();
    let steps = match generator.random.random_range(0..3) {
        0 => vec![send(format!(
            "GET http://{it}/ HTTP/1.1\r\nHost: {it}\r\n\r\n"
        ))],
        1 => vec![send(format!(
            "CONNECT {it}:443 HTTP/1.1\r\nHost: {it}:443\r\n\r\n"
        ))],
        _ => {
            let mut steps = tls("good.example");
            steps.push(request("GET", &it, "/bytes/9", "", ""));
            steps
        }
    };
    generator.attempt("host", held, steps)
}

pub(super) fn plain_http(generator: &mut Generator) -> Attempt {
    let held = generator.held();
    let (method, headers, body) = given(generator, &held.placeholder);
    let steps = match generator.random.random_bool(0.5) {
        true => vec![request(
            method,
            "good.example",
            "http://good.example/echo",
            &headers,
            &body,
        )],
        false => {
            let connect = Step::Connect("good.example:80");
            vec![
                connect,
                request(method, "good.example", "/echo", &headers, &body),
            ]
        }
    };
    generator.attempt("plain http", held, steps)
}

/// The placeholder of one session at another's door: the runner opens the door for `s<number>`, and the holder knows another one.
pub(super) fn another_door(generator: &mut Generator) -> Attempt {
    let mut held = generator.held();
    let (method, headers, body) = given(generator, &held.placeholder);
    held.session = format!("other-{}", held.session);
    let mut steps = tls("good.example");
    steps.push(request(method, "good.example", "/echo", &headers, &body));
    generator.attempt("another door", held, steps)
}

/// On a connection over which it was used before.
pub(super) fn afterwards(generator: &mut Generator) -> Attempt {
    let held = generator.held();
    let header = format!("X-Api-Key: {}\r\n", held.placeholder);
    let change = generator.pick(&[Change::Archived, Change::Elsewhere, Change::NotInHeaders]);
    let mut steps = tls("good.example");
    steps.push(send(format!(
        "GET /may/9 HTTP/1.1\r\nHost: good.example\r\n{header}\r\n"
    )));
    steps.extend([Step::Answer, Step::Then(change)]);
    steps.push(request("GET", "good.example", "/bytes/9", &header, ""));
    Attempt {
        arrives: 1,
        ..generator.attempt("afterwards", held, steps)
    }
}

pub(super) fn not_whole(generator: &mut Generator) -> Attempt {
    let held = generator.held();
    let it = &held.placeholder;
    let altered = match generator.random.random_range(0..8) {
        0 => it[..35].to_owned(),
        1 => it[1..].to_owned(),
        2 => it.to_uppercase(),
        3 => format!("{it}a"),
        4 => format!("{it}_"),
        5 => format!("{}%{:02x}{}", &it[..10], it.as_bytes()[10], &it[11..]),
        6 => format!("{} {}", &it[..20], &it[20..]),
        _ => it.replace(PREFIX, "MHP_"),
    };
    let mut steps = tls("good.example");
    steps.push(request(
        "GET",
        "good.example",
        "/bytes/9",
        &format!("X-Api-Key: {altered}\r\n"),
        "",
    ));
    generator.attempt("not whole", held, steps)
}

pub(super) fn not_enabled(generator: &mut Generator) -> Attempt {
    let mut held = generator.held();
    let in_body = generator.random.random_bool(0.5);
    (held.credential.header, held.credential.body) = (in_body, !in_body);
    let it = &held.placeholder;
    let mut steps = tls("good.example");
    steps.push(match in_body {
        false => request("GET", "good.example", "/bytes/9", &format!("Authorization: Bearer {it}\r\n"), ""),
        true => {
            let size = generator.random.random_range(1..40);
            let body = chunks(format!("key={it}&").as_bytes(), size);
            let head = "POST /echo HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
            send([head.as_bytes(), &body, b"0\r\n\r\n"].concat())
        }
    });
    generator.attempt("not enabled", held, steps)
}
