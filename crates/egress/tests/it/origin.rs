//! A host on the other side of the proxy: it answers by path, byte for byte as it is told, and remembers what it was asked.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) tls_name: Option<String>,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Arrived {
    pub(crate) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// What all connections of the host remember.
pub(crate) type Journal = Arc<Mutex<Vec<Arrived>>>;

/// Bytes that look like nothing else, so many of them.
pub(crate) fn bytes(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = move |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as u8
    };
    (0..count).map(step).collect()
}

/// Answers requests until the connection ends.
pub(crate) async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    tls_name: Option<String>,
    journal: Journal,
) {
    let mut buffer = Vec::new();
    while let Some(end) = until(&mut stream, &mut buffer, b"\r\n\r\n").await {
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end);
        let mut arrived = Arrived {
            tls_name: tls_name.clone(),
            head,
            body: Vec::new(),
        };
        if arrived.header("expect").is_some() {
            write(&mut stream, b"HTTP/1.1 100 Continue\r\n\r\n").await;
        }
        arrived.body = match body(&mut stream, &mut buffer, &arrived).await {
            Some(body) => body,
            // A body that breaks off is remembered by its head.
            None => {
                arrived.head = format!("BROKEN {}", arrived.head);
                journal.lock().expect("a lock").push(arrived);
                return;
            }
        };
        journal.lock().expect("a lock").push(arrived.clone());
        if !answer(&mut stream, &mut buffer, &arrived).await {
            return;
        }
    }
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    // Who has gone away is noticed at the next read.
    drop(stream.write_all(bytes).await);
    drop(stream.flush().await);
}

async fn more(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> bool {
    matches!(stream.read_buf(buffer).await, Ok(count) if count > 0)
}

async fn until(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    mark: &[u8],
) -> Option<usize> {
    loop {
        if let Some(at) = buffer.windows(mark.len()).position(|window| window == mark) {
            return Some(at + mark.len());
        }
        if !more(stream, buffer).await {
            return None;
        }
    }
}

async fn take(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    count: usize,
) -> Option<Vec<u8>> {
    while buffer.len() < count {
        if !more(stream, buffer).await {
            return None;
        }
    }
    Some(buffer.drain(..count).collect())
}

async fn body(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    arrived: &Arrived,
) -> Option<Vec<u8>> {
    if let Some(length) = arrived.header("content-length") {
        return take(stream, buffer, length.parse().expect("a length")).await;
    }
    if arrived.header("transfer-encoding") != Some("chunked") {
        return Some(Vec::new());
    }
    let mut body = Vec::new();
    loop {
        let end = until(stream, buffer, b"\r\n").await?;
        let line = String::from_utf8(buffer.drain(..end).collect()).expect("a size");
        let size = usize::from_str_radix(line.trim(), 16).expect("a size");
        if size == 0 {
            // Trailers count as a part of the body here.
            loop {
                let end = until(stream, buffer, b"\r\n").await?;
                let line: Vec<u8> = buffer.drain(..end).collect();
                if line == b"\r\n" {
                    return Some(body);
                }
                body.extend_from_slice(&line);
            }
        }
        body.extend(take(stream, buffer, size).await?);
        take(stream, buffer, 2).await?;
    }
}

/// Answers by path; false when the connection ends with the answer.
async fn answer(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    buffer: &mut Vec<u8>,
    arrived: &Arrived,
) -> bool {
    let path = arrived.path().to_owned();
    let (kind, rest) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
    let size = rest.parse().unwrap_or(1000);
    let head_only = arrived.head.starts_with("HEAD ");
    let plain = |body: &[u8]| {
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Kind: {kind}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        if !head_only {
            answer.extend_from_slice(body);
        }
        answer
    };
    let chunked = |body: &[u8], last: &str| {
        let mut answer = b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for piece in body.chunks(777) {
            answer.extend_from_slice(format!("{:X};x=y\r\n", piece.len()).as_bytes());
            answer.extend_from_slice(piece);
            answer.extend_from_slice(b"\r\n");
        }
        answer.extend_from_slice(format!("0\r\n{last}\r\n").as_bytes());
        answer
    };
    let (answer, goes_on): (Vec<u8>, bool) = match kind {
        "mirror" => (crate::credentials::mirrored(rest, arrived), true),
        "bytes" => (plain(&bytes(size)), true),
        "chunked" => (chunked(&bytes(size), ""), true),
        "trailers" => (chunked(&bytes(size), "X-Sum: 42\r\n"), true),
        "close" => {
            let mut answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
            answer.extend(bytes(size));
            (answer, false)
        }
        "old" => {
            let mut answer = b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\n".to_vec();
            answer.extend(bytes(size));
            (answer, false)
        }
        "gzip" => {
            let body = bytes(size);
            let mut answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {size}\r\n\r\n"
            )
            .into_bytes();
            answer.extend(body);
            (answer, true)
        }
        "none" => (b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), true),
        "unchanged" => (
            b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 12345\r\n\r\n".to_vec(),
            true,
        ),
        "early" => {
            let mut answer = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n".to_vec();
            answer.extend(plain(&bytes(size)));
            (answer, true)
        }
        "status" => (
            format!("HTTP/1.1 {rest} Whatever It Is\r\nContent-Length: 2\r\n\r\nno").into_bytes(),
            true,
        ),
        "redirect" => (
            format!("HTTP/1.1 302 Found\r\nLocation: http://{rest}/\r\nContent-Length: 0\r\n\r\n")
                .into_bytes(),
            true,
        ),
        "leave" => {
            // It says that it goes on, and does not.
            (plain(&bytes(size)), false)
        }
        "ws" => {
            write(
                stream,
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n",
            )
            .await;
            loop {
                write(stream, buffer).await;
                buffer.clear();
                if !more(stream, buffer).await {
                    return false;
                }
            }
        }
        _ => (plain(&arrived.body), true),
    };
    write(stream, &answer).await;
    if !goes_on {
        drop(stream.shutdown().await);
    }
    goes_on
}
