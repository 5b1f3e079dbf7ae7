//! What a caller may do: the route's need against the key's role and reach (security API-1).

use manyhands_protocol::WorkspaceId;
use manyhands_store::Store;
use manyhands_store::key::KeyRole;

use super::Principal;
use crate::api::error::ApiError;
use crate::api::query::Ids;
use crate::routes::Needs;

/// Refuses who may not call a route at all, whatever the ids in it.
pub(crate) fn check(
    needs: Needs,
    workers: bool,
    principal: &Principal,
    first_workspace: &WorkspaceId,
) -> Result<(), ApiError> {
    if principal.environment.is_some() && !workers {
        return Err(ApiError::forbidden(
            "the key of an environment opens only that environment's queue and sessions",
        ));
    }
    let least = match needs {
        Needs::Nothing | Needs::Reader => KeyRole::ReadOnly,
        Needs::Developer => KeyRole::Developer,
        Needs::Admin | Needs::Operator => KeyRole::Admin,
    };
    if principal.role < least {
        return Err(ApiError::forbidden(format!(
            "this needs a key with the role {}; this key's is {}",
            least.as_str(),
            principal.role.as_str()
        ))
        .with_code("api_key_scope_missing"));
    }
    if needs == Needs::Operator && principal.workspace != *first_workspace {
        return Err(ApiError::forbidden(
            "workspaces are the operator's: this needs an admin key of the server's first workspace",
        ));
    }
    Ok(())
}

/// For the key of an environment: what the path names must be of that environment. What is not answers as what is missing
/// (security API-2).
pub(crate) async fn check_place(
    store: &Store,
    principal: &Principal,
    ids: &Ids,
) -> Result<(), ApiError> {
    let Some(own) = &principal.environment else {
        return Ok(());
    };
    if !ids.text("environment_id").is_empty() && ids.environment()? != *own {
        return Err(ApiError::not_found("environment"));
    }
    if !ids.text("session_id").is_empty() {
        let session = store.session(&principal.workspace, &ids.session()?).await?;
        if session.is_none_or(|session| session.environment_id != *own) {
            return Err(ApiError::not_found("session"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use manyhands_protocol::EnvironmentId;
    use manyhands_protocol::id::ApiKeyId;

    use super::*;

    /// security API-1
    #[test]
    fn api_1_each_need_has_its_least_role() {
        use KeyRole::{Admin, Developer, ReadOnly};
        let first = WorkspaceId::generate();
        let principal = |role, environment| Principal {
            workspace: first.clone(),
            key: ApiKeyId::generate(),
            role,
            environment,
        };
        let check = |needs, role, open| {
            let found = super::check(needs, false, &principal(role, None), &first);
            assert_eq!(found.is_ok(), open, "{needs:?} {role:?}");
        };
        for (needs, least) in [
            (Needs::Nothing, ReadOnly),
            (Needs::Reader, ReadOnly),
            (Needs::Developer, Developer),
            (Needs::Admin, Admin),
            (Needs::Operator, Admin),
        ] {
            for role in KeyRole::ALL {
                check(needs, role, role >= least);
            }
        }
        let elsewhere = WorkspaceId::generate();
        let admin = principal(Admin, None);
        assert!(super::check(Needs::Operator, false, &admin, &elsewhere).is_err());
        assert!(super::check(Needs::Admin, false, &admin, &elsewhere).is_ok());
        let worker = principal(Developer, Some(EnvironmentId::generate()));
        assert!(super::check(Needs::Reader, false, &worker, &first).is_err());
        assert!(super::check(Needs::Reader, true, &worker, &first).is_ok());
        assert!(super::check(Needs::Developer, true, &worker, &first).is_ok());
        assert!(super::check(Needs::Admin, true, &worker, &first).is_err());
    }
}
