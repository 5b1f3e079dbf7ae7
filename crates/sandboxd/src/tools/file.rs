//! Files as the tools see them: opened without blocking, checked after opening, replaced whole, errors in plain words.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::OFlags;

/// `op: path: reason` (runtime TL-22).
pub(super) fn error(op: &str, path: &str, error: &io::Error) -> String {
    format!("{op}: {path}: {}", reason(error))
}

/// The reason in words that do not depend on the platform (runtime TL-22).
fn reason(error: &io::Error) -> String {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::NotFound => "no such file or directory".to_owned(),
        Kind::NotADirectory => "not a directory".to_owned(),
        Kind::IsADirectory => "is a directory".to_owned(),
        Kind::PermissionDenied => "permission denied".to_owned(),
        Kind::AlreadyExists => "file already exists".to_owned(),
        Kind::ReadOnlyFilesystem => "read-only file system".to_owned(),
        Kind::StorageFull => "no space left on device".to_owned(),
        _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            "too many levels of symbolic links".to_owned()
        }
        Kind::Other if error.raw_os_error().is_none() => error.to_string(),
        kind => kind.to_string(),
    }
}

/// Opens a regular file for reading. The kind is checked on the open file, and opening never waits for a pipe's
/// other end.
pub(super) fn open_regular(path: &Path) -> io::Result<(File, u64)> {
    let nonblocking = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)?;
    let meta = file.metadata()?;
    if meta.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !meta.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok((file, meta.len()))
}

/// Puts `content` in the place of what `path` holds, or makes the file. A regular file is replaced in one step, so
/// that a full disk leaves the old content whole; its mode stays.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let (target, old) = match fs::canonicalize(path) {
        Ok(target) => {
            let meta = fs::metadata(&target)?;
            if meta.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            (target, Some(meta))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => (path.to_owned(), None),
        Err(error) => return Err(error),
    };
    let replaceable = old
        .as_ref()
        .is_some_and(|meta| meta.is_file() && meta.permissions().mode() & 0o200 != 0);
    match old {
        Some(old) if replaceable => match aside(&target) {
            Ok((mut file, name)) => {
                let written = file
                    .write_all(content)
                    .and_then(|()| file.set_permissions(old.permissions()))
                    .and_then(|()| fs::rename(&name, &target));
                if written.is_err() {
                    // Best effort: the first error is the one to tell.
                    let _ = fs::remove_file(&name);
                }
                written
            }
            // The file may be writable where its directory is not.
            Err(error) if denied(&error) => in_place(&target, content),
            Err(error) => Err(error),
        },
        _ => in_place(&target, content),
    }
}

fn denied(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}

fn in_place(path: &Path, content: &[u8]) -> io::Result<()> {
    let nonblocking = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(nonblocking)
        .open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_fifo() || kind.is_socket() {
        return Err(io::Error::other("not a regular file"));
    }
    file.write_all(content)
}

/// A new empty file beside `target`.
fn aside(target: &Path) -> io::Result<(File, PathBuf)> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = target.with_file_name(format!(".manyhands-{}-{number}.tmp", std::process::id()));
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&name)?;
    Ok((file, name))
}
