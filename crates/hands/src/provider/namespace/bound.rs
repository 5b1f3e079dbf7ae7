//! What operators show of the host to every sandbox: tools, certificates, the socket of a service.

use std::path::{Component, Path, PathBuf};

use super::launch::{FOLDERS, HIDDEN, SANDBOXD, SYSTEM};
use crate::memory::MOUNT;

/// A file or folder of the host that every sandbox sees read-only. A socket is a door all the same: programs inside
/// can connect to it, when its mode lets every user write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOnly {
    /// Where it is on the host.
    pub from: PathBuf,
    /// Where it is inside.
    pub to: String,
}

impl ReadOnly {
    /// Whether this can be shown beside the `others`, by a server with this data directory.
    ///
    /// # Errors
    /// What is wrong: the member's name (`from` or `to`) and a sentence. Refused is what is not there, what would show the data
    /// directory, and a place inside that sandboxes write or that is made by the server (security SBX-1).
    pub fn check(&self, data: &Path, others: &[Self]) -> Result<(), (&'static str, String)> {
        self.check_source(data).map_err(|why| ("from", why))?;
        check_place(&self.to).map_err(|why| ("to", why))?;
        let taken = others.iter().find(|other| overlap(&other.to, &self.to));
        taken.map_or(Ok(()), |other| {
            let why = format!(
                "{:?} overlaps {:?}, which another entry shows",
                self.to, other.to
            );
            Err(("to", why))
        })
    }

    fn check_source(&self, data: &Path) -> Result<(), String> {
        if !self.from.is_absolute() {
            return Err(format!("{} is not an absolute path", self.from.display()));
        }
        let real = std::fs::canonicalize(&self.from)
            .map_err(|error| format!("{} cannot be shown: {error}", self.from.display()))?;
        // A data directory that does not exist yet is made below one that does.
        let data = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
        let data = data
            .ancestors()
            .find_map(|above| {
                let real = std::fs::canonicalize(above).ok()?;
                Some(real.join(data.strip_prefix(above).ok()?))
            })
            .unwrap_or(data);
        if real.starts_with(&data) || data.starts_with(&real) {
            return Err(format!(
                "{} would show the data directory to sandboxes",
                self.from.display()
            ));
        }
        Ok(())
    }
}

/// Whether something may be mounted there: nowhere near what sandboxes write, so that no link they leave is ever on the way to
/// a mount, and not over what the server makes.
fn check_place(to: &str) -> Result<(), String> {
    let path = Path::new(to);
    let plain = path
        .components()
        .skip(1)
        .all(|part| matches!(part, Component::Normal(_)));
    // Components hide `.`, `//` and a last `/`: what is written must be what is meant.
    let spelled = path.components().collect::<PathBuf>();
    if !path.is_absolute() || !plain || to.contains('\0') || spelled.as_os_str() != path.as_os_str()
    {
        return Err(format!("{to:?} is not a plain absolute path"));
    }
    let written = FOLDERS.map(|(_, inside)| inside).into_iter();
    let written = written.chain([MOUNT]);
    // A link to a folder that is written.
    if let Some(written) = written.chain(["/var/tmp"]).find(|other| overlap(other, to)) {
        return Err(format!("{to:?} overlaps {written}, which sandboxes write"));
    }
    let made = SYSTEM
        .into_iter()
        .chain(HIDDEN)
        .chain([SANDBOXD, "/etc", "/proc", "/dev", "/sys", "/root", "/boot"]);
    match made.into_iter().find(|other| overlap(other, to)) {
        Some(system) => Err(format!(
            "{to:?} overlaps {system}, which belongs to the system"
        )),
        None => Ok(()),
    }
}

/// Whether one of two places is or lies below the other.
fn overlap(one: &str, other: &str) -> bool {
    let (one, other) = (Path::new(one), Path::new(other));
    one.starts_with(other) || other.starts_with(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sbx_1_what_is_shown_lies_apart_from_what_sandboxes_write_and_what_the_system_owns() {
        #[track_caller]
        fn check(to: &str, problem: Option<&str>) {
            let found = check_place(to).err();
            match (problem, &found) {
                (None, None) => {}
                (Some(problem), Some(found)) if found.contains(problem) => {}
                _ => panic!("{to}: {found:?} instead of {problem:?}"),
            }
        }
        for fine in [
            "/opt",
            "/opt/tools",
            "/mnt/tools",
            "/home/tools",
            "/var/lib/x",
            "/run/door",
            "/srv",
        ] {
            check(fine, None);
        }
        let not_plain = Some("not a plain absolute path");
        for path in [
            "",
            "opt",
            "/opt/../etc",
            "/opt/./x",
            "//opt",
            "/opt/",
            "/opt//x",
            "/opt\0x",
        ] {
            check(path, not_plain);
        }
        let written = Some("which sandboxes write");
        for path in [
            "/",
            "/workspace",
            "/workspace/x",
            "/tmp/x",
            "/home",
            "/home/agent/.ssh",
            "/mnt",
            "/mnt/session",
            "/mnt/session/outputs/x",
            "/var",
            "/var/tmp",
            "/var/tmp/x",
        ] {
            check(path, written);
        }
        let system = Some("which belongs to the system");
        for path in [
            "/usr",
            "/usr/local/lib/x",
            "/bin",
            "/lib64/x",
            "/etc",
            "/etc/ssl",
            "/proc/1",
            "/dev/shm",
            "/sys",
            "/run",
            "/run/manyhands",
            "/run/manyhands/sandboxd",
            "/run/manyhands/sandboxd/x",
        ] {
            check(path, system);
        }
    }

    #[test]
    fn sbx_1_what_is_shown_exists_and_is_not_the_data_directory() {
        let room = tempfile::tempdir().unwrap();
        let (data, tools) = (room.path().join("data"), room.path().join("tools"));
        std::fs::create_dir(&tools).unwrap();
        std::os::unix::fs::symlink(&data, room.path().join("link")).unwrap();
        let check = |from: &Path, to: &str, others: &[ReadOnly], problem: Option<(&str, &str)>| {
            let entry = ReadOnly {
                from: from.to_owned(),
                to: to.to_owned(),
            };
            let found = entry.check(&data, others).err();
            match (problem, &found) {
                (None, None) => {}
                (Some((member, words)), Some((at, why)))
                    if member == *at && why.contains(words) => {}
                _ => panic!("{}: {found:?} instead of {problem:?}", from.display()),
            }
        };
        let shows = Some(("from", "would show the data directory"));
        check(&tools, "/opt/tools", &[], None);
        check(
            Path::new("tools"),
            "/opt/tools",
            &[],
            Some(("from", "not an absolute path")),
        );
        check(
            &room.path().join("absent"),
            "/opt/tools",
            &[],
            Some(("from", "cannot be shown")),
        );
        // Before there is a data directory, and then.
        check(room.path(), "/opt/tools", &[], shows);
        std::fs::create_dir_all(data.join("sandboxes")).unwrap();
        for below in [
            data.clone(),
            data.join("sandboxes"),
            room.path().join("link"),
            "/".into(),
        ] {
            check(&below, "/opt/tools", &[], shows);
        }
        let other = ReadOnly {
            from: tools.clone(),
            to: "/opt/tools".to_owned(),
        };
        let taken = Some(("to", "which another entry shows"));
        check(&tools, "/opt/tools", std::slice::from_ref(&other), taken);
        check(
            &tools,
            "/opt/tools/more",
            std::slice::from_ref(&other),
            taken,
        );
        check(&tools, "/opt", std::slice::from_ref(&other), taken);
        check(&tools, "/opt/other", &[other], None);
    }
}
