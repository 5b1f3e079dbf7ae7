//! Environments: the template of a session's sandbox (api §5, runtime EN-1 to EN-10).

mod config;

use axum::Json as Reply;
use axum::extract::State;
use manyhands_protocol::environment::{
    Environment, EnvironmentCreateParams, EnvironmentDeleted, EnvironmentUpdateParams, Scope,
};
use manyhands_protocol::page::{Order, Page};
use manyhands_protocol::{EnvironmentId, Timestamp};

use crate::api::agents::definition;
use crate::api::auth::Principal;
use crate::api::cursor::Paging;
use crate::api::error::ApiError;
use crate::api::json::Json;
use crate::api::query::{Ids, Query};
use crate::app::App;

const NAME: usize = 256;
const DESCRIPTION: usize = 2048;

/// `POST /v1/environments`
pub(crate) async fn create_environment(
    State(app): State<App>,
    principal: Principal,
    Json(params): Json<EnvironmentCreateParams>,
) -> Result<Reply<Environment>, ApiError> {
    definition::text("name", &params.name, 1, NAME)?;
    if let Some(description) = &params.description {
        definition::text("description", description, 0, DESCRIPTION)?;
    }
    let config = config::created(params.config.clone())?;
    config::installable(&app, params.config.as_ref()).await?;
    let now = app.now();
    let environment = Environment {
        id: EnvironmentId::generate(),
        kind: Default::default(),
        name: params.name,
        description: params.description,
        config,
        metadata: definition::metadata(params.metadata.unwrap_or_default())?,
        scope: scope(params.scope)?.unwrap_or_default(),
        created_at: now,
        updated_at: now,
        archived_at: None,
    };
    app.store
        .insert_environment(&principal.workspace, &environment)
        .await?;
    Ok(Reply(environment))
}

fn scope(given: Option<Scope>) -> Result<Option<Scope>, ApiError> {
    match given {
        Some(Scope::Account) => Err(ApiError::field(
            "scope",
            "only organization is possible with an API key",
        )),
        given => Ok(given),
    }
}

/// `GET /v1/environments/{environment_id}`
pub(crate) async fn retrieve_environment(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<Environment>, ApiError> {
    let environment = app
        .store
        .environment(&principal.workspace, &ids.environment()?)
        .await?;
    environment
        .map(Reply)
        .ok_or_else(|| ApiError::not_found("environment"))
}

/// `POST /v1/environments/{environment_id}`
pub(crate) async fn update_environment(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    Json(params): Json<EnvironmentUpdateParams>,
) -> Result<Reply<Environment>, ApiError> {
    config::installable(&app, params.config.as_ref()).await?;
    let now = app.now();
    let updated = app
        .store
        .update_environment(&principal.workspace, &ids.environment()?, move |current| {
            updated(current, params, now)
        })
        .await?;
    updated
        .ok_or_else(|| ApiError::not_found("environment"))?
        .map(Reply)
}

/// The environment after an update (runtime EN-3), or `None` when nothing changes.
fn updated(
    current: &Environment,
    params: EnvironmentUpdateParams,
    now: Timestamp,
) -> Result<Option<Environment>, ApiError> {
    if current.archived_at.is_some() {
        let error = ApiError::invalid("the environment is archived and can no longer be changed");
        return Err(error.with_code("environment_archived"));
    }
    let config = config::merged(&current.config, params.config)?;
    let name = params.name.unwrap_or_else(|| current.name.clone());
    definition::text("name", &name, 1, NAME)?;
    let description = params.description.apply(current.description.clone());
    if let Some(description) = &description {
        definition::text("description", description, 0, DESCRIPTION)?;
    }
    // Unlike in agents and sessions, an empty text deletes the key too (api §5.2).
    let patch = params.metadata.unwrap_or_default().into_iter();
    let patch = patch.map(|(key, value)| (key, value.filter(|value| !value.is_empty())));
    let next = Environment {
        name,
        description,
        config,
        metadata: definition::merge_metadata(&current.metadata, patch.collect())?,
        scope: scope(params.scope)?.unwrap_or(current.scope),
        ..current.clone()
    };
    Ok((next != *current).then_some(Environment {
        updated_at: now,
        ..next
    }))
}

/// `GET /v1/environments`
pub(crate) async fn list_environments(
    State(app): State<App>,
    principal: Principal,
    query: Query,
) -> Result<Reply<Page<Environment>>, ApiError> {
    let archived = query.flag("include_archived")?;
    let paging = Paging::read("environments", &query, Order::Desc, (20, 100))?;
    let found = app
        .store
        .list_environments(&principal.workspace, archived, &paging.range())
        .await?;
    Ok(Reply(paging.page(found, |environment| {
        (environment.created_at, environment.id.to_string())
    })))
}

/// `DELETE /v1/environments/{environment_id}`: only while no session refers to it (runtime EN-5).
pub(crate) async fn delete_environment(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<EnvironmentDeleted>, ApiError> {
    let id = ids.environment()?;
    match app
        .store
        .delete_environment(&principal.workspace, &id)
        .await?
    {
        None => Err(ApiError::not_found("environment")),
        Some(false) => Err(ApiError::conflict(
            "the environment is in use: delete its sessions first, or archive it instead",
        )),
        Some(true) => Ok(Reply(EnvironmentDeleted {
            id,
            kind: Default::default(),
        })),
    }
}

/// `POST /v1/environments/{environment_id}/archive`: for good, and repeating it changes nothing (runtime UP-11).
pub(crate) async fn archive_environment(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<Environment>, ApiError> {
    let now = app.now();
    let archived = app
        .store
        .update_environment(&principal.workspace, &ids.environment()?, move |current| {
            Ok::<_, ApiError>(current.archived_at.is_none().then(|| Environment {
                archived_at: Some(now),
                ..current.clone()
            }))
        })
        .await?;
    archived
        .ok_or_else(|| ApiError::not_found("environment"))?
        .map(Reply)
}

#[cfg(test)]
mod tests {
    use manyhands_protocol::environment::EnvironmentConfig;
    use serde_json::{Value, json};

    use super::*;

    fn sample() -> Environment {
        let at = Timestamp::from_micros(1);
        Environment {
            id: EnvironmentId::generate(),
            kind: Default::default(),
            name: "box".to_owned(),
            description: Some("d".to_owned()),
            config: Default::default(),
            metadata: [("a".to_owned(), "1".to_owned())].into(),
            scope: Scope::Organization,
            created_at: at,
            updated_at: at,
            archived_at: None,
        }
    }

    #[test]
    fn en_3_an_update_merges() {
        #[track_caller]
        fn check(params: Value, change: impl FnOnce(&mut Environment)) {
            let (current, now) = (sample(), Timestamp::from_micros(2));
            let mut expected = current.clone();
            change(&mut expected);
            let expected = (expected != current).then_some(Environment {
                updated_at: now,
                ..expected
            });
            let params = serde_json::from_value(params).expect("params");
            assert_eq!(updated(&current, params, now).expect("accepted"), expected);
        }
        check(json!({}), |_| {});
        check(json!({"name": null, "config": null, "scope": null}), |_| {});
        check(
            json!({"name": "box", "scope": "organization", "metadata": {"a": "1"}}),
            |_| {},
        );
        check(
            json!({"config": {"type": "cloud", "networking": {"type": "unrestricted"}, "packages": {"pip": []}}}),
            |_| {},
        );
        check(
            json!({"config": {"type": "cloud", "packages": {"pip": ["requests"]}}}),
            |it| {
                if let EnvironmentConfig::Cloud { packages, .. } = &mut it.config {
                    packages.pip.push("requests".to_owned());
                }
            },
        );
        check(json!({"name": "crate"}), |it| it.name = "crate".to_owned());
        check(json!({"description": null}), |it| it.description = None);
        check(json!({"description": ""}), |it| {
            it.description = Some(String::new())
        });
        check(json!({"metadata": {"a": null}}), |it| it.metadata.clear());
        check(json!({"metadata": {"a": ""}}), |it| it.metadata.clear());
        check(json!({"metadata": {"b": "2"}}), |it| {
            drop(it.metadata.insert("b".to_owned(), "2".to_owned()))
        });
    }

    #[test]
    fn what_an_environment_cannot_be_is_refused_by_name() {
        #[track_caller]
        fn check(params: Value, problem: &str) {
            let params = serde_json::from_value(params).expect("params");
            let error = updated(&sample(), params, Timestamp::from_micros(2)).expect_err(problem);
            assert!(error.message().starts_with(problem), "{}", error.message());
        }
        check(json!({"name": ""}), "name: must not be empty");
        check(json!({"scope": "account"}), "scope: only organization");
        check(
            json!({"config": {"type": "cloud", "packages": {"apt": ["-y"]}}}),
            "config.packages.apt[0]: must be a name",
        );
    }
}
