//! Searching the web: one question, one list of results, whoever answers it (runtime WB-1).

mod brave;
mod searxng;
mod tavily;

use std::time::Duration;

use async_trait::async_trait;
use manyhands_protocol::web::UserLocation;
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

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

/// Why a question has no answer. Both texts say nothing of the service's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It failed this time: a text for the model.
    Failed(String),
    /// The service does not take the agent's settings, whatever it is asked (runtime ER-10): a text for people.
    Settings(String),
}

/// A service with a key, and how it is reached.
pub struct Keyed {
    /// Sends the requests.
    pub client: reqwest::Client,
    /// The URL of the search itself.
    pub endpoint: Url,
    /// Goes with each request.
    pub key: SecretString,
}

/// A service that searches the web.
#[async_trait]
pub trait Search: Send + Sync + 'static {
    /// Its name, for example `searxng`.
    fn name(&self) -> &'static str;

    /// The results, best first.
    ///
    /// # Errors
    /// Why there are none.
    async fn search(&self, question: &Question) -> Result<Vec<Hit>, Trouble>;
}

/// Sends a request and reads its JSON, bounded in bytes and time. Errors say nothing of the request, which holds a key. `settings`
/// says what of the agent's settings a refusal, of this status and with this body, is about.
async fn answer<T: DeserializeOwned>(
    request: reqwest::RequestBuilder,
    settings: impl FnOnce(u16, &[u8]) -> Option<String>,
) -> Result<T, Trouble> {
    let work = async {
        let mut response = request.send().await.map_err(|error| reason(&error))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| reason(&error))? {
            if body.len() + chunk.len() > ANSWER {
                let text = "the search service's answer is too long";
                return Err(Trouble::Failed(text.to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        if !status.is_success() {
            let status = status.as_u16();
            return Err(match settings(status, &body) {
                Some(what) => Trouble::Settings(format!(
                    "The search service does not take the agent's {what}. Change the settings of web_search, then send a message to go on."
                )),
                None => Trouble::Failed(format!("the search service answered {status}")),
            });
        }
        serde_json::from_slice(&body).map_err(|error| {
            Trouble::Failed(format!(
                "the search service's answer cannot be read: {error}"
            ))
        })
    };
    tokio::time::timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| {
            let text = "the search service did not answer in time";
            Err(Trouble::Failed(text.to_owned()))
        })
}

fn reason(error: &reqwest::Error) -> Trouble {
    let why = if error.is_connect() {
        "cannot be reached"
    } else if error.is_timeout() {
        "did not answer in time"
    } else {
        "broke the connection off"
    };
    Trouble::Failed(format!("the search service {why}"))
}
