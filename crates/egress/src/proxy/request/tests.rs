use super::*;
use crate::proxy::head;

fn ask(text: &str, place: &Place) -> Result<Asked, Refused> {
    request_read(text.replace('\n', "\r\n").as_bytes(), place)
}

fn request_read(bytes: &[u8], place: &Place) -> Result<Asked, Refused> {
    read(head::read(bytes)?, place)
}

fn tunnel(scheme: Scheme) -> Place {
    Place::Tunnel {
        target: Target::parse("a.example:443", None).expect("a target"),
        scheme,
    }
}

#[track_caller]
fn forwarded(text: &str, place: &Place) -> Forward {
    match ask(text, place) {
        Ok(Asked::Forward(forward)) => forward,
        other => panic!("{text:?}: {other:?}"),
    }
}

#[track_caller]
fn refused(text: &str, place: &Place, reason: Reason) {
    match ask(text, place) {
        Err(refused) => assert_eq!(refused.reason, reason, "{text:?}: {refused:?}"),
        other => panic!("{text:?}: {other:?}"),
    }
}

/// security NET-4
#[test]
fn net_4_a_request_says_where_it_goes() {
    #[track_caller]
    fn check(target: &str, host: &str, place: &Place, goes: &str, path: &str) {
        let forward = forwarded(&format!("GET {target} HTTP/1.1\nHost: {host}\n\n"), place);
        assert_eq!(forward.target.to_string(), goes);
        assert_eq!(forward.path.as_str(), path);
    }
    let door = Place::Door;
    check(
        "http://a.example/x?y=z",
        "a.example",
        &door,
        "a.example:80",
        "/x?y=z",
    );
    check(
        "http://a.example",
        "a.example:80",
        &door,
        "a.example:80",
        "/",
    );
    check(
        "http://a.example:8080/",
        "a.example:8080",
        &door,
        "a.example:8080",
        "/",
    );
    check(
        "http://a.example?y",
        "a.example",
        &door,
        "a.example:80",
        "/?y",
    );
    check(
        "http://a.example//b.example/",
        "a.example",
        &door,
        "a.example:80",
        "//b.example/",
    );
    let tls = tunnel(Scheme::Https);
    check("/x", "a.example", &tls, "a.example:443", "/x");
    check(
        "https://a.example/x",
        "a.example",
        &tls,
        "a.example:443",
        "/x",
    );
    check(
        "//b.example/x",
        "a.example:443",
        &tls,
        "a.example:443",
        "//b.example/x",
    );
    check(
        "/",
        "a.example:443",
        &tunnel(Scheme::Http),
        "a.example:443",
        "/",
    );
    let forward = forwarded("OPTIONS * HTTP/1.1\nHost: a.example\n\n", &tls);
    assert_eq!(forward.path.as_str(), "*");
    let forward = forwarded("GET http://a.example/ HTTP/1.0\n\n", &door);
    assert!(!forward.keep_alive);
}

/// security NET-4: names that disagree, and targets that are none.
#[test]
fn net_4_names_that_disagree_are_refused() {
    let door = Place::Door;
    let get = |target: &str, host: &str| format!("GET {target} HTTP/1.1\nHost: {host}\n\n");
    for host in ["b.example", "a.example:81", "a.example.b.example"] {
        refused(&get("http://a.example/", host), &door, Reason::NameMismatch);
    }
    for host in [
        "",
        "127.0.0.1",
        "A.example",
        "a.example.",
        "u@a.example",
        "a.example, b.example",
    ] {
        refused(
            &get("http://a.example/", host),
            &door,
            Reason::HostNotCanonical,
        );
    }
    for target in [
        "http://A.example/",
        "http://a.example./",
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://[::1]/",
        "http://u:p@a.example/",
        "http://a.example\\@b.example/",
        "http://a.example:0/",
        "http://a.example:80:80/",
        "http:///x",
    ] {
        refused(&get(target, "a.example"), &door, Reason::HostNotCanonical);
    }
    for target in [
        "/x",
        "https://a.example/",
        "HTTP://a.example/",
        "http:/a.example",
        "ftp://a.example/",
        "*",
        "a.example:80",
    ] {
        refused(&get(target, "a.example"), &door, Reason::NotServed);
    }
    refused(
        &get("http://a.example/x#y", "a.example"),
        &door,
        Reason::Malformed,
    );
    refused(
        &get("http://a.example/<x>", "a.example"),
        &door,
        Reason::Malformed,
    );
    refused(
        "GET http://a.example/ HTTP/1.1\n\n",
        &door,
        Reason::Malformed,
    );
    refused(
        "GET http://a.example/ HTTP/1.1\nHost: a.example\nHost: a.example\n\n",
        &door,
        Reason::Malformed,
    );
    let tls = tunnel(Scheme::Https);
    refused(&get("/", "b.example"), &tls, Reason::NameMismatch);
    refused(&get("/", "a.example:80"), &tls, Reason::NameMismatch);
    refused(
        &get("https://b.example/", "b.example"),
        &tls,
        Reason::NameMismatch,
    );
    refused(
        &get("https://a.example:444/", "a.example:444"),
        &tls,
        Reason::NameMismatch,
    );
    refused(
        &get("http://a.example/", "a.example"),
        &tls,
        Reason::Malformed,
    );
    refused(&get("?x", "a.example"), &tls, Reason::Malformed);
    refused(
        &get("/", "a.example"),
        &tunnel(Scheme::Http),
        Reason::NameMismatch,
    );
}

/// security NET-4, NET-5
#[test]
fn net_4_connect_names_a_host_and_a_port() {
    let door = Place::Door;
    let connect = |target: &str, rest: &str| format!("CONNECT {target} HTTP/1.1\n{rest}\n\n");
    for host in ["Host: a.example:443", "Host: a.example"] {
        match ask(&connect("a.example:443", host), &door) {
            Ok(Asked::Connect(target)) => assert_eq!(target.to_string(), "a.example:443"),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(
        ask("CONNECT a.example:443 HTTP/1.0\n\n", &door),
        Ok(Asked::Connect(_))
    ));
    refused(
        &connect("a.example:443", "Host: b.example:443"),
        &door,
        Reason::NameMismatch,
    );
    refused(
        &connect("a.example:443", "Host: a.example:80"),
        &door,
        Reason::NameMismatch,
    );
    refused(&connect("a.example:443", "X: y"), &door, Reason::Malformed);
    for target in [
        "a.example",
        "a.example:",
        "127.0.0.1:443",
        "[::1]:443",
        "u@a.example:443",
        "http://a.example:443",
        "a.example:443/",
        "/",
        "*",
    ] {
        refused(
            &connect(target, "Host: a.example"),
            &door,
            Reason::HostNotCanonical,
        );
    }
    refused(
        &connect("a.example:443", "Host: a.example\nContent-Length: 3"),
        &door,
        Reason::Malformed,
    );
    refused(
        &connect(
            "a.example:443",
            "Host: a.example\nTransfer-Encoding: chunked",
        ),
        &door,
        Reason::Malformed,
    );
    refused(
        &connect("a.example:443", "Host: a.example"),
        &tunnel(Scheme::Https),
        Reason::NotServed,
    );
}

/// security NET-5
#[test]
fn net_5_what_belongs_to_a_connection_stays_there() {
    let door = Place::Door;
    let forward = forwarded(
        "POST http://a.example/ HTTP/1.1\nHost: a.example:80\nConnection: x-own, close\nX-Own: 1\nKeep-Alive: 5\n\
         Proxy-Connection: close\nProxy-Authorization: Basic eA==\nTE: trailers\nTrailer: X-Sum\nX-Other: 2\n\
         Authorization: Bearer y\nTransfer-Encoding: chunked\n\n",
        &door,
    );
    let mut names: Vec<_> = forward.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["authorization", "host", "te", "trailer", "x-other"]);
    assert_eq!(forward.headers["host"], "a.example");
    assert!(!forward.keep_alive);
    for named in [
        "host",
        "Content-Length",
        "transfer-encoding",
        "authorization",
        "x y",
        "\u{e9}",
    ] {
        let text =
            format!("GET http://a.example/ HTTP/1.1\nHost: a.example\nConnection: {named}\n\n");
        refused(&text, &door, Reason::Malformed);
    }
}

/// security NET-5
#[test]
fn net_5_only_websockets_change_the_protocol() {
    let door = Place::Door;
    let get =
        |headers: &str| format!("GET http://a.example/ HTTP/1.1\nHost: a.example\n{headers}\n\n");
    let websocket = "Connection: keep-alive, Upgrade\nUpgrade: websocket\nSec-WebSocket-Key: x";
    assert_eq!(
        forwarded(&get(websocket), &door).upgrade,
        Upgrade::WebSocket
    );
    for headers in [
        "Connection: Upgrade\nUpgrade: h2c",
        "Connection: Upgrade\nUpgrade: TLS/1.0",
        "Connection: Upgrade\nUpgrade: websocket, h2c\nSec-WebSocket-Key: x",
        "Connection: Upgrade\nUpgrade: websocket\nUpgrade: h2c\nSec-WebSocket-Key: x",
        "Connection: Upgrade\nUpgrade: websocket",
        "Upgrade: websocket\nSec-WebSocket-Key: x",
        "Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Key: x\nContent-Length: 1",
    ] {
        refused(&get(headers), &door, Reason::NotServed);
    }
    for method in ["TRACE", "TRACK"] {
        let text = format!("{method} http://a.example/ HTTP/1.1\nHost: a.example\n\n");
        refused(&text, &door, Reason::NotServed);
    }
    refused(&get("Expect: 200-ok"), &door, Reason::Malformed);
    assert!(forwarded(&get("Expect: 100-continue\nContent-Length: 1"), &door).expects);
}
