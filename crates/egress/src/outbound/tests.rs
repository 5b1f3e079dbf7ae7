use std::io;
use std::net::IpAddr;

use async_trait::async_trait;
use manyhands_testkit::site::{Site, page, redirect};

use super::*;
use crate::address::Allowed;
use crate::dial::{Resolve as Names, Tcp, Timeouts};

/// A site, and the client under test.
struct World(Site);

impl World {
    async fn new(answer: fn(&str, u16) -> Vec<u8>) -> Self {
        Self(Site::start(answer).await)
    }

    fn outbound(&self, allowed: &[&str]) -> Outbound {
        let allowed = Allowed::parse(allowed).expect("networks");
        let dialler = Dialler::new(Arc::new(Here), Arc::new(Tcp), allowed, Timeouts::default());
        Outbound::new(dialler, &[self.0.address().port()]).expect("a client")
    }

    async fn get(&self, path: &str) -> Result<Fetched, Refusal> {
        let url = self.url("page.example.com", path);
        let admits = |host: &Host, _: &Url| host.as_str() != "forbidden.example.com";
        self.outbound(&["127.0.0.1/32"])
            .get(&url, &admits, 1000)
            .await
    }

    fn url(&self, host: &str, path: &str) -> Url {
        Url::parse(&self.0.url(host, path)).expect("a URL")
    }

    fn asked(&self) -> usize {
        self.0.heads().len()
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

fn site(path: &str, port: u16) -> Vec<u8> {
    match path {
        "/page" => page("Text/HTML; Charset=\"UTF-8\"\r\nset-cookie: a=b", b"hi"),
        "/bare" => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi".to_vec(),
        "/long" => page("text/plain", &[b'x'; 1001]),
        "/endless" => [
            b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n".as_slice(),
            &[b'x'; 5000],
        ]
        .concat(),
        "/there" => redirect("/page"),
        "/round" => redirect("/round"),
        "/nowhere" => redirect("http://"),
        "/forbidden" => redirect(&format!("http://forbidden.example.com:{port}/page")),
        "/private" => redirect(&format!("http://private.example.com:{port}/page")),
        "/address" => redirect(&format!("http://127.0.0.1:{port}/page")),
        "/port" => redirect("http://page.example.com:1/page"),
        "/scheme" => redirect("ftp://page.example.com/page"),
        "/credentials" => redirect(&format!("http://me:you@page.example.com:{port}/page")),
        "/unchanged" => {
            b"HTTP/1.1 304 Not Modified\r\nlocation: /page\r\nconnection: close\r\n\r\n".to_vec()
        }
        "/cut" => b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\nhi".to_vec(),
        _ => b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec(),
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
    let heads = world.0.heads().join("");
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

/// security NET-3, NET-9, runtime SC-7
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

/// security CRED-7, NET-9, TOOL-2: one request goes to one place, and the caller knows whether it can have arrived.
#[tokio::test]
async fn net_9_a_request_goes_to_one_place() {
    let world = World::new(|path, port| match path {
        "/nothing" => Vec::new(),
        other => site(other, port),
    })
    .await;
    let outbound = world.outbound(&["127.0.0.1/32"]);
    let send = |url: Url| {
        let headers = HeaderMap::from_iter([(
            reqwest::header::AUTHORIZATION,
            "Bearer canary".parse().expect("a value"),
        )]);
        outbound.send(Request {
            method: Method::POST,
            url,
            headers,
            body: b"{}".to_vec(),
        })
    };
    for (path, status) in [("/page", 200), ("/private", 302), ("/missing", 404)] {
        let answer = send(world.url("page.example.com", path)).await;
        assert_eq!(answer.expect(path).status().as_u16(), status, "{path}");
    }
    assert_eq!(world.asked(), 3);
    assert!(world.0.heads()[1].starts_with("POST /private "));
    let refused = send(world.url("page.example.com", "/nothing")).await;
    assert!(
        matches!(refused, Err(Unanswered::Sent(Refusal::Unreachable { .. }))),
        "{refused:?}"
    );
    assert_eq!(world.asked(), 4);
    for url in [
        world.url("private.example.com", "/page").as_str(),
        world.url("nowhere.example.com", "/page").as_str(),
        "http://page.example.com:1/page",
        "ftp://page.example.com/page",
        "http://127.0.0.1/page",
    ] {
        let refused = send(Url::parse(url).expect("a URL")).await;
        assert!(matches!(refused, Err(Unanswered::Unsent(_))), "{url}");
    }
    assert_eq!(world.asked(), 4);
}
