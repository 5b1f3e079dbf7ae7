//! Brave Search.

use async_trait::async_trait;
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::{Hit, Hits, Keyed, Question, RESULTS, Search, Trouble, answer};

/// Brave's web search.
pub struct Brave(pub Keyed);

#[derive(Deserialize)]
struct Answer {
    web: Option<Hits>,
}

/// What it says of a request that it finds wrong.
#[derive(Deserialize)]
struct Refusal {
    error: Wrong,
}

#[derive(Deserialize)]
struct Wrong {
    meta: Errors,
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<At>,
}

#[derive(Deserialize)]
struct At {
    /// Where: `query` or `header`, then the name.
    loc: Vec<String>,
}

/// The part of the agent's settings that a refusal is about.
fn settings(status: u16, body: &[u8]) -> Option<String> {
    if status != 422 {
        return None;
    }
    let refusal: Refusal = serde_json::from_slice(body).ok()?;
    let named = refusal.error.meta.errors.iter().flat_map(|at| &at.loc);
    let mut parts = named.filter_map(|name| match name.to_ascii_lowercase().as_str() {
        "country" => Some("country"),
        "x-loc-city" => Some("city"),
        "x-loc-state-name" => Some("region"),
        "x-loc-timezone" => Some("timezone"),
        _ => None,
    });
    let part = parts.next()?;
    Some(format!("user_location.{part}"))
}

#[async_trait]
impl Search for Brave {
    fn name(&self) -> &'static str {
        "brave"
    }

    async fn search(&self, question: &Question) -> Result<Vec<Hit>, Trouble> {
        let mut url = self.0.endpoint.clone();
        url.query_pairs_mut()
            .append_pair("q", &question.query)
            .append_pair("count", &(RESULTS * 2).to_string())
            .append_pair("text_decorations", "false");
        let location = question.location.as_ref();
        if let Some(country) = location.and_then(|location| location.country.as_deref()) {
            url.query_pairs_mut().append_pair("country", country);
        }
        let mut request = self
            .0
            .client
            .get(url)
            .header("accept", "application/json")
            .header("x-subscription-token", self.0.key.expose_secret());
        for (header, part) in [
            (
                "x-loc-city",
                location.and_then(|location| location.city.as_deref()),
            ),
            (
                "x-loc-state-name",
                location.and_then(|location| location.region.as_deref()),
            ),
            (
                "x-loc-timezone",
                location.and_then(|location| location.timezone.as_deref()),
            ),
        ] {
            // A name that no header can hold only costs some nearness.
            if let Some(value) =
                part.and_then(|part| reqwest::header::HeaderValue::from_str(part).ok())
            {
                request = request.header(header, value);
            }
        }
        let answer: Answer = answer(request, settings).await?;
        Ok(answer.web.map_or_else(Vec::new, |web| web.results))
    }
}
