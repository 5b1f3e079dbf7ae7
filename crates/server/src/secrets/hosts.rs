//! Whether a host of git shows a repository to a session. The server itself asks, because a sandbox could say anything, and with the
//! session's own credential, because what one session has cloned is for those who may read it (runtime GH-3; security CRED-9, SBX-8).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use http::{Method, StatusCode, uri::PathAndQuery};
use manyhands_brain::Hosts;
use manyhands_egress::host::Target;
use manyhands_egress::outbound::{Outbound, Request};
use manyhands_egress::repository::Repository;
use manyhands_egress::secrets::{Passage, Secrets, Visit};
use manyhands_protocol::SessionId;

/// How long a host may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a host of git answers with, and nobody else: not a page that asks to log in.
const REFERENCES: &str = "application/x-git-upload-pack-advertisement";

/// Asks hosts with the credentials that the holder of secrets gives for the session.
pub(crate) struct Asker {
    secrets: Arc<dyn Secrets>,
    outbound: Outbound,
}

impl Asker {
    pub(crate) fn new(secrets: Arc<dyn Secrets>, outbound: Outbound) -> Self {
        Self { secrets, outbound }
    }

    /// Asks for the references, as git does first. Only the head of the answer is looked at.
    async fn ask(&self, session: &SessionId, url: &str) -> Result<bool, String> {
        let repository = Repository::parse(url).map_err(|error| error.to_string())?;
        let asked = format!("{url}/info/refs?service=git-upload-pack");
        let asked = url::Url::parse(&asked).map_err(|error| error.to_string())?;
        let path = format!("{}?{}", asked.path(), asked.query().unwrap_or_default());
        let path: PathAndQuery = path.parse().map_err(|_| "no path".to_owned())?;
        let target: &Target = repository.target();
        let visit = Visit {
            session: session.as_str(),
            target,
            method: &Method::GET,
            path: &path,
        };
        let passage = self.secrets.repository(&visit).await;
        let mut headers = HeaderMap::new();
        match passage.map_err(|error| error.to_string())? {
            None => return Ok(false),
            Some(Passage::Public) => {}
            Some(Passage::With(basic)) => {
                let value = basic.value().ok_or("the token is no value of a header")?;
                headers.insert(AUTHORIZATION, value);
            }
        }
        let request = Request {
            method: Method::GET,
            url: asked,
            headers,
            body: Vec::new(),
        };
        let answer = self.outbound.send(request).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let kind = answer.headers().get(CONTENT_TYPE);
        let is_git = kind.is_some_and(|kind| kind.as_bytes() == REFERENCES.as_bytes());
        Ok(answer.status() == StatusCode::OK && is_git)
    }
}

#[async_trait]
impl Hosts for Asker {
    async fn shows(&self, session: &SessionId, url: &str) -> bool {
        let asked = tokio::time::timeout(PATIENCE, self.ask(session, url)).await;
        match asked.unwrap_or_else(|late| Err(late.to_string())) {
            Ok(shown) => shown,
            Err(why) => {
                tracing::debug!(session.id = %session, why, "a host does not say whether it shows a repository");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
