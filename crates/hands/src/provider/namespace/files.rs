//! Files of the server's own, and the removal of trees that a sandbox has written (security SBX-4).

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

/// A name that nothing else uses, in this process or in another server of the data directory.
pub(in crate::provider) fn unique() -> String {
    format!(".{:032x}", rand::random::<u128>())
}

/// Makes a directory that only its owner enters, with those above it.
pub(in crate::provider) fn private_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Opens a directory, not through a link.
pub(in crate::provider) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}

/// Puts a file in place in one step, whatever was there before, with the directories above it.
pub(in crate::provider) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        private_directory(parent)?;
    }
    let aside = path.with_file_name(unique());
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            fs::rename(&aside, path)
        });
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&aside);
    }
    written
}

/// Moves a tree out of the way in one step, to be removed later; whether there was one.
pub(in crate::provider) fn discard(path: &Path, trash: &Path) -> io::Result<bool> {
    private_directory(trash)?;
    match fs::rename(path, trash.join(unique())) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes everything in a directory, however deep it is and whatever its modes. No link is followed, and nothing
/// recurses: directories below are moved up first. Several may do it at once.
pub(in crate::provider) fn empty(trash: &Path) -> io::Result<()> {
    let trash = match open_directory(trash) {
        Ok(trash) => trash,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    loop {
        let names = names(&trash)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            match remove(&trash, &name) {
                // Another server that shares the data directory was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
    }
}

/// Removes one thing in the trash.
fn remove(trash: &OwnedFd, name: &std::ffi::CStr) -> io::Result<()> {
    let kind = FileType::from_raw_mode(statat(trash, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
    if kind == FileType::Directory {
        flatten(trash, name)
    } else {
        Ok(unlinkat(trash, name, AtFlags::empty())?)
    }
}

/// Removes one directory of the trash; what it holds of directories goes to the trash itself.
fn flatten(trash: &OwnedFd, name: &std::ffi::CStr) -> io::Result<()> {
    let directory = open_writable(trash, name)?;
    for below in names(&directory)? {
        match unlinkat(&directory, &below, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::ISDIR | Errno::PERM) => {
                match unlinkat(&directory, &below, AtFlags::REMOVEDIR) {
                    Ok(()) => {}
                    Err(Errno::NOTEMPTY | Errno::EXIST | Errno::ACCESS) => {
                        // Moving a directory elsewhere needs the right to write it.
                        drop(open_writable(&directory, &below)?);
                        renameat(&directory, &below, trash, unique())?;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    match unlinkat(trash, name, AtFlags::REMOVEDIR) {
        // What was found on the way is in the trash, or somebody else fills it: the next round looks again.
        Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens a directory whose mode may forbid it to its own owner.
fn open_writable(parent: &OwnedFd, name: &std::ffi::CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = openat(parent, name, flags | OFlags::PATH, Mode::empty())?;
    rustix::fs::chmodat(
        CWD,
        super::at(&handle, ""),
        Mode::from(0o700),
        AtFlags::empty(),
    )?;
    Ok(openat(&handle, ".", flags, Mode::empty())?)
}

fn names(directory: &impl AsFd) -> io::Result<Vec<std::ffi::CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn sbx_4_removal_survives_depth_links_and_modes() {
        let home = tempfile::tempdir().unwrap();
        let (tree, trash, outside) = (
            home.path().join("tree"),
            home.path().join("trash"),
            home.path().join("outside"),
        );
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("kept"), "x").unwrap();
        fs::create_dir(&tree).unwrap();
        symlink(&outside, tree.join("link")).unwrap();
        fs::create_dir(tree.join("closed")).unwrap();
        fs::create_dir(tree.join("closed/below")).unwrap();
        fs::write(tree.join("closed/below/file"), "x").unwrap();
        fs::set_permissions(tree.join("closed/below"), fs::Permissions::from_mode(0o0)).unwrap();
        fs::set_permissions(tree.join("closed"), fs::Permissions::from_mode(0o0)).unwrap();
        // Deeper than a path can be long.
        let mut at = open_directory(&tree).unwrap();
        for _ in 0..3_000 {
            rustix::fs::mkdirat(&at, "d", Mode::from(0o700)).unwrap();
            at = openat(&at, "d", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        }
        drop(at);

        assert!(discard(&tree, &trash).unwrap());
        assert!(!discard(&tree, &trash).unwrap(), "gone already");
        empty(&trash).unwrap();
        assert_eq!(fs::read_dir(&trash).unwrap().count(), 0);
        assert!(outside.join("kept").exists());
        empty(&home.path().join("none")).unwrap();
    }
}
