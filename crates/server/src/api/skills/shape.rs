//! The two shapes that skills are shown in: today's, and the one that old clients ask for by a beta header (api §28).

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use manyhands_protocol::page::Page;
use manyhands_protocol::skill::{
    LegacyPage, LegacySkill, LegacySkillVersion, Skill, SkillVersion, SkillVersionDeleted,
};
use manyhands_store::skills::{SkillRecord, VersionRecord};

use crate::api::auth::betas;

/// What old clients send.
const LEGACY: &str = "skills-2025-10-02";

/// The shape that a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Versions have ids.
    Today,
    /// Versions are named by when they were made.
    Legacy,
}

impl Shape {
    /// What the request asks for.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        match betas::has(headers, LEGACY) {
            true => Self::Legacy,
            false => Self::Today,
        }
    }

    /// A skill.
    pub(super) fn skill(self, record: SkillRecord) -> Response {
        match self {
            Self::Today => Json(record.skill).into_response(),
            Self::Legacy => Json(legacy_skill(record)).into_response(),
        }
    }

    /// A page of skills.
    pub(super) fn skills(self, records: Vec<SkillRecord>, next: Option<String>) -> Response {
        let records = records.into_iter();
        match self {
            Self::Today => page(records.map(|it| it.skill).collect::<Vec<Skill>>(), next),
            Self::Legacy => legacy_page(records.map(legacy_skill).collect(), next),
        }
    }

    /// A version.
    pub(super) fn version(self, record: VersionRecord) -> Response {
        match self {
            Self::Today => Json(record.version).into_response(),
            Self::Legacy => Json(legacy_version(record)).into_response(),
        }
    }

    /// A page of versions.
    pub(super) fn versions(self, records: Vec<VersionRecord>, next: Option<String>) -> Response {
        let records = records.into_iter();
        match self {
            Self::Today => page(
                records.map(|it| it.version).collect::<Vec<SkillVersion>>(),
                next,
            ),
            Self::Legacy => legacy_page(records.map(legacy_version).collect(), next),
        }
    }

    /// That a version is gone.
    pub(super) fn version_deleted(self, record: &VersionRecord) -> Response {
        let id = match self {
            Self::Today => record.version.id.to_string(),
            Self::Legacy => record.epoch.to_string(),
        };
        let kind = Default::default();
        Json(SkillVersionDeleted { id, kind }).into_response()
    }
}

fn page<T: serde::Serialize>(data: Vec<T>, next_page: Option<String>) -> Response {
    Json(Page { data, next_page }).into_response()
}

fn legacy_page<T: serde::Serialize>(data: Vec<T>, next_page: Option<String>) -> Response {
    let has_more = next_page.is_some();
    Json(LegacyPage {
        data,
        has_more,
        next_page,
    })
    .into_response()
}

fn legacy_skill(record: SkillRecord) -> LegacySkill {
    let skill = record.skill;
    LegacySkill {
        id: skill.id,
        kind: skill.kind,
        display_title: Some(skill.display_name),
        latest_version: Some(record.latest_epoch.to_string()),
        source: skill.source.kind,
        created_at: skill.created_at,
        updated_at: skill.updated_at,
    }
}

fn legacy_version(record: VersionRecord) -> LegacySkillVersion {
    let version = record.version;
    LegacySkillVersion {
        id: version.id,
        kind: version.kind,
        skill_id: version.skill_id,
        version: record.epoch.to_string(),
        directory: version.name.clone(),
        name: version.name,
        description: version.description,
        created_at: version.created_at,
    }
}
