//! The processes of sandboxes, for `kill -9`.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// What a process of a sandbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What made the sandbox and waits for its end.
    Bubblewrap,
    /// Process 1 inside.
    Supervisor,
    /// A shell or a command.
    Command,
}

impl Part {
    /// Its name in the counts.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bubblewrap => "bwrap",
            Self::Supervisor => "sandboxd",
            Self::Command => "command",
        }
    }
}

/// A process of a sandbox.
#[derive(Clone, Debug)]
pub(crate) struct Victim {
    pid: Pid,
    pub(crate) part: Part,
    pub(crate) session: String,
}

impl Victim {
    /// Kills it. It may have ended before.
    pub(crate) fn kill(&self) {
        let _ = kill_process(self.pid, Signal::KILL);
    }
}

/// All processes of sandboxes below this data directory.
pub(crate) fn find(data: &Path) -> Vec<Victim> {
    let Some(name) = data.to_str() else {
        return vec![];
    };
    let prefix = format!("{name}/sandboxes/");
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        let session = session_of(&read("mountinfo")?, &prefix, file_behind)?;
        let part = part_of(&read("status")?)?;
        Some(Victim {
            pid: Pid::from_raw(pid)?,
            part,
            session,
        })
    })
    .collect()
}

/// The file that a loop device shows.
fn file_behind(device: &str) -> Option<String> {
    fs::read_to_string(format!("/sys/dev/block/{device}/loop/backing_file")).ok()
}

/// The session whose folders, or whose disk, are mounted. The root of a mount is a path in its file system, which ends as
/// the host's does.
fn session_of(
    mounts: &str,
    prefix: &str,
    behind: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(2);
        let (device, root) = (words.next()?, words.next()?);
        let disk = device.starts_with("7:").then(|| behind(device)).flatten();
        let root = disk.as_deref().unwrap_or(root);
        // In a file system of its own the folder's path begins later: the longest part that both have decides.
        let (place, session) = root.split_once("/sandboxes/")?;
        let known = prefix.strip_suffix("/sandboxes/")?;
        if place.is_empty() || !known.ends_with(place) {
            return None;
        }
        Some(session.split('/').next()?.to_owned())
    })
}

fn part_of(status: &str) -> Option<Part> {
    let field = |name: &str| {
        let mut lines = status.lines();
        lines.find_map(|line| line.strip_prefix(name))
    };
    if field("Name:")?.trim() == "bwrap" {
        return Some(Part::Bubblewrap);
    }
    let inner = field("NSpid:")?.split_whitespace().last()?;
    Some(match inner {
        "1" => Part::Supervisor,
        _ => Part::Command,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_what_it_has_mounted_and_by_its_number_inside() {
        let mounts = "1 0 254:0 / / rw - ext4 d rw\n\
                      2 1 254:0 /var/tmp/w/data/sandboxes/sesn_1/workspace /workspace rw - ext4 d rw";
        let prefix = "/var/tmp/w/data/sandboxes/";
        let none = |_: &str| None;
        assert_eq!(session_of(mounts, prefix, none), Some("sesn_1".to_owned()));
        // The folder is on a file system of its own, mounted at /var/tmp.
        let mounts = "2 1 0:9 /w/data/sandboxes/sesn_2/tmp /tmp rw - tmpfs d rw";
        assert_eq!(session_of(mounts, prefix, none), Some("sesn_2".to_owned()));
        let other = "2 1 0:9 /v/data/sandboxes/sesn_2/tmp /tmp rw - tmpfs d rw";
        assert_eq!(session_of(other, prefix, none), None);
        // On a disk of its own.
        let mounts = "2 1 7:3 /tmp /tmp rw - ext4 /dev/loop3 rw";
        let disk = |device: &str| {
            assert_eq!(device, "7:3");
            Some("/var/tmp/w/data/sandboxes/sesn_3/disk\n".to_owned())
        };
        assert_eq!(session_of(mounts, prefix, disk), Some("sesn_3".to_owned()));
        assert_eq!(part_of("Name:\tbwrap\nNSpid:\t7\n"), Some(Part::Bubblewrap));
        assert_eq!(
            part_of("Name:\tmanyhands-sandb\nNSpid:\t8\t1\n"),
            Some(Part::Supervisor)
        );
        assert_eq!(
            part_of("Name:\tsleep\nNSpid:\t9\t17\n"),
            Some(Part::Command)
        );
    }
}
