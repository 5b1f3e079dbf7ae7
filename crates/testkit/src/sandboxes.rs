//! Ending the sandboxes a server of ours left behind: they outlive it by design, for ten minutes, and once their data
//! directory is gone no server knows of their control groups any more (security SBX-8).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use crate::gate::PATIENCE;

/// Kills every process that has something below `folder` mounted, or is in the control group of one of its sandboxes, and
/// removes these groups.
///
/// Only processes of sandboxes do: `folder` is a test's own data directory, of which nothing is
/// mounted on the host itself. Call it while the folder is there and no server works on it.
///
/// # Panics
/// As [`end_groups`].
pub fn end_below(folder: &Path) {
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
    end_groups(folder);
}

/// Ends what is in the control groups of the sandboxes of this data directory, and removes them.
///
/// # Panics
/// When one cannot be removed within [`PATIENCE`].
pub fn end_groups(data: &Path) {
    for group in groups(data, "") {
        remove(&group);
    }
}

/// The folders of the control groups of the sandboxes of this data directory, one for each controller, as far as their own
/// names begin so.
pub fn groups(data: &Path, beginning: &str) -> BTreeSet<PathBuf> {
    let data = data.canonicalize().unwrap_or_else(|_| data.to_owned());
    let bytes = data.as_os_str().as_encoded_bytes();
    // FNV-1a: servers name their groups by their data directory, so that none takes those of another.
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let beginning = format!("manyhands-{hash:016x}-{beginning}");
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let above = Path::new("/sys/fs/cgroup");
    let mut places: BTreeSet<PathBuf> = below(above).collect();
    for line in own.lines() {
        // `number:controllers:/group`; of version 2 there is one, without controllers.
        let mut parts = line.splitn(3, ':').skip(1);
        if let (Some(controllers), Some(group)) = (parts.next(), parts.next()) {
            let own = above.join(controllers).join(group.trim_start_matches('/'));
            // A server of version 2 moves itself to a leaf and makes groups beside that.
            places.extend(own.parent().map(Path::to_owned));
            places.insert(own);
        }
    }
    let named = |group: &PathBuf| {
        let name = group.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(&beginning))
    };
    let groups = places.iter().flat_map(|place| below(place));
    groups.filter(named).collect()
}

/// What is in a folder, if it is one.
fn below(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

/// Ends what is in a control group and removes it.
fn remove(group: &Path) {
    let started = Instant::now();
    loop {
        let members = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        let members = members.lines().filter_map(|line| line.parse().ok());
        members.filter_map(Pid::from_raw).for_each(end);
        match std::fs::remove_dir(group) {
            Ok(()) => return,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) if started.elapsed() > PATIENCE => {
                assert!(std::thread::panicking(), "{}: {error}", group.display());
                return;
            }
            // For a moment a process that has ended is still in it.
            Err(_) => {}
        }
    }
}

/// Kills a process and waits until it has ended.
fn end(pid: Pid) {
    // It may have ended by itself, which is as good.
    if let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
        && pidfd_send_signal(&process, Signal::KILL).is_ok()
    {
        let limit = Timespec {
            tv_sec: i64::try_from(PATIENCE.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: 0,
        };
        // A wait that was cut short is followed by another look at the group.
        let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit));
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
