//! API keys: making them, the first one of an installation, and the command `manyhands keys`.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use manyhands_protocol::id::ApiKeyId;
use manyhands_protocol::{Timestamp, WorkspaceId};
use manyhands_store::Store;
use manyhands_store::key::{ApiKey, KeyHash, KeyRole, Opens};
use secrecy::{ExposeSecret, SecretString};

use crate::api::auth::{ENVIRONMENT_KEY_PREFIX, KEY_PREFIX, hash};
use crate::failpoint::failpoint;

/// How many characters of a key may be shown behind its prefix, to recognise it by.
const HINT: usize = 4;

/// The machine gives no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("this machine gives no random bytes")]
pub(crate) struct NoRandomness;

/// A new key with 256 random bits, its record, and its hash for the store.
pub(crate) fn mint(
    workspace: &WorkspaceId,
    opens: Opens,
    name: String,
    now: Timestamp,
) -> Result<(SecretString, ApiKey, KeyHash), NoRandomness> {
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| NoRandomness)?;
    let prefix = match opens {
        Opens::Workspace(_) => KEY_PREFIX,
        Opens::Environment(_) => ENVIRONMENT_KEY_PREFIX,
    };
    let key = format!("{prefix}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes));
    let record = ApiKey {
        id: ApiKeyId::generate(),
        workspace: workspace.clone(),
        opens,
        name,
        hint: key.chars().take(prefix.len() + HINT).collect(),
        created_at: now,
        revoked_at: None,
    };
    let hash = hash(&key);
    Ok((SecretString::from(key), record, hash))
}

/// Where the first key of an installation is kept.
pub(crate) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("api-key")
}

/// Makes the first key when the workspace has none (architecture "Keys"): the key, to be shown once. Of several servers that
/// start at once one makes it.
///
/// The file is written first: a crash in between leaves a file whose key opens nothing, and the next start makes another.
pub(crate) async fn ensure_first(
    store: &Store,
    workspace: &WorkspaceId,
    data_dir: &Path,
    now: Timestamp,
) -> anyhow::Result<Option<SecretString>> {
    if !store.list_keys(workspace).await?.is_empty() {
        return Ok(None);
    }
    let _turn = turn(data_dir).await?;
    // Another server of this directory may have made it meanwhile, and its file must stay.
    if !store.list_keys(workspace).await?.is_empty() {
        return Ok(None);
    }
    let (key, record, hash) = mint(
        workspace,
        Opens::Workspace(KeyRole::Admin),
        "first key".to_owned(),
        now,
    )?;
    let path = path(data_dir);
    write_private(&path, key.expose_secret()).map_err(|error| {
        anyhow::anyhow!(
            "the API key cannot be written to {}: {error}",
            path.display()
        )
    })?;
    failpoint!("server::first_key_written");
    let first = store.insert_first_key(&record, &hash).await?;
    failpoint!("server::first_key_stored");
    if !first {
        // A server with another data directory was faster: the key is in its file.
        fs::remove_file(&path)?;
        return Ok(None);
    }
    Ok(Some(key))
}

/// Waits until no other server makes the first key in this directory.
async fn turn(data_dir: &Path) -> io::Result<fs::File> {
    let directory = fs::File::open(data_dir)?;
    let locked = tokio::task::spawn_blocking(move || directory.lock().map(|()| directory));
    locked.await.map_err(io::Error::other)?
}

/// Writes a file that only its owner can read, whole or not at all.
pub(crate) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    // A name of its own: other servers of the data directory may write the same file.
    let new = path.with_extension(format!("{:016x}.new", rand::random::<u64>()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    failpoint!("server::file_synced");
    fs::rename(&new, path)
}

/// The key in a data directory's file.
pub(crate) fn read(data_dir: &Path) -> io::Result<SecretString> {
    let text = fs::read_to_string(path(data_dir))?;
    Ok(SecretString::from(text.trim().to_owned()))
}

/// Whether others than its owner can read the key file.
pub(crate) fn is_exposed(data_dir: &Path) -> io::Result<bool> {
    Ok(fs::metadata(path(data_dir))?.permissions().mode() & 0o077 != 0)
}

/// That others than its owner can look into a data directory, in words; `None` when they cannot, or there is none.
pub(crate) fn open_directory(data_dir: &Path) -> Option<String> {
    let mode = fs::metadata(data_dir).ok()?.permissions().mode();
    (mode & 0o077 != 0).then(|| {
        format!(
            "other users of this machine can look into {} (mode {:o})",
            data_dir.display(),
            mode & 0o777
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_long_random_and_never_debug_printed() {
        let workspace = WorkspaceId::generate();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..100 {
            let opens = Opens::Workspace(KeyRole::ReadOnly);
            let (key, record, stored) =
                mint(&workspace, opens, "k".to_owned(), Timestamp::from_micros(0)).expect("a key");
            let text = key.expose_secret();
            assert_eq!(text.len(), KEY_PREFIX.len() + 43);
            assert_eq!(stored, hash(text));
            assert!(text.starts_with(&record.hint) && record.hint.len() == KEY_PREFIX.len() + HINT);
            assert!(!format!("{key:?} {record:?}").contains(text));
            assert!(seen.insert(text.to_owned()));
        }
    }

    #[test]
    fn a_key_file_is_private_whatever_was_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = path(dir.path());
        fs::write(&path, "old").expect("written");
        write_private(&path, "mh_key_x").expect("written");
        assert_eq!(read(dir.path()).expect("read").expose_secret(), "mh_key_x");
        assert!(!is_exposed(dir.path()).expect("a file"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set");
        assert!(is_exposed(dir.path()).expect("a file"));
    }

    /// The first key, as so many servers make it that start at once in one of two directories.
    async fn made_together(database: &manyhands_testkit::postgres::Database, dirs: &[&Path]) {
        let starts = dirs.iter().map(|dir| async {
            let clock = std::sync::Arc::new(manyhands_protocol::time::SystemClock);
            let database = manyhands_store::Database::Postgres {
                url: database.url().into(),
            };
            let config = manyhands_store::Config::new(database, clock);
            let store = Store::open(config).await.expect("a store");
            let workspace = store.default_workspace().await.expect("a workspace");
            let now = Timestamp::from_micros(0);
            let made = ensure_first(&store, &workspace, dir, now).await;
            (store, workspace, made.expect("a key or none"))
        });
        let started = futures::future::join_all(starts).await;
        let keys: Vec<&SecretString> = started.iter().flat_map(|(_, _, key)| key).collect();
        assert_eq!(keys.len(), 1, "one of them is shown");
        let (store, workspace, _) = &started[0];
        let stored = store.list_keys(workspace).await.expect("the keys");
        assert_eq!(stored.len(), 1, "one of them is kept");
        let known = store.key_by_hash(&hash(keys[0].expose_secret())).await;
        assert_eq!(known.expect("a look").as_ref(), Some(&stored[0]));
        let files: std::collections::HashSet<&Path> = dirs
            .iter()
            .filter(|dir| path(dir).exists())
            .copied()
            .collect();
        let [file] = files.into_iter().collect::<Vec<_>>()[..] else {
            panic!("one of them is written");
        };
        let written = read(file).expect("the file");
        assert_eq!(written.expose_secret(), keys[0].expose_secret());
    }

    /// architecture "Keys"
    #[tokio::test(flavor = "multi_thread")]
    async fn servers_that_start_at_once_make_one_first_key() {
        use manyhands_testkit::postgres::Database;
        let (one, two) = (tempfile::tempdir(), tempfile::tempdir());
        let (one, two) = (one.expect("a directory"), two.expect("a directory"));
        let (one, two) = (one.path(), two.path());
        made_together(&Database::create().await, &[one, one, one]).await;
        fs::remove_file(path(one)).expect("removed");
        made_together(&Database::create().await, &[one, two, one, two]).await;
    }
}
