//! Files: sent, listed, shown, read and removed (api §18, runtime FI-8).

pub(crate) mod name;
mod upload;

use std::collections::HashSet;
use std::time::Duration;

use axum::Json as Reply;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use futures::StreamExt;
use http::header::{CONTENT_LENGTH, HeaderValue};
use manyhands_blobs::Stored;
use manyhands_protocol::file::{File, FileDeleted, FilePage};
use manyhands_protocol::page::Order;
use manyhands_protocol::{FileId, SessionId};
use manyhands_store::FileRecord;
use manyhands_store::files::FileDeletion;
use manyhands_store::listing::{Key, Range};
use schemars::JsonSchema;

use crate::api::auth::Principal;
use crate::api::cursor::{self, Paging};
use crate::api::download;
use crate::api::error::ApiError;
use crate::api::query::{Ids, Query};
use crate::app::App;

/// Ids that a list may be asked for.
const IDS: usize = 100;
/// `limit`, and its highest value.
const LIMITS: (u32, u32) = (20, 1000);

/// Body of an upload, for its schema: it is read part by part.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct UploadForm {
    /// The file, with its name and type.
    #[schemars(extend("format" = "binary"))]
    file: String,
    /// For how long it is kept, from an hour to 90 days.
    #[schemars(default)]
    expires_in_seconds: Option<i64>,
}

/// `POST /v1/files`
pub(crate) async fn upload_file(
    State(app): State<App>,
    principal: Principal,
    request: Request,
) -> Result<Reply<File>, ApiError> {
    upload::receive(&app, &principal, request).await.map(Reply)
}

/// `GET /v1/files`
pub(crate) async fn list_files(
    State(app): State<App>,
    principal: Principal,
    query: Query,
) -> Result<Reply<FilePage>, ApiError> {
    let scope = query.id("scope_id", SessionId::parse)?;
    if query.list("ids").next().is_some() {
        return by_ids(&app, &principal, &query, scope.as_ref()).await;
    }
    if query.text("after_id")?.is_some() || query.text("before_id")?.is_some() {
        return around(&app, &principal, &query, scope.as_ref()).await;
    }
    let paging = Paging::read("files", &query, Order::Desc, LIMITS)?;
    let found = app
        .store
        .list_files(&principal.workspace, scope.as_ref(), &paging.range())
        .await?;
    let cut = paging.cut(found, |record| {
        (record.file.created_at, record.file.id.to_string())
    });
    let more = cut.next.is_some();
    Ok(Reply(page(cut.data, cut.next, more)))
}

fn page(records: Vec<FileRecord>, next_page: Option<String>, has_more: bool) -> FilePage {
    let data: Vec<File> = records.into_iter().map(|record| record.file).collect();
    FilePage {
        first_id: data.first().map(|file| file.id.clone()),
        last_id: data.last().map(|file| file.id.clone()),
        data,
        next_page,
        has_more,
    }
}

/// Those of these files that are there: one page, and those that are not are left out.
async fn by_ids(
    app: &App,
    principal: &Principal,
    query: &Query,
    scope: Option<&SessionId>,
) -> Result<Reply<FilePage>, ApiError> {
    for other in ["page", "limit", "after_id", "before_id"] {
        if query.text(other)?.is_some() {
            return Err(ApiError::field(
                "ids",
                format!("cannot be combined with {other}"),
            ));
        }
    }
    let asked: HashSet<&str> = query.list("ids").collect();
    if asked.len() > IDS {
        return Err(ApiError::field(
            "ids",
            format!("expected at most {IDS} ids"),
        ));
    }
    let ids = asked.into_iter().map(FileId::parse);
    let ids: Vec<FileId> = ids
        .collect::<Result<_, _>>()
        .map_err(|problem| ApiError::field("ids", problem.to_string()))?;
    let mut found = app.store.files(&principal.workspace, &ids).await?;
    found.retain(|record| scope.is_none_or(|scope| is_in(record, scope)));
    Ok(Reply(page(found, None, false)))
}

fn is_in(record: &FileRecord, session: &SessionId) -> bool {
    use manyhands_protocol::file::FileScope::Session;
    matches!(&record.file.scope, Some(Session { id }) if id == session)
}

/// A page as old clients walk: by the ids at its ends (api §28).
async fn around(
    app: &App,
    principal: &Principal,
    query: &Query,
    scope: Option<&SessionId>,
) -> Result<Reply<FilePage>, ApiError> {
    let (name, id, order) = match (query.text("after_id")?, query.text("before_id")?) {
        (Some(_), Some(_)) => {
            return Err(ApiError::field(
                "before_id",
                "cannot be combined with after_id",
            ));
        }
        (Some(after), None) => ("after_id", after, Order::Desc),
        (None, before) => ("before_id", before.unwrap_or_default(), Order::Asc),
    };
    if query.text("page")?.is_some() {
        return Err(ApiError::field(
            "page",
            format!("cannot be combined with {name}"),
        ));
    }
    let problem = |problem: String| ApiError::field(name, problem);
    let id = FileId::parse(id).map_err(|error| problem(error.to_string()))?;
    let at = app.store.file(&principal.workspace, &id).await?;
    let at = at.filter(|record| scope.is_none_or(|scope| is_in(record, scope)));
    let at = at.ok_or_else(|| problem("is not a file of this list".to_owned()))?;
    let limit = query.limit(LIMITS.0, LIMITS.1)?;
    let range = Range {
        after: Some(Key {
            created_at: at.file.created_at,
            id: at.file.id.to_string(),
        }),
        order,
        limit: limit + 1,
    };
    let mut found = app
        .store
        .list_files(&principal.workspace, scope, &range)
        .await?;
    let more = cursor::cut_off(&mut found, limit);
    if order == Order::Asc {
        found.reverse();
    }
    Ok(Reply(page(found, None, more)))
}

async fn find(app: &App, principal: &Principal, ids: &Ids) -> Result<FileRecord, ApiError> {
    let found = app.store.file(&principal.workspace, &ids.file()?).await?;
    found.ok_or_else(|| ApiError::not_found("file"))
}

/// `GET /v1/files/{file_id}`: also of one that has expired.
pub(crate) async fn retrieve_file(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<File>, ApiError> {
    Ok(Reply(find(&app, &principal, &ids).await?.file))
}

/// `GET /v1/files/{file_id}/content`: as it was stored, or an error; damage in the middle of a large file cuts the answer off
/// before it is given away (security STORE-3).
pub(crate) async fn download_file(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Response, ApiError> {
    let FileRecord {
        file, blob, sha256, ..
    } = find(&app, &principal, &ids).await?;
    if file.expires_at.is_some_and(|end| end <= app.now()) {
        return Err(ApiError::not_found("file").with_code("file_expired"));
    }
    if !file.downloadable {
        let problem =
            "only files that a session has written can be downloaded, not those that were sent";
        return Err(ApiError::invalid(problem).with_code("file_not_downloadable"));
    }
    let stored = Stored {
        size: file.size_bytes,
        sha256,
    };
    let mut reader = app.blobs.get(&blob, &stored).await?;
    // What can be known before the answer begins is said with its status.
    let first = reader.next().await?;
    let first = futures::stream::iter(first.map(Ok));
    let (id, rest) = (file.id.clone(), reader.into_stream());
    let rest = rest.inspect(move |piece| {
        if let Err(error) = piece {
            tracing::error!(file.id = %id, %error, "a download is cut off");
        }
    });
    let mut response = download::answer(
        Body::from_stream(first.chain(rest)),
        &file.mime_type,
        &name::disposition(&file.filename),
    );
    let size = HeaderValue::from(file.size_bytes);
    response.headers_mut().insert(CONTENT_LENGTH, size);
    Ok(response)
}

/// `DELETE /v1/files/{file_id}`
pub(crate) async fn delete_file(
    State(app): State<App>,
    principal: Principal,
    ids: Ids,
) -> Result<Reply<FileDeleted>, ApiError> {
    let id = ids.file()?;
    match app.store.delete_file(&principal.workspace, &id).await? {
        FileDeletion::Missing => Err(ApiError::not_found("file")),
        FileDeletion::Mounted => Err(ApiError::invalid(
            "a session reads this copy: delete the session's resource instead",
        )),
        FileDeletion::Done => Ok(Reply(FileDeleted {
            id,
            kind: Default::default(),
        })),
    }
}

/// What could not be stored or read. The operator reads the cause in the log.
impl From<manyhands_blobs::Error> for ApiError {
    fn from(error: manyhands_blobs::Error) -> Self {
        use manyhands_blobs::Error as Blob;
        match &error {
            Blob::NoSpace { operation } => manyhands_store::Error::NoSpace { operation }.into(),
            Blob::TooLarge { cap } => Self::too_large(usize::try_from(*cap).unwrap_or(usize::MAX)),
            Blob::Missing { name } | Blob::Damaged { name, .. } => {
                tracing::error!(%error, "a stored file is damaged");
                manyhands_store::Error::Damaged {
                    item: "the file".to_owned(),
                    reason: name.clone(),
                }
                .into()
            }
            Blob::Source { .. } => Self::invalid("the request body broke off"),
            Blob::Unavailable { .. } => {
                tracing::error!(%error, "the place of files did not answer");
                Self::unavailable(
                    "the place of files did not answer; try again",
                    Duration::from_secs(1),
                )
            }
            Blob::Invalid { .. } => {
                tracing::error!(%error, "the place of files cannot be used");
                Self::internal()
            }
        }
    }
}
