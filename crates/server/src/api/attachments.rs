//! Images and documents that a client names by URL or by file id: their bytes are fetched before the event is taken, and
//! stand in the log beside it. So the model's context stays a function of the log alone (invariant I6), whatever becomes of
//! the URL or the file.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::{StreamExt as _, TryStreamExt as _};
use manyhands_blobs::Stored;
use manyhands_brain::Attached;
use manyhands_protocol::content::{ContentBlock, Source};
use manyhands_protocol::file::{File, FileScope};
use manyhands_protocol::{FileId, SessionId, WorkspaceId};
use url::Url;

use crate::api::admission::Incoming;
use crate::api::error::ApiError;
use crate::app::App;

/// Blocks of one request that name files (api §29).
const FILES: usize = 100;

/// Blocks of one request that name URLs.
const URLS: usize = 20;

/// URLs and files that are read at the same time.
const AT_ONCE: usize = 4;

/// The largest picture, in bytes.
const IMAGE: usize = 5 << 20;

/// The largest document, in bytes.
const DOCUMENT: usize = 20 << 20;

/// All that one request may attach, in bytes: what its body could hold.
const TOTAL: usize = 24 << 20;

/// What a block has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Image,
    Document,
}

impl Kind {
    fn most(self) -> usize {
        match self {
            Self::Image => IMAGE,
            Self::Document => DOCUMENT,
        }
    }
}

/// A block whose bytes are elsewhere.
struct Wanted {
    event: usize,
    block: usize,
    kind: Kind,
    source: Source,
    at: String,
}

/// Whose files blocks may name.
#[derive(Clone, Copy)]
pub(crate) struct Reach<'a> {
    /// Of this workspace.
    pub(crate) workspace: &'a WorkspaceId,
    /// Of this session alone, for who reaches no other (security API-1).
    pub(crate) session: Option<&'a SessionId>,
}

impl Reach<'_> {
    fn has(&self, file: &File) -> bool {
        let of = |session| matches!(&file.scope, Some(FileScope::Session { id }) if id == session);
        self.session.is_none_or(of)
    }
}

/// Fetches what the blocks of these events name elsewhere. `list` is the events' field in the request.
///
/// # Errors
/// 400 with the block that cannot be had, 404 for a file that is not there. Nothing is stored.
pub(crate) async fn attach(
    app: &App,
    reach: Reach<'_>,
    events: &mut [Incoming],
    list: &str,
) -> Result<(), ApiError> {
    let wanted = wanted(events, list)?;
    let fetched = futures::stream::iter(wanted).map(|wanted| async move {
        let bytes = fetch(app, reach, &wanted).await?;
        let source =
            source(wanted.kind, &bytes).map_err(|problem| ApiError::field(&wanted.at, problem))?;
        Ok::<_, ApiError>((wanted, bytes.len(), source))
    });
    let mut fetched = fetched.buffered(AT_ONCE);
    let mut total = 0;
    while let Some((wanted, size, source)) = fetched.try_next().await? {
        total += size;
        if total > TOTAL {
            let problem = format!(
                "with it, more than {} MiB are attached to one request",
                TOTAL >> 20
            );
            return Err(ApiError::field(wanted.at, problem));
        }
        if let Some((_, attached)) = events[wanted.event].blocks() {
            attached.push(Attached {
                block: wanted.block,
                source,
            });
        }
    }
    Ok(())
}

fn wanted(events: &mut [Incoming], list: &str) -> Result<Vec<Wanted>, ApiError> {
    let mut wanted = Vec::new();
    let (mut urls, mut files) = (0, 0);
    for (index, event) in events.iter_mut().enumerate() {
        let Some((content, _)) = event.blocks() else {
            continue;
        };
        for (block, content) in content.iter().enumerate() {
            let (kind, source) = match content {
                ContentBlock::Image { source } => (Kind::Image, source),
                ContentBlock::Document { source, .. } => (Kind::Document, source),
                _ => continue,
            };
            let at = format!("{list}[{index}].content[{block}].source");
            let (count, most) = match source {
                Source::Url { .. } => (&mut urls, URLS),
                Source::File { .. } => (&mut files, FILES),
                Source::Base64 { .. } | Source::Text { .. } => continue,
            };
            *count += 1;
            if *count > most {
                let problem = format!("more than {most} blocks of one request have such a source");
                return Err(ApiError::field(at, problem));
            }
            wanted.push(Wanted {
                event: index,
                block,
                kind,
                source: source.clone(),
                at,
            });
        }
    }
    Ok(wanted)
}

async fn fetch(app: &App, reach: Reach<'_>, wanted: &Wanted) -> Result<Vec<u8>, ApiError> {
    let Wanted {
        source, kind, at, ..
    } = wanted;
    match source {
        Source::Url { url } => {
            let refused = |why: String| ApiError::field(format!("{at}.url"), why);
            let url = Url::parse(url).map_err(|error| refused(error.to_string()))?;
            let fetched = app.outbound.get(&url, &|_, _| true, kind.most()).await;
            Ok(fetched
                .map_err(|refusal| refused(refusal.to_string()))?
                .body)
        }
        Source::File { file_id } => {
            let at = format!("{at}.file_id");
            let id = FileId::parse(file_id)
                .map_err(|problem| ApiError::field(&at, problem.to_string()))?;
            let record = app.store.file(reach.workspace, &id).await?;
            let record = record.filter(|record| reach.has(&record.file));
            let record = record.ok_or_else(|| ApiError::not_found("file"))?;
            if record.is_expired(app.now()) {
                return Err(ApiError::field(at, "the file has expired").with_code("file_expired"));
            }
            let size = record.file.size_bytes;
            if size > kind.most() as u64 {
                return Err(ApiError::field(at, too_large(*kind)));
            }
            let stored = Stored {
                size,
                sha256: record.sha256,
            };
            let bytes = app.blobs.read(&record.blob, &stored, size).await;
            Ok(bytes.map_err(ApiError::from)?.into())
        }
        Source::Base64 { .. } | Source::Text { .. } => Ok(Vec::new()),
    }
}

fn too_large(kind: Kind) -> String {
    let what = match kind {
        Kind::Image => "a picture",
        Kind::Document => "a document",
    };
    format!("{what} may have {} MiB", kind.most() >> 20)
}

/// The source with the bytes in it. What they are is told from themselves, not from what somebody said.
fn source(kind: Kind, bytes: &[u8]) -> Result<Source, String> {
    let base64 = |media_type: &str| Source::Base64 {
        data: BASE64_STANDARD.encode(bytes),
        media_type: media_type.to_owned(),
    };
    match kind {
        Kind::Image => {
            let media_type = picture(bytes).ok_or("is no PNG, JPEG, GIF or WebP picture")?;
            Ok(base64(media_type))
        }
        Kind::Document if bytes.starts_with(b"%PDF-") => Ok(base64("application/pdf")),
        Kind::Document => match std::str::from_utf8(bytes) {
            Ok(text) if !text.trim().is_empty() && !text.contains('\0') => Ok(Source::Text {
                data: text.to_owned(),
                media_type: "text/plain".to_owned(),
            }),
            _ => Err("is neither a PDF nor text in UTF-8".to_owned()),
        },
    }
}

fn picture(bytes: &[u8]) -> Option<&'static str> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    if starts(b"\x89PNG\r\n\x1a\n") {
        Some("image/png")
    } else if starts(b"\xff\xd8\xff") {
        Some("image/jpeg")
    } else if starts(b"GIF87a") || starts(b"GIF89a") {
        Some("image/gif")
    } else if starts(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        Some("image/webp")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inp_1_bytes_are_what_they_are_and_not_what_they_are_called() {
        #[track_caller]
        fn check(kind: Kind, bytes: &[u8], expected: Result<&str, &str>) {
            let found = source(kind, bytes).map(|source| match source {
                Source::Base64 { media_type, .. } | Source::Text { media_type, .. } => media_type,
                other => panic!("{other:?}"),
            });
            assert_eq!(
                found.as_deref().map_err(|problem| problem.as_str()),
                expected
            );
        }
        let no_picture = Err("is no PNG, JPEG, GIF or WebP picture");
        let no_document = Err("is neither a PDF nor text in UTF-8");
        check(Kind::Image, b"\x89PNG\r\n\x1a\n...", Ok("image/png"));
        check(Kind::Image, b"\xff\xd8\xff\xe0", Ok("image/jpeg"));
        check(Kind::Image, b"GIF89a", Ok("image/gif"));
        check(Kind::Image, b"RIFF\0\0\0\0WEBPVP8 ", Ok("image/webp"));
        check(Kind::Image, b"RIFF\0\0\0\0WAVE", no_picture);
        check(Kind::Image, b"<svg/>", no_picture);
        check(Kind::Image, b"", no_picture);
        check(Kind::Document, b"%PDF-1.7", Ok("application/pdf"));
        check(Kind::Document, "text \u{fc}".as_bytes(), Ok("text/plain"));
        check(Kind::Document, b" ", no_document);
        check(Kind::Document, b"\xff\xfe", no_document);
        check(Kind::Document, b"a\0b", no_document);
    }
}
