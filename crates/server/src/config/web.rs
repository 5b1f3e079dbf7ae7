//! `[web]`: the web tools of the server.

use reqwest::Url;
use secrecy::SecretString;
use serde::Deserialize;

use super::file::KeySource;
use super::{Environment, Error, wrong};

/// The web tools.
#[derive(Clone, Debug)]
pub struct Web {
    /// Whether an environment that limits its hosts limits the web tools too (runtime WB-9).
    pub within_environment: bool,
    /// Who searches; without it `web_search` says that nobody does.
    pub search: Option<Search>,
}

impl Default for Web {
    fn default() -> Self {
        Self {
            within_environment: true,
            search: None,
        }
    }
}

/// Who searches the web.
#[derive(Clone, Debug)]
pub enum Search {
    /// An instance of SearXNG.
    Searxng {
        /// Its base URL.
        base_url: Url,
    },
    /// Brave Search.
    Brave {
        /// The URL of its web search.
        base_url: Url,
        /// The subscription's key.
        key: SecretString,
    },
    /// Tavily.
    Tavily {
        /// The URL of its search.
        base_url: Url,
        /// The account's key.
        key: SecretString,
    },
}

impl Search {
    /// Its name in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Searxng { .. } => "searxng",
            Self::Brave { .. } => "brave",
            Self::Tavily { .. } => "tavily",
        }
    }

    /// Where it is.
    pub fn base_url(&self) -> &Url {
        match self {
            Self::Searxng { base_url }
            | Self::Brave { base_url, .. }
            | Self::Tavily { base_url, .. } => base_url,
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct WebSection {
    within_environment: Option<bool>,
    search: Option<SearchSection>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SearchSection {
    provider: SearchProvider,
    base_url: Option<String>,
    key: Option<KeySource>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SearchProvider {
    Searxng,
    Brave,
    Tavily,
}

impl WebSection {
    /// Without whom to ask, whose key is then not looked for.
    pub(super) fn without_search(self) -> Self {
        Self {
            search: None,
            ..self
        }
    }

    pub(super) fn effective(self, environment: Environment<'_>) -> Result<Web, Error> {
        let search = self.search.map(|search| search.effective(environment));
        Ok(Web {
            within_environment: self.within_environment.unwrap_or(true),
            search: search.transpose()?,
        })
    }
}

impl SearchSection {
    fn effective(self, environment: Environment<'_>) -> Result<Search, Error> {
        let base_url = |usual: Option<&str>| {
            let url = self.base_url.as_deref().or(usual);
            let url = url
                .ok_or_else(|| wrong("web.search.base_url", "is needed: where the instance is"))?;
            manyhands_egress::check_endpoint(url)
                .map_err(|error| wrong("web.search.base_url", error.to_string()))
        };
        let key = || {
            let source = self.key.as_ref();
            let source = source.ok_or_else(|| {
                wrong(
                    "web.search.key",
                    "is needed: { env = \"NAME\" } or { file = \"PATH\" }",
                )
            })?;
            source.read("web.search.key", environment)
        };
        Ok(match self.provider {
            SearchProvider::Searxng if self.key.is_some() => {
                return Err(wrong("web.search.key", "is not used by searxng"));
            }
            SearchProvider::Searxng => Search::Searxng {
                base_url: base_url(None)?,
            },
            SearchProvider::Brave => Search::Brave {
                base_url: base_url(Some("https://api.search.brave.com/res/v1/web/search"))?,
                key: key()?,
            },
            SearchProvider::Tavily => Search::Tavily {
                base_url: base_url(Some("https://api.tavily.com/search"))?,
                key: key()?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web(text: &str) -> Result<Web, Error> {
        let section: WebSection = toml::from_str(text).expect("TOML");
        let environment = |name: &str| match name {
            "KEY" => Ok("hunter2".to_owned()),
            _ => Err(std::env::VarError::NotPresent),
        };
        section.effective(&environment)
    }

    #[test]
    fn web_tools_are_bounded_by_environments_unless_told_otherwise() {
        let usual = web("").expect("the usual");
        assert!(usual.within_environment && usual.search.is_none());
        assert!(
            !web("within_environment = false")
                .expect("a switch")
                .within_environment
        );
        let tavily =
            web("search = { provider = \"tavily\", key = { env = \"KEY\" } }").expect("a service");
        let shown = format!("{tavily:?}");
        assert!(
            shown.contains("api.tavily.com") && !shown.contains("hunter2"),
            "{shown}"
        );
        let own = web("search = { provider = \"searxng\", base_url = \"http://127.0.0.1:8888/\" }")
            .expect("an instance");
        assert_eq!(own.search.expect("a service").name(), "searxng");
    }

    #[test]
    fn a_service_without_what_it_needs_is_refused_by_name() {
        #[track_caller]
        fn check(text: &str, name: &str) {
            let error = web(text).expect_err(text).to_string();
            assert!(error.starts_with(name), "{error}");
        }
        check("search = { provider = \"searxng\" }", "web.search.base_url");
        check("search = { provider = \"brave\" }", "web.search.key");
        check(
            "search = { provider = \"brave\", key = { env = \"NONE\" } }",
            "web.search.key",
        );
        check(
            "search = { provider = \"searxng\", base_url = \"ftp://x\" }",
            "web.search.base_url",
        );
    }
}
