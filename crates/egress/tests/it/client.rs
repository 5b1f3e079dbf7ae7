//! A client that speaks HTTP/1.1 at a door, in a tunnel, and in TLS, and reads answers as they are on the wire.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::bed::{self, Bed, bounded};

/// Any stream of bytes.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Where the requests are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Door,
    Plain,
    Tls,
}

/// An answer as the client has it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) interim: Vec<String>,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// A client and the place where it is.
pub(crate) struct Client {
    pub(crate) stream: Box<dyn Io>,
    place: Place,
}

impl Client {
    pub(crate) async fn new(bed: &Bed, door: &std::path::PathBuf, place: Place) -> Self {
        let mut stream = bed::knock(door).await;
        let stream: Box<dyn Io> = match place {
            Place::Door => Box::new(stream),
            Place::Plain => {
                let head = bed::connect(&mut stream, "good.example:80").await;
                assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
                Box::new(stream)
            }
            Place::Tls => {
                let head = bed::connect(&mut stream, "good.example:443").await;
                assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
                Box::new(bed.tls(stream, "good.example").await.expect("TLS"))
            }
        };
        Self { stream, place }
    }

    pub(crate) fn head(&self, method: &str, path: &str, headers: &str) -> String {
        let target = if self.place == Place::Door {
            format!("http://good.example{path}")
        } else {
            path.to_owned()
        };
        format!("{method} {target} HTTP/1.1\r\nHost: good.example\r\n{headers}\r\n")
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        bounded(self.stream.write_all(bytes)).await.expect("sent");
        bounded(self.stream.flush()).await.expect("sent");
    }

    pub(crate) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Answer {
        let head = self.head(method, path, headers);
        self.send(head.as_bytes()).await;
        self.send(body).await;
        self.answer(method).await
    }

    pub(crate) async fn answer(&mut self, method: &str) -> Answer {
        let mut interim = Vec::new();
        let head = loop {
            let head = bed::head(&mut self.stream).await;
            match head.starts_with("HTTP/1.1 1") && !head.starts_with("HTTP/1.1 101") {
                true => interim.push(head),
                false => break head,
            }
        };
        let bodiless = method == "HEAD"
            || ["HTTP/1.1 204", "HTTP/1.1 304", "HTTP/1.1 101"]
                .iter()
                .any(|it| head.starts_with(it));
        let mut body = Vec::new();
        if bodiless {
        } else if let Some(length) = header(&head, "content-length") {
            assert_eq!(header(&head, "transfer-encoding"), None, "{head}");
            body = self.exactly(length.parse().expect(length)).await;
        } else if header(&head, "transfer-encoding") == Some("chunked") {
            loop {
                let size = self.line().await;
                let size = usize::from_str_radix(&size, 16).expect(&size);
                body.extend(self.exactly(size).await);
                if size == 0 {
                    break;
                }
                assert_eq!(self.line().await, "");
            }
            // Trailers count as a part of the body here.
            loop {
                let line = self.line().await;
                if line.is_empty() {
                    break;
                }
                body.extend_from_slice(line.as_bytes());
            }
        } else {
            body = bed::rest(&mut self.stream).await;
        }
        Answer {
            interim,
            head,
            body,
        }
    }

    pub(crate) async fn exactly(&mut self, count: usize) -> Vec<u8> {
        let mut body = vec![0; count];
        bounded(self.stream.read_exact(&mut body))
            .await
            .expect("a body");
        body
    }

    async fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(bounded(self.stream.read_u8()).await.expect("a byte"));
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).expect("a line")
    }
}

/// Chunks of uneven sizes, without the last one.
pub(crate) fn chunks(body: &[u8], size: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    for piece in body.chunks(size) {
        wire.extend_from_slice(format!("{:X}\r\n", piece.len()).as_bytes());
        wire.extend_from_slice(piece);
        wire.extend_from_slice(b"\r\n");
    }
    wire
}
