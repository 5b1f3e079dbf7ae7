//! Settings of the web tools (api §4.1, runtime WB-2).

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::shorthand::{text_or_object, text_or_object_schema};
use crate::tag;

/// What bounds a web tool. A tool that is none has none of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WebSettings {
    /// Only these domains and those below them (runtime WB-4). Lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_domains: Option<Vec<String>>,
    /// Not these domains, nor those below them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_domains: Option<Vec<String>>,
    /// Where the user is, for `web_search`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_location: Option<UserLocation>,
    /// The most that `web_fetch` returns of a text, in tokens; above 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_content_tokens: Option<u64>,
    /// Where the URLs that `web_fetch` takes may come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_sources: Option<UrlSources>,
}

impl WebSettings {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Roughly where a user is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserLocation {
    /// How exact it is.
    #[serde(rename = "type")]
    pub kind: LocationKind,
    /// The city's name.
    #[serde(default)]
    pub city: Option<String>,
    /// Two upper-case letters of ISO 3166-1.
    #[serde(default)]
    pub country: Option<String>,
    /// The region or state.
    #[serde(default)]
    pub region: Option<String>,
    /// A name of the time zone database.
    #[serde(default)]
    pub timezone: Option<String>,
}

/// How exact a location is: one value is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LocationKind {
    /// Roughly.
    #[default]
    Approximate,
}

/// Where the URLs that `web_fetch` takes may come from (runtime WB-7). An absent key allows all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct UrlSources {
    /// Results of custom tools.
    pub client_tool_results: Option<ToolFilter>,
    /// Results of `web_search` and `web_fetch`.
    pub server_tool_results: Option<ToolFilter>,
    /// The text of user messages.
    pub user_input: Option<UserInput>,
}

/// Which tools' results count. In requests also `"all"` and `"none"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToolFilter {
    /// All.
    All {},
    /// None.
    None {},
    /// Those of these tools.
    Only {
        /// 1 to 128 names, each once.
        tools: Vec<ToolReference>,
    },
    /// All but those of these tools.
    Except {
        /// 1 to 128 names, each once.
        tools: Vec<ToolReference>,
    },
}

impl ToolFilter {
    /// Whether the results of this tool count.
    pub fn admits(&self, name: &str) -> bool {
        let listed = |tools: &[ToolReference]| tools.iter().any(|tool| tool.name == name);
        match self {
            Self::All {} => true,
            Self::None {} => false,
            Self::Only { tools } => listed(tools),
            Self::Except { tools } => !listed(tools),
        }
    }
}

/// Whether the text of user messages counts. In requests also `"all"` and `"none"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum UserInput {
    /// It does.
    All {},
    /// It does not.
    None {},
}

/// A tool by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolReference {
    /// Always `"tool_reference"`.
    #[serde(rename = "type")]
    pub kind: tag::ToolReference,
    /// Compared exactly.
    pub name: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Shorthand {
    All,
    None,
}

#[derive(Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ToolFilterObject {
    All {},
    None {},
    Only { tools: Vec<ToolReference> },
    Except { tools: Vec<ToolReference> },
}

#[derive(Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
enum UserInputObject {
    All {},
    None {},
}

text_or_object_schema!(ToolFilter, Shorthand, ToolFilterObject);
text_or_object_schema!(UserInput, Shorthand, UserInputObject);

impl<'de> Deserialize<'de> for ToolFilter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = text_or_object(deserializer, "\"all\", \"none\" or an object")?;
        Ok(match read {
            Ok(Shorthand::All) | Err(ToolFilterObject::All {}) => Self::All {},
            Ok(Shorthand::None) | Err(ToolFilterObject::None {}) => Self::None {},
            Err(ToolFilterObject::Only { tools }) => Self::Only { tools },
            Err(ToolFilterObject::Except { tools }) => Self::Except { tools },
        })
    }
}

impl<'de> Deserialize<'de> for UserInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = text_or_object(deserializer, "\"all\", \"none\" or an object")?;
        Ok(match read {
            Ok(Shorthand::All) | Err(UserInputObject::All {}) => Self::All {},
            Ok(Shorthand::None) | Err(UserInputObject::None {}) => Self::None {},
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// runtime WB-7
    #[test]
    fn wb_7_sources_are_said_short_or_long_and_shown_long() {
        #[track_caller]
        fn check(given: Value, shown: Value) {
            let sources: UrlSources = serde_json::from_value(given).expect("accepted");
            assert_eq!(serde_json::to_value(sources).expect("JSON"), shown);
        }
        let none = json!({"type": "none"});
        check(
            json!({}),
            json!({"client_tool_results": null, "server_tool_results": null, "user_input": null}),
        );
        check(
            json!({"client_tool_results": "none", "server_tool_results": {"type": "all"}, "user_input": none}),
            json!({"client_tool_results": none, "server_tool_results": {"type": "all"}, "user_input": none}),
        );
        let only =
            json!({"type": "only", "tools": [{"type": "tool_reference", "name": "web_search"}]});
        check(
            json!({"server_tool_results": only}),
            json!({"client_tool_results": null, "server_tool_results": only, "user_input": null}),
        );
        for wrong in [
            json!({"user_input": "only"}),
            json!({"user_input": {"type": "only", "tools": []}}),
            json!({"client_tool_results": {"type": "except"}}),
            json!({"client_tool_results": {"type": "only", "tools": [{"name": "x"}]}}),
            json!({"client_tool_results": 1}),
        ] {
            assert!(serde_json::from_value::<UrlSources>(wrong).is_err());
        }
    }

    #[test]
    fn wb_7_a_filter_admits_by_the_exact_name() {
        let tools = || {
            vec![ToolReference {
                kind: tag::ToolReference::Value,
                name: "a".to_owned(),
            }]
        };
        let all = [
            (ToolFilter::All {}, [true, true]),
            (ToolFilter::None {}, [false, false]),
            (ToolFilter::Only { tools: tools() }, [true, false]),
            (ToolFilter::Except { tools: tools() }, [false, true]),
        ];
        for (filter, expected) in all {
            assert_eq!(["a", "A"].map(|name| filter.admits(name)), expected);
        }
    }
}
