//! What a sandbox is told to be: bubblewrap's options, and those of `sandboxd`.

use std::io;
use std::path::Path;

use rustix::fs::CWD;

use super::super::arguments::{Access, Arguments, open};
use super::super::bound::ReadOnly;
use super::super::image;
use super::super::layers::PREFIX;
use super::super::masked::mask;
use super::super::memory::NAME as MEMORY;
use super::super::process::Shown;
use super::super::skills;
use super::super::uploads;
use super::super::writable::Writable;
use super::{ENVIRONMENT, FOLDERS, HIDDEN, Launch, SANDBOXD, SYSTEM};
use crate::memory::{Folder, MOUNT};
use crate::provider::{Limits, door};

/// The options of `sandboxd`, which gets these descriptors.
pub(super) fn daemon_arguments(
    launch: &Launch<'_>,
    listener: i32,
    ready: i32,
) -> Vec<(&'static str, String)> {
    let Limits {
        memory_bytes,
        disk_bytes,
        processes,
        open_files,
    } = launch.limits;
    let mut arguments = vec![
        ("--listen-fd", listener.to_string()),
        ("--ready-fd", ready.to_string()),
        ("--instance", launch.instance.to_owned()),
        ("--root", "/workspace".to_owned()),
        ("--spill", "/tmp/tool-output".to_owned()),
        ("--processes", processes.to_string()),
        ("--open-files", open_files.to_string()),
        ("--file-bytes", disk_bytes.to_string()),
    ];
    if launch.limit_data {
        arguments.push(("--data-bytes", memory_bytes.to_string()));
    }
    if launch.trust.is_some() {
        arguments.push(("--door", door::SOCKET.to_owned()));
    }
    arguments
}

impl Arguments {
    /// Adds all that bubblewrap is told.
    pub(super) fn describe(&mut self, launch: &Launch<'_>) -> io::Result<()> {
        self.plain_user();
        self.apart(launch.filters)?;
        // Process 1 is sandboxd itself.
        self.add(&["--as-pid-1"]);
        self.furniture(launch)?;
        self.add(&["--proc", "/proc"]);
        mask(self);
        self.add(&["--dev", "/dev"]);
        let shared_memory = (launch.limits.memory_bytes / 4).to_string();
        self.add(&[
            "--perms",
            "1777",
            "--size",
            &shared_memory,
            "--tmpfs",
            "/dev/shm",
            "--remount-ro",
            "/dev",
        ]);
        self.writable(&launch.writable, launch.memory)?;
        self.bind(
            uploads::folder(launch.folder)?,
            uploads::INSIDE,
            Access::Read,
        )?;
        self.bind(skills::folder(launch.folder)?, skills::INSIDE, Access::Read)?;
        for ReadOnly { from, to } in launch.read_only {
            let shown = std::fs::canonicalize(from).and_then(|path| open(CWD, &path));
            let shown = shown.map_err(|error| {
                let doing = format!("show {}: {error}", from.display());
                io::Error::new(error.kind(), doing)
            })?;
            self.bind(shown, to, Access::Read)?;
        }
        self.bind(open(CWD, launch.sandboxd)?, SANDBOXD, Access::Read)?;
        if let Some(trust) = launch.trust {
            self.way_out(launch.folder, trust)?;
        }
        self.add(&["--remount-ro", "/", "--chdir", "/workspace"]);
        for (name, value) in ENVIRONMENT {
            self.add(&["--setenv", name, value]);
        }
        for (name, value) in launch.furniture.paths {
            let usual = ENVIRONMENT.iter().find(|(usual, _)| usual == name);
            let value = match usual {
                Some((_, usual)) => format!("{value}:{usual}"),
                None => (*value).to_owned(),
            };
            self.add(&["--setenv", name, &value]);
        }
        Ok(())
    }

    /// The system: its folders read-only, or with packages on top of them.
    fn furniture(&mut self, launch: &Launch<'_>) -> io::Result<()> {
        let furniture = launch.furniture;
        for (tree, inside) in &furniture.trees {
            self.mount(tree.try_clone()?, inside, Access::Read);
        }
        if furniture.trees.is_empty() {
            for path in SYSTEM {
                self.system(&furniture.root, path)?;
            }
            let there = |path: &&str| furniture.root.join(&path[1..]).is_dir();
            for path in HIDDEN.into_iter().filter(there) {
                self.add(&["--tmpfs", path, "--remount-ro", path]);
            }
            let shown = |entry: &ReadOnly| Path::new(&entry.to).starts_with("/opt");
            if image::opt(&furniture.root).is_some() && !launch.read_only.iter().any(shown) {
                self.system(&furniture.root, "/opt")?;
            }
            self.bind(open(CWD, launch.base)?, "/etc", Access::Read)?;
            self.add(&["--dir", "/var", "--symlink", "../tmp", "/var/tmp"]);
        } else {
            for path in SYSTEM {
                self.link(&furniture.root, path)?;
            }
        }
        if let Some(prefix) = &furniture.prefix {
            self.bind(prefix.try_clone()?, PREFIX, Access::Read)?;
        }
        Ok(())
    }

    fn writable(&mut self, writable: &Writable, stores: &[Folder]) -> io::Result<()> {
        match (writable, self.point()) {
            (Writable::Mount(mount), Some(_)) => {
                let place = self.staged(mount.try_clone()?, Shown::Mount);
                for (name, inside) in FOLDERS {
                    self.add(&["--bind", &format!("{place}/{name}"), inside]);
                }
                self.add(&["--bind", &format!("{place}/{MEMORY}"), MOUNT]);
            }
            (Writable::Mount(root) | Writable::Folder(root), _) => {
                for (name, inside) in FOLDERS {
                    self.bind(open(root, Path::new(name))?, inside, Access::Write)?;
                }
                let above = open(root, Path::new(MEMORY))?;
                // Another user of the host has owners in the place of mounts.
                if self.point().is_some() {
                    return self.bind(above, MOUNT, Access::Write);
                }
                let shown = above.try_clone()?;
                self.bind(shown, MOUNT, Access::Read)?;
                for store in stores.iter().filter(|store| store.writable) {
                    let folder = open(&above, Path::new(&store.name))?;
                    self.bind(folder, &format!("{MOUNT}/{}", store.name), Access::Write)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_mounted_below_what_a_sandbox_writes() {
        let writable = FOLDERS.map(|(_, inside)| Path::new(inside));
        let mounts = FOLDERS
            .map(|(_, inside)| inside)
            .into_iter()
            .chain(SYSTEM)
            .chain(HIDDEN);
        for mount in mounts
            .chain([
                SANDBOXD,
                uploads::INSIDE,
                skills::INSIDE,
                MOUNT,
                "/etc",
                "/proc",
                "/dev",
                "/dev/shm",
                "/var/tmp",
            ])
            .chain([door::INSIDE, door::TRUST])
            .map(Path::new)
        {
            for above in mount.ancestors().skip(1) {
                assert!(
                    !writable.contains(&above),
                    "{} lies below {}",
                    mount.display(),
                    above.display()
                );
            }
        }
    }
}
