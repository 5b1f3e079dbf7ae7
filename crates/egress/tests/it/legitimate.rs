//! A hundred requests that are allowed, each served byte for byte, at the door, in a tunnel, and in TLS.

use tokio::io::AsyncWriteExt as _;

use crate::bed::{self, Bed, bounded};
use crate::client::{Client, Place, chunks};
use crate::origin::bytes;

/// What a table's row asks for and has to get.
struct Row {
    method: &'static str,
    path: String,
    /// The request's body, and whether it is sent in chunks.
    body: Vec<u8>,
    chunked: bool,
    status: u16,
    answer: Vec<u8>,
}

fn rows() -> Vec<Row> {
    let get = |path: &str, status, answer| Row {
        method: "GET",
        path: path.to_owned(),
        body: Vec::new(),
        chunked: false,
        status,
        answer,
    };
    let with_body = |method, size, chunked| Row {
        method,
        path: "/echo?a=b&c=%20d".to_owned(),
        body: bytes(size),
        chunked,
        status: 200,
        answer: bytes(size),
    };
    let mut trailers = bytes(5000);
    trailers.extend_from_slice(b"x-sum: 42");
    vec![
        get("/bytes/0", 200, bytes(0)),
        get("/bytes/1", 200, bytes(1)),
        get("/bytes/70000", 200, bytes(70_000)),
        get("/bytes/2000000", 200, bytes(2_000_000)),
        get("/chunked/0", 200, bytes(0)),
        get("/chunked/300000", 200, bytes(300_000)),
        get("/trailers/5000", 200, trailers),
        get("/gzip/9000", 200, bytes(9000)),
        get("/none", 204, Vec::new()),
        get("/unchanged", 304, Vec::new()),
        get("/early/10", 200, bytes(10)),
        get("/status/404", 404, b"no".to_vec()),
        get("/status/418", 418, b"no".to_vec()),
        get("/status/503", 503, b"no".to_vec()),
        get("/redirect/elsewhere.example", 302, Vec::new()),
        Row {
            method: "HEAD",
            ..get("/bytes/1234", 200, Vec::new())
        },
        Row {
            method: "HEAD",
            ..get("/chunked/1234", 200, Vec::new())
        },
        with_body("POST", 0, false),
        with_body("POST", 1_500_000, false),
        with_body("POST", 400_000, true),
        with_body("PUT", 10, true),
        with_body("PATCH", 10, false),
        with_body("DELETE", 0, false),
        with_body("DELETE", 10, true),
        with_body("OPTIONS", 0, false),
        with_body("PROPFIND", 20, false),
        with_body("GET", 30, true),
    ]
}

async fn table(bed: &Bed, door: &std::path::PathBuf, place: Place) -> usize {
    let rows = rows();
    // All on one connection, so that none leaves anything behind for the next.
    let mut client = Client::new(bed, door, place).await;
    for Row {
        method,
        path,
        body,
        chunked,
        status,
        answer,
    } in &rows
    {
        let mut wire = body.clone();
        let headers = match (chunked, body.is_empty()) {
            (true, _) => {
                wire = chunks(body, 4097);
                wire.extend_from_slice(b"0\r\n\r\n");
                "Transfer-Encoding: chunked\r\n".to_owned()
            }
            (false, true) if *method == "GET" || *method == "HEAD" => String::new(),
            (false, _) => format!("Content-Length: {}\r\n", body.len()),
        };
        let got = client.ask(method, path, &headers, &wire).await;
        let what = format!("{place:?} {method} {path}");
        assert!(
            got.head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{what}: {}",
            got.head
        );
        assert!(got.body == *answer, "{what}: {} bytes", got.body.len());
        assert_eq!(got.header("connection"), None, "{what}");
        let arrived = bed.world.arrived().pop().expect("a request");
        assert_eq!(arrived.path(), path, "{what}");
        assert!(
            arrived.body == *body,
            "{what}: {} bytes arrived",
            arrived.body.len()
        );
        assert_eq!(arrived.header("host"), Some("good.example"), "{what}");
        match path.as_str() {
            "/bytes/1234" => assert_eq!(got.header("content-length"), Some("1234")),
            "/unchanged" => assert_eq!(got.header("etag"), Some("\"x\"")),
            "/gzip/9000" => assert_eq!(got.header("content-encoding"), Some("gzip")),
            "/early/10" => assert!(
                got.interim.len() == 1 && got.interim[0].contains("link: </style.css>"),
                "{got:?}"
            ),
            "/status/418" => assert!(got.head.contains("Whatever It Is"), "{}", got.head),
            "/redirect/elsewhere.example" => {
                assert_eq!(got.header("location"), Some("http://elsewhere.example/"))
            }
            _ => {}
        }
    }
    rows.len()
}

/// What is more than one request and one answer; gives how many requests that were.
async fn stories(bed: &Bed, door: &std::path::PathBuf, place: Place) -> usize {
    // An answer that ends with its connection, of a host that says so, and of an old one.
    for path in ["/close/40000", "/old/40000"] {
        let mut client = Client::new(bed, door, place).await;
        let got = client.ask("GET", path, "", b"").await;
        assert!(
            got.body == bytes(40_000),
            "{place:?} {path}: {}",
            got.body.len()
        );
    }
    // A client that says it will not go on, and one that has nothing more to say.
    let mut client = Client::new(bed, door, place).await;
    let got = client
        .ask("GET", "/chunked/10", "Connection: close\r\n", b"")
        .await;
    assert_eq!(
        (got.header("connection"), got.body.clone()),
        (Some("close"), bytes(10))
    );
    assert_eq!(bed::rest(&mut client.stream).await, b"");
    let mut client = Client::new(bed, door, place).await;
    let head = client.head("POST", "/echo", "Content-Length: 4\r\n");
    client.send(format!("{head}last").as_bytes()).await;
    bounded(client.stream.shutdown()).await.expect("an end");
    assert_eq!(client.answer("POST").await.body, b"last");
    // Three at once; the answers come in order.
    let mut client = Client::new(bed, door, place).await;
    let all: String = (1..=3)
        .map(|size| client.head("GET", &format!("/bytes/{size}"), ""))
        .collect();
    client.send(all.as_bytes()).await;
    for size in 1..=3 {
        assert_eq!(client.answer("GET").await.body, bytes(size));
    }
    // A host that closes what it said it would keep.
    for _ in 0..2 {
        assert_eq!(client.ask("GET", "/leave/7", "", b"").await.body, bytes(7));
    }
    assert_eq!(
        client
            .ask("POST", "/echo", "Content-Length: 2\r\n", b"ok")
            .await
            .body,
        b"ok"
    );
    // The body is sent when the host wants it.
    let head = client.head(
        "POST",
        "/echo",
        "Expect: 100-continue\r\nContent-Length: 5\r\n",
    );
    client.send(head.as_bytes()).await;
    assert!(
        bed::head(&mut client.stream)
            .await
            .starts_with("HTTP/1.1 100 ")
    );
    client.send(b"hello").await;
    assert_eq!(client.answer("POST").await.body, b"hello");
    // Trailers of a request.
    let mut wire = chunks(&bytes(100), 33);
    wire.extend_from_slice(b"0\r\nX-Sum: 42\r\n\r\n");
    let headers = "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n";
    let got = client.ask("POST", "/echo", headers, &wire).await;
    assert!(
        got.body.starts_with(&bytes(100)) && got.body.ends_with(b"x-sum: 42\r\n"),
        "{got:?}"
    );
    // A WebSocket: the bytes after its head are its own.
    let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n";
    let got = client.ask("GET", "/ws", headers, b"early").await;
    assert!(got.head.starts_with("HTTP/1.1 101 "), "{}", got.head);
    assert_eq!(got.header("sec-websocket-accept"), Some("x"));
    assert_eq!(client.exactly(5).await, b"early");
    client.send(&bytes(50_000)).await;
    assert!(client.exactly(50_000).await == bytes(50_000));
    11
}

/// An old client, which only the door itself knows.
async fn old_client(door: &std::path::PathBuf) -> usize {
    for (path, size) in [("/bytes/100", 100), ("/chunked/5000", 5000)] {
        let mut client = bed::knock(door).await;
        bed::send(
            &mut client,
            format!("GET http://good.example{path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                .as_bytes(),
        )
        .await;
        let all = bed::rest(&mut client).await;
        let text = String::from_utf8_lossy(&all);
        assert!(
            !text.contains("transfer-encoding") && text.contains("connection: close"),
            "{text}"
        );
        assert!(
            all.ends_with(&bytes(size)) && text.starts_with("HTTP/1.1 200 "),
            "{path}"
        );
    }
    let mut client = bed::knock(door).await;
    bed::send(&mut client, b"CONNECT good.example:80 HTTP/1.0\r\n\r\n").await;
    assert!(bed::head(&mut client).await.starts_with("HTTP/1.1 200 "));
    3
}

/// security §5, NET-5, runtime EN-12: of a hundred and more requests that are allowed, none is refused or changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn net_5_a_hundred_requests_are_served_byte_for_byte() {
    let bed = Bed::new().await;
    let door = bed.limited("sesn_1");
    let mut served = old_client(&door).await;
    for place in [Place::Door, Place::Plain, Place::Tls] {
        served += table(&bed, &door, place).await;
        served += stories(&bed, &door, place).await;
    }
    println!("{served} requests served");
    assert!(served >= 100, "{served}");
    assert_eq!(bed.world.arrivals(), [""; 0]);
    let told = bed.audited("sesn_1");
    let allowed = |port| {
        let places = told.iter().filter(|entry| {
            entry.port == port && entry.outcome == manyhands_egress::audit::Outcome::Allowed
        });
        places.map(|entry| entry.count).sum::<u64>()
    };
    assert_eq!(
        (allowed(80) + allowed(443)) as usize,
        bed.world.arrived().len()
    );
    assert!(
        allowed(443) > 30 && told.iter().all(|entry| entry.host == "good.example"),
        "{told:?}"
    );
}

/// One connection after the other's answer is no way to be slow: a figure to look at, and a bound that only a stall breaks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn net_4_deciding_each_request_is_quick() {
    const REQUESTS: u32 = 500;
    let bed = Bed::new().await;
    let door = bed.limited("sesn_1");
    for place in [Place::Door, Place::Tls] {
        let mut client = Client::new(&bed, &door, place).await;
        let began = std::time::Instant::now();
        for _ in 0..REQUESTS {
            assert_eq!(
                client.ask("GET", "/bytes/100", "", b"").await.body,
                bytes(100)
            );
        }
        let took = began.elapsed();
        println!(
            "{place:?}: {:.0} requests/s, one after the other",
            f64::from(REQUESTS) / took.as_secs_f64()
        );
        assert!(took < std::time::Duration::from_secs(50), "{took:?}");
    }
    assert_eq!(bed.world.arrived().len() as u32, 2 * REQUESTS);
}
