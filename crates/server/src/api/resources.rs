//! What a session has beside its sandbox: files that it reads (api §8, runtime FI-1 to FI-4), and repositories that are cloned into
//! it (runtime GH-1 to GH-6).

mod memory_store;
pub(crate) mod path;
mod repository;
mod wanted;

use std::collections::HashMap;
use std::slice;
use std::time::Duration;

use axum::Json as Reply;
use axum::extract::State;
use manyhands_protocol::file::{FileResourceParams, ResourceDeleted};
use manyhands_protocol::page::{Order, Page};
use manyhands_protocol::repository::{Resource, SessionResource};
use manyhands_protocol::{FileId, SessionId};
use manyhands_store::audit::{Act, Action, Actor};
use manyhands_store::files::{FILES, Mount, MountRefusal, Unmounted};
use manyhands_store::repositories::Rotated;
use serde_json::Value;

use crate::api::auth::Principal;
use crate::api::cursor::Paging;
use crate::api::error::ApiError;
use crate::api::json::{self, SecretJson};
use crate::api::query::{Ids, Query};
use crate::api::sessions;
use crate::app::App;

pub(crate) use wanted::{entry, wanted};

/// How long a request waits until a live sandbox shows the change; its next call brings it in any case.
const LAY: Duration = Duration::from_secs(10);

/// A file; `at` names the entry in errors, or is empty for a body.
fn mount(entry: &Value, at: &str) -> Result<Mount, ApiError> {
    let within = |name: &str| match at {
        "" => name.to_owned(),
        at => format!("{at}.{name}"),
    };
    let kind = match (at, &entry["type"]) {
        ("", kind) => kind
            .as_str()
            .ok_or_else(|| ApiError::field("type", "expected file"))?,
        (at, _) => json::tag(entry, at)?,
    };
    match kind {
        "file" => {}
        // Of an entry of a list they were told before.
        "github_repository" | "memory_store" => {
            let problem = "repositories and memory stores are given when the session is created";
            return Err(ApiError::field(within("type"), problem));
        }
        _ => {
            let problem = "expected file, github_repository or memory_store";
            return Err(ApiError::field(within("type"), problem));
        }
    }
    let params: FileResourceParams = json::entry_quietly(entry, at)?;
    let file_id = FileId::parse(&params.file_id)
        .map_err(|problem| ApiError::field(within("file_id"), problem.to_string()))?;
    let path = params.mount_path.as_deref().map(path::canonical);
    let path = path.transpose();
    let path = path.map_err(|problem| ApiError::field(within("mount_path"), problem))?;
    Ok(Mount { file_id, path })
}

/// Why files are not mounted; `at` names the list, or is empty for a body.
fn refused(at: &str, refusal: MountRefusal) -> ApiError {
    let within = |index: usize, name: &str| match at {
        "" => name.to_owned(),
        at => format!("{at}[{index}].{name}"),
    };
    match refusal {
        MountRefusal::NoFile(_) => ApiError::not_found("file"),
        MountRefusal::Expired(index) => {
            ApiError::field(within(index, "file_id"), "the file has expired")
                .with_code("file_expired")
        }
        MountRefusal::Taken(index, path) => {
            let problem =
                format!("{path} is, or lies above or below, the path of another resource");
            ApiError::field(within(index, "mount_path"), problem)
        }
        MountRefusal::TooMany => {
            ApiError::field("resources", format!("a session has at most {FILES} files"))
        }
        MountRefusal::Ended => {
            ApiError::invalid("the session has ended: its resources can no longer be changed")
        }
    }
}

/// All resources of a session, as shown in it.
pub(crate) async fn of(app: &App, session: &SessionId) -> Result<Vec<Value>, ApiError> {
    let mut found = of_all(app, slice::from_ref(session)).await?;
    Ok(found.remove(session).unwrap_or_default())
}

/// All resources of these sessions, as shown in them: the memory stores first.
pub(crate) async fn of_all(
    app: &App,
    sessions: &[SessionId],
) -> Result<HashMap<SessionId, Vec<Value>>, ApiError> {
    let (stores, own) = tokio::try_join!(
        app.store.memory_stores_of(sessions),
        app.store.resources_of(sessions)
    )?;
    let stores = stores
        .into_iter()
        .map(|(session, store)| (session, SessionResource::MemoryStore(store)));
    let own = own
        .into_iter()
        .map(|(session, resource)| (session, SessionResource::Own(resource)));
    let mut shown: HashMap<SessionId, Vec<Value>> = HashMap::new();
    for (session, resource) in stores.chain(own) {
        let value = serde_json::to_value(resource).unwrap_or_default();
        shown.entry(session).or_default().push(value);
    }
    Ok(shown)
}

/// `GET /v1/sessions/{session_id}/resources`
pub(crate) async fn list_resources(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    query: Query,
) -> Result<Reply<Page<SessionResource>>, ApiError> {
    let paging = Paging::read("resources", &query, Order::Asc, (1000, 1000))?;
    let session = sessions::require(&app, &principal, &ids.session()?).await?;
    let range = paging.range();
    let (stores, own) = tokio::try_join!(
        app.store.session_memory_stores(&session.id),
        app.store.list_resources(&session.id, &range)
    )?;
    // Memory stores came with the session, and are sorted before whatever else did.
    let stores = stores.into_iter().zip(0..).map(|(store, place)| {
        let key = (session.created_at, format!("{place}"));
        (key, SessionResource::MemoryStore(store))
    });
    let own = own.into_iter().map(|own| {
        let key = (own.created_at(), own.id().to_string());
        (key, SessionResource::Own(own))
    });
    let stores = stores.filter(|(key, _)| range.has(key));
    let mut found: Vec<_> = stores.chain(own).collect();
    found.sort_by(|(one, _), (other, _)| match range.order {
        Order::Asc => one.cmp(other),
        Order::Desc => other.cmp(one),
    });
    let cut = paging.cut(found, |(key, _)| key.clone());
    Ok(Reply(Page {
        data: cut.data.into_iter().map(|(_, resource)| resource).collect(),
        next_page: cut.next,
    }))
}

/// `POST /v1/sessions/{session_id}/resources`: shows in a live sandbox when it is answered, where that is at this server.
pub(crate) async fn add_resource(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    SecretJson(body): SecretJson<Value>,
) -> Result<Reply<Resource>, ApiError> {
    let session = ids.session()?;
    sessions::require(&app, &principal, &session).await?;
    let mount = mount(&body, "")?;
    let mounted = app
        .store
        .mount_file(&principal.workspace, &session, mount)
        .await?;
    let mounted = mounted.ok_or_else(|| ApiError::not_found("session"))?;
    let resource = mounted.map_err(|refusal| refused("", refusal))?;
    lay(&app, &session).await;
    Ok(Reply(Resource::File(resource)))
}

/// `GET /v1/sessions/{session_id}/resources/{resource_id}`
pub(crate) async fn retrieve_resource(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<Resource>, ApiError> {
    let session = sessions::require(&app, &principal, &ids.session()?).await?;
    let found = app.store.resource(&session.id, &ids.resource()?).await?;
    found
        .map(Reply)
        .ok_or_else(|| ApiError::not_found("resource"))
}

/// `POST /v1/sessions/{session_id}/resources/{resource_id}`: a repository's new token, which counts from its next request on (api
/// §8, runtime GH-6).
pub(crate) async fn update_resource(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    SecretJson(mut body): SecretJson<Value>,
) -> Result<Reply<Resource>, ApiError> {
    let no_repository = || {
        let problem = "only github_repository resources have a token to be rotated";
        ApiError::field(repository::TOKEN, problem)
    };
    let (workspace, id) = (&principal.workspace, ids.resource()?);
    let session = sessions::require(&app, &principal, &ids.session()?)
        .await?
        .id;
    match app.store.resource(&session, &id).await? {
        None => return Err(ApiError::not_found("resource")),
        Some(Resource::File(_)) => return Err(no_repository()),
        Some(Resource::Repository(_)) => {}
    }
    let token = match body.get_mut(repository::TOKEN).map(Value::take) {
        None => return Err(ApiError::field(repository::TOKEN, "is required")),
        Some(given) => repository::token(given, repository::TOKEN)?,
    };
    let sealed = repository::seal(&app, workspace, &session, &id, &token).await?;
    let actor = Actor::Key(principal.key.clone());
    let act = Act {
        session: Some(session.clone()),
        ..Act::new(workspace, actor, Action::RepositoryUpdate).to(id.as_str())
    };
    let rotated = app
        .store
        .rotate_repository(act, &session, &id, sealed)
        .await?;
    match rotated {
        Rotated::Done(resource) => Ok(Reply(Resource::Repository(resource))),
        Rotated::Missing => Err(ApiError::not_found("resource")),
        Rotated::NoRepository => Err(no_repository()),
        Rotated::Ended => Err(refused("", MountRefusal::Ended)),
    }
}

/// `DELETE /v1/sessions/{session_id}/resources/{resource_id}`
pub(crate) async fn delete_resource(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<ResourceDeleted>, ApiError> {
    let (session, id) = (ids.session()?, ids.resource()?);
    sessions::require(&app, &principal, &session).await?;
    let removed = app
        .store
        .unmount_file(&principal.workspace, &session, &id)
        .await?;
    match removed {
        Unmounted::Done => {}
        Unmounted::Missing => return Err(ApiError::not_found("resource")),
        Unmounted::NoFile => {
            let problem = "a repository stays with its session: it cannot be removed";
            return Err(ApiError::invalid(problem));
        }
    }
    lay(&app, &session).await;
    Ok(Reply(ResourceDeleted {
        id,
        kind: Default::default(),
    }))
}

/// Shows the session's files in its sandbox, if that is here.
async fn lay(app: &App, session: &SessionId) {
    let Some(hands) = &app.hands else { return };
    let laid = async {
        let files = app.store.mounted_files(session).await?;
        let uploads = manyhands_brain::uploads(files);
        anyhow::Ok(hands.lay(session.as_str(), &uploads).await?)
    };
    match tokio::time::timeout(LAY, laid).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(session.id = %session, "a sandbox shows a change of its files later: {error:#}");
        }
        Err(_) => {
            tracing::warn!(session.id = %session, "a sandbox takes long to show a change of its files");
        }
    }
}
