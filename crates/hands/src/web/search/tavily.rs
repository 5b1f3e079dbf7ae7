//! Tavily.

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use url::Url;

use super::{Hit, Hits, Question, RESULTS, Search, Trouble, answer};

/// Tavily's search.
pub struct Tavily {
    client: reqwest::Client,
    endpoint: Url,
    key: SecretString,
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

    async fn search(&self, question: &Question) -> Result<Vec<Hit>, Trouble> {
        let body =
            json!({"query": question.query, "max_results": RESULTS * 2, "search_depth": "basic"});
        let request = self
            .client
            .post(self.endpoint.clone())
            .bearer_auth(self.key.expose_secret())
            .json(&body);
        let found: Hits = answer(request, |_, _| None).await?;
        Ok(found.results)
    }
}
