//! Searching the web: one question, one list of results, whoever answers it (runtime WB-1).

mod brave;
mod searxng;
mod tavily;

use std::time::Duration;

use async_trait::async_trait;
use manyhands_protocol::web::UserLocation;
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use brave::Brave;
pub use searxng::Searxng;
pub use tavily::Tavily;

/// Results that are asked for and shown at most.
pub const RESULTS: usize = 10;

/// The most that a service may answer, in bytes.
const ANSWER: usize = 4 << 20;

/// How long a service may take in all.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The words.
    pub query: String,
    /// Where the user is.
    pub location: Option<UserLocation>,
}

/// One result; services differ in the name of its text only.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Hit {
    /// The page's title.
    #[serde(default)]
    pub title: String,
    /// Its URL.
    pub url: String,
    /// What it says about the question, if it says anything.
    #[serde(default, alias = "content", alias = "description")]
    pub text: Option<String>,
}

/// Results, as services list them.
#[derive(Deserialize)]
struct Hits {
    #[serde(default)]
    results: Vec<Hit>,
}

/// A service that searches the web.
#[async_trait]
pub trait Search: Send + Sync + 'static {
    /// Its name, for example `searxng`.
    fn name(&self) -> &'static str;

    /// The results, best first.
    ///
    /// # Errors
    /// A text for the model, without the service's key.
    async fn search(&self, question: &Question) -> Result<Vec<Hit>, String>;
}

/// Sends a request and reads its JSON, bounded in bytes and time. Errors say nothing of the request, which holds a key.
async fn answer<T: DeserializeOwned>(request: reqwest::RequestBuilder) -> Result<T, String> {
    let work = async {
        let mut response = request.send().await.map_err(|error| reason(&error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("the search service answered {}", status.as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| reason(&error))? {
            if body.len() + chunk.len() > ANSWER {
                return Err("the search service's answer is too long".to_owned());
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body)
            .map_err(|error| format!("the search service's answer cannot be read: {error}"))
    };
    tokio::time::timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| Err("the search service did not answer in time".to_owned()))
}

fn reason(error: &reqwest::Error) -> String {
    let why = if error.is_connect() {
        "cannot be reached"
    } else if error.is_timeout() {
        "did not answer in time"
    } else {
        "broke the connection off"
    };
    format!("the search service {why}")
}
