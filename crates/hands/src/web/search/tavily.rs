//! Tavily.

use async_trait::async_trait;
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::{Hit, Hits, Keyed, Question, RESULTS, Search, Trouble, answer};

/// Tavily's search.
pub struct Tavily(pub Keyed);

#[async_trait]
impl Search for Tavily {
    fn name(&self) -> &'static str {
        "tavily"
    }

    async fn search(&self, question: &Question) -> Result<Vec<Hit>, Trouble> {
        let body =
            json!({"query": question.query, "max_results": RESULTS * 2, "search_depth": "basic"});
        let request = self
            .0
            .client
            .post(self.0.endpoint.clone())
            .bearer_auth(self.0.key.expose_secret())
            .json(&body);
        let found: Hits = answer(request, |_, _| None).await?;
        Ok(found.results)
    }
}
