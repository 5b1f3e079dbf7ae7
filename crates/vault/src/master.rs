//! The master key: where it comes from, and what it is told by (security CRED-1).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::failpoint::failpoint;
use crate::seal::{self, KeyBytes};

/// What wraps data keys: a key of this process, or a service whose own key never comes here.
#[async_trait]
pub trait KeySource: Send + Sync {
    /// What tells this master key from others, and nothing about it: at most 128 characters.
    fn fingerprint(&self) -> &str;

    /// Wraps a data key, bound to where it belongs.
    async fn wrap(&self, bound_to: &[u8], key: &KeyBytes) -> Result<String, KeyError>;

    /// Unwraps what [`wrap`](Self::wrap) gave for the same place.
    async fn unwrap(&self, bound_to: &[u8], wrapped: &str) -> Result<KeyBytes, KeyError>;
}

/// Why a data key cannot be wrapped or unwrapped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It was wrapped by another master key or for another place, or was changed.
    #[error("it was wrapped by another master key, moved or changed")]
    Refused,
    /// The service does not answer: a retry may help.
    #[error("{reason}")]
    Unavailable {
        /// Its words.
        reason: String,
    },
}

/// Where the master key is to come from.
#[derive(Clone)]
pub enum Source {
    /// A file with 32 bytes in base64 that only its owner can read.
    File {
        /// Its path.
        path: PathBuf,
        /// Whether one is made when there is none and the store never had one.
        make: bool,
    },
    /// 32 bytes in base64.
    Text(SecretString),
    /// A key service.
    Service(Arc<dyn KeySource>),
    /// There is none: the vaults stay sealed.
    Nowhere,
}

/// A master key of this process.
pub struct MasterKey {
    bytes: KeyBytes,
    fingerprint: String,
}

/// Why there is no master key. No text has a part of one in it.
#[derive(Debug, thiserror::Error)]
pub enum NoKey {
    /// The file is not there.
    #[error("there is no master key at {}", path.display())]
    Missing {
        /// Where it would be.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error("the master key {} cannot be used: {error}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Others than its owner can read the file.
    #[error("the master key {} can be read by others; run chmod 600 on it", path.display())]
    Exposed {
        /// Its path.
        path: PathBuf,
    },
    /// It is not 32 bytes in base64.
    #[error("the master key is not exactly 32 bytes in base64")]
    Form,
    /// This machine gives no random bytes.
    #[error("this machine gives no random bytes")]
    NoRandomness,
}

impl MasterKey {
    /// A new one.
    ///
    /// # Errors
    /// [`NoKey::NoRandomness`].
    pub fn generate() -> Result<Self, NoKey> {
        let mut bytes = KeyBytes::default();
        SystemRandom::new()
            .fill(bytes.as_mut_slice())
            .map_err(|_| NoKey::NoRandomness)?;
        Ok(Self::of(bytes))
    }

    /// From text: exactly 32 bytes in base64, white space around them aside.
    ///
    /// # Errors
    /// [`NoKey::Form`].
    pub fn parse(text: &str) -> Result<Self, NoKey> {
        let text = text.trim();
        if text.len() > 64 {
            return Err(NoKey::Form);
        }
        let decoded = Zeroizing::new(BASE64_STANDARD.decode(text).map_err(|_| NoKey::Form)?);
        let mut bytes = KeyBytes::default();
        if decoded.len() != bytes.len() {
            return Err(NoKey::Form);
        }
        bytes.copy_from_slice(&decoded);
        Ok(Self::of(bytes))
    }

    /// From a file that only its owner can read.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn read(path: &Path) -> Result<Self, NoKey> {
        let failed = |error| NoKey::File {
            path: path.to_owned(),
            error,
        };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(NoKey::Missing {
                    path: path.to_owned(),
                });
            }
            Err(error) => return Err(failed(error)),
        };
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(io::Error::other("it is no file")));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(NoKey::Exposed {
                path: path.to_owned(),
            });
        }
        let mut text = Zeroizing::new(String::with_capacity(256));
        file.take(200).read_to_string(&mut text).map_err(failed)?;
        Self::parse(&text)
    }

    /// Writes it to a file that only its owner can read, whole or not at all.
    ///
    /// # Errors
    /// When there is such a file already and it may not be replaced ([`io::ErrorKind::AlreadyExists`]), or it cannot be written.
    pub fn write(&self, path: &Path, replace: bool) -> io::Result<()> {
        // A name of its own: others may write the same file.
        let mut new = path.as_os_str().to_owned();
        new.push(format!(".{:016x}.new", rand::random::<u64>()));
        let new = PathBuf::from(new);
        let written = self.write_new(&new).and_then(|()| {
            failpoint!("vault::master::written");
            let flags = match replace {
                true => RenameFlags::empty(),
                false => RenameFlags::NOREPLACE,
            };
            renameat_with(CWD, &new, CWD, path, flags).map_err(io::Error::from)
        });
        if written.is_err() {
            // What is left of it is of no use to anybody.
            let _ = fs::remove_file(&new);
        }
        written?;
        sync_folder(path)
    }

    fn write_new(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        let text = Zeroizing::new(BASE64_STANDARD.encode(self.bytes.as_slice()));
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    }

    fn of(bytes: KeyBytes) -> Self {
        // Of 256 random bits: the digest says nothing of them.
        let mut input = Zeroizing::new(b"manyhands master key fingerprint 1".to_vec());
        input.reserve_exact(bytes.len());
        input.extend_from_slice(bytes.as_slice());
        let digest = digest(&SHA256, &input);
        let half = digest.as_ref().iter().take(16);
        let fingerprint = half.map(|byte| format!("{byte:02x}")).collect();
        Self { bytes, fingerprint }
    }
}

#[async_trait]
impl KeySource for MasterKey {
    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    async fn wrap(&self, bound_to: &[u8], key: &KeyBytes) -> Result<String, KeyError> {
        seal::wrap(&self.bytes, bound_to, key).ok_or_else(|| KeyError::Unavailable {
            reason: NoKey::NoRandomness.to_string(),
        })
    }

    async fn unwrap(&self, bound_to: &[u8], wrapped: &str) -> Result<KeyBytes, KeyError> {
        seal::unwrap(&self.bytes, bound_to, wrapped).map_err(|_| KeyError::Refused)
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MasterKey")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// Where the next master key of a file lies until the store says that it is the one in use.
pub(crate) fn aside(path: &Path) -> PathBuf {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".next");
    aside.into()
}

/// What a key source finds: the master key that the store says is in use, or, where it never had one, whichever there is.
///
/// # Errors
/// Why it has none; in words for the operator.
pub fn find(source: &Source, in_use: Option<&str>) -> Result<Arc<dyn KeySource>, String> {
    let found: Arc<dyn KeySource> = match source {
        Source::Service(service) => Arc::clone(service),
        Source::Nowhere => return Err("this server was given no master key".to_owned()),
        Source::Text(text) => {
            let parsed = MasterKey::parse(text.expose_secret());
            Arc::new(parsed.map_err(|error| error.to_string())?)
        }
        Source::File { path, make } => {
            let found = in_file(path, *make, in_use);
            Arc::new(found.map_err(|error| error.to_string())?)
        }
    };
    match in_use {
        Some(in_use) if in_use != found.fingerprint() => Err(format!(
            "the master key with the fingerprint {} is not the one in use, {in_use}",
            found.fingerprint()
        )),
        _ => Ok(found),
    }
}

fn in_file(path: &Path, make: bool, in_use: Option<&str>) -> Result<MasterKey, NoKey> {
    let read = MasterKey::read(path);
    let wanted = |key: &MasterKey| in_use.is_none_or(|in_use| in_use == key.fingerprint());
    match read {
        Ok(key) if wanted(&key) => return Ok(key),
        Err(NoKey::Missing { .. }) if in_use.is_none() && make => return made(path),
        _ => {}
    }
    // A rotation that was cut short after its commit has left the key in use beside the old one.
    match in_use.map(|_| MasterKey::read(&aside(path))) {
        Some(Ok(key)) if wanted(&key) => {
            finish(path).map_err(|error| NoKey::File {
                path: path.to_owned(),
                error,
            })?;
            tracing::info!(path = %path.display(), "a rotation of the master key was finished");
            Ok(key)
        }
        _ => read,
    }
}

/// Makes the first key of an installation; of several servers that start at once in a directory one does.
fn made(path: &Path) -> Result<MasterKey, NoKey> {
    let key = MasterKey::generate()?;
    match key.write(path, false) {
        Ok(()) => {
            tracing::info!(path = %path.display(), "a master key was made; keep a copy of it apart from the database's backups");
            Ok(key)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => MasterKey::read(path),
        Err(error) => Err(NoKey::File {
            path: path.to_owned(),
            error,
        }),
    }
}

/// Puts the next master key in the old one's place.
pub(crate) fn finish(path: &Path) -> io::Result<()> {
    fs::rename(aside(path), path)?;
    failpoint!("vault::master::finished");
    sync_folder(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests;
