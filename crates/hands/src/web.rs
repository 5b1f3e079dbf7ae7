//! The web tools, which run beside the server and never in a sandbox (runtime WB-1). All they reach goes through the
//! guarded client (security NET-9).

mod domains;
mod fetch;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod readable;
pub mod search;
mod shown;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use manyhands_egress::host::{Host, Pattern};
use manyhands_egress::outbound::Outbound;
use manyhands_protocol::web::WebSettings;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::provider::{Block, Output};

use search::{Hit, Question, RESULTS, Search, Trouble};
pub use shown::Shown;

/// How long a call may take in all.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The longest question, in characters.
const QUERY: usize = 1000;

/// Characters of a result's title and text that are shown.
const SNIPPET: usize = 2000;

/// The web tools of a server. Clones share everything.
#[derive(Clone)]
pub struct Web {
    outbound: Outbound,
    search: Option<Arc<dyn Search>>,
}

/// What bounds a call: what the agent and the environment say, and what the conversation has shown.
#[derive(Debug, Clone, Default)]
pub struct Bounds {
    /// The tool's settings.
    pub settings: WebSettings,
    /// The only hosts, where the environment limits them too (runtime WB-9).
    pub hosts: Option<Vec<Pattern>>,
    /// The only URLs, where the agent takes none that were not shown (runtime WB-8).
    pub shown: Option<Shown>,
}

impl Bounds {
    fn admits(&self, host: &Host, path: &str) -> bool {
        let listed = |hosts: &Vec<Pattern>| hosts.iter().any(|pattern| pattern.matches(host));
        domains::admits(&self.settings, host.as_str(), path)
            && self.hosts.as_ref().is_none_or(listed)
    }
}

/// The input of a web tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// `web_fetch`.
    Fetch {
        /// The page.
        url: String,
    },
    /// `web_search`.
    Search {
        /// The words.
        query: String,
    },
}

impl Input {
    /// The input of the tool `name`.
    ///
    /// # Errors
    /// A text for the model.
    pub fn parse(name: &str, input: &Value) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Fetch {
            url: String,
        }
        #[derive(Deserialize)]
        struct Query {
            query: String,
        }
        let invalid = |error: serde_json::Error| format!("{name}: invalid input: {error}");
        match name {
            "web_fetch" => Fetch::deserialize(input)
                .map(|Fetch { url }| Self::Fetch { url })
                .map_err(invalid),
            "web_search" => {
                let Query { query } = Query::deserialize(input).map_err(invalid)?;
                if query.trim().is_empty() || query.chars().count() > QUERY {
                    return Err(format!(
                        "{name}: invalid input: expected a query of 1 to {QUERY} characters"
                    ));
                }
                Ok(Self::Search { query })
            }
            _ => Err(format!("unknown tool '{name}'")),
        }
    }
}

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// For the model.
    pub output: Output,
    /// Searches that a service has answered (runtime WB-12).
    pub searches: u64,
    /// Why no call of the tool can succeed before the agent's settings are changed (runtime ER-10), for people.
    pub rejected: Option<String>,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            output,
            searches: 0,
            rejected: None,
        }
    }
}

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let search = self.search.as_ref().map(|search| search.name());
        f.debug_struct("Web")
            .field("search", &search)
            .finish_non_exhaustive()
    }
}

impl Web {
    /// The tools over this gate. Without a service, searches say that none is configured.
    pub fn new(outbound: Outbound, search: Option<Arc<dyn Search>>) -> Self {
        Self { outbound, search }
    }

    /// Runs a call to its end. Dropping it ends it.
    pub async fn run(&self, input: &Input, bounds: &Bounds) -> Done {
        let work = async {
            match input {
                Input::Fetch { url } => self.fetch(url, bounds).await.into(),
                Input::Search { query } => self.search(query, bounds).await,
            }
        };
        let late = |_| Output::error("url_not_accessible: the call took too long").into();
        tokio::time::timeout(DEADLINE, work)
            .await
            .unwrap_or_else(late)
    }

    async fn fetch(&self, given: &str, bounds: &Bounds) -> Output {
        let url = match fetch::parse(given) {
            Ok(url) => url,
            Err(text) => return Output::error(text),
        };
        if bounds
            .shown
            .as_ref()
            .is_some_and(|shown| !shown.contains(&url))
        {
            return Output::error(
                "url_not_allowed: this agent fetches only URLs that the conversation has shown, as they were shown",
            );
        }
        let admits = |host: &Host, url: &Url| bounds.admits(host, url.path());
        let page = match self.outbound.get(&url, &admits, fetch::MOST).await {
            Ok(page) => page,
            Err(refusal) => return Output::error(fetch::refused(&refusal)),
        };
        let settings = bounds.settings.clone();
        let read = tokio::task::spawn_blocking(move || fetch::output(&page, &settings));
        // A page that makes its reader fail is the page's fault and ends this call alone (security OPS-2).
        read.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "a page could not be read");
            Output::error("unsupported_content_type: the page cannot be read")
        })
    }

    async fn search(&self, query: &str, bounds: &Bounds) -> Done {
        let Some(search) = &self.search else {
            return Output::error(
                "web_search is not configured on this server. An operator can name a service under [web.search].",
            )
            .into();
        };
        let question = Question {
            query: query.to_owned(),
            location: bounds.settings.user_location.clone(),
        };
        match search.search(&question).await {
            Ok(hits) => Done {
                output: results(hits, bounds),
                searches: 1,
                rejected: None,
            },
            Err(Trouble::Failed(text)) => {
                tracing::warn!(service = search.name(), text, "a search failed");
                Output::error(text).into()
            }
            Err(Trouble::Settings(text)) => {
                tracing::warn!(service = search.name(), text, "a search cannot be made");
                Done {
                    rejected: Some(text.clone()),
                    ..Output::error(text).into()
                }
            }
        }
    }
}

/// The results that the lists admit, as one text (runtime WB-6).
fn results(hits: Vec<Hit>, bounds: &Bounds) -> Output {
    let admitted = hits.into_iter().filter(|hit| {
        let url = Url::parse(&hit.url).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https"));
        url.is_some_and(|url| {
            let host = Host::parse(url.host_str().unwrap_or_default());
            host.is_ok_and(|host| bounds.admits(&host, url.path()))
        })
    });
    let clean = |text: &str| {
        let words: Vec<&str> = text.split_whitespace().collect();
        words.join(" ").chars().take(SNIPPET).collect::<String>()
    };
    let shown = admitted.take(RESULTS).enumerate().map(|(index, hit)| {
        format!(
            "{}. {}\n{}\n{}\n",
            index + 1,
            clean(&hit.title),
            hit.url,
            clean(hit.text.as_deref().unwrap_or_default())
        )
    });
    let text: Vec<String> = shown.collect();
    if text.is_empty() {
        return Output::text("No results.");
    }
    Output {
        content: vec![Block::Text {
            text: text.join("\n"),
        }],
        is_error: false,
    }
}
