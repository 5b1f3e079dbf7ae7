//! The two shapes that skills are shown in: today's, and the one that old clients ask for by a beta header (api §28).

use std::convert::Infallible;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use manyhands_protocol::page::Page;
use manyhands_protocol::skill::{LegacyPage, LegacySkill, LegacySkillVersion, SkillVersionDeleted};
use manyhands_store::skills::{SkillRecord, VersionRecord};

use crate::api::auth::betas;

/// What old clients send.
const LEGACY: &str = "skills-2025-10-02";

/// The shape that a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Versions have ids.
    Today,
    /// Versions are named by when they were made.
    Legacy,
}

impl<S: Send + Sync> FromRequestParts<S> for Shape {
    type Rejection = Infallible;

    /// What the request asks for.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(match betas::has(&parts.headers, LEGACY) {
            true => Self::Legacy,
            false => Self::Today,
        })
    }
}

impl Shape {
    /// A skill.
    pub(super) fn skill(self, record: SkillRecord) -> Response {
        match self {
            Self::Today => Json(record.skill).into_response(),
            Self::Legacy => Json(legacy_skill(record)).into_response(),
        }
    }

    /// A page of skills.
    pub(super) fn skills(self, page: Page<SkillRecord>) -> Response {
        match self {
            Self::Today => Json(shown(page, |it| it.skill)).into_response(),
            Self::Legacy => legacy_page(shown(page, legacy_skill)),
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
    pub(super) fn versions(self, page: Page<VersionRecord>) -> Response {
        match self {
            Self::Today => Json(shown(page, |it| it.version)).into_response(),
            Self::Legacy => legacy_page(shown(page, legacy_version)),
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

fn shown<R, T>(page: Page<R>, show: impl Fn(R) -> T) -> Page<T> {
    Page {
        data: page.data.into_iter().map(show).collect(),
        next_page: page.next_page,
    }
}

fn legacy_page<T: serde::Serialize>(page: Page<T>) -> Response {
    Json(LegacyPage {
        data: page.data,
        has_more: page.next_page.is_some(),
        next_page: page.next_page,
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
