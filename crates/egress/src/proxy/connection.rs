//! One client's connection: requests one after the other, each decided by itself (security NET-4, NET-5).

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use http::{Method, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::host::Target;
use crate::policy::Decision;
use crate::proxy::answer;
use crate::proxy::exchange::{Exchange, Exchanged};
use crate::proxy::head::{self, Framing};
use crate::proxy::io::{NoHead, Pumped, Reader, Stream, Writer};
use crate::proxy::request::{self, Asked, Forward, Place, Refused};
use crate::proxy::secrets::Plan;
use crate::proxy::upstream::{Failed, Lines};
use crate::proxy::{Inside, join, tunnel};

/// Answers a connection at the door until it ends.
pub(crate) async fn serve(inside: Arc<Inside>, stream: Stream) {
    Connection::new(inside, stream, Place::Door, None)
        .run()
        .await;
}

/// Answers the requests in a tunnel; `dialled` is the connection that the tunnel was opened with.
pub(crate) fn serve_inside(
    inside: Arc<Inside>,
    stream: Stream,
    place: Place,
    dialled: Option<TcpStream>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move { Connection::new(inside, stream, place, dialled).run().await })
}

/// One client's connection.
pub(crate) struct Connection {
    pub(crate) inside: Arc<Inside>,
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    place: Place,
    lines: Lines,
}

/// What comes after a request.
enum Next {
    /// Another one.
    Request,
    /// The end: everything is said.
    End,
    /// The end in the middle of something: the client must see that it is not whole.
    Cut,
    /// The proxy's last words.
    Say(Vec<u8>),
    /// The connection is the WebSocket's.
    Switched(Box<Upgraded>, Target),
}

impl Connection {
    fn new(inside: Arc<Inside>, stream: Stream, place: Place, dialled: Option<TcpStream>) -> Self {
        let (read, write) = tokio::io::split(stream);
        let timeouts = inside.timeouts();
        Self {
            inside,
            reader: Reader::new(read, timeouts),
            writer: Writer::new(write, timeouts),
            place,
            lines: Lines::new(dialled),
        }
    }

    async fn run(mut self) {
        loop {
            let next = match self.reader.head().await {
                Ok(bytes) => match read(&bytes, &self.place) {
                    Ok(Asked::Connect(target)) => {
                        tunnel::open(self, target).await;
                        return;
                    }
                    Ok(Asked::Forward(forward)) => self.forward(forward).await,
                    Err(refused) => self.refuse(&refused, true),
                },
                Err(NoHead::Ended) => Next::End,
                Err(NoHead::Slow) => {
                    let text = "the request's head did not end in time";
                    Next::Say(answer::failure(StatusCode::REQUEST_TIMEOUT, text, true))
                }
                Err(NoHead::Malformed(malformed)) => self.refuse(&malformed.into(), true),
            };
            match next {
                Next::Request => {}
                Next::Cut => return,
                Next::End => {
                    self.writer.end().await;
                    return;
                }
                Next::Say(words) => {
                    self.say(&words).await;
                    return;
                }
                Next::Switched(upgraded, target) => {
                    self.websocket(*upgraded, &target).await;
                    return;
                }
            }
        }
    }

    /// Notes a refusal and makes the client's answer.
    fn refuse(&self, refused: &Refused, body: bool) -> Next {
        let mut refused = refused.clone();
        if let (true, Place::Tunnel { target, .. }) = (refused.host.is_empty(), &self.place) {
            refused = refused.at(target);
        }
        self.inside.note(&refused);
        Next::Say(answer::refusal(&refused, body))
    }

    /// The last words to a client. Nothing that it has sent or sends is used any more.
    pub(crate) async fn say(mut self, words: &[u8]) {
        if self.writer.write(words).await.is_ok() {
            self.writer.end().await;
            self.reader.drain().await;
        }
    }

    async fn forward(&mut self, mut forward: Forward) -> Next {
        let body = forward.method != Method::HEAD;
        let attached = match self.inside.attached().await {
            Ok(attached) => attached,
            Err(failed) => return self.failed(failed, body),
        };
        let allowed = match self.inside.policy().decide_with(&forward.target, &attached) {
            Decision::Allow(allowed) => allowed,
            Decision::Refuse(reason) => {
                let refused = Refused::new(reason, "the policy does not allow it");
                return self.refuse(&refused.at(&forward.target), body);
            }
        };
        let plan = Plan::of(
            &forward,
            &attached,
            self.inside.shared.substitute_in_plain_http,
        );
        // A body that begins malformed is known before anything is forwarded; one that is waited for has not begun.
        let mut first = None;
        if forward.framing == Framing::Chunked && !forward.expects {
            match self.reader.chunk_size().await {
                Ok(size) => first = Some(size),
                Err(Pumped::Malformed(malformed)) => {
                    return self.refuse(&Refused::from(malformed).at(&forward.target), body);
                }
                Err(_) => return Next::Cut,
            }
        }
        let begun = AtomicBool::new(false);
        let framing = forward.framing;
        let (pumped, exchanged) = {
            let (send, receive) = mpsc::channel(1);
            let mut pump = pin!(self.reader.pump(framing, first, send));
            let mut exchange = pin!(
                Exchange {
                    inside: &self.inside,
                    writer: &mut self.writer,
                    forward: &mut forward,
                    allowed: &allowed,
                    plan,
                    begun: &begun,
                }
                .run(&mut self.lines, receive)
            );
            let mut pumped = None;
            loop {
                tokio::select! {
                    biased;
                    ended = &mut pump, if pumped.is_none() => match ended {
                        // What is on its way to the host stays unfinished.
                        Pumped::Malformed(_) | Pumped::Ended => break (Some(ended), None),
                        ended => pumped = Some(ended),
                    },
                    ended = &mut exchange => break (pumped, Some(ended)),
                }
            }
        };
        match (pumped, exchanged) {
            (Some(Pumped::Malformed(malformed)), _) => {
                let said = self.refuse(&Refused::from(malformed).at(&forward.target), body);
                match begun.into_inner() {
                    true => Next::Cut,
                    false => said,
                }
            }
            (pumped, Some(Exchanged::Answered { kept, bounded })) => {
                self.lines.keep(kept);
                let whole = pumped == Some(Pumped::Whole);
                match bounded && whole && forward.keep_alive {
                    true => Next::Request,
                    false if whole => Next::End,
                    // The host wanted no more of the body; the client still has to read why.
                    false => Next::Say(Vec::new()),
                }
            }
            (_, Some(Exchanged::Switched(upgraded))) => Next::Switched(upgraded, forward.target),
            (_, Some(Exchanged::Failed(failed))) => self.failed(failed, body),
            (_, Some(Exchanged::Cut) | None) => Next::Cut,
        }
    }

    fn failed(&self, failed: Failed, body: bool) -> Next {
        match failed {
            Failed::Refused(refused) => self.refuse(&refused, body),
            Failed::Unreachable(status, text) => {
                metrics::counter!("manyhands_egress_unreachable_total").increment(1);
                Next::Say(answer::failure(status, &text, body))
            }
        }
    }

    async fn websocket(self, upgraded: Upgraded, target: &Target) {
        let idle = self.inside.timeouts().tunnel;
        let moved = join::Moved::new();
        let (client, first) = self.reader.into_parts();
        let (from, to) = tokio::io::split(TokioIo::new(upgraded));
        let up = join::copy(client, to, first, &moved, idle);
        let down = join::copy(from, self.writer.into_half(), Bytes::new(), &moved, idle);
        tokio::select! {
            // However it ended: both sides are told by the end of their connections.
            _ = async { tokio::try_join!(up, down) } => {}
            () = join::forbidden(&self.inside, target) => {}
        }
    }
}

fn read(bytes: &[u8], place: &Place) -> Result<Asked, Refused> {
    request::read(head::read(bytes)?, place)
}
