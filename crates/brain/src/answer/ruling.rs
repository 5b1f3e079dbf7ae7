//! Whether a call of an answer may run, and who runs it (pure).

use std::collections::BTreeMap;

use manyhands_hands::toolset;
use manyhands_protocol::agent::{Definition, PermissionPolicy};
use manyhands_protocol::event::{EvaluatedPermission, Evaluation, Judgement};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::context::{Access, access};
use crate::judge::indeterminate;
use crate::models::{Response, Stop, View};
use crate::record::CallKind;
use crate::tools;

/// What was found about the calls under the policy `auto`, by the place of their blocks. One that is missing is
/// indeterminate.
pub(crate) type Judgements = BTreeMap<usize, Judgement>;

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
pub(crate) fn unjudged(
    response: &Response,
    agent: &Definition,
    most_calls: usize,
) -> Vec<Unjudged> {
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
        let input = parse(input);
        match (ruling(agent, name, &input), input) {
            (Ruling::Sandbox(PermissionPolicy::Auto {}), Value::Object(input)) => Some(Unjudged {
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
    /// The sandbox runs it, if this policy lets it.
    Sandbox(PermissionPolicy),
}

/// What the agent's settings say about a call with this input.
pub(super) fn ruling(agent: &Definition, name: &str, input: &Value) -> Ruling {
    let problem = match (input, access(agent, name)) {
        (_, Access::None) => format!("there is no tool named '{name}'"),
        (Value::Object(_), Access::Custom) => return Ruling::Custom,
        (Value::Object(_), Access::BuiltIn) => match toolset::validate(name, input) {
            Ok(()) => return Ruling::Sandbox(tools::policy(agent, name)),
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
pub(super) fn refused(agent: &Definition, name: &str) -> (EvaluatedPermission, Option<Evaluation>) {
    let free = access(agent, name) == Access::BuiltIn
        && tools::policy(agent, name) == PermissionPolicy::AlwaysAllow {};
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
            let (allowed, evaluation) = refused(&agent, name);
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
