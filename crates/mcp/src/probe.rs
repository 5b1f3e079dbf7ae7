//! Trying a token out: whether a server takes it, and what it says when it does not (runtime VA-17).

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use http::header::CONTENT_TYPE;
use manyhands_egress::outbound::Outbound;
use manyhands_protocol::{SessionId, WorkspaceId};
use reqwest::{Response, ResponseBuilderExt as _};
use url::Url;

use crate::client::Client;
use crate::clients::conversation;
use crate::door::Keys;
use crate::handshake::Memory;
use crate::scrub::Scrub;
use crate::{Authorization, Caller, Connection as _, Denied, Failure, Settings, Token};

/// How much of an answer is kept, in bytes.
const KEPT: usize = 64 << 10;

/// Where a server did not go along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stumble {
    /// The step: `initialize`, or `tools/list`.
    pub step: &'static str,
    /// Why, in words without secrets.
    pub failure: Failure,
    /// The server's last answer, where it was an error's. As it came: it may have the token in it.
    pub answer: Option<ErrorAnswer>,
}

/// An HTTP answer of status 400 or more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorAnswer {
    /// The status.
    pub status: u16,
    /// The `Content-Type`, where there was one.
    pub content_type: Option<String>,
    /// The body, at most 64 KiB of it.
    pub body: Vec<u8>,
    /// Whether that is all of it.
    pub whole: bool,
}

/// Opens a conversation of its own with this token and asks for the tools.
///
/// # Errors
/// Where the server did not go along.
pub async fn probe(
    outbound: Outbound,
    settings: Settings,
    url: &Url,
    token: Token,
) -> Result<(), Stumble> {
    let witness = Witness::default();
    let stumble = |step, failure| Stumble {
        step,
        failure,
        answer: witness.last(),
    };
    let outbound = conversation(&outbound).map_err(|failure| stumble("initialize", failure))?;
    let keys = Keys {
        outbound: Arc::new(outbound),
        authorization: Arc::new(Only(token)),
        caller: Caller {
            workspace: WorkspaceId::generate(),
            session: SessionId::generate(),
            vaults: Vec::new(),
        },
        scrub: Arc::new(Scrub::default()),
        in_plain_http: settings.tokens_in_plain_http,
        witness: Some(witness.clone()),
    };
    let client = Client::new(keys, url.clone(), settings, Memory::None);
    if let Err(fault) = client.link().await {
        return Err(stumble("initialize", fault.of_greeting()));
    }
    let listed = client
        .tools()
        .await
        .map_err(|failure| stumble("tools/list", failure));
    client.close().await;
    listed.map(drop)
}

/// One token for everything.
struct Only(Token);

#[async_trait]
impl Authorization for Only {
    async fn token(&self, _: &Caller, _: &Url, _: Option<&Token>) -> Result<Option<Token>, Denied> {
        Ok(Some(self.0.clone()))
    }
}

/// Keeps the last answer that was an error's. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Witness(Arc<Mutex<Option<ErrorAnswer>>>);

impl Witness {
    fn last(&self) -> Option<ErrorAnswer> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Looks at an answer and gives it back as it was.
    pub(crate) async fn see(&self, mut response: Response) -> Response {
        let status = response.status();
        let keep = |answer| *self.0.lock().unwrap_or_else(PoisonError::into_inner) = answer;
        if !status.is_client_error() && !status.is_server_error() {
            keep(None);
            return response;
        }
        let mut body = Vec::new();
        let whole = loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= KEPT => {
                    body.extend_from_slice(&chunk)
                }
                Ok(None) => break true,
                Ok(Some(_)) | Err(_) => break false,
            }
        };
        let content_type = response.headers().get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        keep(Some(ErrorAnswer {
            status: status.as_u16(),
            content_type: content_type.map(str::to_owned),
            body: body.clone(),
            whole,
        }));
        let (url, headers) = (response.url().clone(), response.headers().clone());
        let again = http::Response::builder().status(status).url(url).body(body);
        match again {
            Ok(mut again) => {
                *again.headers_mut() = headers;
                Response::from(again)
            }
            // Status and URL are those of an answer.
            Err(_) => response,
        }
    }
}
