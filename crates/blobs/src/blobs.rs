//! Where blobs are: a folder, S3, or memory.

use std::fmt;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::AsyncRead;

use crate::format::{Stored, length};
use crate::name::place;
use crate::read::Reader;
use crate::write::Writer;
use crate::{Error, write};

/// What is left of a folder's disk for others: the log above all (security STORE-4).
const ROOM: u64 = 32 << 20;
/// How long S3 may be silent.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a request to S3 is repeated.
const RETRIES: Duration = Duration::from_secs(20);

/// The blobs. Cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// The folder, where they are in one.
    folder: Option<PathBuf>,
    /// How much is handed over at once.
    pub(crate) part: usize,
}

impl fmt::Debug for Blobs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Blobs({})", self.objects)
    }
}

/// An S3 bucket, or one of a server that speaks the same.
#[derive(Clone, Debug)]
pub struct S3 {
    /// The bucket, which is there.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// Where it is served; `None` is Amazon. Only an `http://` endpoint is spoken to without TLS.
    pub endpoint: Option<String>,
    /// The id of the key; `None` when the machine itself has a role.
    pub access_key_id: Option<String>,
    /// The key.
    pub secret_access_key: Option<SecretString>,
}

/// A blob in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// When it was completed.
    pub modified: SystemTime,
}

impl Blobs {
    /// Blobs in a folder, which is made for its owner alone if it is not there. Complete blobs are forced to the disk.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the folder cannot be used.
    pub fn folder(folder: &Path) -> Result<Self, Error> {
        let unavailable = |reason: String| Error::Unavailable {
            operation: "opening the folder of blobs",
            reason: format!("{}: {reason}", folder.display()),
        };
        // What is in it need not be closed then.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| unavailable(error.to_string()))?;
        let objects = LocalFileSystem::new_with_prefix(folder)
            .map_err(|error| unavailable(error.to_string()))?;
        Ok(Self {
            objects: Arc::new(objects.with_fsync(true)),
            folder: Some(folder.to_owned()),
            part: 1 << 20,
        })
    }

    /// Blobs in a bucket. Nothing is asked before it is needed.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the settings make no sense.
    pub fn s3(settings: &S3) -> Result<Self, Error> {
        let plain = settings
            .endpoint
            .as_ref()
            .is_some_and(|endpoint| endpoint.starts_with("http://"));
        let client = ClientOptions::new()
            .with_timeout_disabled()
            .with_connect_timeout(SILENCE)
            .with_read_timeout(SILENCE)
            .with_allow_http(plain);
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&settings.bucket)
            .with_region(&settings.region)
            .with_client_options(client)
            .with_retry(RetryConfig {
                backoff: BackoffConfig::default(),
                max_retries: 5,
                retry_timeout: RETRIES,
            });
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(plain);
        }
        if let Some(id) = &settings.access_key_id {
            builder = builder.with_access_key_id(id);
        }
        if let Some(key) = &settings.secret_access_key {
            builder = builder.with_secret_access_key(key.expose_secret());
        }
        let objects = builder.build().map_err(|error| Error::Invalid {
            operation: "opening the bucket of blobs",
            reason: error.to_string(),
        })?;
        Ok(Self {
            objects: Arc::new(objects),
            folder: None,
            // A part of an upload to S3 has 5 MiB at least, but the last, and there are at most 10,000.
            part: 8 << 20,
        })
    }

    /// Blobs that end with the process, for tests and simulations.
    pub fn memory() -> Self {
        Self {
            objects: Arc::new(InMemory::new()),
            folder: None,
            part: 1 << 20,
        }
    }

    /// Begins a blob of at most `cap` bytes. It is there when [`Writer::finish`] returns; a name that is taken must not be
    /// used again.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when the disk is nearly full, [`Error::Invalid`] for what is no name.
    pub fn create(&self, name: &str, cap: u64) -> Result<Writer, Error> {
        self.check_room()?;
        Ok(Writer::new(
            self.clone(),
            name.to_owned(),
            place(name)?,
            cap,
        ))
    }

    /// Stores all that `reader` has, which may be at most `cap` bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond the cap, [`Error::Source`] when the reader fails, and as [`Writer`] does; nothing is stored
    /// then.
    pub async fn put(
        &self,
        name: &str,
        reader: impl AsyncRead + Send + Unpin,
        cap: u64,
    ) -> Result<Stored, Error> {
        write::copy(self.create(name, cap)?, reader).await
    }

    /// Begins to read a blob, which must be what was `stored`. No byte is given away before it was verified.
    ///
    /// # Errors
    /// [`Error::Missing`], and [`Error::Damaged`] when its length is another.
    pub async fn get(&self, name: &str, stored: &Stored) -> Result<Reader, Error> {
        let operation = "reading a blob";
        let sorted = |error: object_store::Error| Error::sort(operation, name, &error);
        let found = self.objects.get(&place(name)?).await.map_err(sorted)?;
        if Some(found.meta.size) != length(stored.size) {
            return Err(Error::Damaged {
                name: name.to_owned(),
                reason: format!(
                    "{} bytes are there for a content of {}",
                    found.meta.size, stored.size
                ),
            });
        }
        Ok(Reader::new(
            name.to_owned(),
            stored.clone(),
            found.into_stream(),
        ))
    }

    /// The whole of a blob that has at most `cap` bytes.
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`Error::TooLarge`].
    pub async fn read(&self, name: &str, stored: &Stored, cap: u64) -> Result<Bytes, Error> {
        if stored.size > cap {
            return Err(Error::TooLarge { cap });
        }
        let mut reader = self.get(name, stored).await?;
        let mut all = Vec::new();
        while let Some(piece) = reader.next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all.into())
    }

    /// Removes a blob. One that is not there is fine.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it may still be there.
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        match self.objects.delete(&place(name)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(Error::sort("removing a blob", name, &error)),
        }
    }

    /// All complete blobs whose names begin with `kind` and a slash, in no order: to find those that nobody needs.
    pub fn list(&self, kind: &str) -> BoxStream<'static, Result<Listed, Error>> {
        let kind = match place(kind) {
            Ok(kind) => kind,
            Err(error) => return futures::stream::iter([Err(error)]).boxed(),
        };
        let listed = self.objects.list(Some(&kind));
        listed
            .map_ok(|meta| Listed {
                name: meta.location.to_string(),
                modified: meta.last_modified.into(),
            })
            .map_err(|error| Error::sort("listing blobs", "", &error))
            .boxed()
    }

    /// Removes what uploads have left in a folder whose process was killed: unfinished for at least `age`. In S3 a rule of the
    /// bucket does that. Says how many.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the folder cannot be read.
    pub async fn sweep(&self, age: Duration) -> Result<u64, Error> {
        let Some(folder) = self.folder.clone() else {
            return Ok(0);
        };
        let swept = tokio::task::spawn_blocking(move || sweep(&folder, age)).await;
        swept
            .map_err(std::io::Error::other)
            .and_then(|swept| swept)
            .map_err(|error| Error::Unavailable {
                operation: "removing unfinished blobs",
                reason: error.to_string(),
            })
    }

    /// Refuses when what is left of the disk is for others.
    pub(crate) fn check_room(&self) -> Result<(), Error> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        match rustix::fs::statvfs(folder) {
            Ok(found) if found.f_bavail.saturating_mul(found.f_frsize) < ROOM => {
                Err(Error::NoSpace {
                    operation: "writing a blob",
                })
            }
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::debug!(%error, "the folder of blobs does not tell its room");
                Ok(())
            }
        }
    }
}

/// The library writes aside, to a name with a `#` that no blob has.
fn sweep(folder: &Path, age: Duration) -> std::io::Result<u64> {
    let (mut folders, mut swept) = (vec![folder.to_owned()], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            // It may be complete, and have another name, by now.
            let Ok(about) = entry.metadata() else {
                continue;
            };
            let unfinished = entry.file_name().to_string_lossy().contains('#');
            let old = || about.modified().ok()?.elapsed().ok();
            if about.is_dir() {
                folders.push(entry.path());
            } else if unfinished && old().is_some_and(|old| old >= age) {
                std::fs::remove_file(entry.path())?;
                swept += 1;
            }
        }
    }
    Ok(swept)
}
