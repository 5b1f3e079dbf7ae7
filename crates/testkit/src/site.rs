//! A web site on this machine that answers by path, and remembers what it was asked for.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// The longest head of a request that is read, in bytes.
const HEAD: usize = 64 << 10;

/// A running site. Clones share it; it ends with the runtime.
#[derive(Clone)]
pub struct Site {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Site {
    /// Starts a site. `answer` gets a path and the site's port, and gives the bytes of a whole response; the connection
    /// is closed behind it.
    ///
    /// # Panics
    /// When this machine has no port left.
    pub async fn start(answer: impl Fn(&str, u16) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let site = Self {
            address,
            heads: Arc::default(),
        };
        let heads = Arc::clone(&site.heads);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => break,
                    }
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = path(&head).to_owned();
                heads
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(head);
                // A client that has gone is the client's matter.
                drop(stream.write_all(&answer(&path, address.port())).await);
            }
        });
        site
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A URL of it under this host name.
    pub fn url(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.address.port())
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The paths of all requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.heads()
            .iter()
            .map(|head| path(head).to_owned())
            .collect()
    }
}

/// A response of status 200 with this type and body.
pub fn page(media_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A redirect.
pub fn redirect(to: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )
    .into_bytes()
}

fn path(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or_default()
}
