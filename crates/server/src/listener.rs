//! Connections: accepted, bounded in what they may send and how long they may be dead, ended at shutdown.

use std::io;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

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
    /// How long open answers may take to end at shutdown. Streams end at once.
    pub(crate) grace: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            unread: Duration::from_secs(30),
            grace: Duration::from_secs(1),
        }
    }
}

/// Serves until `shutdown`, then lets open answers end for a while and cuts what is left.
pub(crate) async fn accept(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    patience: Patience,
) {
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(serve(
                    stream,
                    router.clone(),
                    shutdown.clone(),
                    cut.clone(),
                    patience.unread,
                ));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(patience.grace, connections.wait())
        .await
        .is_err()
    {
        cut.cancel();
        connections.wait().await;
    }
}

async fn serve(
    stream: TcpStream,
    router: Router,
    shutdown: CancellationToken,
    cut: CancellationToken,
    unread: Duration,
) {
    if let Err(error) = prepare(&stream, unread) {
        tracing::debug!(%error, "a connection could not be prepared");
        return;
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = cut.cancelled() => return,
            }
        }
    };
    if let Err(error) = ended {
        // Clients leave streams by closing them: nothing to act on.
        tracing::trace!(%error, "a connection ended");
    }
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
mod tests {
    use std::convert::Infallible;

    use axum::body::Body;
    use axum::routing::get;
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::mpsc;

    use super::*;

    /// Tells when it is dropped.
    struct Told(mpsc::UnboundedSender<()>);

    impl Drop for Told {
        fn drop(&mut self) {
            // Whoever listened may have gone.
            let _ = self.0.send(());
        }
    }

    /// A server whose answer never ends, a client that has read its first line, and what tells that the answer is over.
    async fn endless(
        patience: Patience,
    ) -> (TcpStream, mpsc::UnboundedReceiver<()>, CancellationToken) {
        let (sender, over) = mpsc::unbounded_channel();
        let handler = async move || {
            let (told, chunk) = (Told(sender), Bytes::from(vec![b'x'; 64 << 10]));
            Body::from_stream(futures::stream::repeat_with(move || {
                let _ = &told;
                Ok::<_, Infallible>(chunk.clone())
            }))
        };
        let router = Router::new().route("/", get(handler));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shutdown = CancellationToken::new();
        tokio::spawn(accept(listener, router, shutdown.clone(), patience));
        let mut client = TcpStream::connect(address).await.expect("a connection");
        let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        client.write_all(request).await.expect("sent");
        let mut first = [0; 12];
        client.read_exact(&mut first).await.expect("an answer");
        assert_eq!(&first, b"HTTP/1.1 200");
        (client, over, shutdown)
    }

    #[tokio::test]
    async fn stream_1_a_reader_that_stops_reading_is_closed() {
        let patience = Patience {
            unread: Duration::from_secs(1),
            ..Patience::default()
        };
        let (_client, mut over, _shutdown) = endless(patience).await;
        let closed = tokio::time::timeout(Duration::from_secs(30), over.recv()).await;
        closed.expect("it is closed although it stays connected");
    }

    #[tokio::test]
    async fn an_answer_that_does_not_end_is_cut_at_shutdown() {
        let patience = Patience {
            grace: Duration::from_millis(10),
            ..Patience::default()
        };
        let (_client, mut over, shutdown) = endless(patience).await;
        shutdown.cancel();
        let cut = tokio::time::timeout(Duration::from_secs(10), over.recv()).await;
        cut.expect("it is cut");
    }
}
