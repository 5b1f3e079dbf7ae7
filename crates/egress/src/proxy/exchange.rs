//! One request with its answer: made anew for the host, and for the client again.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version, header};
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::upgrade::Upgraded;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::policy::{Allowed, Reason, Ways};
use crate::proxy::Inside;
use crate::proxy::answer::{self, Ending};
use crate::proxy::head::Framing;
use crate::proxy::io::{Broken, Writer};
use crate::proxy::request::{Forward, Refused, Upgrade};
use crate::proxy::secrets::{self, Plan};
use crate::proxy::upstream::{Body, Failed, Lines, Upstream, unreachable};
use crate::scrub::Scrubber;

/// How an exchange with a host ended.
pub(crate) enum Exchanged {
    /// The client has the whole answer, and can tell where the next one begins if this one was bounded.
    Answered {
        kept: Upstream,
        bounded: bool,
    },
    Switched(Box<Upgraded>),
    Failed(Failed),
    Cut,
}

/// One request with its answer.
pub(crate) struct Exchange<'a> {
    pub(crate) inside: &'a Inside,
    pub(crate) writer: &'a mut Writer,
    pub(crate) forward: &'a mut Forward,
    pub(crate) allowed: &'a Allowed,
    pub(crate) plan: Plan,
    /// Set when the client has the first byte of the answer.
    pub(crate) begun: &'a AtomicBool,
}

/// What comes from a client of its body.
type Frames = mpsc::Receiver<Result<Frame<Bytes>, Broken>>;

/// A request's body on its way.
#[derive(Default)]
struct Sent {
    /// What was held, to be looked through.
    held: Bytes,
    trailers: Option<HeaderMap>,
    /// What follows; `None` when that is all.
    rest: Option<Frames>,
}

impl Exchange<'_> {
    /// Makes the request, once more on a new connection when a kept one turns out to be closed, and passes the answer on.
    pub(crate) async fn run(mut self, lines: &mut Lines, body: Frames) -> Exchanged {
        let mut sent = Sent {
            rest: Some(body),
            ..Sent::default()
        };
        let mut room = None;
        if self.plan.body {
            room = self.inside.room().await;
            match self.hold(&mut sent).await {
                Some(()) => {}
                None => return Exchanged::Cut,
            }
        }
        let (mut upstream, mut reused) =
            match lines.take(self.inside, self.forward, self.allowed).await {
                Ok(found) => found,
                Err(failed) => return Exchanged::Failed(failed),
            };
        let scrubber = match self.fill(&mut sent).await {
            Ok(scrubber) => scrubber,
            Err(failed) => return Exchanged::Failed(failed),
        };
        self.inside.log.allowed(&self.forward.target);
        let mut sent = Some(sent);
        loop {
            let (told, interim) = mpsc::channel(8);
            let request = self.request(sent.take(), told);
            let target = self.allowed.target();
            let answered = self
                .answer(&mut upstream, request, interim, scrubber.is_some())
                .await;
            drop(room.take());
            match answered {
                Ok(Ok(response)) => return self.pass(upstream, response, scrubber).await,
                Err(_) => return Exchanged::Cut,
                // The host had closed a connection that was kept.
                Ok(Err(None | Some(_))) if reused => {
                    reused = false;
                    match Upstream::open(self.inside, self.allowed, self.forward.scheme, None).await
                    {
                        Ok(made) => upstream = made,
                        Err(failed) => return Exchanged::Failed(failed),
                    }
                }
                Ok(Err(Some(error))) => return Exchanged::Failed(unreachable(target, &error)),
                Ok(Err(None)) => {
                    let text = format!("{target} did not answer in time");
                    return Exchanged::Failed(Failed::Unreachable(
                        StatusCode::GATEWAY_TIMEOUT,
                        text,
                    ));
                }
            }
        }
    }

    /// Holds the body, as far as one is looked through. `None` when the client is gone.
    async fn hold(&mut self, sent: &mut Sent) -> Option<()> {
        if self.forward.expects {
            // The host is asked when the body is there.
            self.forward.expects = false;
            self.forward.headers.remove(header::EXPECT);
            if self.forward.version == Version::HTTP_11 {
                let go_on = answer::interim(StatusCode::CONTINUE, &HeaderMap::new());
                self.writer.write(&go_on).await.ok()?;
            }
        }
        let mut held = BytesMut::new();
        let mut frames = sent.rest.take()?;
        while held.len() <= secrets::LONGEST {
            match frames.recv().await {
                None => {
                    sent.held = held.freeze();
                    return Some(());
                }
                Some(Err(Broken)) => return None,
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => held.extend_from_slice(&data),
                    Err(frame) => sent.trailers = frame.into_trailers().ok(),
                },
            }
        }
        sent.held = held.freeze();
        sent.rest = Some(frames);
        Some(())
    }

    /// Puts secrets where they belong; what the answer is searched by.
    async fn fill(&mut self, sent: &mut Sent) -> Result<Option<Scrubber>, Failed> {
        if self.plan.is_empty() && self.allowed.ways() == Ways::All {
            return Ok(None);
        }
        let whole = (self.plan.body && sent.rest.is_none()).then_some(&sent.held[..]);
        let filled =
            secrets::fill(self.inside, &self.plan, self.allowed, self.forward, whole).await?;
        if let Some(changed) = filled.changed {
            sent.held = Bytes::from_owner(changed);
            if let Framing::Length(_) = self.forward.framing {
                let length = sent.held.len() as u64;
                self.forward.framing = Framing::Length(length);
                self.forward
                    .headers
                    .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            }
        }
        Ok(filled.scrubber)
    }

    fn request(
        &self,
        body: Option<Sent>,
        told: mpsc::Sender<(StatusCode, HeaderMap)>,
    ) -> Request<Body> {
        let forward = &*self.forward;
        let body = match (forward.framing, body) {
            (Framing::Empty, _) | (_, None) => {
                Empty::new().map_err(|never| match never {}).boxed_unsync()
            }
            (_, Some(body)) => body.frames(),
        };
        let mut request = Request::new(body);
        *request.method_mut() = forward.method.clone();
        *request.uri_mut() = forward.path.clone().into();
        *request.headers_mut() = forward.headers.clone();
        let headers = request.headers_mut();
        if forward.framing == Framing::Chunked {
            headers.insert(
                header::TRANSFER_ENCODING,
                HeaderValue::from_static("chunked"),
            );
        }
        if forward.upgrade == Upgrade::WebSocket {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        if forward.version == Version::HTTP_11 {
            hyper::ext::on_informational(&mut request, move |interim| {
                // A client that reads none for this long misses some: they are hints.
                drop(told.try_send((interim.status(), interim.headers().clone())));
            });
        }
        request
    }

    /// The host's answer, and its interim ones to the client as they come. The outer error is the client's.
    async fn answer(
        &mut self,
        upstream: &mut Upstream,
        request: Request<Body>,
        mut interim: mpsc::Receiver<(StatusCode, HeaderMap)>,
        searched: bool,
    ) -> std::io::Result<Result<http::Response<Incoming>, Option<hyper::Error>>> {
        let mut sent = pin!(timeout(
            self.inside.timeouts().answer,
            upstream.send(request)
        ));
        loop {
            tokio::select! {
                biased;
                Some(interim) = interim.recv() => self.pass_interim(interim, searched).await?,
                ended = &mut sent => {
                    // Both may have come since the last look.
                    while let Ok(interim) = interim.try_recv() {
                        self.pass_interim(interim, searched).await?;
                    }
                    return Ok(match ended {
                        Ok(Ok(response)) => Ok(response),
                        Ok(Err(error)) => Err(Some(error)),
                        Err(_) => Err(None),
                    });
                }
            }
        }
    }

    async fn pass_interim(
        &mut self,
        (status, headers): (StatusCode, HeaderMap),
        searched: bool,
    ) -> std::io::Result<()> {
        // With hints there is no saying what was hinted at.
        let dropped = searched && status != StatusCode::CONTINUE;
        if status == StatusCode::SWITCHING_PROTOCOLS || dropped {
            return Ok(());
        }
        let headers = if searched { HeaderMap::new() } else { headers };
        self.writer.write(&answer::interim(status, &headers)).await
    }

    async fn pass(
        self,
        upstream: Upstream,
        response: http::Response<Incoming>,
        scrubber: Option<Scrubber>,
    ) -> Exchanged {
        let forward = &*self.forward;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS && scrubber.is_none() {
            return self.switch(response).await;
        }
        let ending = Ending::of(
            &forward.method,
            forward.version,
            response.status(),
            response.body(),
        );
        let bounded = ending != Ending::Close;
        let (mut parts, body) = response.into_parts();
        if let Some(scrubber) = &scrubber {
            if let Err(detail) = secrets::check_answer(&parts, ending == Ending::None) {
                let refused = Refused::new(Reason::NotInspectable, detail);
                return Exchanged::Failed(Failed::Refused(refused.at(&forward.target)));
            }
            scrubber.headers(&mut parts.headers);
            // What a host calls its status is its own text.
            parts.extensions.remove::<hyper::ext::ReasonPhrase>();
        }
        self.begun.store(true, Ordering::Relaxed);
        let head = answer::head(&parts, ending, forward.keep_alive && bounded);
        if self.writer.write(&head).await.is_err() {
            return Exchanged::Cut;
        }
        if ending != Ending::None {
            let searched = scrubber.map(|scrubber| scrubber.stream());
            let chunked = ending == Ending::Chunked;
            if let Err(error) = self.writer.body(body, chunked, searched).await {
                tracing::debug!(%error, "an answer broke off");
                return Exchanged::Cut;
            }
        }
        Exchanged::Answered {
            kept: upstream,
            bounded,
        }
    }

    async fn switch(self, response: http::Response<Incoming>) -> Exchanged {
        let target = self.allowed.target();
        let websocket = |parts: &Parts| {
            let upgrade = parts.headers.get(header::UPGRADE);
            upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
        };
        let (parts, body) = response.into_parts();
        if self.forward.upgrade != Upgrade::WebSocket || !websocket(&parts) {
            let text = format!("{target} switched to a protocol that nobody asked for");
            return Exchanged::Failed(Failed::Unreachable(StatusCode::BAD_GATEWAY, text));
        }
        let head = answer::switching(&parts);
        let response = http::Response::from_parts(parts, body);
        match hyper::upgrade::on(response).await {
            Ok(upgraded) => {
                self.begun.store(true, Ordering::Relaxed);
                match self.writer.write(&head).await {
                    Ok(()) => Exchanged::Switched(Box::new(upgraded)),
                    Err(_) => Exchanged::Cut,
                }
            }
            Err(error) => Exchanged::Failed(unreachable(target, &error)),
        }
    }
}

impl Sent {
    fn frames(self) -> Body {
        let data = (!self.held.is_empty()).then(|| Ok(Frame::data(self.held)));
        let trailers = self.trailers.map(|trailers| Ok(Frame::trailers(trailers)));
        let held = stream::iter(data.into_iter().chain(trailers));
        let rest = stream::unfold(self.rest, |rest| async {
            let mut rest = rest?;
            Some((rest.recv().await?, Some(rest)))
        });
        StreamBody::new(held.chain(rest)).boxed_unsync()
    }
}
