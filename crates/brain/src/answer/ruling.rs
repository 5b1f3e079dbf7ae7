//! Whether a call of an answer may run, and who runs it (pure).

use std::collections::BTreeMap;

use manyhands_hands::toolset;
use manyhands_protocol::agent::{Definition, PermissionPolicy};
use manyhands_protocol::event::{EvaluatedPermission, Evaluation, Judgement};
use manyhands_protocol::number::has_wide_integer;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::context::{Access, access};
use crate::judge::indeterminate;
use crate::mcp::{self, Listings, Meaning, Target};
use crate::models::{Response, Stop, View};
use crate::record::CallKind;
use crate::tools;

/// What was found about the calls under the policy `auto`, by the place of their blocks. One that is missing is
/// indeterminate.
pub(crate) type Judgements = BTreeMap<usize, Judgement>;

/// What a model can call: the agent's own tools, and those of its MCP servers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tools<'a> {
    /// The agent.
    pub(crate) agent: &'a Definition,
    /// What its servers have listed.
    pub(crate) mcp: &'a Listings,
}

impl Tools<'_> {
    fn meaning(self, name: &str) -> Option<Meaning> {
        mcp::meaning(self.agent, self.mcp, name)
    }

    /// The tool of an MCP server that a model means by this name.
    pub(super) fn target(self, name: &str) -> Option<Target> {
        // No tool of the agent's own has a server's name.
        match (access(self.agent, name), self.meaning(name)) {
            (Access::None, Some(Meaning::Offered(target, _) | Meaning::Absent(target))) => {
                Some(target)
            }
            _ => None,
        }
    }
}

/// A call of a response that a judge has to look at (runtime TC-8).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unjudged {
    /// The place of its block.
    pub(crate) index: usize,
    /// The tool.
    pub(crate) tool: String,
    /// Its input.
    pub(crate) input: Map<String, Value>,
}

/// The calls of a response that a judge has to look at, in order.
pub(crate) fn unjudged(response: &Response, tools: Tools<'_>, most_calls: usize) -> Vec<Unjudged> {
    if matches!(response.stop, Stop::Refusal { .. }) {
        return Vec::new();
    }
    let calls = response
        .blocks
        .iter()
        .enumerate()
        .filter_map(|(index, block)| match &block.view {
            View::ToolUse { name, input, .. } => Some((index, name, input)),
            View::Text(_) | View::Thinking | View::Other => None,
        });
    let within = calls.take(most_calls).filter_map(|(index, name, input)| {
        let (raw, input) = (input, parse(input));
        match (ruling(tools, name, raw, &input), input) {
            (Ruling::Ours(PermissionPolicy::Auto {}), Value::Object(input)) => Some(Unjudged {
                index,
                tool: name.clone(),
                input,
            }),
            _ => None,
        }
    });
    within.collect()
}

/// What the agent's settings say about a call.
pub(super) enum Ruling {
    /// It cannot be run; a text for the model.
    Refused(String),
    /// The client runs it.
    Custom,
    /// We run it, if this policy lets it.
    Ours(PermissionPolicy),
}

/// What the agent's settings say about a call with this input, as it was written and as it was read.
pub(super) fn ruling(tools: Tools<'_>, name: &str, raw: &RawValue, input: &Value) -> Ruling {
    if has_wide_integer(raw.get().as_bytes()) {
        return Ruling::Refused(format!(
            "{name}: invalid input: a whole number needs more than 64 bits; write it as a string"
        ));
    }
    let access = access(tools.agent, name);
    let problem = match (input, access, tools.meaning(name)) {
        (_, Access::None, None) => format!("there is no tool named '{name}'"),
        (_, Access::None, Some(Meaning::Absent(target))) => format!(
            "the MCP server '{}' offers no tool '{}' in this session now",
            target.server, target.tool
        ),
        (Value::Object(_), Access::None, Some(Meaning::Offered(_, policy))) => {
            return Ruling::Ours(policy);
        }
        (Value::Object(_), Access::Custom, _) => return Ruling::Custom,
        (Value::Object(_), Access::BuiltIn, _) => match toolset::validate(name, input) {
            Ok(()) => return Ruling::Ours(tools::policy(tools.agent, name)),
            Err(problem) => problem,
        },
        _ => format!("{name}: the input must be a JSON object"),
    };
    Ruling::Refused(problem)
}

/// An input as JSON.
pub(super) fn parse(input: &RawValue) -> Value {
    serde_json::from_str(input.get()).unwrap_or_default()
}

/// Whether a call may run, as its event says it, and who runs it (runtime TC-3, TC-4).
pub(super) fn permission(
    policy: PermissionPolicy,
    judgement: Option<&Judgement>,
) -> (EvaluatedPermission, Evaluation, CallKind) {
    match policy {
        PermissionPolicy::AlwaysAllow {} => (
            EvaluatedPermission::Allow,
            Evaluation::AlwaysAllow {},
            CallKind::Sandbox,
        ),
        PermissionPolicy::AlwaysAsk {} => (
            EvaluatedPermission::Ask,
            Evaluation::AlwaysAsk {},
            CallKind::Asked,
        ),
        PermissionPolicy::Auto {} => {
            let judgement = judgement.cloned().unwrap_or_else(indeterminate);
            let (permission, kind) = match judgement {
                Judgement::Allow {} => (EvaluatedPermission::Allow, CallKind::Sandbox),
                Judgement::Ask { .. } => (EvaluatedPermission::Ask, CallKind::Asked),
                Judgement::Deny { .. } => (EvaluatedPermission::Deny, CallKind::Refused),
            };
            let evaluation = Evaluation::Auto {
                evaluated_permission: judgement,
            };
            (permission, evaluation, kind)
        }
    }
}

/// What the event of a call says that nobody runs, for reasons that are not its policy. Where the policy would have let
/// it run, it is a call that failed; otherwise no policy was asked (runtime TC-5, TL-5).
pub(super) fn refused(tools: Tools<'_>, name: &str) -> (EvaluatedPermission, Option<Evaluation>) {
    let policy = match (access(tools.agent, name), tools.meaning(name)) {
        (Access::BuiltIn, _) => Some(tools::policy(tools.agent, name)),
        (Access::None, Some(Meaning::Offered(_, policy))) => Some(policy),
        _ => None,
    };
    let free = policy == Some(PermissionPolicy::AlwaysAllow {});
    if free {
        let evaluation = Evaluation::AlwaysAllow {};
        (EvaluatedPermission::Allow, Some(evaluation))
    } else {
        (EvaluatedPermission::Deny, None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::agent;

    #[test]
    fn tc_4_policies_and_judgements_make_evaluations() {
        #[track_caller]
        fn check(
            policy: PermissionPolicy,
            judgement: Option<Judgement>,
            expected: (&str, CallKind, Value),
        ) {
            let (allowed, evaluation, kind) = permission(policy, judgement.as_ref());
            let (permission, expected_kind, expected_evaluation) = expected;
            assert_eq!(json!(allowed), permission, "TC-3");
            assert_eq!(kind, expected_kind);
            assert_eq!(json!(evaluation), expected_evaluation);
        }
        let auto = |inside: Value| json!({"type": "auto", "evaluated_permission": inside});
        let reason = "high_risk".to_owned();
        check(
            PermissionPolicy::AlwaysAllow {},
            None,
            ("allow", CallKind::Sandbox, json!({"type": "always_allow"})),
        );
        check(
            PermissionPolicy::AlwaysAsk {},
            Some(Judgement::Allow {}),
            ("ask", CallKind::Asked, json!({"type": "always_ask"})),
        );
        check(
            PermissionPolicy::Auto {},
            Some(Judgement::Allow {}),
            ("allow", CallKind::Sandbox, auto(json!({"type": "allow"}))),
        );
        check(
            PermissionPolicy::Auto {},
            Some(Judgement::Deny {
                reason_code: reason.clone(),
            }),
            (
                "deny",
                CallKind::Refused,
                auto(json!({"type": "deny", "reason_code": reason})),
            ),
        );
        check(
            PermissionPolicy::Auto {},
            None,
            (
                "ask",
                CallKind::Asked,
                auto(json!({"type": "ask", "reason_code": "indeterminate"})),
            ),
        );
    }

    #[test]
    fn tc_5_calls_that_nobody_runs_name_a_policy_only_where_it_let_them_through() {
        #[track_caller]
        fn check(policy: PermissionPolicy, name: &str, expected: (&str, Option<Value>)) {
            let mut agent = agent();
            if let manyhands_protocol::agent::Tool::AgentToolset { default_config, .. } =
                &mut agent.tools[0]
            {
                default_config.permission_policy = policy;
            }
            let mcp = Listings::default();
            let tools = Tools {
                agent: &agent,
                mcp: &mcp,
            };
            let (allowed, evaluation) = refused(tools, name);
            let (permission, expected) = expected;
            assert_eq!(json!(allowed), permission);
            assert_eq!(evaluation.map(|evaluation| json!(evaluation)), expected);
        }
        let allow = PermissionPolicy::AlwaysAllow {};
        let allowed = Some(json!({"type": "always_allow"}));
        check(allow, "bash", ("allow", allowed));
        check(allow, "grep", ("deny", None));
        check(allow, "fly", ("deny", None));
        check(allow, "ask", ("deny", None));
        check(PermissionPolicy::AlwaysAsk {}, "bash", ("deny", None));
        check(PermissionPolicy::Auto {}, "bash", ("deny", None));
    }
}
