//! A blob that is being read.

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::{BoxStream, Stream};

use crate::Error;
use crate::format::{BLOCK, SEAL, Seals, Stored, hex};

/// What is left of a blob. Each piece was verified when it is given away (security STORE-3).
pub struct Reader {
    name: String,
    stored: Stored,
    left: u64,
    seals: Seals,
    held: BytesMut,
    source: BoxStream<'static, object_store::Result<Bytes>>,
    ended: bool,
}

impl Reader {
    pub(crate) fn new(
        name: String,
        stored: Stored,
        source: BoxStream<'static, object_store::Result<Bytes>>,
    ) -> Self {
        Self {
            left: stored.size,
            name,
            stored,
            seals: Seals::new(),
            held: BytesMut::new(),
            source,
            ended: false,
        }
    }

    /// The next piece; `None` at the end, which comes only when all of it was what was written.
    ///
    /// # Errors
    /// [`Error::Damaged`] at the first block that is not as it was, [`Error::Unavailable`] when it cannot be read.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.ended {
            return Ok(None);
        }
        let content = usize::try_from(self.left).unwrap_or(BLOCK).min(BLOCK);
        while self.held.len() < content + SEAL {
            match self.source.next().await {
                Some(Ok(piece)) => self.held.extend_from_slice(&piece),
                Some(Err(error)) => return Err(Error::sort("reading a blob", &self.name, &error)),
                None => return Err(self.damaged("it ends early")),
            }
        }
        let block = self.held.split_to(content).freeze();
        let kept = self.held.split_to(SEAL);
        let seal = self.seals.seal(&block);
        if seal != *kept {
            return Err(self.damaged("a checksum does not match"));
        }
        self.left -= content as u64;
        if self.left == 0 {
            self.ended = true;
            if hex(&seal) != self.stored.sha256 {
                return Err(self.damaged("it is another blob"));
            }
        }
        Ok((!block.is_empty()).then_some(block))
    }

    /// The pieces as a stream, which ends with the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static {
        futures::stream::unfold(Some(self), |reader| async {
            let mut reader = reader?;
            match reader.next().await {
                Ok(Some(piece)) => Some((Ok(piece), Some(reader))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    fn damaged(&self, reason: &str) -> Error {
        Error::Damaged {
            name: self.name.clone(),
            reason: reason.to_owned(),
        }
    }
}
