//! Files of a sandbox that are brought among the blobs as they are, one behind the other: read beneath a handle, without
//! following a link, while the sandbox goes on (security SBX-4, SBX-6). Nothing is read out of them.

use std::fs::File;
use std::path::{Component, Path, PathBuf};

use manyhands_blobs::{Blobs, Error as Blob, Stored, Writer, fresh};
use manyhands_sandboxd::exchange::stamp;
use rustix::fs::{Stat, fstat};
use tokio::io::AsyncReadExt as _;

use super::outputs::remove;
use super::writable::Tree;
use crate::Error;
use crate::provider::{Join, Joined};

/// The kind of their blobs.
pub(in crate::provider) const KIND: &str = "repositories";

/// Where a place inside is in the tree; `None` for one that is not below its workspace.
pub(in crate::provider) fn in_tree(inside: &str) -> Option<PathBuf> {
    let below = Path::new(inside).strip_prefix("/workspace").ok()?;
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    let stays = below.components().next().is_some() && below.components().all(is_plain);
    stays.then(|| Path::new("workspace").join(below))
}

/// Joins these files of the tree.
pub(super) async fn join(
    session: &str,
    tree: &Tree,
    blobs: &Blobs,
    wanted: &Join<'_>,
) -> Result<Option<Joined>, Error> {
    let Some(folder) = in_tree(wanted.folder) else {
        return Ok(None);
    };
    let mut files = Vec::new();
    for name in wanted.files {
        match tree.open_file(&folder.join(name)) {
            Ok(opened) => files.push(opened),
            // It is a link, a folder or nothing, or closed to us.
            Err(error) => {
                tracing::debug!(session.id = session, %error, "a file to be kept is not there");
                return Ok(None);
            }
        }
    }
    if !(wanted.least..=wanted.cap).contains(&size(&files)) {
        return Ok(None);
    }
    let head = size(files.get(..1).unwrap_or_default());
    let blob = fresh(KIND);
    let sorted = |error| sort(session, error);
    let mut writer = match blobs.create(&blob, wanted.cap) {
        Ok(writer) => writer,
        Err(error) => return sorted(error),
    };
    for (file, _) in &files {
        if let Err(error) = append(&mut writer, file).await {
            return sorted(error);
        }
    }
    if !files.iter().all(|(file, before)| is_same(file, before)) || writer.size() != size(&files) {
        return Ok(None);
    }
    match writer.finish().await {
        Ok(Stored { size, sha256 }) => Ok(Some(Joined {
            blob,
            size,
            head,
            sha256,
        })),
        Err(error) => {
            remove(blobs, &blob).await;
            sorted(error)
        }
    }
}

/// What a failure with a blob is for who wants files joined: that they are too many bytes is none.
pub(in crate::provider) fn sort(session: &str, error: Blob) -> Result<Option<Joined>, Error> {
    match error {
        Blob::TooLarge { .. } => Ok(None),
        Blob::NoSpace { .. } => Err(Error::NoSpace {
            what: format!("for what is kept of {session}"),
        }),
        error => Err(Error::io(
            format!("keep files of {session}"),
            std::io::Error::other(error),
        )),
    }
}

fn size(files: &[(File, Stat)]) -> u64 {
    let sizes = files.iter().map(|(_, stat)| stat.st_size);
    sizes.fold(0, |sum: u64, size| sum.saturating_add(size.unsigned_abs()))
}

fn is_same(file: &File, before: &Stat) -> bool {
    fstat(file).is_ok_and(|after| stamp(&after) == stamp(before))
}

async fn append(writer: &mut Writer, file: &File) -> Result<(), Blob> {
    let source = |error: std::io::Error| Blob::Source {
        reason: error.to_string(),
    };
    let mut file = tokio::fs::File::from_std(file.try_clone().map_err(source)?);
    let mut piece = vec![0; 256 << 10];
    loop {
        let read = file.read(&mut piece).await.map_err(source)?;
        if read == 0 {
            return Ok(());
        }
        writer.write(&piece[..read]).await?;
    }
}
