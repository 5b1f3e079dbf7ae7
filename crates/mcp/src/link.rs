//! A conversation on which both sides have agreed how to speak.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderMap;
use manyhands_egress::outbound::Repeat;
use rmcp::model::{ClientCapabilities, Implementation, RequestMetaObject};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use crate::door::Door;
use crate::fault::Fault;
use crate::mirror::{self, Parameter};
use crate::streamable::Streamable;
use crate::two_way::TwoWay;
use crate::wire::{self, Request};

/// For what is said without waiting for anything: a cancellation, a refusal, the end.
pub(crate) const COURTESY: Duration = Duration::from_secs(5);

/// How messages travel.
#[derive(Clone)]
pub(crate) enum Transport {
    Streamable(Arc<Streamable>),
    TwoWay(Arc<TwoWay>),
}

impl Transport {
    fn door(&self) -> &Door {
        match self {
            Self::Streamable(conversation) => conversation.door(),
            Self::TwoWay(conversation) => conversation.door(),
        }
    }

    /// Says something to which there is no answer. What the server makes of it is not looked at.
    async fn notify(&self, method: &str, params: Option<Value>) -> Result<(), Fault> {
        let body = wire::notification(method, params);
        let sent = match self {
            Self::Streamable(conversation) => {
                conversation
                    .post(HeaderMap::new(), body, Repeat::Harmless)
                    .await
            }
            Self::TwoWay(conversation) => conversation.post(body, Repeat::Harmless).await,
        };
        sent.map(drop)
    }

    /// Tells the server that nobody waits for this request any more.
    fn give_up(&self, id: u64) {
        // Without a runtime the process ends, and the connection with it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let this = self.clone();
        runtime.spawn(async move {
            let params = json!({"requestId": id, "reason": "nobody waits for it any more"});
            let told = this.notify("notifications/cancelled", Some(params));
            match timeout(COURTESY, told).await {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => tracing::debug!(?fault, "a call could not be cancelled"),
                Err(_) => tracing::debug!("a cancellation was not taken in time"),
            }
        });
    }
}

/// Who knows what from before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// They have shaken hands (protocols to 2025-11-25).
    Greeted,
    /// Each request says all about its sender (protocol 2026-07-28).
    Stateless,
}

/// The conversation.
pub(crate) struct Link {
    transport: Transport,
    pub(crate) manner: Manner,
    next: AtomicU64,
}

impl Link {
    pub(crate) fn new(transport: Transport, manner: Manner) -> Self {
        Self {
            transport,
            manner,
            next: AtomicU64::new(1),
        }
    }

    /// The result of a request, with tokens taken out. `name` is that of what it is about.
    pub(crate) async fn ask(
        &self,
        method: &'static str,
        mut params: Map<String, Value>,
        name: Option<&str>,
        parameters: &[Parameter],
        most: usize,
    ) -> Result<Value, Fault> {
        let mut headers = HeaderMap::new();
        if self.manner == Manner::Stateless {
            let empty = Map::new();
            let input = params
                .get("arguments")
                .and_then(Value::as_object)
                .unwrap_or(&empty);
            headers = mirror::headers(method, name, parameters, input);
            params.insert("_meta".to_owned(), about_us());
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let request = Request {
            id,
            method,
            params: Value::Object(params),
        };
        let mut waits = Waits {
            link: self,
            id,
            is_told: method != "tools/call",
        };
        let result = match &self.transport {
            Transport::Streamable(conversation) => {
                conversation.request(&request, headers, most).await
            }
            Transport::TwoWay(conversation) => conversation.request(&request).await,
        };
        waits.is_told = true;
        let scrub = self.transport.door().scrub();
        match result {
            Ok(value) => scrub.beside(|scrub| scrub.value(value)).await,
            Err(Fault::Rpc(mut error)) => {
                let clean = scrub.beside(|scrub| {
                    error.message = scrub.said(error.message.as_bytes());
                    error.data = scrub.value(error.data);
                    error
                });
                Err(Fault::Rpc(clean.await?))
            }
            Err(fault) => Err(fault),
        }
    }

    /// Says something to which there is no answer, and waits until it is taken: for as long as the caller lets it.
    pub(crate) async fn notify(&self, method: &str) -> Result<(), Fault> {
        self.transport.notify(method, None).await
    }

    pub(crate) async fn close(&self) {
        match &self.transport {
            Transport::Streamable(conversation) => conversation.close().await,
            Transport::TwoWay(conversation) => conversation.close(),
        }
    }
}

/// A call that is dropped before its answer is given up at the server as well. Without a conversation the end of the
/// connection says so.
struct Waits<'a> {
    link: &'a Link,
    id: u64,
    is_told: bool,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if self.is_told || self.link.manner == Manner::Stateless {
            return;
        }
        self.link.transport.give_up(self.id);
    }
}

/// We call tools, and offer a server nothing.
pub(crate) fn capabilities() -> ClientCapabilities {
    ClientCapabilities::default()
}

pub(crate) fn implementation() -> Implementation {
    Implementation::new("manyhands", env!("CARGO_PKG_VERSION"))
}

fn about_us() -> Value {
    let version = rmcp::model::ProtocolVersion::NO_INITIALIZE;
    let about = RequestMetaObject::with_client_context(version, implementation(), capabilities());
    // It is made of texts.
    serde_json::to_value(about).unwrap_or_default()
}
