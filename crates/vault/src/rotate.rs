//! Another master key in the place of the present one: all data keys are wrapped anew, in one transaction (security CRED-1).
//!
//! A new key for a file is written beside the old one before the commit and takes its place after it. Cut short before the
//! commit, the old key is in use and what lies beside it means nothing; cut short after it, the next start finds that the key
//! beside is the one in use and finishes.

use std::fs::File;
use std::path::Path;

use manyhands_store::Store;
use manyhands_store::audit::{Act, Action, Actor};
use manyhands_store::vault::{DataKey, Rewrapped};

use crate::error::Error;
use crate::failpoint::failpoint;
use crate::master::{self, KeyError, KeySource, MasterKey, NoKey, Source};
use crate::seal;

/// Why the master key was not replaced. The old one is in use as before.
#[derive(Debug, thiserror::Error)]
pub enum NotRotated {
    /// There is no master key in use yet: there is nothing to replace.
    #[error("this installation has no master key yet")]
    Never,
    /// The old key cannot be had, or is not the one in use.
    #[error("{0}")]
    Sealed(String),
    /// The new key is no key, or cannot be written.
    #[error(transparent)]
    New(#[from] NoKey),
    /// The new key is the old one.
    #[error("the new master key is the one in use")]
    Same,
    /// Another process replaced it at the same time.
    #[error("the master key was replaced by somebody else at the same time")]
    Raced,
    /// A data key does not open with the old key: with the new one it never would.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The new key's fingerprint.
    pub fingerprint: String,
    /// How many data keys were wrapped anew.
    pub keys: usize,
}

/// Replaces the master key of a file by a new one.
///
/// # Errors
/// [`NotRotated`]; the old key is in use and in its file then.
pub async fn rotate_file(store: &Store, path: &Path) -> Result<Rotated, NotRotated> {
    let _turn = turn(path).await?;
    let old = Source::File {
        path: path.to_owned(),
        make: false,
    };
    let in_use = store.master_key().await.map_err(Error::from)?;
    let in_use = in_use.ok_or(NotRotated::Never)?;
    // Before anything is written beside it: this may finish an earlier rotation.
    master::find(&old, Some(&in_use)).map_err(NotRotated::Sealed)?;
    let new = MasterKey::generate()?;
    let failed = |error| NoKey::File {
        path: path.to_owned(),
        error,
    };
    new.write(&master::aside(path), true).map_err(failed)?;
    failpoint!("vault::rotate::aside");
    let rotated = rotate(store, &old, &new).await?;
    failpoint!("vault::rotate::committed");
    master::finish(path).map_err(failed)?;
    Ok(rotated)
}

/// Replaces the master key by another, which whoever calls this keeps.
///
/// # Errors
/// [`NotRotated`]; the old key is in use then.
pub async fn rotate(
    store: &Store,
    old: &Source,
    new: &dyn KeySource,
) -> Result<Rotated, NotRotated> {
    let in_use = store.master_key().await.map_err(Error::from)?;
    let in_use = in_use.ok_or(NotRotated::Never)?;
    let old = master::find(old, Some(&in_use)).map_err(NotRotated::Sealed)?;
    if old.fingerprint() == new.fingerprint() {
        return Err(NotRotated::Same);
    }
    let workspace = store.default_workspace().await.map_err(Error::from)?;
    loop {
        let mut keys = Vec::new();
        for key in store.data_keys().await.map_err(Error::from)? {
            keys.push(rewrapped(&*old, new, key).await?);
        }
        let count = keys.len();
        let act = Act::new(&workspace, Actor::Operator, Action::MasterKeyRotate)
            .to(new.fingerprint().to_owned());
        let replaced = store
            .replace_master_key(act, old.fingerprint(), new.fingerprint(), keys)
            .await
            .map_err(Error::from)?;
        match replaced {
            Rewrapped::Done => {
                return Ok(Rotated {
                    fingerprint: new.fingerprint().to_owned(),
                    keys: count,
                });
            }
            Rewrapped::OtherMaster => return Err(NotRotated::Raced),
            // A workspace has got its key meanwhile.
            Rewrapped::OtherKeys => {}
        }
    }
}

async fn rewrapped(
    old: &dyn KeySource,
    new: &dyn KeySource,
    key: DataKey,
) -> Result<DataKey, Error> {
    let bound_to = seal::key_place(&key.workspace, &key.id);
    let failed = |error| match error {
        KeyError::Refused => Error::damaged(
            format!("data key {}", key.id),
            "it was wrapped by another master key, moved or changed",
        ),
        KeyError::Unavailable { reason } => Error::Unavailable { reason },
    };
    let bytes = old.unwrap(&bound_to, &key.wrapped).await.map_err(failed)?;
    let wrapped = new.wrap(&bound_to, &bytes).await.map_err(failed)?;
    Ok(DataKey { wrapped, ..key })
}

/// Waits until no other process replaces the key of this file.
async fn turn(path: &Path) -> Result<File, NoKey> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).to_owned();
    let locked = tokio::task::spawn_blocking(move || {
        let folder = File::open(folder)?;
        folder.lock().map(|()| folder)
    });
    let locked = locked.await.map_err(std::io::Error::other);
    locked
        .and_then(|locked| locked)
        .map_err(|error| NoKey::File {
            path: path.to_owned(),
            error,
        })
}
