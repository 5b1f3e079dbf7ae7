//! Folders whose names survive a power cut.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

/// Makes a folder for its owner alone, with all missing folders above it, and has each name written to the disk: a file in
/// it is only as durable as the way to it (security LOG-1). A folder that is there already stays as it is.
///
/// # Errors
/// When a folder cannot be made, or its name cannot be synced.
pub fn make_folder(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path
        .ancestors()
        .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists())
        .collect();
    for folder in missing.iter().rev() {
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => sync_name(folder)?,
        }
    }
    if !path.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    if missing.is_empty() {
        // Whoever made it may have died before its name was synced. Its parent may be closed to us.
        if let Err(error) = sync_name(path) {
            tracing::debug!(folder = %path.display(), %error, "the folder's name is not synced again");
        }
    }
    Ok(())
}

/// Has the names in the folder above written to the disk.
fn sync_name(folder: &Path) -> io::Result<()> {
    let above = match folder.parent() {
        None => return Ok(()),
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
    };
    File::open(above)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn log_1_a_folder_is_made_with_all_above_it_for_its_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        let deep = home.path().join("a/b/c");
        make_folder(&deep).unwrap();
        make_folder(&deep).unwrap();
        for folder in ["a", "a/b", "a/b/c"] {
            let mode = home.path().join(folder).metadata().unwrap().permissions();
            assert_eq!(mode.mode() & 0o777, 0o700, "{folder}");
        }
        let file = home.path().join("file");
        std::fs::write(&file, "").unwrap();
        let refused = make_folder(&file).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotADirectory);
        assert!(make_folder(&file.join("below")).is_err());
    }
}
