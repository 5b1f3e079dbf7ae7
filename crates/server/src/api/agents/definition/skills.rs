//! Skills need a tool that reads them (runtime AG-11).

use manyhands_protocol::agent::{SkillRef, Tool};

use crate::api::error::ApiError;

/// Refuses skills without the `read` tool.
pub(crate) fn readable(tools: &[Tool], skills: &[SkillRef]) -> Result<(), ApiError> {
    if skills.is_empty() || tools.iter().any(reads) {
        return Ok(());
    }
    Err(ApiError::field(
        "tools",
        "an agent with skills needs the read tool of agent_toolset_20260401 to read them: enable it, or clear skills",
    ))
}

fn reads(tool: &Tool) -> bool {
    match tool {
        Tool::AgentToolset {
            configs,
            default_config,
        } => {
            let own = configs.iter().find(|config| config.name == "read");
            own.map_or(default_config.enabled, |config| config.enabled)
        }
        Tool::McpToolset { .. } | Tool::Custom { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::agents::definition;

    /// runtime AG-11
    #[test]
    fn ag_11_skills_need_the_read_tool() {
        let skill = SkillRef {
            kind: "custom".to_owned(),
            skill_id: "skill_1".to_owned(),
            version: "skver_1".to_owned(),
        };
        #[track_caller]
        fn check(tools: Value, skills: &[SkillRef], fine: bool) {
            let tools = definition::tools(tools.as_array().expect("a list")).expect("tools");
            assert_eq!(readable(&tools, skills).is_ok(), fine);
        }
        let with = [skill];
        let toolset = |more: Value| {
            let mut toolset = json!({"type": "agent_toolset_20260401"});
            let members = toolset.as_object_mut().expect("an object");
            members.extend(more.as_object().expect("an object").clone());
            json!([toolset])
        };
        check(json!([]), &[], true);
        check(json!([]), &with, false);
        check(toolset(json!({})), &with, true);
        let off = json!({"default_config": {"enabled": false}});
        check(toolset(off), &with, false);
        let only = json!({"default_config": {"enabled": false}, "configs": [{"name": "read", "enabled": true}]});
        check(toolset(only), &with, true);
        let but = json!({"configs": [{"name": "read", "enabled": false}]});
        check(toolset(but), &with, false);
    }
}
