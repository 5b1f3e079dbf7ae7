//! The files that a session's sandbox reads: laid into a folder of the session that the server alone writes, and that the
//! sandbox sees read-only at `/mnt/session/uploads` (runtime FI-1, FI-2). What is added or removed there shows at once in a
//! live sandbox (runtime FI-4).
//!
//! A list beside the folder says what is in it. It is written before anything changes and again after, so a server that dies
//! in between leaves nothing that the next one would not find. Bytes are brought aside first, without the folder's lock.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use manyhands_blobs::{Blobs, Stored};
use manyhands_protocol::file::UPLOADS;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, mkdirat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;
use tokio::io::AsyncWriteExt as _;

use super::host::Host;
use super::{blocking, files};
use crate::Error;
use crate::provider::Upload;
use crate::provider::hold::same;
use crate::provider::laid::{blobs, listed};

/// The folder's name in a session's.
const FOLDER: &str = "uploads";
/// The list's name.
const LIST: &str = "uploads.json";
/// What the names of bytes begin with that are brought aside.
const ASIDE: &str = ".upload-";
/// What is aside for longer was left by a server that died.
const LEFT: Duration = Duration::from_secs(3600);

/// Where the folder is inside.
pub(super) const INSIDE: &str = UPLOADS;

/// What is in the folder: SHA-256 and size by path.
type List = BTreeMap<String, (String, u64)>;

/// The folder, made if it is not there.
pub(super) fn folder(session: &OwnedFd) -> io::Result<OwnedFd> {
    match mkdirat(session, FOLDER, Mode::from(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    directory(session, FOLDER)
}

/// Whether a session has to have a folder for these.
pub(super) enum Where {
    /// Yes: it is made.
    Made,
    /// Only if it is there: the next start lays them otherwise.
    There,
}

impl Host {
    /// Brings the files that a session's sandbox reads in line with these. A file whose bytes are damaged is left out, and
    /// said; the others are laid (security STORE-3).
    pub(super) async fn lay(
        &self,
        session: &str,
        uploads: &[Upload],
        place: Where,
    ) -> Result<(), Error> {
        let fail = |error: io::Error| Error::io(format!("lay out the files of {session}"), error);
        let held = match (self.hold(session).await?, place) {
            (None, Where::Made) if !uploads.is_empty() => Some(self.hold_or_make(session).await?),
            (held, _) => held,
        };
        let Some((folder, lock)) = held else {
            return Ok(());
        };
        let wanted: List = uploads
            .iter()
            .map(|upload| (upload.path.clone(), (upload.sha256.clone(), upload.size)))
            .collect();
        let there: List = listed(&folder, LIST).map_err(fail)?;
        let present = present(&folder, &there).map_err(fail)?;
        if present == wanted && there == wanted {
            return Ok(());
        }
        // Bringing bytes takes its time; nobody waits for it at the lock.
        drop(lock);
        let mut brought = BTreeMap::new();
        for upload in uploads {
            if present.get(&upload.path) == wanted.get(&upload.path) {
                continue;
            }
            if let Some(aside) = self.bring(session, &folder, upload).await? {
                brought.insert(upload.path.clone(), aside);
            }
        }
        let Some((now, _lock)) = self.hold(session).await? else {
            return Ok(());
        };
        if !same(&now, &folder) {
            return Ok(());
        }
        let path = self.folder(session);
        blocking(&format!("lay out the files of {session}"), move || {
            put(&folder, &path, &wanted, brought)
        })
        .await
    }

    /// Brings the bytes of one file aside; `None` when they are not what they should be.
    async fn bring(
        &self,
        session: &str,
        folder: &OwnedFd,
        upload: &Upload,
    ) -> Result<Option<String>, Error> {
        let fail = |error: io::Error| Error::io(format!("bring a file of {session}"), error);
        let blobs = self.blobs()?;
        let aside = format!("{ASIDE}{:032x}", rand::random::<u128>());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(folder, &aside, flags, Mode::from(0o600));
        let file = file.map_err(|error| fail(error.into()))?;
        match copy(blobs, upload, File::from(file)).await {
            Ok(()) => Ok(Some(aside)),
            Err(error) => {
                // The first error is the one to tell.
                let _ = unlinkat(folder, &aside, AtFlags::empty());
                match error {
                    manyhands_blobs::Error::Damaged { .. }
                    | manyhands_blobs::Error::Missing { .. } => {
                        tracing::error!(session.id = session, %error, "a file is not laid into a sandbox");
                        Ok(None)
                    }
                    manyhands_blobs::Error::NoSpace { .. } => Err(Error::NoSpace {
                        what: format!("for the files of {session}"),
                    }),
                    error => Err(fail(io::Error::other(error))),
                }
            }
        }
    }

    pub(super) fn blobs(&self) -> Result<&Blobs, Error> {
        blobs(self.config.blobs.as_ref())
    }
}

async fn copy(blobs: &Blobs, upload: &Upload, file: File) -> Result<(), manyhands_blobs::Error> {
    let stored = Stored {
        size: upload.size,
        sha256: upload.sha256.clone(),
    };
    let write = |error: io::Error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            manyhands_blobs::Error::NoSpace {
                operation: "laying a file into a sandbox",
            }
        }
        _ => manyhands_blobs::Error::Unavailable {
            operation: "laying a file into a sandbox",
            reason: error.to_string(),
        },
    };
    let mut reader = blobs.get(&upload.blob, &stored).await?;
    let mut file = tokio::fs::File::from_std(file);
    while let Some(piece) = reader.next().await? {
        file.write_all(&piece).await.map_err(write)?;
    }
    file.flush().await.map_err(write)?;
    let file = file.into_std().await;
    rustix::fs::fchmod(&file, Mode::from(0o444)).map_err(|error| write(error.into()))
}

/// What of the list is there.
fn present(session: &OwnedFd, list: &List) -> io::Result<List> {
    if list.is_empty() {
        return Ok(List::new());
    }
    let root = folder(session)?;
    let is_there = |(path, (_, size)): &(&String, &(String, u64))| {
        let stat = statat(&root, path.as_str(), AtFlags::SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && u64::try_from(stat.st_size) == Ok(*size)
        })
    };
    let there = list.iter().filter(is_there);
    Ok(there
        .map(|(path, content)| (path.clone(), content.clone()))
        .collect())
}

/// Puts what was brought in place and takes away what is not wanted. The session's lock is held.
fn put(
    session: &OwnedFd,
    at: &Path,
    wanted: &List,
    brought: BTreeMap<String, String>,
) -> io::Result<()> {
    let root = folder(session)?;
    let before: List = listed(session, LIST)?;
    let mut after = present(session, &before)?;
    let surplus: Vec<String> = before
        .keys()
        .filter(|path| !wanted.contains_key(*path))
        .cloned()
        .collect();
    let mut either = before;
    for path in brought.keys() {
        either.insert(path.clone(), wanted[path].clone());
    }
    write(at, &either)?;
    for path in surplus {
        take(&root, &path)?;
        after.remove(&path);
    }
    for (path, aside) in brought {
        let (folder, name) = place(&root, &path)?;
        renameat(session, &aside, &folder, name)?;
        let content = wanted[&path].clone();
        after.insert(path, content);
    }
    write(at, &after)?;
    clear(at)
}

/// Removes what dead servers have left aside.
fn clear(at: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(at)? {
        let entry = entry?;
        let aside = entry.file_name().to_string_lossy().starts_with(ASIDE);
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if aside && age().is_some_and(|age| age >= LEFT) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn write(session: &Path, list: &List) -> io::Result<()> {
    files::replace(&session.join(LIST), &serde_json::to_vec(list)?, 0o600)
}

/// The folder a path is in, made with those above it, and the path's last segment.
fn place<'p>(root: &OwnedFd, path: &'p str) -> io::Result<(OwnedFd, &'p str)> {
    let mut folder = root.try_clone()?;
    let mut segments = path.split('/').peekable();
    while let Some(segment) = segments.next() {
        if matches!(segment, "" | "." | "..") {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if segments.peek().is_none() {
            return Ok((folder, segment));
        }
        match mkdirat(&folder, segment, Mode::from(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        folder = directory(&folder, segment)?;
    }
    Err(io::ErrorKind::InvalidInput.into())
}

/// Removes a file, and the folders above it that are empty then.
fn take(root: &OwnedFd, path: &str) -> io::Result<()> {
    let mut flags = AtFlags::empty();
    let mut path = path;
    loop {
        match unlinkat(root, path, flags) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) if flags == AtFlags::REMOVEDIR => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        match path.rsplit_once('/') {
            Some((above, _)) => (path, flags) = (above, AtFlags::REMOVEDIR),
            None => return Ok(()),
        }
    }
}

fn directory(folder: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(folder, name, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(paths: &[(&str, &str)]) -> List {
        let entry = |(path, text): &(&str, &str)| {
            ((*path).to_owned(), ((*text).to_owned(), text.len() as u64))
        };
        paths.iter().map(entry).collect()
    }

    /// Brings each file aside, its digest being its text, and puts them.
    fn lay(at: &Path, paths: &[(&str, &str)]) -> io::Result<()> {
        let session = files::open_directory(at)?;
        let wanted = list(paths);
        let there = present(&session, &listed(&session, LIST)?)?;
        let mut brought = BTreeMap::new();
        for (path, text) in paths {
            if there.get(*path) != wanted.get(*path) {
                let aside = files::unique();
                std::fs::write(at.join(&aside), text)?;
                brought.insert((*path).to_owned(), aside);
            }
        }
        put(&session, at, &wanted, brought)
    }

    fn check(at: &Path, paths: &[(&str, &str)]) {
        let session = files::open_directory(at).unwrap();
        assert_eq!(listed::<List>(&session, LIST).unwrap(), list(paths));
        for (path, text) in paths {
            let found = std::fs::read_to_string(at.join(FOLDER).join(path)).unwrap();
            assert_eq!(found, *text, "{path}");
        }
    }

    #[test]
    fn fi_4_what_is_there_becomes_what_is_wanted() {
        let home = tempfile::tempdir().unwrap();
        let at = home.path();
        for paths in [
            &[("a", "1"), ("d/e/f", "22")][..],
            &[("a", "1"), ("d/e/f", "22"), ("d/g", "3")],
            &[("a", "444"), ("d/g", "3")],
            // What was a folder becomes a file, and the other way round.
            &[("a/b", "5"), ("d", "6")],
            &[],
        ] {
            lay(at, paths).unwrap();
            check(at, paths);
        }
        let left = std::fs::read_dir(at.join(FOLDER)).unwrap().count();
        assert_eq!(left, 0, "empty folders go too");
    }

    /// security LOG-3: a server that dies between two steps leaves nothing that the next one does not find.
    #[test]
    fn log_3_what_a_dead_server_has_half_done_is_done_again() {
        let home = tempfile::tempdir().unwrap();
        let at = home.path();
        lay(at, &[("old", "1")]).unwrap();
        // Listed before it is there.
        write(at, &list(&[("old", "1"), ("new", "22")])).unwrap();
        lay(at, &[("new", "22")]).unwrap();
        check(at, &[("new", "22")]);
        assert!(!at.join(FOLDER).join("old").exists());
        // There, and not wanted any more by whoever comes next.
        write(at, &list(&[("new", "22"), ("stray", "3")])).unwrap();
        std::fs::write(at.join(FOLDER).join("stray"), "3").unwrap();
        lay(at, &[("new", "22")]).unwrap();
        assert!(!at.join(FOLDER).join("stray").exists());
        // Without its list, all is brought again.
        std::fs::write(at.join(LIST), "{").unwrap();
        lay(at, &[("new", "22")]).unwrap();
        check(at, &[("new", "22")]);
    }
}
