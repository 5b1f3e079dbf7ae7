//! Bodies of multipart/form-data, part by part as they come: never as a whole in memory, and with bounds on what comes
//! between parts and on how long it may take (api §1.8, security INP-1).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::Request;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::header::CONTENT_TYPE;
use multer::Multipart;

use crate::api::body::{self, Pieces};
use crate::api::error::ApiError;

pub(crate) use multer::Field;

/// How many bytes may come between two parts: their heads, and what a client sends in one piece.
const BETWEEN: usize = 256 << 10;

/// Why a body is not read on.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Body(#[from] body::Broken),
    #[error("the request body has too much between its parts")]
    Between,
}

/// The parts of a body.
pub(crate) struct Parts {
    body: Arc<tokio::sync::Mutex<Pieces>>,
    multipart: Option<Multipart<'static>>,
    allowance: Arc<AtomicUsize>,
    most: usize,
    seen: usize,
}

impl Parts {
    /// The parts of this request, of which there may be so many.
    pub(crate) fn of(request: Request, most: usize) -> Self {
        let boundary = request.headers().get(CONTENT_TYPE);
        let boundary = boundary.and_then(|value| multer::parse_boundary(value.to_str().ok()?).ok());
        let body = Arc::new(tokio::sync::Mutex::new(Pieces::new(request.into_body())));
        let allowance = Arc::new(AtomicUsize::new(BETWEEN));
        let multipart = boundary.map(|boundary| {
            let pieces = pieces(Arc::clone(&body), Arc::clone(&allowance));
            Multipart::new(pieces, boundary)
        });
        Self {
            body,
            multipart,
            allowance,
            most,
            seen: 0,
        }
    }

    /// The next part; what is left of the one before is passed over.
    pub(crate) async fn next(&mut self) -> Result<Option<Field<'static>>, ApiError> {
        let Some(multipart) = &mut self.multipart else {
            return Err(ApiError::invalid(
                "a body of multipart/form-data is required",
            ));
        };
        self.allowance.store(BETWEEN, Ordering::Relaxed);
        let field = multipart
            .next_field()
            .await
            .map_err(|error| broken(&error))?;
        self.allowance.store(usize::MAX, Ordering::Relaxed);
        self.seen += usize::from(field.is_some());
        if self.seen > self.most {
            let problem = format!("the request has more than {} parts", self.most);
            return Err(ApiError::invalid(problem));
        }
        Ok(field)
    }

    /// The end of reading. A refused body is read on for a while, and dropped.
    pub(crate) async fn end<T>(self, read: Result<T, ApiError>) -> Result<T, ApiError> {
        let Self {
            body, multipart, ..
        } = self;
        // It holds the body when it was refused while its next piece was waited for.
        drop(multipart);
        if read.is_err() {
            body.lock().await.drain().await;
        }
        read
    }
}

/// The next piece of a part's content.
pub(crate) async fn piece(field: &mut Field<'_>) -> Result<Option<Bytes>, ApiError> {
    field.chunk().await.map_err(|error| broken(&error))
}

/// The content of a part that is a text of at most `most` bytes.
pub(crate) async fn text(
    name: &str,
    mut field: Field<'_>,
    most: usize,
) -> Result<String, ApiError> {
    let mut text = Vec::new();
    while let Some(piece) = piece(&mut field).await? {
        if text.len() + piece.len() > most {
            return Err(ApiError::field(name, "is too long"));
        }
        text.extend_from_slice(&piece);
    }
    String::from_utf8(text).map_err(|_| ApiError::field(name, "is not UTF-8"))
}

/// Passes over a part that nobody knows, of at most `most` bytes.
pub(crate) async fn pass_over(field: Field<'_>, most: usize) -> Result<(), ApiError> {
    let name = field.name().unwrap_or_default();
    tracing::debug!(part = %name.escape_debug(), "unknown part");
    text("the request's parts", field, most).await.map(drop)
}

/// The body piece by piece, within the allowance.
fn pieces(
    body: Arc<tokio::sync::Mutex<Pieces>>,
    allowance: Arc<AtomicUsize>,
) -> impl Stream<Item = Result<Bytes, Broken>> + Send + 'static {
    futures::stream::unfold(Some(body), move |body| {
        let allowance = Arc::clone(&allowance);
        async move {
            let body = body?;
            let next = body.lock().await.next().await;
            let piece = match next {
                Ok(piece) => piece?,
                Err(error) => return Some((Err(error.into()), None)),
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

fn broken(error: &multer::Error) -> ApiError {
    if let multer::Error::StreamReadFailed(cause) = error
        && let Some(cause) = cause.downcast_ref::<Broken>()
    {
        return match cause {
            Broken::Body(broken) => (*broken).into(),
            Broken::Between => ApiError::invalid(cause.to_string()),
        };
    }
    tracing::debug!(%error, "a multipart body cannot be read");
    ApiError::invalid("the request body is not complete multipart/form-data")
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use axum::body::Body;

    use super::*;

    /// A client that sends what is refused and then nothing, security INP-1: it is answered, and not waited for without end.
    #[tokio::test(start_paused = true)]
    async fn inp_1_a_refused_body_that_does_not_go_on_is_answered() {
        let refused = Bytes::from_static(b"--b\r\nno head of a part\r\n\r\n");
        let pieces = futures::stream::iter([Ok::<_, Infallible>(refused)]);
        let pieces = pieces.chain(futures::stream::pending());
        let mut request = Request::new(Body::from_stream(pieces));
        let kind = http::HeaderValue::from_static("multipart/form-data; boundary=b");
        request.headers_mut().insert(CONTENT_TYPE, kind);
        let mut parts = Parts::of(request, 3);
        let read = parts.next().await.map(|_| ());
        assert!(read.is_err());
        let end = tokio::time::timeout(Duration::from_secs(3600), parts.end(read));
        assert!(end.await.expect("an answer").is_err());
    }
}
