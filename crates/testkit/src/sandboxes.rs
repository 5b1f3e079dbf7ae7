//! Ending the sandboxes a server of ours left behind: they outlive it by design, for ten minutes.

use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

/// Kills every process that has something below `folder` mounted.
///
/// Only processes of sandboxes do: `folder` is a test's own data directory, of which nothing is
/// mounted on the host itself.
pub(crate) fn end_below(folder: &Path) {
    let place = folder.canonicalize().ok().and_then(|folder| {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        Place::of(&folder, &mounts)
    });
    let Some(place) = place else {
        return;
    };
    for pid in processes() {
        let mountinfo = format!("/proc/{}/mountinfo", pid.as_raw_nonzero());
        let mounts = std::fs::read_to_string(mountinfo).unwrap_or_default();
        if place.is_mounted_in(&mounts) {
            // It may have ended since it was listed.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn processes() -> impl Iterator<Item = Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

/// A folder as `mountinfo` names it: the device, and the path within its file system.
#[derive(Debug, PartialEq)]
struct Place {
    device: String,
    path: PathBuf,
}

impl Place {
    /// Where this absolute path is, seen with these mounts.
    fn of(folder: &Path, mounts: &str) -> Option<Self> {
        let around = mounts.lines().filter_map(Mount::parse);
        let around = around.filter(|mount| folder.starts_with(mount.point));
        // Of two mounts on one point the later one covers the other.
        let mount = around.max_by_key(|mount| mount.point.as_os_str().len())?;
        let inside = folder.strip_prefix(mount.point).ok()?;
        Some(Self {
            device: mount.device.to_owned(),
            path: mount.root.join(inside),
        })
    }

    fn is_mounted_in(&self, mounts: &str) -> bool {
        let mut mounts = mounts.lines().filter_map(Mount::parse);
        mounts.any(|mount| mount.device == self.device && mount.root.starts_with(&self.path))
    }
}

struct Mount<'a> {
    device: &'a str,
    root: &'a Path,
    point: &'a Path,
}

impl<'a> Mount<'a> {
    /// `id parent major:minor root point …`; escaped characters do not occur in temporary folders.
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(' ').skip(2);
        Some(Self {
            device: fields.next()?,
            root: Path::new(fields.next()?),
            point: Path::new(fields.next()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "\
        22 1 254:0 / / rw - ext4 /dev/vda rw\n\
        23 22 0:30 / /tmp rw - tmpfs tmpfs rw\n\
        24 22 254:0 /srv/home /home rw - ext4 /dev/vda rw\n";

    #[test]
    fn a_sandbox_is_known_by_what_it_has_mounted() {
        let check = |folder: &str, sandbox: &str, expected: bool| {
            let place = Place::of(Path::new(folder), HOST).unwrap();
            assert_eq!(
                place.is_mounted_in(sandbox),
                expected,
                "{place:?} in {sandbox}"
            );
            assert!(!place.is_mounted_in(HOST), "{place:?} is on the host");
        };
        check(
            "/tmp/a",
            "9 8 0:30 /a/workspace /workspace rw - tmpfs t rw",
            true,
        );
        check(
            "/tmp/a",
            "9 8 0:30 /ab/workspace /workspace rw - tmpfs t rw",
            false,
        );
        check(
            "/tmp/a",
            "9 8 254:0 /a/workspace /workspace rw - ext4 t rw",
            false,
        );
        check(
            "/home/u/d",
            "9 8 254:0 /srv/home/u/d /data rw - ext4 t rw",
            true,
        );
        check("/var/d", "9 8 254:0 /var/d/x /x rw - ext4 t rw", true);
    }
}
