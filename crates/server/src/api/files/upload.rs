//! A file that is being sent: read part by part and stored as it comes, never as a whole in memory (api §1.8).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use manyhands_blobs::fresh;
use manyhands_protocol::file::{File, LARGEST};
use manyhands_protocol::{FileId, Timestamp};
use manyhands_store::{FileRecord, Origin};
use multer::{Field, Multipart};

use super::name;
use crate::api::auth::Principal;
use crate::api::error::ApiError;
use crate::app::App;

/// How long the next piece of a body may take.
const PIECE: Duration = Duration::from_secs(30);
/// How many bytes may come between two parts: their heads, and what a client sends in one piece.
const BETWEEN: usize = 256 << 10;
/// The longest text part.
const TEXT: usize = 64;
/// Parts of one request.
const PARTS: usize = 16;
/// How much of a refused body is read and dropped, so that the client gets to read the answer.
const DRAIN: usize = 64 << 20;
/// Seconds that a file may be kept for, from and to (api §29).
const KEPT: std::ops::RangeInclusive<i64> = 3_600..=7_776_000;

/// Why a body is not read on.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("broke off")]
    Off,
    #[error("stopped coming")]
    Slow,
    #[error("has too much between its parts")]
    Between,
}

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
    let boundary = request.headers().get(CONTENT_TYPE);
    let boundary = boundary.and_then(|value| multer::parse_boundary(value.to_str().ok()?).ok());
    let body = Arc::new(tokio::sync::Mutex::new(request.into_body()));
    let received = async {
        let boundary = boundary.ok_or_else(|| {
            ApiError::invalid("a multipart/form-data body with a part named file is required")
        })?;
        if app.store.is_short_of_room() {
            let operation = "sending a file";
            return Err(manyhands_store::Error::NoSpace { operation }.into());
        }
        let (parts, refusal) = parts(app, Arc::clone(&body), boundary).await;
        match refusal {
            None => Ok(parts),
            Some(refusal) => {
                discard(app, parts.file.as_ref()).await;
                Err(refusal)
            }
        }
    };
    let parts = match received.await {
        Ok(parts) => parts,
        Err(refusal) => {
            drain(&body).await;
            return Err(refusal);
        }
    };
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
        discard(app, Some(&content)).await;
        let problem = "the workspace's storage is full: delete files that are not needed any more";
        return Err(ApiError::invalid(problem).with_code("storage_quota_exceeded"));
    }
    Ok(file)
}

/// Removes a blob that gets no row; the sweep finds what stays.
async fn discard(app: &App, content: Option<&Content>) {
    if let Some(content) = content
        && let Err(error) = app.blobs.delete(&content.blob).await
    {
        tracing::debug!(%error, "a blob is left to the sweep");
    }
}

/// Reads all parts, up to a refusal.
async fn parts(
    app: &App,
    body: Arc<tokio::sync::Mutex<Body>>,
    boundary: String,
) -> (Parts, Option<ApiError>) {
    let allowance = Arc::new(AtomicUsize::new(BETWEEN));
    let mut multipart = Multipart::new(pieces(body, Arc::clone(&allowance)), boundary);
    let mut parts = Parts::default();
    for _ in 0..=PARTS {
        allowance.store(BETWEEN, Ordering::Relaxed);
        let field = match multipart.next_field().await {
            Ok(Some(field)) => field,
            Ok(None) => return (parts, None),
            Err(error) => return (parts, Some(broken(&error))),
        };
        allowance.store(usize::MAX, Ordering::Relaxed);
        if let Err(refusal) = part(app, &mut parts, field).await {
            return (parts, Some(refusal));
        }
    }
    let problem = format!("the request has more than {PARTS} parts");
    (parts, Some(ApiError::invalid(problem)))
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
            let text = text("expires_in_seconds", field).await?;
            let seconds = text.trim().parse().ok();
            let seconds = seconds.filter(|seconds| KEPT.contains(seconds));
            parts.expires_in_seconds = Some(seconds.ok_or_else(|| {
                let (first, last) = (KEPT.start(), KEPT.end());
                let problem = format!("expected a whole number from {first} to {last}");
                ApiError::field("expires_in_seconds", problem)
            })?);
            Ok(())
        }
        name => {
            tracing::debug!(part = %name.unwrap_or_default().escape_debug(), "unknown part");
            text("the request's parts", field).await.map(drop)
        }
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
    while let Some(piece) = field.chunk().await.map_err(|error| broken(&error))? {
        writer.write(&piece).await?;
    }
    Ok(Content {
        filename,
        mime_type,
        blob,
        stored: writer.finish().await?,
    })
}

/// A short text part.
async fn text(name: &str, mut field: Field<'_>) -> Result<String, ApiError> {
    let mut text = Vec::new();
    while let Some(piece) = field.chunk().await.map_err(|error| broken(&error))? {
        if text.len() + piece.len() > TEXT {
            return Err(ApiError::field(name, "is too long"));
        }
        text.extend_from_slice(&piece);
    }
    String::from_utf8(text).map_err(|_| ApiError::field(name, "is not UTF-8"))
}

/// The body piece by piece, within the allowance.
fn pieces(
    body: Arc<tokio::sync::Mutex<Body>>,
    allowance: Arc<AtomicUsize>,
) -> impl Stream<Item = Result<Bytes, Broken>> + Send + 'static {
    futures::stream::unfold(Some(body), move |body| {
        let allowance = Arc::clone(&allowance);
        async move {
            let body = body?;
            let piece = match next(&body).await? {
                Ok(piece) => piece,
                Err(error) => return Some((Err(error), None)),
            };
            let left = allowance.load(Ordering::Relaxed);
            match left.checked_sub(piece.len()) {
                Some(left) => allowance.store(left, Ordering::Relaxed),
                None => return Some((Err(Broken::Between), None)),
            }
            Some((Ok(piece), Some(body)))
        }
    })
    .boxed()
}

/// The next piece of the body; `None` at its end.
async fn next(body: &tokio::sync::Mutex<Body>) -> Option<Result<Bytes, Broken>> {
    let mut body = body.lock().await;
    loop {
        match tokio::time::timeout(PIECE, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Some(Ok(data));
                }
            }
            Ok(Some(Err(_))) => return Some(Err(Broken::Off)),
            Ok(None) => return None,
            Err(_) => return Some(Err(Broken::Slow)),
        }
    }
}

fn broken(error: &multer::Error) -> ApiError {
    if let multer::Error::StreamReadFailed(cause) = error
        && let Some(cause) = cause.downcast_ref::<Broken>()
    {
        let refusal = ApiError::invalid(format!("the request body {cause}"));
        return match cause {
            Broken::Slow => refusal.with_code("request_body_timeout"),
            Broken::Off | Broken::Between => refusal,
        };
    }
    tracing::debug!(%error, "a multipart body cannot be read");
    ApiError::invalid("the request body is not complete multipart/form-data")
}

/// Reads on for a while and drops what comes.
async fn drain(body: &tokio::sync::Mutex<Body>) {
    let mut body = body.lock().await;
    let mut seen = 0;
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(PIECE, body.frame()).await {
        seen += frame.into_data().map_or(0, |data| data.len());
        if seen > DRAIN {
            return;
        }
    }
}
