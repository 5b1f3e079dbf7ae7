//! The host's users that a root server gives to sandboxes: one per session, remembered by a file with the number as its
//! name and the session as its content, and by the owner of the session's files. A sandbox that waited for its session has
//! two names there, a line each: the one it waited under and the session's.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::files;

/// The range and the folder of the files.
pub(super) struct Users {
    pub(super) folder: PathBuf,
    pub(super) first: u32,
    pub(super) count: u32,
}

impl Users {
    /// A user for a session that no other session has.
    pub(super) fn take(&self, session: &str) -> io::Result<u32> {
        files::private_directory(&self.folder)?;
        // Linked into place whole: a file without a session would be taken for one that is left over.
        let aside = self.folder.join(files::unique());
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&aside)?;
        let taken = file
            .write_all(session.as_bytes())
            .and_then(|()| self.link(&aside));
        // One that stays is removed with those that belong to nobody.
        let _ = fs::remove_file(&aside);
        taken
    }

    fn link(&self, aside: &Path) -> io::Result<u32> {
        for _ in 0..1000 {
            let uid = self.first + rand::random_range(0..self.count.max(1));
            match fs::hard_link(aside, self.file(uid)) {
                Ok(()) => return Ok(uid),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("the range of user ids is used up"))
    }

    /// Notes that a user's sandbox is about to be a session's: from now on it is that of either name.
    pub(super) fn share(&self, uid: u32, name: &str, session: &str) -> io::Result<()> {
        let names = format!("{name}\n{session}");
        files::replace(&self.file(uid), names.as_bytes(), 0o600)
    }

    /// Gives back a user whose session's files are gone.
    pub(super) fn free(&self, uid: u32) {
        // One that stays is found by the sweep.
        let _ = fs::remove_file(self.file(uid));
    }

    /// Gives back the users of sessions that have no files any more.
    pub(super) fn sweep(&self, has_files: impl Fn(&str) -> bool) -> io::Result<()> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries.flatten() {
            // Its folder is made before its user is taken, and what is being written has a session by now, or never will.
            let names = || fs::read_to_string(entry.path()).unwrap_or_default();
            let before = names();
            let gone = !before.is_empty() && !before.lines().any(&has_files);
            // Files move to another name after that was noted: whoever was not looked for has been noted by now.
            if gone && names() == before {
                // One that stays is only a number that is not used.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    fn file(&self, uid: u32) -> PathBuf {
        self.folder.join(uid.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sbx_1_no_two_sessions_have_one_user_and_a_sweep_frees_only_those_of_the_gone() {
        let home = tempfile::tempdir().unwrap();
        let users = Users {
            folder: home.path().join("users"),
            first: 5000,
            count: 3,
        };
        let mut taken: Vec<u32> = ["a", "b", "c"]
            .iter()
            .map(|session| users.take(session).unwrap())
            .collect();
        let kept = taken[1];
        taken.sort_unstable();
        assert_eq!(taken, [5000, 5001, 5002]);
        assert!(users.take("d").is_err(), "the range is used up");
        users.sweep(|session| session == "b").unwrap();
        let left: Vec<_> = fs::read_dir(&users.folder).unwrap().flatten().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(
            left[0].file_name().to_str(),
            Some(kept.to_string().as_str())
        );
        users.free(kept);
        assert_eq!(fs::read_dir(&users.folder).unwrap().count(), 0);
    }

    /// security SBX-1, SBX-8: while files move from one name to the other, and after that, their user is nobody else's.
    #[test]
    fn sbx_1_a_user_goes_with_the_files_that_get_another_name() {
        let home = tempfile::tempdir().unwrap();
        let users = Users {
            folder: home.path().join("users"),
            first: 5000,
            count: 1,
        };
        let uid = users.take("waits").unwrap();
        // Noted and moved while a sweep looks for the first name.
        let moved = std::cell::Cell::new(false);
        let looked = |name: &str| {
            if !moved.replace(true) {
                users.share(uid, "waits", "session").unwrap();
                return false;
            }
            name == "session"
        };
        users.sweep(looked).unwrap();
        assert!(users.take("other").is_err(), "it was not freed");
        for there in ["waits", "session"] {
            users.sweep(|name| name == there).unwrap();
            assert!(users.take("other").is_err(), "{there}");
        }
        users.sweep(|_| false).unwrap();
        assert_eq!(users.take("other").unwrap(), uid);
    }
}
