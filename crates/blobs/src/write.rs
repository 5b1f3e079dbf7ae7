//! A blob that is being written.

use bytes::{Bytes, BytesMut};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::Error;
use crate::blobs::Blobs;
use crate::format::{BLOCK, SEAL, Seals, Stored, hex};

const OPERATION: &str = "writing a blob";

/// A blob that is not there yet. What was written is removed when it is dropped; what a killed process leaves is swept.
pub struct Writer {
    blobs: Blobs,
    name: String,
    place: Path,
    cap: u64,
    size: u64,
    seals: Seals,
    /// Content that is no whole block yet.
    block: BytesMut,
    /// Sealed blocks that are no whole part yet.
    part: BytesMut,
    upload: Option<Box<dyn MultipartUpload>>,
}

impl Writer {
    pub(crate) fn new(blobs: Blobs, name: String, place: Path, cap: u64) -> Self {
        Self {
            blobs,
            name,
            place,
            cap,
            size: 0,
            seals: Seals::new(),
            block: BytesMut::new(),
            part: BytesMut::new(),
            upload: None,
        }
    }

    /// How many bytes were written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Writes on.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond the cap, [`Error::NoSpace`] on a full disk, [`Error::Unavailable`] otherwise. The writer is
    /// of no use any more then.
    pub async fn write(&mut self, mut content: &[u8]) -> Result<(), Error> {
        self.size += content.len() as u64;
        if self.size > self.cap {
            return Err(Error::TooLarge { cap: self.cap });
        }
        while !content.is_empty() {
            let (now, later) = content.split_at(content.len().min(BLOCK - self.block.len()));
            self.block.extend_from_slice(now);
            content = later;
            if self.block.len() == BLOCK {
                self.seal();
                if self.part.len() >= self.blobs.part {
                    self.hand_over().await?;
                }
            }
        }
        Ok(())
    }

    /// Completes the blob: it is there, and durable, when this returns.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn finish(mut self) -> Result<Stored, Error> {
        if !self.block.is_empty() || self.size == 0 {
            self.seal();
        }
        let sha256 = hex(&self.seals.seal(&[]));
        self.blobs.check_room()?;
        let sorted = |error: object_store::Error| Error::sort(OPERATION, &self.name, &error);
        let rest = self.part.split().freeze();
        let done = match &mut self.upload {
            None => self.blobs.objects.put(&self.place, rest.into()).await,
            Some(upload) => {
                if !rest.is_empty() {
                    upload.put_part(rest.into()).await.map_err(sorted)?;
                }
                upload.complete().await
            }
        };
        done.map_err(sorted)?;
        // Nothing is left to abort.
        self.upload = None;
        Ok(Stored {
            size: self.size,
            sha256,
        })
    }

    fn seal(&mut self) {
        let seal = self.seals.seal(&self.block);
        self.part.reserve(self.block.len() + SEAL);
        self.part.extend_from_slice(&self.block);
        self.part.extend_from_slice(&seal);
        self.block.clear();
    }

    async fn hand_over(&mut self) -> Result<(), Error> {
        self.blobs.check_room()?;
        let part: Bytes = self.part.split().freeze();
        let sorted = |error: object_store::Error| Error::sort(OPERATION, &self.name, &error);
        let upload = match &mut self.upload {
            Some(upload) => upload,
            none => {
                let upload = self.blobs.objects.put_multipart(&self.place);
                none.insert(upload.await.map_err(sorted)?)
            }
        };
        upload.put_part(part.into()).await.map_err(sorted)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let Some(mut upload) = self.upload.take() else {
            return;
        };
        // A folder's upload removes its file by itself; S3 has to be told.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = upload.abort().await {
                    tracing::debug!(%error, "an unfinished blob is left to the sweep");
                }
            });
        }
    }
}

/// Stores all that `reader` has.
pub(crate) async fn copy(
    mut writer: Writer,
    mut reader: impl AsyncRead + Send + Unpin,
) -> Result<Stored, Error> {
    let mut piece = vec![0; 64 << 10];
    loop {
        let read = reader.read(&mut piece).await;
        let read = read.map_err(|error| Error::Source {
            reason: error.to_string(),
        })?;
        if read == 0 {
            return writer.finish().await;
        }
        writer.write(&piece[..read]).await?;
    }
}
