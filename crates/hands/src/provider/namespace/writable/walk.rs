//! A look at everything below a directory of the tree, while the sandbox may change it.

use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat, statat};
use rustix::io::Errno;

use super::Tree;

/// Directories below each other that a walk enters.
const DEPTH: usize = 256;

/// Something that a walk has found.
#[derive(Debug)]
pub struct Entry {
    /// Where it is, relative to the tree's root.
    pub path: PathBuf,
    /// What it was. What is opened later may be something else: look again.
    pub kind: FileType,
    /// What the kernel knew of it.
    pub stat: Stat,
}

/// What became of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walked {
    /// Directories that were not entered: too deep, or closed to the server.
    pub left_out: u64,
}

impl Tree {
    /// Shows everything below a directory to `visit`, directories before what they hold, links as themselves, in no
    /// further order. It ends early when told to break. Nothing recurses, and memory grows with the number of directories
    /// alone. What vanishes meanwhile is passed over.
    ///
    /// # Errors
    /// Of `visit`, and when a directory cannot be read for another reason than that it went or is closed.
    pub fn walk(
        &self,
        top: &Path,
        mut visit: impl FnMut(Entry) -> io::Result<ControlFlow<()>>,
    ) -> io::Result<Walked> {
        let mut walked = Walked { left_out: 0 };
        let mut waiting = vec![top.to_owned()];
        while let Some(path) = waiting.pop() {
            let directory = match self.open_beneath(&path, OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(directory) => directory,
                Err(error) if is_gone(&error) && path != top => continue,
                Err(error) if is_closed(&error) && path != top => {
                    walked.left_out += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for entry in Dir::read_from(&directory)? {
                let entry = entry?;
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                let stat = match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => stat,
                    Err(Errno::NOENT) => continue,
                    Err(error) => return Err(error.into()),
                };
                let path = path.join(OsStr::from_bytes(name.to_bytes()));
                let kind = FileType::from_raw_mode(stat.st_mode);
                if kind == FileType::Directory {
                    if path.components().count() <= DEPTH {
                        waiting.push(path.clone());
                    } else {
                        walked.left_out += 1;
                    }
                }
                if visit(Entry { path, kind, stat })?.is_break() {
                    return Ok(walked);
                }
            }
        }
        Ok(walked)
    }
}

/// It went, or became something else.
fn is_gone(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP]
        .iter()
        .any(|gone| number == Some(gone.raw_os_error()))
}

/// It may not be read, or its path is too long to be named.
fn is_closed(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    [Errno::ACCESS, Errno::NAMETOOLONG]
        .iter()
        .any(|closed| number == Some(closed.raw_os_error()))
}
