//! Skills and their versions (api §19, runtime SK-1): sent as folders or archives, listed, shown, given away as archives.
//! Old clients read them in another shape (api §28).

mod builtin;
pub(crate) mod refs;
mod shape;
mod upload;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use manyhands_blobs::Stored;
use manyhands_protocol::SkillId;
use manyhands_protocol::page::Order;
use manyhands_protocol::skill::{Origin, SkillDeleted};
use manyhands_skills::ARCHIVE;
use manyhands_store::skills::{Added, Deletion, SkillRecord, VersionName, VersionRecord};
use schemars::JsonSchema;

use crate::api::auth::Principal;
use crate::api::cursor::Paging;
use crate::api::download;
use crate::api::error::ApiError;
use crate::api::query::{Ids, Query};
use crate::app::App;

pub(crate) use builtin::Installed;
pub(crate) use shape::Shape;

/// `limit`, and its highest value.
const LIMITS: (u32, u32) = (20, 1000);

/// Body of a create, for its schema: it is read part by part.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct SkillForm {
    /// The files of one folder, their names with their paths, or one zip archive.
    #[schemars(rename = "files[]", extend("items" = {"type": "string", "format": "binary"}))]
    files: Vec<String>,
    /// A label for people, 1 to 255 characters; the skill's name when absent.
    #[schemars(default)]
    display_name: Option<String>,
}

/// Body of a version's create, for its schema.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct VersionForm {
    /// The files of one folder, their names with their paths, or one zip archive.
    #[schemars(rename = "files[]", extend("items" = {"type": "string", "format": "binary"}))]
    files: Vec<String>,
}

/// `POST /v1/skills`
pub(crate) async fn create_skill(
    State(app): State<App>,
    principal: Principal,
    shape: Shape,
    request: Request,
) -> Result<Response, ApiError> {
    let sent = upload::receive(&app, request).await?;
    let display_name = upload::display_name(sent.display_name, sent.folder.manifest())?;
    let version = upload::keep(&app, &sent.folder).await?;
    let (id, workspace) = (SkillId::generate(), &principal.workspace);
    let record = app
        .store
        .insert_skill(workspace, &id, display_name, version)
        .await?;
    Ok(shape.skill(record))
}

/// `GET /v1/skills/{skill_id}`
pub(crate) async fn retrieve_skill(
    State(app): State<App>,
    principal: Principal,
    shape: Shape,
    ids: Ids,
) -> Result<Response, ApiError> {
    let record = find(&app, &principal, &ids.skill()?).await?;
    Ok(shape.skill(record))
}

async fn find(app: &App, principal: &Principal, id: &SkillId) -> Result<SkillRecord, ApiError> {
    app.built_in.ensure_for(app, id).await?;
    let found = app.store.skill(&principal.workspace, id).await?;
    found.ok_or_else(|| ApiError::not_found("skill"))
}

/// `GET /v1/skills`: newest first.
pub(crate) async fn list_skills(
    State(app): State<App>,
    principal: Principal,
    shape: Shape,
    query: Query,
) -> Result<Response, ApiError> {
    let problem = "expected custom or anthropic";
    let origin = query
        .text("source")?
        .map(|text| Origin::parse(text).ok_or_else(|| ApiError::field("source", problem)));
    let paging = Paging::read("skills", &query, Order::Desc, LIMITS)?;
    app.built_in.ensure(&app).await?;
    let found = app
        .store
        .list_skills(&principal.workspace, origin.transpose()?, &paging.range())
        .await?;
    Ok(shape.skills(paging.page(found, |record| {
        (record.skill.created_at, record.skill.id.to_string())
    })))
}

/// `DELETE /v1/skills/{skill_id}`: with all its versions. Sessions that have one keep it (runtime SK-1).
pub(crate) async fn delete_skill(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<axum::Json<SkillDeleted>, ApiError> {
    let id = ids.skill()?;
    app.built_in.ensure_for(&app, &id).await?;
    match app.store.delete_skill(&principal.workspace, &id).await? {
        Deletion::Done => Ok(axum::Json(SkillDeleted {
            id,
            kind: Default::default(),
        })),
        other => Err(kept(other, "skill")),
    }
}

/// Why something is not deleted.
fn kept(deletion: Deletion, what: &str) -> ApiError {
    match deletion {
        Deletion::Missing | Deletion::Done => ApiError::not_found(what),
        Deletion::BuiltIn => built_in(),
        Deletion::Only => ApiError::invalid(
            "a skill has at least one version, and this is its only one: delete the skill",
        ),
    }
}

fn built_in() -> ApiError {
    ApiError::invalid("the skill comes with the server and cannot be changed")
}

/// `POST /v1/skills/{skill_id}/versions`
pub(crate) async fn create_skill_version(
    State(app): State<App>,
    principal: Principal,
    shape: Shape,
    ids: Ids,
    request: Request,
) -> Result<Response, ApiError> {
    let id = ids.skill()?;
    // Looked at first: nothing is received for a skill that is not there.
    let refusal = match find(&app, &principal, &id).await {
        Ok(skill) if skill.skill.source.kind == Origin::Anthropic => Some(built_in()),
        Ok(_) => None,
        Err(refusal) => Some(refusal),
    };
    if let Some(refusal) = refusal {
        return upload::refuse(request, refusal).await;
    }
    let sent = upload::receive(&app, request).await?;
    let version = upload::keep(&app, &sent.folder).await?;
    let blob = version.blob.clone();
    let added = app
        .store
        .insert_skill_version(&principal.workspace, &id, version)
        .await?;
    let refused = match added {
        Added::Done(record) => return Ok(shape.version(record)),
        Added::Missing => ApiError::not_found("skill"),
        Added::BuiltIn => built_in(),
        Added::OtherName(name) => {
            let problem =
                format!("the skill's name is {name:?}, and stays the same in all versions");
            ApiError::field("files", problem)
        }
    };
    app.discard_blob(&blob).await;
    Err(refused)
}

/// `GET /v1/skills/{skill_id}/versions/{version}`: by its id, its time, or `latest`.
pub(crate) async fn retrieve_skill_version(
    State(app): State<App>,
    principal: Principal,
    shape: Shape,
    ids: Ids,
) -> Result<Response, ApiError> {
    let record = find_version(&app, &principal, &ids).await?;
    Ok(shape.version(record))
}

async fn find_version(
    app: &App,
    principal: &Principal,
    ids: &Ids,
) -> Result<VersionRecord, ApiError> {
    let (skill, name) = (ids.skill()?, version_name(ids.text("version"))?);
    app.built_in.ensure_for(app, &skill).await?;
    let found = app.store.skill_version(&principal.workspace, &skill, &name);
    let mut found = found.await?;
    if let Some(environment) = &principal.environment {
        // Its workers need what its sessions have, and no more. What is not there costs as much as what is not theirs.
        let id = found.as_ref().map(|record| record.version.id.as_str());
        let held = app
            .store
            .has_skill_version(&principal.workspace, environment, id.unwrap_or_default())
            .await?;
        found = found.filter(|_| held);
    }
    found.ok_or_else(|| ApiError::not_found("skill version"))
}

fn version_name(text: &str) -> Result<VersionName, ApiError> {
    let problem = "expected the id of a version, its time in digits, or latest";
    VersionName::parse(text).ok_or_else(|| ApiError::field("version", problem))
}

/// `GET /v1/skills/{skill_id}/versions`: newest first.
pub(crate) async fn list_skill_versions(
    State(app): State<App>,
    principal: Principal,
    shape: Shape,
    ids: Ids,
    query: Query,
) -> Result<Response, ApiError> {
    let id = ids.skill()?;
    let paging = Paging::read("skill_versions", &query, Order::Desc, LIMITS)?;
    find(&app, &principal, &id).await?;
    let found = app
        .store
        .list_skill_versions(&principal.workspace, &id, &paging.range())
        .await?;
    Ok(shape.versions(paging.page(found, |record| {
        (record.version.created_at, record.version.id.to_string())
    })))
}

/// `DELETE /v1/skills/{skill_id}/versions/{version}`. Sessions that have it keep it (runtime SK-1).
pub(crate) async fn delete_skill_version(
    State(app): State<App>,
    principal: Principal,
    shape: Shape,
    ids: Ids,
) -> Result<Response, ApiError> {
    let record = find_version(&app, &principal, &ids).await?;
    let (skill, id) = (&record.version.skill_id, &record.version.id);
    let deleted = app
        .store
        .delete_skill_version(&principal.workspace, skill, id)
        .await?;
    match deleted {
        Deletion::Done => Ok(shape.version_deleted(&record)),
        other => Err(kept(other, "skill version")),
    }
}

/// `GET /v1/skills/{skill_id}/versions/{version}/content`: a zip of one folder, which has the skill's name.
pub(crate) async fn download_skill_version(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Response, ApiError> {
    let record = find_version(&app, &principal, &ids).await?;
    let stored = Stored {
        size: record.size,
        sha256: record.sha256,
    };
    let archive = app
        .blobs
        .read(&record.blob, &stored, ARCHIVE as u64)
        .await?;
    Ok(download::answer(
        Body::from(archive),
        "application/zip",
        &format!("attachment; filename=\"{}.zip\"", record.version.name),
    ))
}
