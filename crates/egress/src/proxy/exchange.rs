//! One request with its answer: made anew for the host, and for the client again.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::stream::unfold;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version, header};
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::upgrade::Upgraded;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::policy::Allowed;
use crate::proxy::Inside;
use crate::proxy::answer::{self, Ending};
use crate::proxy::head::Framing;
use crate::proxy::io::{Broken, Writer};
use crate::proxy::request::{Forward, Upgrade};
use crate::proxy::upstream::{Body, Failed, Upstream, unreachable};

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
    pub(crate) forward: &'a Forward,
    pub(crate) allowed: &'a Allowed,
    /// Set when the client has the first byte of the answer.
    pub(crate) begun: &'a AtomicBool,
}

impl Exchange<'_> {
    /// Makes the request, once more on a new connection when a kept one turns out to be closed, and passes the answer on.
    pub(crate) async fn run(
        mut self,
        mut upstream: Upstream,
        mut reused: bool,
        body: mpsc::Receiver<Result<Frame<Bytes>, Broken>>,
    ) -> Exchanged {
        let mut body = Some(body);
        loop {
            let (told, interim) = mpsc::channel(8);
            let request = self.request(body.take(), told);
            let target = self.allowed.target();
            match self.answer(&mut upstream, request, interim).await {
                Ok(Ok(response)) => return self.pass(upstream, response).await,
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

    fn request(
        &self,
        body: Option<mpsc::Receiver<Result<Frame<Bytes>, Broken>>>,
        told: mpsc::Sender<(StatusCode, HeaderMap)>,
    ) -> Request<Body> {
        let forward = self.forward;
        let body = match (forward.framing, body) {
            (Framing::Empty, _) | (_, None) => {
                Empty::new().map_err(|never| match never {}).boxed_unsync()
            }
            (_, Some(body)) => {
                let frames = unfold(body, |mut body| async { Some((body.recv().await?, body)) });
                StreamBody::new(frames).boxed_unsync()
            }
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
    ) -> std::io::Result<Result<http::Response<Incoming>, Option<hyper::Error>>> {
        let mut sent = pin!(timeout(
            self.inside.timeouts().answer,
            upstream.send(request)
        ));
        loop {
            tokio::select! {
                biased;
                Some((status, headers)) = interim.recv() => {
                    if status != StatusCode::SWITCHING_PROTOCOLS {
                        self.writer.write(&answer::interim(status, &headers)).await?;
                    }
                }
                ended = &mut sent => {
                    return Ok(match ended {
                        Ok(Ok(response)) => Ok(response),
                        Ok(Err(error)) => Err(Some(error)),
                        Err(_) => Err(None),
                    });
                }
            }
        }
    }

    async fn pass(self, upstream: Upstream, response: http::Response<Incoming>) -> Exchanged {
        let forward = self.forward;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(response).await;
        }
        let ending = Ending::of(
            &forward.method,
            forward.version,
            response.status(),
            response.body(),
        );
        let bounded = ending != Ending::Close;
        let (parts, body) = response.into_parts();
        self.begun.store(true, Ordering::Relaxed);
        let head = answer::head(&parts, ending, forward.keep_alive && bounded);
        if self.writer.write(&head).await.is_err() {
            return Exchanged::Cut;
        }
        if ending != Ending::None {
            let written = self.writer.body(body, ending == Ending::Chunked).await;
            if let Err(error) = written {
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
