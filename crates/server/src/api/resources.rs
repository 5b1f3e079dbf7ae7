//! Files that a session's sandbox reads (api §8, runtime FI-1 to FI-4).

mod path;

use std::time::Duration;

use axum::Json as Reply;
use axum::extract::State;
use manyhands_protocol::environment::{Environment, EnvironmentConfig};
use manyhands_protocol::file::{FileResource, FileResourceParams, ResourceDeleted};
use manyhands_protocol::page::{Order, Page};
use manyhands_protocol::{FileId, SessionId};
use manyhands_store::SessionRecord;
use manyhands_store::files::{FILES, Mount, MountRefusal};
use manyhands_store::listing::Range;
use serde_json::Value;

use crate::api::auth::Principal;
use crate::api::cursor::Paging;
use crate::api::error::ApiError;
use crate::api::json::{self, Json};
use crate::api::query::{Ids, Query};
use crate::app::App;

/// How long a request waits until a live sandbox shows the change; its next call brings it in any case.
const LAY: Duration = Duration::from_secs(10);

/// The files of a session that is to be created, in order.
pub(crate) fn mounts(entries: &[Value], environment: &Environment) -> Result<Vec<Mount>, ApiError> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    if let EnvironmentConfig::SelfHosted {} = environment.config {
        let id = &environment.id;
        return Err(ApiError::invalid(format!(
            "Environment {id} is a self-hosted environment. `resources` are not supported with self-hosted environments."
        )));
    }
    if entries.len() > FILES {
        return Err(refused("resources", MountRefusal::TooMany));
    }
    let mount = |(index, entry): (usize, &Value)| mount(entry, &format!("resources[{index}]"));
    entries.iter().enumerate().map(mount).collect()
}

/// One entry; `at` names it in errors, or is empty for a body.
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
        kind @ ("github_repository" | "memory_store") => {
            let what = format!("a resource of the type {kind}");
            return Err(ApiError::not_built(within("type"), what));
        }
        _ => {
            let problem = "expected file, github_repository or memory_store";
            return Err(ApiError::field(within("type"), problem));
        }
    }
    let params: FileResourceParams = json::entry(entry, at)?;
    let file_id = FileId::parse(&params.file_id)
        .map_err(|problem| ApiError::field(within("file_id"), problem.to_string()))?;
    let path = params.mount_path.as_deref().map(path::canonical);
    let path = path.transpose();
    let path = path.map_err(|problem| ApiError::field(within("mount_path"), problem))?;
    Ok(Mount { file_id, path })
}

/// Why files are not mounted; `at` names the list, or is empty for a body.
pub(crate) fn refused(at: &str, refusal: MountRefusal) -> ApiError {
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

/// As shown in a session.
pub(crate) fn shown(resources: &[FileResource]) -> Vec<Value> {
    let value = |resource| serde_json::to_value(resource).unwrap_or_default();
    resources.iter().map(value).collect()
}

/// All resources of a session, as shown in it.
pub(crate) async fn of(app: &App, session: &SessionId) -> Result<Vec<Value>, ApiError> {
    let found = app.store.list_resources(session, &ALL).await?;
    Ok(shown(&found))
}

const ALL: Range = Range {
    after: None,
    order: Order::Asc,
    limit: 1000,
};

async fn require_session(
    app: &App,
    principal: &Principal,
    ids: &Ids,
) -> Result<SessionRecord, ApiError> {
    let session = app
        .store
        .session(&principal.workspace, &ids.session()?)
        .await?;
    session.ok_or_else(|| ApiError::not_found("session"))
}

/// `GET /v1/sessions/{session_id}/resources`
pub(crate) async fn list_resources(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    query: Query,
) -> Result<Reply<Page<FileResource>>, ApiError> {
    query.only(&["limit", "page"], &[])?;
    let paging = Paging::read("resources", &query, Order::Asc, (1000, 1000))?;
    let session = require_session(&app, &principal, &ids).await?;
    let found = app.store.list_resources(&session.id, &paging.range()).await;
    let cut = paging.cut(found?, |resource| {
        (resource.created_at, resource.id.to_string())
    });
    Ok(Reply(Page {
        data: cut.data,
        next_page: cut.next,
    }))
}

/// `POST /v1/sessions/{session_id}/resources`: shows in a live sandbox when it is answered, where that is at this server.
pub(crate) async fn add_resource(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
    Json(body): Json<Value>,
) -> Result<Reply<FileResource>, ApiError> {
    let session = ids.session()?;
    if app
        .store
        .session(&principal.workspace, &session)
        .await?
        .is_none()
    {
        return Err(ApiError::not_found("session"));
    }
    let mount = mount(&body, "")?;
    let mounted = app
        .store
        .mount_file(&principal.workspace, &session, mount)
        .await?;
    let mounted = mounted.ok_or_else(|| ApiError::not_found("session"))?;
    let resource = mounted.map_err(|refusal| refused("", refusal))?;
    lay(&app, &session).await;
    Ok(Reply(resource))
}

async fn find(app: &App, principal: &Principal, ids: &Ids) -> Result<FileResource, ApiError> {
    let session = require_session(app, principal, ids).await?;
    let found = app.store.resource(&session.id, &ids.resource()?).await?;
    found.ok_or_else(|| ApiError::not_found("resource"))
}

/// `GET /v1/sessions/{session_id}/resources/{resource_id}`
pub(crate) async fn retrieve_resource(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<FileResource>, ApiError> {
    find(&app, &principal, &ids).await.map(Reply)
}

/// `POST /v1/sessions/{session_id}/resources/{resource_id}`: only repositories have something to change (api §8).
pub(crate) async fn update_resource(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<FileResource>, ApiError> {
    find(&app, &principal, &ids).await?;
    let problem = "only github_repository resources have a token to be rotated";
    Err(ApiError::field("authorization_token", problem))
}

/// `DELETE /v1/sessions/{session_id}/resources/{resource_id}`
pub(crate) async fn delete_resource(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<ResourceDeleted>, ApiError> {
    let (session, id) = (ids.session()?, ids.resource()?);
    if app
        .store
        .session(&principal.workspace, &session)
        .await?
        .is_none()
    {
        return Err(ApiError::not_found("session"));
    }
    let removed = app
        .store
        .unmount_file(&principal.workspace, &session, &id)
        .await?;
    if !removed {
        return Err(ApiError::not_found("resource"));
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
