//! The agent of a session: a reference, and what the session overrides (runtime LC-8 to LC-10, AG-13). Pure.

use manyhands_protocol::AgentId;
use manyhands_protocol::agent::{Agent, SessionAgent, SkillRef};
use manyhands_protocol::patch::Patch;
use manyhands_protocol::session::{AgentObjectParam, AgentParam};

use crate::api::agents::SYSTEM;
use crate::api::agents::definition::{self, Catalog};
use crate::api::error::ApiError;

/// Which agent, and which version of it (none means the latest).
pub(crate) fn reference(param: &AgentParam) -> Result<(AgentId, Option<u32>), ApiError> {
    let id = |field: &str, text: &str| {
        AgentId::parse(text).map_err(|problem| ApiError::field(field, problem.to_string()))
    };
    match param {
        AgentParam::Id(text) => Ok((id("agent", text)?, None)),
        AgentParam::Object(object) => {
            let version = match object.version.map(u32::try_from) {
                None => None,
                Some(Ok(version)) if version >= 1 => Some(version),
                Some(_) => {
                    return Err(ApiError::field(
                        "agent.version",
                        "expected a whole number from 1",
                    ));
                }
            };
            Ok((id("agent.id", &object.id)?, version))
        }
    }
}

/// The snapshot: the agent as it is, with the overrides laid over it. Of skills they are what they mean, where they are sent.
pub(crate) fn resolve(
    agent: Agent,
    overrides: Option<AgentObjectParam>,
    skills: Option<Vec<SkillRef>>,
    catalog: &dyn Catalog,
) -> Result<SessionAgent, ApiError> {
    let mut definition = agent.definition;
    if let Some(overrides) = overrides {
        let AgentObjectParam {
            kind,
            model,
            system,
            tools,
            mcp_servers,
            skills: sent_skills,
            ..
        } = overrides;
        let sent = [
            ("model", model.is_sent()),
            ("system", system.is_sent()),
            ("tools", tools.is_sent()),
            ("mcp_servers", mcp_servers.is_sent()),
            ("skills", sent_skills.is_sent()),
        ];
        match kind.as_str() {
            "agent_with_overrides" => {}
            "agent" => {
                if let Some((field, _)) = sent.into_iter().find(|(_, sent)| *sent) {
                    return Err(ApiError::field(
                        format!("agent.{field}"),
                        "needs the type agent_with_overrides",
                    ));
                }
            }
            _ => {
                return Err(ApiError::field(
                    "agent.type",
                    "expected agent or agent_with_overrides",
                ));
            }
        }
        let inside = |error: ApiError| error.inside("agent");
        match model {
            Patch::Keep => {}
            Patch::Clear => {
                return Err(ApiError::field("agent.model", "cannot be cleared")
                    .with_code("agent_model_required"));
            }
            // The agent's effort is not carried over (LC-10).
            Patch::Set(param) => {
                definition.model = definition::model(catalog, param, None).map_err(inside)?
            }
        }
        let system = system.apply(definition.system.take());
        definition.system = definition::optional_text("system", system, SYSTEM).map_err(inside)?;
        match tools {
            Patch::Keep => {}
            Patch::Clear => definition.tools.clear(),
            Patch::Set(entries) => {
                definition.tools = definition::tools(&entries).map_err(inside)?
            }
        }
        match mcp_servers {
            Patch::Keep => {}
            Patch::Clear => definition.mcp_servers.clear(),
            Patch::Set(entries) => {
                definition.mcp_servers = definition::servers(&entries).map_err(inside)?
            }
        }
        definition::agree(&definition.tools, &definition.mcp_servers).map_err(inside)?;
        definition.skills = skills.unwrap_or(definition.skills);
        definition::readable(&definition.tools, &definition.skills).map_err(inside)?;
    }
    Ok(SessionAgent {
        id: agent.id,
        kind: Default::default(),
        version: agent.version,
        definition,
    })
}

#[cfg(test)]
mod tests {
    use manyhands_protocol::agent::{Definition, ExecutionIdentity, McpServer};
    use manyhands_protocol::model::{Effort, EffortLevel, ModelConfig, Speed};
    use manyhands_protocol::{Metadata, Timestamp};
    use serde_json::{Value, json};

    use super::*;

    struct Any;

    impl Catalog for Any {
        fn efforts(&self, id: &str) -> Option<&[EffortLevel]> {
            (id != "unknown").then_some(&[EffortLevel::Low, EffortLevel::High, EffortLevel::Max])
        }

        fn names(&self) -> Vec<String> {
            vec!["m".to_owned()]
        }

        fn is_priced(&self, _: &str) -> bool {
            true
        }

        fn takes_system_messages(&self, _: &str) -> bool {
            true
        }
    }

    fn agent() -> Agent {
        let at = Timestamp::from_micros(0);
        let model = |id: &str, level| ModelConfig {
            id: id.to_owned(),
            effort: Effort { level },
            speed: Speed::Standard,
            inference_geo: None,
        };
        Agent {
            id: AgentId::generate(),
            kind: Default::default(),
            version: 3,
            definition: Definition {
                name: "a".to_owned(),
                description: None,
                system: Some("be kind".to_owned()),
                model: model("m", EffortLevel::Max),
                tools: definition::tools(&[json!({"type": "agent_toolset_20260401"})])
                    .expect("tools"),
                mcp_servers: Vec::new(),
                skills: Vec::new(),
                multiagent: None,
                execution_identity: ExecutionIdentity::default(),
            },
            metadata: Metadata::new(),
            created_at: at,
            updated_at: at,
            archived_at: None,
        }
    }

    fn skill(id: &str) -> SkillRef {
        SkillRef {
            kind: "custom".to_owned(),
            skill_id: id.to_owned(),
            version: "skver_1".to_owned(),
        }
    }

    fn snapshot(param: Value) -> Result<SessionAgent, ApiError> {
        let param: AgentParam = serde_json::from_value(param).expect("a param");
        reference(&param)?;
        match param {
            AgentParam::Id(_) => resolve(agent(), None, None, &Any),
            AgentParam::Object(object) => {
                // One that is sent is found as it is.
                let skills = object
                    .skills
                    .value()
                    .map(|sent| vec![skill("skill_1"); sent.len()]);
                resolve(agent(), Some(*object), skills, &Any)
            }
        }
    }

    #[test]
    fn lc_8_the_three_forms_give_a_snapshot() {
        #[track_caller]
        fn check(param: Value, change: impl FnOnce(&mut Definition)) {
            let mut expected = agent().definition;
            change(&mut expected);
            let snapshot = snapshot(param).expect("accepted");
            assert_eq!(snapshot.definition, expected);
            assert_eq!(snapshot.version, 3);
        }
        check(json!("agent_1"), |_| {});
        check(json!({"type": "agent", "id": "agent_1"}), |_| {});
        check(
            json!({"type": "agent", "id": "agent_1", "version": 3}),
            |_| {},
        );
        let with = |field: &str, value: Value| {
            let mut object = json!({"type": "agent_with_overrides", "id": "agent_1"});
            object[field] = value;
            object
        };
        // LC-9: absent inherits, a value replaces, null and the empty list clear.
        check(with("system", json!("be brief")), |it| {
            it.system = Some("be brief".to_owned())
        });
        check(with("system", json!(null)), |it| it.system = None);
        check(with("tools", json!([])), |it| it.tools.clear());
        check(with("tools", json!(null)), |it| it.tools.clear());
        check(with("skills", json!([])), |_| {});
        check(with("skills", json!([{}])), |it| {
            it.skills = vec![skill("skill_1")]
        });
        check(with("mcp_servers", json!(null)), |_| {});
        let url = "https://docs.example.com/mcp";
        let own = json!({"type": "agent_with_overrides", "id": "agent_1",
            "tools": [{"type": "mcp_toolset", "mcp_server_name": "docs"}],
            "mcp_servers": [{"type": "url", "name": "docs", "url": url}]});
        check(own, |it| {
            it.mcp_servers = vec![McpServer::Url {
                name: "docs".to_owned(),
                url: url.to_owned(),
            }];
            it.tools =
                definition::tools(&[json!({"type": "mcp_toolset", "mcp_server_name": "docs"})])
                    .expect("tools");
        });
        // LC-10: the effort of the agent does not carry over.
        check(with("model", json!("m")), |it| {
            it.model.effort.level = EffortLevel::High
        });
        check(with("model", json!({"id": "m", "effort": "low"})), |it| {
            it.model.effort.level = EffortLevel::Low
        });
    }

    #[test]
    fn lc_9_what_cannot_be_overridden_is_refused() {
        #[track_caller]
        fn check(param: Value, problem: &str) {
            let error = snapshot(param).expect_err(problem);
            assert!(error.message().starts_with(problem), "{}", error.message());
        }
        let object = |kind: &str, more: Value| {
            let mut object = json!({"type": kind, "id": "agent_1"});
            object
                .as_object_mut()
                .expect("an object")
                .extend(more.as_object().expect("an object").clone());
            object
        };
        let with = |more: Value| object("agent_with_overrides", more);
        check(
            json!("env_1"),
            "agent: expected an id that starts with \"agent_\"",
        );
        check(
            object("agent", json!({"id": "sesn_1"})),
            "agent.id: expected an id",
        );
        check(
            object("agent", json!({"version": 0})),
            "agent.version: expected a whole number from 1",
        );
        check(
            object("agent", json!({"version": -1})),
            "agent.version: expected",
        );
        check(
            object("agent", json!({"system": null})),
            "agent.system: needs the type agent_with_overrides",
        );
        check(object("robot", json!({})), "agent.type: expected agent");
        check(
            with(json!({"model": null})),
            "agent.model: cannot be cleared",
        );
        check(
            with(json!({"model": "unknown"})),
            "agent.model: no model \"unknown\"",
        );
        check(
            with(json!({"model": {"id": "m", "effort": "medium"}})),
            "agent.model.effort: m does not have",
        );
        check(
            with(json!({"tools": [{"type": "x"}]})),
            "agent.tools[0].type: expected",
        );
        check(
            with(json!({"mcp_servers": [{}]})),
            "agent.mcp_servers[0].type: is required",
        );
        let servers =
            json!([{"type": "url", "name": "docs", "url": "https://docs.example.com/mcp"}]);
        let toolset = json!([{"type": "mcp_toolset", "mcp_server_name": "docs"}]);
        check(
            with(json!({"mcp_servers": servers})),
            "agent.mcp_servers[0].name: no mcp_toolset names \"docs\"",
        );
        check(
            with(json!({"mcp_servers": null, "tools": toolset})),
            "agent.tools[0].mcp_server_name: \"docs\" is not one of mcp_servers",
        );
        // AG-11: whoever has skills reads them.
        check(
            with(json!({"skills": [{}], "tools": []})),
            "agent.tools: an agent with skills needs the read tool",
        );
        let error = snapshot(with(json!({"model": null}))).expect_err("refused");
        assert!(error.body(None).contains("agent_model_required"));
    }
}
