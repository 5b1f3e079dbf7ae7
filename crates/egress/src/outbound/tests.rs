use std::io;
use std::net::IpAddr;
use std::sync::Mutex;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::address::Allowed;
use crate::dial::{Resolve as Names, Tcp, Timeouts};

/// A web of one server on this machine that answers by path, and what it was asked for.
struct World {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl World {
    async fn new(answer: fn(&str, u16) -> String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => break,
                    }
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                log.lock().expect("no panic").push(head);
                drop(stream.write_all(answer(&path, port).as_bytes()).await);
            }
        });
        Self { port, asked }
    }

    fn outbound(&self, allowed: &[&str]) -> Outbound {
        let allowed = Allowed::parse(allowed).expect("networks");
        let dialler = Dialler::new(Arc::new(Here), Arc::new(Tcp), allowed, Timeouts::default());
        Outbound::new(dialler, &[self.port]).expect("a client")
    }

    async fn get(&self, path: &str) -> Result<Fetched, Refusal> {
        let url = self.url("page.example.com", path);
        let admits = |host: &Host, _: &Url| host.as_str() != "forbidden.example.com";
        self.outbound(&["127.0.0.1/32"])
            .get(&url, &admits, 1000)
            .await
    }

    fn url(&self, host: &str, path: &str) -> Url {
        Url::parse(&format!("http://{host}:{}{path}", self.port)).expect("a URL")
    }

    fn asked(&self) -> usize {
        self.asked.lock().expect("no panic").len()
    }
}

/// All names are this machine, but those below `private`.
struct Here;

#[async_trait]
impl Names for Here {
    async fn resolve(&self, host: &Host) -> io::Result<Vec<IpAddr>> {
        let address = match host.as_str() {
            name if name.starts_with("private.") => "10.0.0.1",
            name if name.starts_with("nowhere.") => return Err(io::ErrorKind::NotFound.into()),
            _ => "127.0.0.1",
        };
        Ok(vec![address.parse().expect("an address")])
    }
}

fn ok(head: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\n{head}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn to(place: &str) -> String {
    format!(
        "HTTP/1.1 302 Found\r\nlocation: {place}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )
}

fn site(path: &str, port: u16) -> String {
    match path {
        "/page" => ok(
            "content-type: Text/HTML; Charset=\"UTF-8\"\r\nset-cookie: a=b\r\n",
            "hi",
        ),
        "/bare" => ok("", "hi"),
        "/long" => ok("content-type: text/plain\r\n", &"x".repeat(1001)),
        "/endless" => format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n{}",
            "x".repeat(5000)
        ),
        "/there" => to("/page"),
        "/round" => to("/round"),
        "/nowhere" => to("http://"),
        "/forbidden" => to(&format!("http://forbidden.example.com:{port}/page")),
        "/private" => to(&format!("http://private.example.com:{port}/page")),
        "/address" => to(&format!("http://127.0.0.1:{port}/page")),
        "/port" => to("http://page.example.com:1/page"),
        "/scheme" => to("ftp://page.example.com/page"),
        "/credentials" => to(&format!("http://me:you@page.example.com:{port}/page")),
        "/unchanged" => {
            "HTTP/1.1 304 Not Modified\r\nlocation: /page\r\nconnection: close\r\n\r\n".to_owned()
        }
        "/cut" => "HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\nhi".to_owned(),
        _ => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
    }
}

#[tokio::test]
async fn net_9_a_page_comes_with_its_type_and_where_it_was() {
    let world = World::new(site).await;
    let page = world.get("/there").await.expect("a page");
    assert_eq!(page.url, world.url("page.example.com", "/page"));
    assert_eq!(
        (page.media_type.as_str(), page.charset.as_deref()),
        ("text/html", Some("utf-8"))
    );
    assert_eq!(page.body, b"hi");
    let bare = world.get("/bare").await.expect("a page");
    assert_eq!(
        (bare.media_type.as_str(), bare.charset),
        ("application/octet-stream", None)
    );
    let heads = world.asked.lock().expect("no panic").join("");
    assert!(!heads.to_lowercase().contains("cookie"), "{heads}");
}

/// security NET-3, NET-9
#[tokio::test]
async fn net_9_each_redirect_is_decided_anew() {
    let world = World::new(site).await;
    for (path, problem, requests) in [
        ("/forbidden", "forbidden.example.com is not allowed", 1),
        (
            "/private",
            "private.example.com has an address that is not public",
            1,
        ),
        ("/address", "the host is an address", 1),
        ("/port", "port 1 is not allowed", 1),
        ("/scheme", "only http and https are spoken", 1),
        ("/credentials", "page.example.com is not allowed", 1),
        ("/round", "it redirects too often", 6),
        ("/nowhere", "it redirects too often, or to nowhere", 1),
        ("/unchanged", "the server answered 304", 1),
        ("/missing", "the server answered 404", 1),
        ("/long", "longer than 1000 bytes", 1),
        ("/endless", "longer than 1000 bytes", 1),
        ("/cut", "the connection broke off", 1),
    ] {
        let before = world.asked();
        let refusal = world.get(path).await.expect_err(path).to_string();
        assert!(refusal.contains(problem), "{path}: {refusal}");
        assert_eq!(world.asked() - before, requests, "{path}");
    }
}

#[tokio::test]
async fn net_3_nothing_is_sent_to_an_address_that_is_not_public() {
    let world = World::new(site).await;
    let outbound = world.outbound(&[]);
    for (host, problem) in [
        ("page.example.com", "not public"),
        ("private.example.com", "not public"),
        ("nowhere.example.com", "its name cannot be resolved"),
        ("127.0.0.1", "the host is an address"),
        ("2130706433", "the host is an address"),
        ("0x7f.1", "the host is an address"),
        ("[::1]", "not the name of a host"),
        ("[::ffff:127.0.0.1]", "not the name of a host"),
        ("page.example.com.", "the host ends with a dot"),
    ] {
        let refusal = outbound
            .get(&world.url(host, "/page"), &|_, _| true, 1000)
            .await;
        let refusal = refusal.expect_err(host).to_string();
        assert!(refusal.contains(problem), "{host}: {refusal}");
    }
    assert_eq!(world.asked(), 0);
}
