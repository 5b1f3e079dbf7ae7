//! A file that is being sent: read part by part and stored as it comes, never as a whole in memory (api §1.8).

use axum::extract::Request;
use manyhands_blobs::fresh;
use manyhands_protocol::file::{File, LARGEST};
use manyhands_protocol::{FileId, Timestamp};
use manyhands_store::{FileRecord, Origin};

use super::name;
use crate::api::auth::Principal;
use crate::api::error::ApiError;
use crate::api::multipart::{self, Field};
use crate::app::App;

/// The longest text part.
const TEXT: usize = 64;
/// Parts of one request.
const PARTS: usize = 16;
/// Seconds that a file may be kept for, from and to (api §29).
const KEPT: std::ops::RangeInclusive<i64> = 3_600..=7_776_000;

/// What the parts have said so far.
#[derive(Default)]
struct Parts {
    file: Option<Content>,
    expires_in_seconds: Option<i64>,
}

/// The content of the file, which is stored already.
struct Content {
    filename: String,
    mime_type: String,
    blob: String,
    stored: manyhands_blobs::Stored,
}

/// Receives a file and stores it: its blob first, its row last.
pub(super) async fn receive(
    app: &App,
    principal: &Principal,
    request: Request,
) -> Result<File, ApiError> {
    let mut body = multipart::Parts::of(request, PARTS);
    let received = async {
        if app.store.is_short_of_room() {
            let operation = "sending a file";
            return Err(manyhands_store::Error::NoSpace { operation }.into());
        }
        let mut parts = Parts::default();
        match all(app, &mut parts, &mut body).await {
            Ok(()) => Ok(parts),
            Err(refusal) => {
                if let Some(content) = parts.file {
                    app.discard_blob(&content.blob).await;
                }
                Err(refusal)
            }
        }
    };
    let received = received.await;
    let parts = body.end(received).await?;
    let Some(content) = parts.file else {
        return Err(ApiError::field("file", "is required"));
    };
    keep(app, principal, content, parts.expires_in_seconds).await
}

/// Writes the row.
async fn keep(
    app: &App,
    principal: &Principal,
    content: Content,
    expires_in_seconds: Option<i64>,
) -> Result<File, ApiError> {
    let now = app.now();
    let end = |seconds: i64| Timestamp::from_micros(now.as_micros() + seconds * 1_000_000);
    let file = File {
        id: FileId::generate(),
        kind: Default::default(),
        filename: content.filename.clone(),
        mime_type: content.mime_type.clone(),
        size_bytes: content.stored.size,
        created_at: now,
        downloadable: false,
        expires_at: expires_in_seconds.map(end),
        scope: None,
    };
    let record = FileRecord {
        file: file.clone(),
        origin: Origin::Upload {},
        blob: content.blob.clone(),
        sha256: content.stored.sha256.clone(),
    };
    let inserted = app
        .store
        .insert_file(&principal.workspace, record, app.files.quota)
        .await?;
    if !inserted {
        app.discard_blob(&content.blob).await;
        let problem = "the workspace's storage is full: delete files that are not needed any more";
        return Err(ApiError::invalid(problem).with_code("storage_quota_exceeded"));
    }
    Ok(file)
}

/// Reads all parts, up to a refusal.
async fn all(app: &App, parts: &mut Parts, body: &mut multipart::Parts) -> Result<(), ApiError> {
    while let Some(field) = body.next().await? {
        part(app, parts, field).await?;
    }
    Ok(())
}

async fn part(app: &App, parts: &mut Parts, field: Field<'_>) -> Result<(), ApiError> {
    match field.name() {
        Some("file") if parts.file.is_some() => Err(ApiError::field("file", "is given twice")),
        Some("file") => {
            parts.file = Some(content(app, field).await?);
            Ok(())
        }
        Some("expires_in_seconds") if parts.expires_in_seconds.is_some() => {
            Err(ApiError::field("expires_in_seconds", "is given twice"))
        }
        Some("expires_in_seconds") => {
            let text = multipart::text("expires_in_seconds", field, TEXT).await?;
            let seconds = text.trim().parse().ok();
            let seconds = seconds.filter(|seconds| KEPT.contains(seconds));
            parts.expires_in_seconds = Some(seconds.ok_or_else(|| {
                let (first, last) = (KEPT.start(), KEPT.end());
                let problem = format!("expected a whole number from {first} to {last}");
                ApiError::field("expires_in_seconds", problem)
            })?);
            Ok(())
        }
        _ => multipart::pass_over(field, TEXT).await,
    }
}

/// Stores the content of a file as it comes.
async fn content(app: &App, mut field: Field<'_>) -> Result<Content, ApiError> {
    let sent_type = field
        .content_type()
        .map(|kind| kind.essence_str().to_owned());
    let filename = name::of_upload(field.file_name(), sent_type.as_deref())?;
    let mime_type = name::mime_type(&filename, sent_type.as_deref());
    let blob = fresh("files");
    let mut writer = app.blobs.create(&blob, LARGEST)?;
    while let Some(piece) = multipart::piece(&mut field).await? {
        writer.write(&piece).await?;
    }
    Ok(Content {
        filename,
        mime_type,
        blob,
        stored: writer.finish().await?,
    })
}
