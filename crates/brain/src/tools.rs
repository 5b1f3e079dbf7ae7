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
use manyhands_protocol::event::EventBody;
use manyhands_protocol::web::WebSettings;
use manyhands_store::NewEntry;

use crate::replay;

/// Beyond a call's own deadline: when the sandbox itself does not answer any more.
const GRACE: Duration = Duration::from_secs(10);

/// How often a hand that fails for a moment is asked in all.
const TRIES: u32 = 3;

/// How long an operation that nobody waits for may take.
const ASIDE: Duration = Duration::from_secs(5);

/// How a call ended.
pub(crate) struct Done {
    pub(crate) id: EventId,
    pub(crate) name: String,
    pub(crate) verdict: Verdict,
    /// Searches that a service has answered (runtime WB-12).
    pub(crate) searches: u64,
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
    Output(Output),
    /// The sandbox is gone; a text for the model.
    Lost(String),
    /// Another brain has the session.
    Stale,
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

/// Whether a tool runs beside the server and not in the sandbox (runtime WB-1).
pub(crate) fn is_web(name: &str) -> bool {
    toolset::find(name).is_some_and(|tool| tool.place == Place::Server)
}

/// The tool's name as a metric's label: a closed set.
pub(crate) fn label(name: &str) -> &'static str {
    toolset::find(name).map_or("other", |definition| definition.name)
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
            Ok(Ok(output)) => break Verdict::Output(output),
            Ok(Err(error)) => match error.advice() {
                Advice::Retry if tries < TRIES => tries += 1,
                Advice::Stop => break Verdict::Stale,
                _ if error.outcome_unknown() => break Verdict::Lost(error.for_model()),
                Advice::Retry | Advice::TellModel => {
                    break Verdict::Output(Output::error(error.for_model()));
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
                break Verdict::Output(Output::error(format!("tool '{}' timed out", call.name)));
            }
        }
    };
    match EventId::parse(&call.call_id) {
        Ok(id) => Done {
            id,
            name: call.name,
            verdict,
            searches: 0,
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
        verdict: Verdict::Output(done.output),
        searches: done.searches,
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
pub(crate) fn result(id: &EventId, output: Output) -> NewEntry {
    NewEntry::event(EventBody::AgentToolResult {
        tool_use_id: id.clone(),
        content: Some(output.content.into_iter().map(content).collect()),
        is_error: Some(output.is_error),
    })
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
