//! A skill that is being sent: the files of a folder in any order, or one archive of them (api §1.8).

use axum::extract::Request;
use bytes::{Bytes, BytesMut};
use manyhands_blobs::fresh;
use manyhands_protocol::SkillVersionId;
use manyhands_skills::{ARCHIVE, FILES, File, Folder, Manifest, Problem, TOTAL};
use manyhands_store::skills::NewVersion;
use tokio::sync::Semaphore;

use crate::api::agents::definition;
use crate::api::error::ApiError;
use crate::api::multipart::{self, Field, Parts};
use crate::app::App;

/// The longest label, in characters.
const LABEL: usize = 255;
/// The longest text part, in bytes.
const TEXT: usize = 4 * LABEL;
/// Parts of one request: the files, and texts beside them.
const PARTS: usize = FILES + 16;
/// How many skills are packed and unpacked at once: each takes memory and a processor for a moment.
static AT_ONCE: Semaphore = Semaphore::const_new(2);

/// A skill as it was sent.
pub(super) struct Sent {
    pub(super) folder: Folder,
    pub(super) display_name: Option<String>,
}

#[derive(Default)]
struct Received {
    files: Vec<(String, Bytes)>,
    total: usize,
    display_name: Option<String>,
}

/// Receives a skill, whole and checked.
pub(super) async fn receive(app: &App, request: Request) -> Result<Sent, ApiError> {
    let mut parts = Parts::of(request, PARTS);
    let received = async {
        if app.store.is_short_of_room() {
            let operation = "sending a skill";
            return Err(manyhands_store::Error::NoSpace { operation }.into());
        }
        let mut received = Received::default();
        while let Some(field) = parts.next().await? {
            part(&mut received, field).await?;
        }
        Ok(received)
    };
    let received = received.await;
    let Received {
        files,
        display_name,
        ..
    } = parts.end(received).await?;
    if files.is_empty() {
        return Err(ApiError::field("files", "is required"));
    }
    let folder = apart(move || folder(files)).await??;
    Ok(Sent {
        folder,
        display_name,
    })
}

/// Refuses a request whose body is of no interest.
pub(super) async fn refuse<T>(request: Request, refusal: ApiError) -> Result<T, ApiError> {
    Parts::of(request, PARTS).end(Err(refusal)).await
}

async fn part(received: &mut Received, mut field: Field<'_>) -> Result<(), ApiError> {
    match field.name() {
        Some("files[]" | "files") => {
            let Some(path) = field.file_name().map(str::to_owned) else {
                return Err(ApiError::field(
                    "files",
                    "each file needs its path as its filename",
                ));
            };
            let mut content = BytesMut::new();
            while let Some(piece) = multipart::piece(&mut field).await? {
                received.total += piece.len();
                if received.total > ARCHIVE {
                    return Err(ApiError::too_large(ARCHIVE));
                }
                content.extend_from_slice(&piece);
            }
            received.files.push((path, content.freeze()));
            Ok(())
        }
        Some("display_name" | "display_title") if received.display_name.is_some() => {
            Err(ApiError::field("display_name", "is given twice"))
        }
        Some("display_name" | "display_title") => {
            let text = multipart::text("display_name", field, TEXT).await?;
            received.display_name = Some(text);
            Ok(())
        }
        _ => multipart::pass_over(field, TEXT).await,
    }
}

/// The folder that these files are, or that the one archive among them has.
fn folder(files: Vec<(String, Bytes)>) -> Result<Folder, Problem> {
    match &*files {
        [(_, bytes)] if manyhands_skills::is_archive(bytes) => {
            Folder::new(manyhands_skills::read(bytes)?)
        }
        _ => Folder::new(
            files
                .into_iter()
                .map(|(path, bytes)| File::plain(path, bytes)),
        ),
    }
}

/// The label that a skill gets: its name when none was sent.
pub(super) fn display_name(given: Option<String>, manifest: &Manifest) -> Result<String, ApiError> {
    let given = given.filter(|given| !given.is_empty());
    let label = given.unwrap_or_else(|| manifest.name.clone());
    definition::text("display_name", &label, 1, LABEL)?;
    if label.chars().any(char::is_control) {
        return Err(ApiError::field("display_name", "must be a single line"));
    }
    Ok(label)
}

/// Stores a skill's archive. Whoever gets no row for it removes it again; the sweep finds what stays.
pub(super) async fn keep(app: &App, folder: &Folder) -> Result<NewVersion, ApiError> {
    let manifest = folder.manifest().clone();
    let folder = folder.clone();
    let archive = apart(move || folder.archive()).await??;
    let blob = fresh("skills");
    let stored = app.blobs.put(&blob, &archive[..], ARCHIVE as u64).await?;
    Ok(NewVersion {
        id: SkillVersionId::generate(),
        name: manifest.name,
        description: manifest.description,
        blob,
        size: stored.size,
        sha256: stored.sha256,
    })
}

/// Runs what takes a processor for a while, a few at once.
pub(super) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let failed = |_| ApiError::internal();
    let _turn = AT_ONCE.acquire().await.map_err(|_| ApiError::internal())?;
    tokio::task::spawn_blocking(work).await.map_err(failed)
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::TooLarge => Self::too_large_in_all(TOTAL),
            Problem::Refused(why) => Self::field("files", why),
        }
    }
}
