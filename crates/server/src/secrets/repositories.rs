//! The tokens of a session's repositories (runtime GH-4 to GH-6; security CRED-9).

use manyhands_egress::host::Target;
use manyhands_egress::repository::Repository;
use manyhands_egress::secrets::{Basic, Passage, Unavailable, Visit};
use manyhands_protocol::{ResourceId, SessionId, WorkspaceId};
use manyhands_store::audit::{Act, Action, Actor};
use manyhands_store::repositories::RepositoryRecord;
use manyhands_vault::Place;

use super::{Holder, unavailable};

/// The user that hosts of git know tokens by.
const USER: &str = "x-access-token";

/// Where the token of a session's repository is sealed for.
pub(crate) fn token_place<'a>(
    workspace: &'a WorkspaceId,
    session: &'a SessionId,
    resource: &'a ResourceId,
) -> Place<'a> {
    Place {
        workspace,
        holder: session.as_str(),
        object: resource.as_str(),
        field: "authorization_token",
    }
}

impl Holder {
    /// Where a session's repositories are.
    pub(super) async fn repositories_of(
        &self,
        session: &SessionId,
    ) -> Result<Vec<Target>, Unavailable> {
        let records = self.store().repositories(session).await;
        let records = records.map_err(unavailable)?;
        let repositories = records.iter().filter_map(repository);
        Ok(repositories
            .flat_map(|repository| repository.targets().collect::<Vec<_>>())
            .collect())
    }

    /// What a request to one of them carries. Of several that own it the first with a token counts.
    pub(super) async fn passage(&self, visit: &Visit<'_>) -> Result<Option<Passage>, Unavailable> {
        let Ok(session) = SessionId::parse(visit.session) else {
            return Ok(None);
        };
        let records = self.store().repositories(&session).await;
        let mut own = records.map_err(unavailable)?;
        own.retain(|record| {
            repository(record).is_some_and(|repository| {
                repository.owns(visit.target, visit.method, visit.path.as_str())
            })
        });
        if own.is_empty() {
            return Ok(None);
        }
        let with_token = own
            .iter()
            .find_map(|record| Some((record, record.token.as_deref()?)));
        let Some((record, sealed)) = with_token else {
            return Ok(Some(Passage::Public));
        };
        let resource = &record.resource.id;
        let place = token_place(&record.workspace, &session, resource);
        let token = self.vaults.unseal(&place, sealed).await;
        let token = token.map_err(unavailable)?;
        let actor = Actor::Session(session.clone());
        let act = Act::new(&record.workspace, actor, Action::RepositoryUse)
            .to(resource.as_str())
            .towards(&session, visit.target.host.as_str());
        self.uses.note(act).await.map_err(unavailable)?;
        Ok(Some(Passage::With(Basic {
            user: USER.to_owned(),
            token,
        })))
    }
}

fn repository(record: &RepositoryRecord) -> Option<Repository> {
    Repository::parse(&record.resource.url).ok()
}
