//! A tool use → the hand that does it: what is sent, how long it may take, what comes back.

use std::sync::Arc;
use std::time::Duration;

use manyhands_hands::provider::Told;
use manyhands_hands::toolset::Place;
use manyhands_hands::{
    Advice, Block, Call, Error, Output, Provider, Recipe, Sandbox, Source, toolset, web,
};
use manyhands_protocol::EventId;
use manyhands_protocol::agent::{Definition, PermissionPolicy, Tool};
use manyhands_protocol::content::{ContentBlock, Source as ContentSource};
use manyhands_protocol::event::{EventBody, SessionError};
use manyhands_protocol::web::WebSettings;
use manyhands_store::NewEntry;

use crate::mcp::Target;
use crate::record::{MCP_STARTED, TOOL_STARTED, WEB_STARTED};
use crate::replay;

/// Beyond a call's own deadline: when the sandbox itself does not answer any more.
const GRACE: Duration = Duration::from_secs(10);

/// How often a hand that fails for a moment is asked in all.
const TRIES: u32 = 3;

/// How long an operation that nobody waits for may take.
const ASIDE: Duration = Duration::from_secs(5);

/// Where a call runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hand {
    /// In the session's sandbox.
    Sandbox,
    /// Beside the server: a web tool (runtime WB-1).
    Web,
    /// At an MCP server (runtime MC-5).
    Mcp,
}

impl Hand {
    /// Where a call of the tool with this name runs; `mcp` is what the name means at an MCP server.
    pub(crate) fn of(name: &str, mcp: Option<&Target>) -> Self {
        match (mcp, toolset::find(name)) {
            (Some(_), _) => Self::Mcp,
            (None, Some(tool)) if tool.place == Place::Server => Self::Web,
            (None, _) => Self::Sandbox,
        }
    }

    /// The private entry that is durable before a call is begun there (security LOG-2).
    pub(crate) fn intent(self) -> &'static str {
        match self {
            Self::Sandbox => TOOL_STARTED,
            Self::Web => WEB_STARTED,
            Self::Mcp => MCP_STARTED,
        }
    }
}

/// How a call ended.
pub(crate) struct Done {
    pub(crate) id: EventId,
    pub(crate) name: String,
    pub(crate) hand: Hand,
    pub(crate) verdict: Verdict,
    /// Why its MCP server cannot be used, when that is why it failed.
    pub(crate) failure: Option<Box<SessionError>>,
    /// Searches that a service has answered (runtime WB-12).
    pub(crate) searches: u64,
    /// Why no such call can succeed before the agent's settings are changed (runtime ER-10).
    pub(crate) rejected: Option<String>,
}

/// A call of a web tool.
pub(crate) struct WebCall {
    pub(crate) id: EventId,
    pub(crate) name: String,
    pub(crate) input: web::Input,
    pub(crate) bounds: web::Bounds,
}

/// How a call ended.
pub(crate) enum Verdict {
    /// With a result, good or bad.
    Given(Given),
    /// The sandbox is gone; a text for the model.
    Lost(String),
    /// Another brain has the session.
    Stale,
}

/// What a call gave.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Given {
    /// For the model.
    pub(crate) content: Vec<ContentBlock>,
    /// Whether it failed.
    pub(crate) is_error: bool,
}

impl Given {
    /// A failure in words.
    pub(crate) fn error(text: impl Into<String>) -> Self {
        Self {
            content: vec![ContentBlock::text(text)],
            is_error: true,
        }
    }
}

impl From<Output> for Given {
    fn from(output: Output) -> Self {
        Self {
            content: output.content.into_iter().map(content).collect(),
            is_error: output.is_error,
        }
    }
}

/// Whether running a tool twice is the same as running it once (invariant I4).
pub(crate) fn repeatable(name: &str) -> bool {
    matches!(name, "read" | "glob" | "grep")
}

/// Who must agree before a built-in tool runs: its own setting, else its toolset's (runtime TC-2). A tool of no toolset
/// is never let through.
pub(crate) fn policy(agent: &Definition, name: &str) -> PermissionPolicy {
    let of_toolset = agent.tools.iter().find_map(|tool| match tool {
        Tool::AgentToolset {
            configs,
            default_config,
        } => {
            let own = configs.iter().find(|config| config.name == name);
            Some(own.map_or(default_config.permission_policy, |own| {
                own.permission_policy
            }))
        }
        Tool::McpToolset { .. } | Tool::Custom { .. } => None,
    });
    of_toolset.unwrap_or(PermissionPolicy::AlwaysAsk {})
}

/// The tool's name as a metric's label: a closed set.
pub(crate) fn label(name: &str, hand: Hand) -> &'static str {
    match hand {
        Hand::Mcp => "mcp",
        Hand::Sandbox | Hand::Web => {
            toolset::find(name).map_or("other", |definition| definition.name)
        }
    }
}

/// The call that hands get.
pub(crate) fn call(id: &EventId, call: &replay::Call, epoch: i64) -> Call {
    let input = serde_json::from_str(&call.input).unwrap_or_default();
    Call {
        call_id: id.as_str().to_owned(),
        epoch,
        name: call.name.clone(),
        deadline: toolset::deadline(&call.name, &input),
        input,
    }
}

/// The session's sandbox, with the packages of its environment where these can be installed: `Err` is why they cannot.
pub(crate) async fn furnish(
    hands: &dyn Provider,
    mut recipe: Recipe,
    told: &Told,
) -> Result<(Arc<dyn Sandbox>, Result<(), Error>), Error> {
    let furnished = match hands.furnish(&recipe, told).await {
        Err(error) if error.advice() == Advice::Stop => return Err(error),
        furnished => furnished,
    };
    if furnished.is_err() {
        recipe.packages = Default::default();
    }
    Ok((provision(hands, &recipe).await?, furnished))
}

/// The session's sandbox, started if there is none; passing failures are tried again.
async fn provision(hands: &dyn Provider, recipe: &Recipe) -> Result<Arc<dyn Sandbox>, Error> {
    let mut tries = 1;
    loop {
        match hands.provision(recipe).await {
            Err(error) if error.advice() == Advice::Retry && tries < TRIES => tries += 1,
            other => return other,
        }
    }
}

/// Runs a call to its end, whatever that is. The call's id makes asking again harmless.
pub(crate) async fn execute(sandbox: &dyn Sandbox, call: Call) -> Done {
    let mut tries = 1;
    let verdict = loop {
        let limit = call.deadline + GRACE;
        match tokio::time::timeout(limit, sandbox.execute(&call)).await {
            Ok(Ok(output)) => break Verdict::Given(output.into()),
            Ok(Err(error)) => match error.advice() {
                Advice::Retry if tries < TRIES => tries += 1,
                Advice::Stop => break Verdict::Stale,
                _ if error.outcome_unknown() => break Verdict::Lost(error.for_model()),
                Advice::Retry | Advice::TellModel => {
                    break Verdict::Given(Given::error(error.for_model()));
                }
            },
            Err(_) => {
                let kill = sandbox.kill(&call.call_id, call.epoch);
                if !matches!(tokio::time::timeout(ASIDE, kill).await, Ok(Ok(()))) {
                    tracing::warn!(
                        tool = call.name,
                        "a call that is over time could not be ended"
                    );
                }
                break Verdict::Given(Given::error(format!("tool '{}' timed out", call.name)));
            }
        }
    };
    match EventId::parse(&call.call_id) {
        Ok(id) => Done {
            id,
            name: call.name,
            hand: Hand::Sandbox,
            verdict,
            failure: None,
            searches: 0,
            rejected: None,
        },
        Err(_) => unreachable!("the call's id was an event's"),
    }
}

/// Runs a call of a web tool to its end.
pub(crate) async fn fetch(web: Option<&web::Web>, call: WebCall) -> Done {
    let done = match web {
        Some(web) => web.run(&call.input, &call.bounds).await,
        None => Output::error("this server has no web tools").into(),
    };
    Done {
        id: call.id,
        name: call.name,
        hand: Hand::Web,
        verdict: Verdict::Given(done.output.into()),
        failure: None,
        searches: done.searches,
        rejected: done.rejected,
    }
}

/// What the agent's own settings say about a web tool.
pub(crate) fn web_settings(agent: &Definition, name: &str) -> WebSettings {
    let own = agent.tools.iter().find_map(|tool| match tool {
        Tool::AgentToolset { configs, .. } => configs.iter().find(|config| config.name == name),
        Tool::McpToolset { .. } | Tool::Custom { .. } => None,
    });
    own.map(|config| config.web.clone()).unwrap_or_default()
}

/// Lets the sandbox drop results that are durable in the log.
pub(crate) async fn forget(sandbox: &dyn Sandbox, calls: &[String], epoch: i64) {
    let forget = sandbox.forget(calls, epoch);
    if !matches!(tokio::time::timeout(ASIDE, forget).await, Ok(Ok(()))) {
        tracing::debug!("stored results could not be dropped");
    }
}

/// The event of a call's result.
pub(crate) fn result(id: &EventId, hand: Hand, given: Given) -> NewEntry {
    let (content, is_error) = (Some(given.content), Some(given.is_error));
    NewEntry::event(match hand {
        Hand::Sandbox | Hand::Web => EventBody::AgentToolResult {
            tool_use_id: id.clone(),
            content,
            is_error,
        },
        Hand::Mcp => EventBody::AgentMcpToolResult {
            mcp_tool_use_id: id.clone(),
            content,
            is_error,
        },
    })
}

/// An error result of a call.
pub(crate) fn error_result(id: &EventId, hand: Hand, text: impl Into<String>) -> NewEntry {
    result(id, hand, Given::error(text))
}

fn content(block: Block) -> ContentBlock {
    let base64 = |source| {
        let Source::Base64 { media_type, data } = source;
        ContentSource::Base64 { data, media_type }
    };
    match block {
        Block::Text { text } => ContentBlock::Text { text },
        Block::Image { source } => ContentBlock::Image {
            source: base64(source),
        },
        Block::Document { source } => ContentBlock::Document {
            source: base64(source),
            title: None,
            context: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use manyhands_protocol::agent::ToolConfig;

    use super::*;
    use crate::testing::agent;

    #[test]
    fn tc_2_a_tools_own_policy_comes_before_the_default() {
        const ALLOW: PermissionPolicy = PermissionPolicy::AlwaysAllow {};
        const ASK: PermissionPolicy = PermissionPolicy::AlwaysAsk {};
        #[track_caller]
        fn check(
            default: PermissionPolicy,
            own: Option<PermissionPolicy>,
            expected: PermissionPolicy,
        ) {
            let mut agent = agent();
            let Tool::AgentToolset {
                configs,
                default_config,
            } = &mut agent.tools[0]
            else {
                panic!("a toolset")
            };
            default_config.permission_policy = default;
            configs.extend(own.map(|permission_policy| ToolConfig {
                name: "bash".to_owned(),
                kind: "bash".to_owned(),
                enabled: true,
                permission_policy,
                web: WebSettings::default(),
            }));
            assert_eq!(policy(&agent, "bash"), expected);
        }
        check(ALLOW, None, ALLOW);
        check(ASK, None, ASK);
        check(ALLOW, Some(ASK), ASK);
        check(ASK, Some(ALLOW), ALLOW);
        check(
            ASK,
            Some(PermissionPolicy::Auto {}),
            PermissionPolicy::Auto {},
        );
        let mut without = agent();
        without.tools.clear();
        assert_eq!(
            policy(&without, "bash"),
            ASK,
            "never let through by chance (I9)"
        );
    }
}
