//! The skills that a session's sandbox reads: each unpacked into a folder of the session that the server alone writes, and that
//! the sandbox sees read-only (runtime SK-3, security INP-7). They are a session's from its beginning to its end.
//!
//! A skill is unpacked aside and gets its name when it is complete; a list beside the folder says which ones are.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use manyhands_skills::Folder;
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

use super::host::Host;
use super::{at, blocking, files};
use crate::Error;
use crate::provider::hold::same;
use crate::provider::laid::listed;
use crate::skills::{SKILLS, Skill, fetch};

/// The folder's name in a session's.
const FOLDER: &str = "skills";
/// The list's name.
const LIST: &str = "skills.json";
/// Where one is unpacked.
const ASIDE: &str = ".skill";

/// Where the folder is inside.
pub(super) const INSIDE: &str = SKILLS;

/// What is in the folder: SHA-256 of the archive by name.
type List = BTreeMap<String, String>;

/// The folder, made if it is not there.
pub(super) fn folder(session: &OwnedFd) -> io::Result<OwnedFd> {
    match mkdirat(session, FOLDER, Mode::from(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(session, FOLDER, flags, Mode::empty())?)
}

impl Host {
    /// Lays those of a session's skills that are not there. One whose bytes are damaged is left out, and said.
    pub(super) async fn lay_skills(&self, session: &str, skills: &[Skill]) -> Result<(), Error> {
        if skills.is_empty() {
            return Ok(());
        }
        let doing = format!("lay out the skills of {session}");
        let (folder, lock) = self.hold_or_make(session).await?;
        let there: List = listed(&folder, LIST).map_err(|error| Error::io(doing.clone(), error))?;
        // Bringing bytes takes its time; nobody waits for it at the lock.
        drop(lock);
        for skill in skills {
            if there.get(&skill.name) == Some(&skill.sha256) {
                continue;
            }
            let Some(unpacked) = fetch(session, self.blobs()?, skill).await? else {
                continue;
            };
            let Some((now, _lock)) = self.hold(session).await? else {
                return Ok(());
            };
            if !same(&now, &folder) {
                return Ok(());
            }
            let (path, sha256) = (self.folder(session), skill.sha256.clone());
            blocking(&doing, move || put(&now, &path, &unpacked, sha256)).await?;
        }
        Ok(())
    }
}

/// Unpacks a skill, then puts it in place and on the list. The session's lock is held.
fn put(session: &OwnedFd, path: &Path, unpacked: &Folder, sha256: String) -> io::Result<()> {
    let name = &unpacked.manifest().name;
    let root = folder(session)?;
    let (aside, place) = (at(session, ASIDE), at(&root, name));
    // What a server has left that died here.
    for left in [&aside, &place] {
        match fs::remove_dir_all(left) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    write(&aside, unpacked)?;
    fs::rename(&aside, &place)?;
    let mut list: List = listed(session, LIST)?;
    list.insert(name.clone(), sha256);
    files::replace(&path.join(LIST), &serde_json::to_vec(&list)?, 0o600)
}

/// Paths are checked: relative, of safe segments (security INP-4).
fn write(aside: &Path, unpacked: &Folder) -> io::Result<()> {
    fs::create_dir(aside)?;
    fs::set_permissions(aside, Permissions::from_mode(0o755))?;
    for (path, entry) in unpacked.files() {
        let mut above = aside.to_owned();
        let mut segments = path.split('/').peekable();
        while let Some(segment) = segments.next() {
            above.push(segment);
            if segments.peek().is_some() && !above.is_dir() {
                fs::create_dir(&above)?;
                fs::set_permissions(&above, Permissions::from_mode(0o755))?;
            }
        }
        let mut file = File::create_new(&above)?;
        file.write_all(&entry.bytes)?;
        let mode = if entry.executable { 0o555 } else { 0o444 };
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(())
}
