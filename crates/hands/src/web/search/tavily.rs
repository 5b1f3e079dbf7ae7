//! Tavily.

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::{Hit, Question, RESULTS, Search, answer};

/// Tavily's search.
pub struct Tavily {
    client: reqwest::Client,
    endpoint: Url,
    key: SecretString,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    results: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    url: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    content: String,
}

impl Tavily {
    /// The service at this URL, which is that of the search itself.
    pub fn new(client: reqwest::Client, endpoint: Url, key: SecretString) -> Self {
        Self {
            client,
            endpoint,
            key,
        }
    }
}

#[async_trait]
impl Search for Tavily {
    fn name(&self) -> &'static str {
        "tavily"
    }

    async fn search(&self, question: &Question) -> Result<Vec<Hit>, String> {
        let body =
            json!({"query": question.query, "max_results": RESULTS * 2, "search_depth": "basic"});
        let request = self
            .client
            .post(self.endpoint.clone())
            .bearer_auth(self.key.expose_secret())
            .json(&body);
        let answer: Answer = answer(request).await?;
        let found = answer.results.into_iter();
        Ok(found
            .map(
                |Found {
                     url,
                     title,
                     content,
                 }| Hit {
                    title,
                    url,
                    text: content,
                },
            )
            .collect())
    }
}
