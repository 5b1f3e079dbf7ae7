//! Connections: accepted, bounded in what they may send and how long they may be dead, ended at shutdown.

pub(crate) mod endless;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use endless::{Chunks, Slot, Socket};

/// How long the head of a request may take to come.
const HEAD: Duration = Duration::from_secs(30);
/// The most bytes of a request's head (security INP-1): method, URL and headers together.
const HEAD_BYTES: usize = 64 << 10;
/// The pause after the machine refuses a connection, such as for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// How long others are waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// How long sent bytes may go unread before the connection is closed. With a ping every 12 s, a dead peer of a
    /// stream is gone within 60 s (security STREAM-1).
    pub(crate) unread: Duration,
    /// How long a connection without an open answer stays at shutdown, for a request that is on its way.
    pub(crate) linger: Duration,
    /// How long open answers may take to end at shutdown. Streams end at once.
    pub(crate) grace: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            unread: Duration::from_secs(30),
            linger: Duration::from_millis(100),
            grace: Duration::from_secs(1),
        }
    }
}

/// Serves until `shutdown`, then lets open answers end for a while and cuts what is left. From `draining` on, clients are told
/// to leave their connections.
pub(crate) async fn accept(
    listener: TcpListener,
    router: Router,
    draining: CancellationToken,
    shutdown: CancellationToken,
    patience: Patience,
) {
    let connections = TaskTracker::new();
    let ends = Ends {
        draining,
        shutdown,
        cut: CancellationToken::new(),
    };
    let serve = |stream| {
        connections.spawn(serve(stream, router.clone(), ends.clone(), patience));
    };
    loop {
        let accepted = tokio::select! {
            () = ends.shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => serve(stream),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    for stream in waiting(listener) {
        serve(stream);
    }
    connections.close();
    if tokio::time::timeout(patience.grace, connections.wait())
        .await
        .is_err()
    {
        ends.cut.cancel();
        connections.wait().await;
    }
}

/// Closes the port, and gives the connections that the kernel has made and nobody has taken: their clients may have sent
/// something already. The kernel is asked itself, for the runtime may not have heard of them yet.
fn waiting(listener: TcpListener) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    let take = listener.into_std().and_then(|listener| {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true)?;
                    streams.push(TcpStream::from_std(stream)?);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    });
    if let Err(error) = take {
        tracing::warn!(%error, "connections that waited at the end could not be accepted");
    }
    streams
}

/// What ends connections, one after the other.
#[derive(Clone)]
struct Ends {
    /// Each ends with its next answer.
    draining: CancellationToken,
    /// Those without an open answer end.
    shutdown: CancellationToken,
    /// All end.
    cut: CancellationToken,
}

async fn serve(stream: TcpStream, router: Router, ends: Ends, patience: Patience) {
    if let Err(error) = prepare(&stream, patience.unread) {
        tracing::debug!(%error, "a connection could not be prepared");
        return;
    }
    // Boxed, so that a connection that has become a stream keeps nothing of what it was before.
    let Some((stream, chunks)) = Box::pin(answer(stream, router, &ends, patience)).await else {
        return;
    };
    let ended = tokio::select! {
        ended = Box::pin(endless::send(stream, chunks)) => ended,
        () = ends.cut.cancelled() => return,
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "a stream ended");
    }
}

/// Answers requests until the connection ends, or an answer is endless: then the socket and the rest of the answer.
async fn answer(
    stream: TcpStream,
    router: Router,
    ends: &Ends,
    patience: Patience,
) -> Option<(TcpStream, Chunks)> {
    let slot = Slot::default();
    let service = service_fn(|request: Request<Incoming>| {
        let chunked = request.version() == Version::HTTP_11;
        let (answer, slot) = (router.clone().oneshot(request), slot.clone());
        let draining = ends.draining.clone();
        async move {
            let mut response = answer.await?;
            if draining.is_cancelled() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            if chunked {
                slot.want(&mut response);
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Otherwise the library has a second read buffer while a request is answered, to see the client leave. Answers
        // are short, or endless and ours.
        .half_close(true)
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(
            Socket {
                io: TokioIo::new(stream),
                slot: slot.clone(),
            },
            service,
        );
    // A request that was sent before the client could know is on its way for a moment.
    let lingered = async {
        ends.shutdown.cancelled().await;
        tokio::time::sleep(patience.linger).await;
    };
    tokio::pin!(lingered);
    let mut stopping = false;
    let ended = loop {
        let step = poll_fn(|context| match Pin::new(&mut connection).poll(context) {
            Poll::Ready(ended) => Poll::Ready(Step::Ended(ended)),
            Poll::Pending => slot
                .take()
                .map_or(Poll::Pending, |chunks| Poll::Ready(Step::Endless(chunks))),
        });
        tokio::select! {
            step = step => match step {
                Step::Ended(ended) => break ended,
                Step::Endless(chunks) => {
                    return Some((connection.into_parts().io.io.into_inner(), chunks));
                }
            },
            () = &mut lingered, if !stopping => {
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            () = ends.cut.cancelled() => return None,
        }
    };
    if let Err(error) = ended {
        // Clients leave streams by closing them: nothing to act on.
        tracing::trace!(%error, "a connection ended");
    }
    None
}

enum Step {
    Ended(hyper::Result<()>),
    Endless(Chunks),
}

fn prepare(stream: &TcpStream, unread: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let millis = u32::try_from(unread.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(stream, millis)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, unread)?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    Ok(())
}

#[cfg(test)]
mod tests;
