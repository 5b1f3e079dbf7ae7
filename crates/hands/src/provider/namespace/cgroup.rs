//! Limits of memory, processes and processor time of a whole sandbox through control groups: version 2 where it is delegated to us,
//! version 1 where its files are ours to write, else none (security SBX-3).

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::provider::{Holds, Limit, Limits};

/// The share of the processor that a sandbox has against the server's 100, when both want it.
const WEIGHT: u64 = 25;

/// So many processors' time a sandbox gets at most, in each period of so many microseconds.
const PROCESSORS: u64 = 2;
const PERIOD: u64 = 100_000;

/// Where groups can be made on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cgroups {
    /// One tree with all controllers; groups are made below this folder.
    Unified(PathBuf),
    /// A tree for each controller, with the folder that groups are made below.
    Legacy(Vec<(Controller, PathBuf)>),
    /// Neither.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    Memory,
    Pids,
    Cpu,
}

const CONTROLLERS: [(Controller, &str); 3] = [
    (Controller::Memory, "memory"),
    (Controller::Pids, "pids"),
    (Controller::Cpu, "cpu"),
];

impl Cgroups {
    /// What this process may use. On version 2 this moves the process into a leaf of its own group, since a group
    /// with processes cannot have limited groups below it.
    pub(super) fn detect() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let found = parse(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
        found.usable()
    }

    fn usable(self) -> Self {
        match self {
            Self::Unified(own) => match delegate(&own) {
                Ok(()) => Self::Unified(own),
                Err(error) => {
                    tracing::debug!(%error, group = %own.display(), "control groups are not delegated to this process");
                    Self::None
                }
            },
            Self::Legacy(mut trees) => {
                trees.retain(|(_, own)| {
                    rustix::fs::access(own, rustix::fs::Access::WRITE_OK).is_ok()
                });
                if trees.is_empty() {
                    Self::None
                } else {
                    Self::Legacy(trees)
                }
            }
            Self::None => Self::None,
        }
    }

    /// Makes the group `name` with its limits; the open files are where a process writes `0` to enter it.
    pub(super) fn make(&self, name: &str, limits: &Limits) -> io::Result<Vec<File>> {
        let set = |folder: &Path, settings: &[(&str, u64)]| -> io::Result<File> {
            match fs::create_dir(folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            for (file, value) in settings {
                fs::write(folder.join(file), value.to_string())?;
            }
            File::options()
                .write(true)
                .open(folder.join("cgroup.procs"))
        };
        match self {
            Self::Unified(own) => {
                let memory = ("memory.max", limits.memory_bytes);
                let settings = [
                    memory,
                    ("memory.swap.max", 0),
                    ("pids.max", limits.processes),
                    ("cpu.weight", WEIGHT),
                ];
                // Swap and weight are absent where their controllers are.
                let folder = own.join(name);
                fs::create_dir(&folder).or_else(|error| match error.kind() {
                    io::ErrorKind::AlreadyExists => Ok(()),
                    _ => Err(error),
                })?;
                let there: Vec<_> = settings
                    .into_iter()
                    .filter(|(file, _)| {
                        matches!(*file, "memory.max" | "pids.max") || folder.join(file).exists()
                    })
                    .collect();
                let entered = set(&folder, &there)?;
                let quota = format!("{} {PERIOD}", PROCESSORS * PERIOD);
                if folder.join("cpu.max").exists() {
                    bound_time(&folder, &[("cpu.max", quota)])?;
                }
                Ok(vec![entered])
            }
            Self::Legacy(trees) => trees
                .iter()
                .map(|(controller, own)| {
                    let setting = match controller {
                        Controller::Memory => ("memory.limit_in_bytes", limits.memory_bytes),
                        Controller::Pids => ("pids.max", limits.processes),
                        Controller::Cpu => ("cpu.shares", 1024 * WEIGHT / 100),
                    };
                    let entered = set(&own.join(name), &[setting])?;
                    if *controller == Controller::Cpu {
                        let quota = (PROCESSORS * PERIOD).to_string();
                        let period = ("cpu.cfs_period_us", PERIOD.to_string());
                        bound_time(&own.join(name), &[period, ("cpu.cfs_quota_us", quota)])?;
                    }
                    Ok(entered)
                })
                .collect(),
            Self::None => Ok(Vec::new()),
        }
    }

    /// Ends what is left in the group and removes it; blocks for as long as processes take to end.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        for folder in self.folders(name) {
            while let Ok(pids) = fs::read_to_string(folder.join("cgroup.procs"))
                && !pids.is_empty()
            {
                for pid in pids
                    .lines()
                    .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
                {
                    end(pid);
                }
            }
            match fs::remove_dir(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// The names of all groups that begin with `prefix`.
    pub(super) fn named(&self, prefix: &str) -> Vec<String> {
        let mut names: Vec<String> = self
            .folders("")
            .into_iter()
            .filter_map(|own| fs::read_dir(own).ok())
            .flat_map(|entries| entries.flatten())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.starts_with(prefix))
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// What holds, for the probe.
    pub(super) fn limits(&self) -> Vec<Limit> {
        CONTROLLERS
            .iter()
            .map(|(controller, name)| {
                let by = match self {
                    Self::Unified(_) => Some("control groups, version 2"),
                    Self::Legacy(trees) if trees.iter().any(|(found, _)| found == controller) => {
                        Some("control groups, version 1")
                    }
                    Self::Legacy(_) | Self::None => None,
                };
                let (name, alone) = match controller {
                    Controller::Memory => {
                        ("memory", (Holds::Soft, "the data limit of each process"))
                    }
                    Controller::Pids => (
                        "processes",
                        (Holds::Soft, "the process limit of the sandbox's user"),
                    ),
                    Controller::Cpu => {
                        (*name, (Holds::No, "nothing: no control group can be made"))
                    }
                };
                match (by, controller) {
                    (Some(by), Controller::Cpu) => Limit {
                        name,
                        holds: Holds::Hard,
                        by: format!("{by}: the time of {PROCESSORS}, and a small weight"),
                    },
                    (Some(by), _) => Limit {
                        name,
                        holds: Holds::Hard,
                        by: by.to_owned(),
                    },
                    (None, _) => Limit {
                        name,
                        holds: alone.0,
                        by: alone.1.to_owned(),
                    },
                }
            })
            .collect()
    }

    /// Whether the memory of a sandbox as a whole is bounded.
    pub(super) fn bounds_memory(&self) -> bool {
        self.limits()
            .iter()
            .any(|limit| limit.name == "memory" && limit.holds == Holds::Hard)
    }

    fn folders(&self, name: &str) -> Vec<PathBuf> {
        match self {
            Self::Unified(own) => vec![own.join(name)],
            Self::Legacy(trees) => trees.iter().map(|(_, own)| own.join(name)).collect(),
            Self::None => Vec::new(),
        }
    }
}

/// Bounds the processor time of a group, where the kernel can.
fn bound_time(folder: &Path, settings: &[(&str, String)]) -> io::Result<()> {
    for (file, value) in settings {
        match fs::write(folder.join(file), value) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                // The groups above have less, which holds as well.
                tracing::debug!(file, value, "a control group is bounded by those above it");
            }
            other => other?,
        }
    }
    Ok(())
}

/// Kills a process and waits until it has ended.
fn end(pid: Pid) {
    // It may have ended by itself, which is as good.
    if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty())
        && pidfd_send_signal(&pidfd, Signal::KILL).is_ok()
    {
        let mut polled = [rustix::event::PollFd::new(
            &pidfd,
            rustix::event::PollFlags::IN,
        )];
        let _ = rustix::event::poll(&mut polled, None);
    }
}

/// Lets groups below our own have memory and process limits.
fn delegate(own: &Path) -> io::Result<()> {
    let controllers = fs::read_to_string(own.join("cgroup.controllers"))?;
    let has = |name: &str| {
        controllers
            .split_ascii_whitespace()
            .any(|found| found == name)
    };
    if !has("memory") || !has("pids") {
        return Err(io::Error::other(
            "the memory and pids controllers are not available",
        ));
    }
    let wanted = if has("cpu") {
        "+memory +pids +cpu"
    } else {
        "+memory +pids"
    };
    let enable = || fs::write(own.join("cgroup.subtree_control"), wanted);
    if enable().is_ok() {
        return Ok(());
    }
    // Only what is ours alone may be moved: a group shared with others is not delegated to us.
    let processes = fs::read_to_string(own.join("cgroup.procs"))?;
    let us = std::process::id().to_string();
    if processes.lines().any(|pid| pid != us) {
        return Err(io::Error::other("the group is shared with other processes"));
    }
    let leaf = own.join("manyhands-server");
    match fs::create_dir(&leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::write(leaf.join("cgroup.procs"), us)?;
    enable()
}

/// Our own groups, from `/proc/self/cgroup` and the mounts that show them.
fn parse(own: &str, mounts: &str) -> Cgroups {
    let mut unified = None;
    let mut legacy = Vec::new();
    for mount in mounts.lines().filter_map(Mount::parse) {
        for line in own.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(names), Some(path)) = (parts.next(), parts.next()) else {
                continue;
            };
            let Some(folder) = mount.folder(path) else {
                continue;
            };
            match mount.kind {
                "cgroup2" if names.is_empty() => unified = Some(folder),
                "cgroup" => {
                    let found = CONTROLLERS.iter().filter(|(_, name)| {
                        names.split(',').any(|own| own == *name)
                            && mount.options.split(',').any(|own| own == *name)
                    });
                    legacy.extend(found.map(|(controller, _)| (*controller, folder.clone())));
                }
                _ => {}
            }
        }
    }
    match unified {
        _ if !legacy.is_empty() => Cgroups::Legacy(legacy),
        Some(folder) => Cgroups::Unified(folder),
        None => Cgroups::None,
    }
}

struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let mut right = right.split(' ');
        Some(Self {
            root: left.next()?,
            point: left.next()?,
            kind: right.next()?,
            options: right.nth(1)?,
        })
    }

    /// Where the group `path` is under this mount, if it shows it.
    fn folder(&self, path: &str) -> Option<PathBuf> {
        let below = if self.root == "/" {
            path
        } else {
            path.strip_prefix(self.root)?
        };
        Some(Path::new(self.point).join(below.trim_start_matches('/')))
    }
}

#[cfg(test)]
mod tests;
