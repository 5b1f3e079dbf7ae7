//! Skills that agents and sessions name: found, and pinned to a version when they are saved (runtime AG-6, AG-7, SK-4).

use std::collections::HashMap;

use manyhands_brain::Announced;
use manyhands_protocol::agent::SkillRef;
use manyhands_protocol::patch::Patch;
use manyhands_protocol::skill::{Origin, SKILLS as FOLDER, SkillRefParams};
use manyhands_protocol::{SkillId, WorkspaceId};
use manyhands_skills::MANIFEST;
use manyhands_store::skills::{SKILLS, VersionName, VersionRecord};
use serde_json::Value;

use crate::api::error::ApiError;
use crate::api::json;
use crate::app::App;

/// The references of an agent, each with the version that it means now. One that is given twice counts once.
pub(crate) async fn resolve(
    app: &App,
    workspace: &WorkspaceId,
    entries: &[Value],
) -> Result<Vec<SkillRef>, ApiError> {
    if entries.len() > SKILLS {
        let problem = format!(
            "has {} entries; at most {SKILLS} are allowed",
            entries.len()
        );
        return Err(ApiError::field("skills", problem));
    }
    let mut resolved: Vec<SkillRef> = Vec::new();
    let mut names = HashMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let at = format!("skills[{index}]");
        let params: SkillRefParams = json::entry(entry, &at)?;
        let kind = params.kind;
        let record = find(app, workspace, &params, &at).await?;
        let found = SkillRef {
            kind: kind.as_str().to_owned(),
            skill_id: record.version.skill_id.to_string(),
            version: record.version.id.to_string(),
        };
        match names.insert(record.version.name.clone(), found.clone()) {
            None => resolved.push(found),
            Some(before) if before == found => {}
            Some(before) if before.skill_id == found.skill_id => {
                return Err(ApiError::field(
                    at,
                    "names another version of a skill before it",
                ));
            }
            // Each is laid into a folder of its name.
            Some(before) => {
                let problem = format!(
                    "has the name {:?}, as {} before it has",
                    record.version.name, before.skill_id
                );
                return Err(ApiError::field(at, problem));
            }
        }
    }
    Ok(resolved)
}

/// What a patch of skills puts in their place; nothing where it keeps them.
pub(crate) async fn replaced(
    app: &App,
    workspace: &WorkspaceId,
    patch: &Patch<Vec<Value>>,
) -> Result<Option<Vec<SkillRef>>, ApiError> {
    match patch {
        Patch::Keep => Ok(None),
        Patch::Clear => Ok(Some(Vec::new())),
        Patch::Set(entries) => resolve(app, workspace, entries).await.map(Some),
    }
}

async fn find(
    app: &App,
    workspace: &WorkspaceId,
    params: &SkillRefParams,
    at: &str,
) -> Result<VersionRecord, ApiError> {
    let shown: String = params.skill_id.chars().take(100).collect();
    let missing = || {
        let origin = params.kind.as_str();
        ApiError::field(
            format!("{at}.skill_id"),
            format!("there is no {origin} skill {shown:?}"),
        )
    };
    let id = SkillId::parse(&params.skill_id).map_err(|_| missing())?;
    if params.kind == Origin::Anthropic {
        app.built_in.ensure(app).await?;
    }
    let skill = app.store.skill(workspace, &id).await?;
    if skill.is_none_or(|it| it.skill.source.kind != params.kind) {
        return Err(missing());
    }
    let text = params.version.as_deref().unwrap_or("latest");
    let name = VersionName::parse(text);
    let found = match &name {
        Some(name) => app.store.skill_version(workspace, &id, name).await?,
        None => None,
    };
    found.ok_or_else(|| {
        let version: String = text.chars().take(100).collect();
        let problem = format!("the skill {shown:?} has no version {version:?}");
        ApiError::field(format!("{at}.version"), problem)
    })
}

/// What the model of a session is told of its skills.
pub(crate) async fn announced(
    app: &App,
    workspace: &WorkspaceId,
    skills: &[SkillRef],
) -> Result<Vec<Announced>, ApiError> {
    let mut announced = Vec::new();
    for (index, skill) in skills.iter().enumerate() {
        let id = SkillId::parse(&skill.skill_id).ok();
        let version = VersionName::parse(&skill.version);
        let found = match id.zip(version) {
            Some((id, version)) => app.store.skill_version(workspace, &id, &version).await?,
            None => None,
        };
        let record = found.ok_or_else(|| gone(skills, index))?;
        announced.push(Announced {
            path: format!("{FOLDER}/{}/{MANIFEST}", record.version.name),
            name: record.version.name,
            description: record.version.description,
        });
    }
    Ok(announced)
}

/// Why a session is not made whose agent has this skill (runtime LC-5).
pub(crate) fn gone(skills: &[SkillRef], index: usize) -> ApiError {
    let named = skills.get(index).map_or_else(String::new, |it| {
        format!("version {} of the skill {}", it.version, it.skill_id)
    });
    let problem = format!("{named} does not exist any more");
    ApiError::field(format!("agent.skills[{index}]"), problem)
}
