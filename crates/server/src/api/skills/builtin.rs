//! The skills that come with the server: brought into the store when they are first asked for, so that a session that has a
//! version of one keeps it when a newer server has another (runtime SK-1).

use manyhands_blobs::fresh;
use manyhands_protocol::{SkillId, SkillVersionId};
use manyhands_skills::ARCHIVE;
use manyhands_skills::builtin::{BuiltIn, all};
use manyhands_store::skills::NewVersion;
use tokio::sync::OnceCell;

use super::upload::apart;
use crate::api::error::ApiError;
use crate::app::App;

/// Whether they are in the store.
#[derive(Debug, Default)]
pub(crate) struct Installed(OnceCell<()>);

impl Installed {
    /// As [`ensure`](Self::ensure) where this is one of them, which custom ones need not wait for.
    pub(crate) async fn ensure_for(&self, app: &App, id: &SkillId) -> Result<(), ApiError> {
        match id.as_str().starts_with(SkillId::PREFIX) {
            true => Ok(()),
            false => self.ensure(app).await,
        }
    }

    /// Sees to it that they are there. What fails is tried again by the next request.
    pub(crate) async fn ensure(&self, app: &App) -> Result<(), ApiError> {
        self.0.get_or_try_init(|| install(app)).await.map(drop)
    }
}

async fn install(app: &App) -> Result<(), ApiError> {
    let mut ids = Vec::new();
    for skill in all() {
        ids.push(version_id(skill)?);
    }
    let known = app.store.known_skill_versions(&ids).await?;
    for (skill, id) in all().iter().zip(ids) {
        if known.contains(&id) {
            continue;
        }
        let folder = skill.folder()?;
        let manifest = folder.manifest().clone();
        let archive = apart(move || folder.archive()).await??;
        let blob = fresh("skills");
        let stored = app.blobs.put(&blob, &archive[..], ARCHIVE as u64).await?;
        let version = NewVersion {
            id,
            name: manifest.name,
            description: manifest.description,
            blob: blob.clone(),
            size: stored.size,
            sha256: stored.sha256,
        };
        let skill_id = SkillId::parse(skill.id).map_err(|_| ApiError::internal())?;
        let title = skill.title.to_owned();
        if !app.store.install_skill(&skill_id, title, version).await? {
            app.discard_blob(&blob).await;
        }
    }
    Ok(())
}

/// The id of a built-in skill's version: equal files have equal ids, on every server.
fn version_id(skill: &BuiltIn) -> Result<SkillVersionId, ApiError> {
    let id = format!("{}{}-{}", SkillVersionId::PREFIX, skill.id, skill.digest());
    SkillVersionId::parse(&id).map_err(|_| ApiError::internal())
}
