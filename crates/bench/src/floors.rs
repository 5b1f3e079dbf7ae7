//! What the machine does with nothing of ours in the way.

use std::io::{Seek, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use http_body_util::BodyExt;
use hyper::Method;
use serde_json::json;

use crate::sample::Samples;
use crate::stub::Stub;
use crate::tail::{Name, Tail};

/// Writing `bytes` bytes to a file in `folder` and forcing them to disk, `count` times.
///
/// The file has its full size before, as a write-ahead log has that is used again: a write that
/// makes a file longer costs the file system a journal entry on top.
pub(crate) fn fsync(folder: &Path, bytes: usize, count: usize) -> Result<Samples> {
    let mut file = tempfile::tempfile_in(folder)?;
    let block = vec![b'x'; bytes];
    for _ in 0..count {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    file.rewind()?;
    let samples = (0..count).map(|_| -> Result<Duration> {
        let started = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        Ok(started.elapsed())
    });
    Ok(Samples::new(samples.collect::<Result<Vec<_>>>()?))
}

/// Starting and ending a process in name spaces of its own, `count` times.
pub(crate) fn bubblewrap(count: usize) -> Result<Samples> {
    let samples = (0..count).map(|_| {
        let started = Instant::now();
        let status = Command::new("bwrap")
            .args(["--unshare-all", "--ro-bind", "/usr", "/usr"])
            .args([
                "--symlink",
                "usr/bin",
                "/bin",
                "--symlink",
                "usr/lib",
                "/lib",
            ])
            .args(["--symlink", "usr/lib64", "/lib64"])
            .args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"])
            .args(["/bin/sh", "-c", "echo hello"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .context("running bwrap")?;
        ensure!(status.success(), "bwrap: {status}");
        Ok(started.elapsed())
    });
    Ok(Samples::new(samples.collect::<Result<Vec<_>>>()?))
}

/// Calls to the stub alone, one after the other, timed to the first byte of the first token.
pub(crate) async fn direct_first_token(
    stub: &Stub,
    body_bytes: usize,
    count: usize,
) -> Result<Samples> {
    let body = request_of(body_bytes);
    let mut connection = stub.client().connect().await?;
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        let answer = connection
            .begin(Method::POST, "/v1/messages", body.clone())
            .await?;
        ensure!(
            answer.status() == 200,
            "the stub answered {}",
            answer.status()
        );
        let mut answer = answer.into_body();
        let mut seen = vec![];
        let mut first = None;
        while let Some(frame) = answer.frame().await {
            if let Ok(data) = frame?.into_data() {
                seen.extend_from_slice(&data);
            }
            let token = b"content_block_delta";
            if first.is_none() && seen.windows(token.len()).any(|window| window == token) {
                first = Some(started.elapsed());
            }
        }
        samples.push(first.context("no token from the stub")?);
    }
    Ok(Samples::new(samples))
}

/// Requests a second the stub answers to `connections` callers: its rate and the generator's.
pub(crate) async fn stub_rate(stub: &Stub, body_bytes: usize, connections: usize) -> Result<f64> {
    const EACH: usize = 50;
    let body = request_of(body_bytes);
    let client = stub.client();
    let callers = (0..connections).map(|_| client.connect());
    let callers = try_join_all(callers).await?;
    let started = Instant::now();
    try_join_all(callers.into_iter().map(|mut connection| {
        let body = body.clone();
        async move {
            for _ in 0..EACH {
                let answer = connection.send(Method::POST, "/v1/messages", body.clone());
                let answer = answer.await?;
                ensure!(answer.status == 200, "the stub answered {}", answer.status);
            }
            Ok(())
        }
    }))
    .await?;
    Ok((connections * EACH) as f64 / started.elapsed().as_secs_f64())
}

/// Frames a second a bare server gets to `connections` readers, each of its frames prepared.
pub(crate) async fn bare_streams(stub: &Stub, connections: usize) -> Result<f64> {
    const EACH: usize = 500;
    let client = stub.client();
    let mut readers = vec![];
    for _ in 0..connections {
        readers.push(client.connect().await?);
    }
    let path = format!("/frames/{EACH}");
    let started = Instant::now();
    try_join_all(readers.iter_mut().map(|connection| async {
        let answer = connection.begin(Method::GET, &path, "").await?;
        let mut tail = Tail::new(answer.into_body());
        for _ in 0..EACH {
            tail.until(Name::Message).await?;
        }
        Ok::<_, anyhow::Error>(())
    }))
    .await?;
    Ok((connections * EACH) as f64 / started.elapsed().as_secs_f64())
}

/// A request of about this size, as the server's are.
fn request_of(bytes: usize) -> bytes::Bytes {
    let body = json!({
        "model": crate::subject::MODEL,
        "max_tokens": 1000,
        "stream": true,
        "system": "x".repeat(bytes.saturating_sub(120)),
        "messages": [{"role": "user", "content": "Hello"}],
    });
    bytes::Bytes::from(body.to_string())
}
