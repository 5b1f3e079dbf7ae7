//! What a session is to have from its beginning: read from the request, then made ready for the store.

use manyhands_brain::Cloned;
use manyhands_protocol::environment::{Environment, EnvironmentConfig};
use manyhands_protocol::{ResourceId, SessionId, WorkspaceId};
use manyhands_store::files::{FILES, Mount, MountRefusal};
use manyhands_store::memory::{Attach, AttachRefusal};
use manyhands_store::repositories::NewRepository;
use manyhands_store::{Belongings, NewEntry};
use serde_json::Value;

use super::{memory_store, mount, refused, repository};
use crate::api::error::ApiError;
use crate::api::json;
use crate::app::App;

/// What a session that is to be created is to have, each with its place in the list.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    files: Vec<(usize, Mount)>,
    repositories: Vec<(usize, repository::Wanted)>,
    memory_stores: Vec<(usize, Attach)>,
}

impl Wanted {
    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.repositories.is_empty() && self.memory_stores.is_empty()
    }

    /// All of it for this session, as the store takes it.
    pub(crate) async fn belongings(
        &mut self,
        app: &App,
        workspace: &WorkspaceId,
        session: &SessionId,
    ) -> Result<Belongings, ApiError> {
        let files = self.files.iter().map(|(_, mount)| mount.clone());
        let stores = self.memory_stores.iter().map(|(_, attach)| attach.clone());
        Ok(Belongings {
            files: files.collect(),
            memory_stores: stores.collect(),
            repositories: self.repositories(app, workspace, session).await?,
        })
    }

    /// The repositories of this session, with sealed tokens.
    async fn repositories(
        &mut self,
        app: &App,
        workspace: &WorkspaceId,
        session: &SessionId,
    ) -> Result<Vec<NewRepository>, ApiError> {
        let mut new = Vec::with_capacity(self.repositories.len());
        for (_, wanted) in self.repositories.drain(..) {
            let id = ResourceId::generate();
            let token = match wanted.token {
                Some(token) => Some(repository::seal(app, workspace, session, &id, &token).await?),
                None => None,
            };
            new.push(NewRepository {
                id,
                url: wanted.url,
                mount_path: wanted.mount_path,
                checkout: wanted.checkout,
                token,
            });
        }
        Ok(new)
    }

    /// Why the memory stores are not attached.
    pub(crate) fn not_attached(&self, refusal: AttachRefusal) -> ApiError {
        let place = |index: usize| {
            self.memory_stores
                .get(index)
                .map_or(index, |(place, _)| *place)
        };
        match refusal {
            AttachRefusal::NoStore(_) => ApiError::not_found("memory store"),
            AttachRefusal::Archived(index) => memory_store::archived(place(index)),
        }
    }

    /// Why the files are not mounted.
    pub(crate) fn refused(&self, refusal: MountRefusal) -> ApiError {
        let place = |index: usize| self.files.get(index).map_or(index, |(place, _)| *place);
        let refusal = match refusal {
            MountRefusal::NoFile(index) => MountRefusal::NoFile(place(index)),
            MountRefusal::Expired(index) => MountRefusal::Expired(place(index)),
            MountRefusal::Taken(index, path) => MountRefusal::Taken(place(index), path),
            other @ (MountRefusal::TooMany | MountRefusal::Ended) => other,
        };
        refused("resources", refusal)
    }
}

/// What the log of a session begins with that has repositories.
pub(crate) fn entry(repositories: &[NewRepository]) -> Option<NewEntry> {
    let cloned = repositories.iter().map(|repository| Cloned {
        url: repository.url.clone(),
        mount_path: repository.mount_path.clone(),
    });
    let cloned: Vec<Cloned> = cloned.collect();
    (!cloned.is_empty()).then(|| manyhands_brain::repositories(&cloned))
}

/// Reads what a session that is to be created is to have.
pub(crate) fn wanted(
    mut entries: Vec<Value>,
    environment: &Environment,
) -> Result<Wanted, ApiError> {
    if entries.is_empty() {
        return Ok(Wanted::default());
    }
    let mut wanted = Wanted::default();
    for (index, entry) in entries.iter_mut().enumerate() {
        let at = format!("resources[{index}]");
        match json::tag(entry, &at)? {
            "github_repository" => {
                let repository = repository::read(entry, &at)?;
                wanted.repositories.push((index, repository));
            }
            "memory_store" => {
                let attach = memory_store::read(entry, &at)?;
                wanted.memory_stores.push((index, attach));
            }
            _ => wanted.files.push((index, mount(entry, &at)?)),
        }
    }
    let is_more = !wanted.files.is_empty() || !wanted.repositories.is_empty();
    if is_more && let EnvironmentConfig::SelfHosted {} = environment.config {
        let id = &environment.id;
        return Err(ApiError::invalid(format!(
            "Environment {id} is a self-hosted environment. Of `resources` it supports memory stores alone."
        )));
    }
    memory_store::together(&wanted.memory_stores)?;
    if wanted.files.len() > FILES {
        return Err(refused("resources", MountRefusal::TooMany));
    }
    repository::together(&wanted.repositories)?;
    Ok(wanted)
}
