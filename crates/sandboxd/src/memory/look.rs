//! A look at all that is in a store's folder: regular files by their paths, and what has no place there.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FileType, statat, unlinkat};
use serde::{Deserialize, Serialize};

use super::{ASIDE, Stamp, directory};

/// The deepest folder that is looked into: more than a path of a memory has segments.
const DEEPEST: usize = 32;

/// The most things that are looked at: more than twice as many as a store holds.
const MOST: usize = 50_000;

/// The most bytes that all paths together may have.
const LONGEST: usize = 4 << 20;

/// How long a look may take.
const LIMIT: Duration = Duration::from_secs(5);

/// What is in a store's folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The regular files whose paths are text, in the order of the paths, which are below the folder.
    pub files: Vec<(String, Stamp)>,
    /// What is neither such a file nor a folder.
    pub odd: Vec<Odd>,
    /// Why not everything was looked at: then what is missing here may be there.
    pub cut: Option<String>,
    /// The folders, in no order, the store's own as an empty path. Said to nobody elsewhere.
    #[serde(skip)]
    pub folders: Vec<Vec<u8>>,
}

/// Something that is no memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Odd {
    /// Where, below the folder.
    pub path: Vec<u8>,
    /// What it is.
    pub what: Oddity,
}

/// Why something is no memory, whatever is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Oddity {
    /// A symbolic link.
    Link,
    /// A pipe, a socket or a device.
    Special,
    /// A file whose path is no UTF-8.
    NoText,
}

/// Looks at all that is below a folder. Folders that are closed to us or too deep are left out, and that is said.
pub(super) fn look(top: &OwnedFd) -> io::Result<Seen> {
    let mut seen = Seen::default();
    let started = Instant::now();
    let (mut looked, mut bytes) = (0, 0);
    let mut open = vec![(top.try_clone()?, Vec::new(), 0)];
    'all: while let Some((at, above, depth)) = open.pop() {
        for entry in Dir::read_from(&at)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            looked += 1;
            let mut path: Vec<u8> = above.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(name.to_bytes());
            bytes += path.len();
            if looked > MOST || bytes > LONGEST || started.elapsed() > LIMIT {
                seen.cut = Some(format!("it holds more than {} things", looked - 1));
                break 'all;
            }
            // What goes meanwhile is not there.
            let Ok(stat) = statat(&at, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory if depth == DEEPEST => {
                    let path = String::from_utf8_lossy(&path);
                    seen.cut = Some(format!("the folder {path:?} is too deep"));
                }
                FileType::Directory => match directory(&at, name.to_bytes()) {
                    Ok(below) => open.push((below, path, depth + 1)),
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                        let path = String::from_utf8_lossy(&path);
                        seen.cut = Some(format!("the folder {path:?} is closed"));
                    }
                    Err(_) => {}
                },
                // Left by somebody who ended in between.
                FileType::RegularFile
                    if depth == 0 && name.to_bytes().starts_with(ASIDE.as_bytes()) =>
                {
                    unlinkat(&at, name, AtFlags::empty())?;
                }
                FileType::RegularFile => match String::from_utf8(path) {
                    Ok(path) => seen.files.push((path, Stamp::of(&stat))),
                    Err(error) => seen.odd.push(Odd {
                        path: error.into_bytes(),
                        what: Oddity::NoText,
                    }),
                },
                kind => seen.odd.push(Odd {
                    path,
                    what: match kind {
                        FileType::Symlink => Oddity::Link,
                        _ => Oddity::Special,
                    },
                }),
            }
        }
        seen.folders.push(above);
    }
    seen.files
        .sort_unstable_by(|one, other| one.0.cmp(&other.0));
    Ok(seen)
}
