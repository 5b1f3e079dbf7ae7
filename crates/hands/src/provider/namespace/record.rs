//! What a session's folder tells about its sandbox: who owns its files, and which start was the last.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, mkdirat, openat, statat};
use serde::{Deserialize, Serialize};

use super::{files, launch};

const NAME: &str = "record.json";

/// The last start, written before it happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The instance that was to be started.
    pub(super) instance: String,
    /// The boot of this host that it was started in: no process outlives that.
    boot: String,
}

/// A name for a start; never given twice.
pub(super) fn new_instance() -> String {
    format!("{:032x}", rand::random::<u128>())
}

pub(super) fn write(folder: &Path, instance: &str) -> io::Result<()> {
    let record = Record {
        instance: instance.to_owned(),
        boot: boot()?,
    };
    files::replace(&folder.join(NAME), &serde_json::to_vec(&record)?, 0o600)
}

/// The last start, if it was in this boot of the host. One that cannot be read is as good as none: the sandbox it
/// was about ends itself.
pub(super) fn read(folder: &OwnedFd) -> io::Result<Option<Record>> {
    let file = match openat(
        folder,
        NAME,
        OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let record: Option<Record> = serde_json::from_reader(std::fs::File::from(file)).ok();
    let boot = boot()?;
    Ok(record.filter(|record| record.boot == boot))
}

/// The host's user that the session's files belong to.
pub(super) fn owner(folder: &OwnedFd) -> io::Result<u32> {
    let (first, _) = launch::FOLDERS[0];
    Ok(statat(folder, first, AtFlags::SYMLINK_NOFOLLOW)?.st_uid)
}

/// Makes a folder that the sandbox writes, owned by `uid` from the moment it has its name.
pub(super) fn make_folder(session: &OwnedFd, name: &str, uid: u32) -> io::Result<()> {
    if statat(session, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Ok(());
    }
    let aside = format!(".{name}");
    match mkdirat(session, &aside, Mode::from(0o755)) {
        // Left by a server that ended here.
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let folder = openat(
        session,
        &aside,
        OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    rustix::fs::fchown(
        &folder,
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(gid(uid))),
    )?;
    rustix::fs::fchmod(
        &folder,
        Mode::from(if name == "tmp" { 0o1777 } else { 0o755 }),
    )?;
    Ok(rustix::fs::renameat(session, &aside, session, name)?)
}

/// The group that goes with a user: the same number for those given to sandboxes, our own for ourselves.
fn gid(uid: u32) -> u32 {
    if uid == rustix::process::getuid().as_raw() {
        rustix::process::getgid().as_raw()
    } else {
        uid
    }
}

fn boot() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_in_its_own_boot_only() {
        let home = tempfile::tempdir().unwrap();
        let folder = files::open_directory(home.path()).unwrap();
        assert_eq!(read(&folder).unwrap(), None);
        write(home.path(), "one").unwrap();
        assert_eq!(read(&folder).unwrap().unwrap().instance, "one");
        for text in [r#"{"instance": "one", "boot": "another"}"#, "{", ""] {
            files::replace(&home.path().join(NAME), text.as_bytes(), 0o600).unwrap();
            assert_eq!(read(&folder).unwrap(), None, "{text}");
        }
    }
}
