//! SearXNG, which anyone can run: its JSON output has to be switched on (`search.formats`).

use async_trait::async_trait;
use url::Url;

use super::{Hit, Hits, Question, RESULTS, Search, Trouble, answer};

/// A SearXNG instance.
pub struct Searxng {
    client: reqwest::Client,
    endpoint: Url,
}

impl Searxng {
    /// The instance at this base URL.
    pub fn new(client: reqwest::Client, mut base: Url) -> Self {
        let path = format!("{}/search", base.path().trim_end_matches('/'));
        base.set_path(&path);
        Self {
            client,
            endpoint: base,
        }
    }
}

#[async_trait]
impl Search for Searxng {
    fn name(&self) -> &'static str {
        "searxng"
    }

    async fn search(&self, question: &Question) -> Result<Vec<Hit>, Trouble> {
        let mut url = self.endpoint.clone();
        url.query_pairs_mut()
            .append_pair("q", &question.query)
            .append_pair("format", "json");
        let mut found: Hits = answer(self.client.get(url), |_, _| None).await?;
        found.results.truncate(RESULTS * 3);
        Ok(found.results)
    }
}
