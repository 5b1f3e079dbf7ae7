//! What a build finds beside `/usr`, and what sessions see under a layer: an `/etc` fit for package managers, a `/var` with
//! the system's list of packages, and a mask that hides what must not be seen and holds the places of mounts.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, setxattr};

use super::super::bound::ReadOnly;
use super::super::image::plain;
use super::super::launch::HIDDEN;
use super::super::{files, fingerprint};
use crate::packages::plan::{APT, NO_SERVICES};
use crate::packages::sources::{Sources, apt_lines};

/// Changes when what this file writes changes.
const EDITION: u32 = 1;

/// What is copied from `/etc` for builds alone: configuration of package managers that holds no credentials.
const COPIED: &[&str] = &[
    "apt/sources.list",
    "apt/sources.list.d",
    "apt/trusted.gpg",
    "apt/trusted.gpg.d",
    "apt/keyrings",
    "apt/preferences",
    "apt/preferences.d",
    "dpkg",
    "pam.conf",
    "pam.d",
    "security",
    "adduser.conf",
    "deluser.conf",
    "login.defs",
    "debconf.conf",
    "default",
    "skel",
    "ucf.conf",
    "emacs",
    "init.d",
    "rc0.d",
    "rc1.d",
    "rc2.d",
    "rc3.d",
    "rc4.d",
    "rc5.d",
    "rc6.d",
    "rcS.d",
];

/// Folders below `/var` that packages expect.
const VAR: &[&str] = &[
    "backups",
    "cache/apt/archives/partial",
    "cache/debconf",
    "cache/ldconfig",
    "lib/apt/lists/partial",
    "lib/misc",
    "lib/pam",
    "lib/systemd",
    "lib/ucf",
    "local",
    "log/apt",
    "mail",
    "opt",
    "spool",
];

/// The folders, named after where they are shown.
#[derive(Debug, Clone)]
pub(super) struct Skeleton {
    /// Below it `etc`, `var`, `opt`, and `mask` with `usr`, `var` and `opt`.
    pub(super) folder: PathBuf,
    /// What it was made from, for the names of layers.
    pub(super) name: String,
}

/// The skeleton for this root, below `directory`; made now if there is none that fits.
pub(super) fn ensure(
    root: &Path,
    base_etc: &Path,
    read_only: &[ReadOnly],
    sources: &Sources,
    directory: &Path,
) -> io::Result<Skeleton> {
    let name = name(root, base_etc, read_only, sources);
    let folder = directory.join(&name);
    let skeleton = Skeleton {
        folder: folder.clone(),
        name,
    };
    if folder.is_dir() {
        return Ok(skeleton);
    }
    let aside = directory.join(files::unique());
    let trash = directory.join(".trash");
    let built = build(root, base_etc, read_only, sources, &aside);
    match built.and_then(|()| fs::rename(&aside, &folder)) {
        Ok(()) => {}
        // Another server of the data directory was faster with the same content.
        Err(_) if folder.is_dir() => drop(files::discard(&aside, &trash)?),
        Err(error) => {
            // The first error is the one to tell.
            let _ = files::discard(&aside, &trash);
            return Err(error);
        }
    }
    files::empty(&trash)?;
    Ok(skeleton)
}

/// The name of the skeleton for this root, whether it is made or not.
pub(super) fn name(
    root: &Path,
    base_etc: &Path,
    read_only: &[ReadOnly],
    sources: &Sources,
) -> String {
    let witness = witness(root, base_etc, read_only, sources);
    format!("base-{EDITION}-{witness:016x}")
}

fn witness(root: &Path, base_etc: &Path, read_only: &[ReadOnly], sources: &Sources) -> u64 {
    let mut text = format!("{}\n{}\n{sources:?}\n", root.display(), base_etc.display());
    for ReadOnly { from, to } in read_only {
        text.push_str(&format!("{to} {}\n", from.is_dir()));
    }
    // Packages of the system come and go; which ones a layer lies on decides what it holds.
    for name in [
        "var/lib/dpkg/status",
        "etc/apt/sources.list",
        "etc/apt/sources.list.d",
        "usr",
    ] {
        if let Ok(meta) = fs::metadata(root.join(name)) {
            let time = (meta.mtime(), meta.mtime_nsec());
            text.push_str(&format!("{name} {time:?} {} {}\n", meta.size(), meta.ino()));
        }
    }
    fingerprint(text.as_bytes())
}

fn build(
    root: &Path,
    base_etc: &Path,
    read_only: &[ReadOnly],
    sources: &Sources,
    to: &Path,
) -> io::Result<()> {
    // Closed to everybody else: what packages install as a privileged program is none for users of the host.
    files::private_directory(to)?;
    etc(root, base_etc, sources, &to.join("etc"))?;
    var(root, &to.join("var"))?;
    folders(&to.join("opt"), &[""])?;
    mask(read_only, &to.join("mask"))
}

fn etc(root: &Path, base_etc: &Path, sources: &Sources, to: &Path) -> io::Result<()> {
    folders(
        to,
        &[
            "apt/apt.conf.d",
            "apt/sources.list.d",
            "apt/preferences.d",
            "apt/trusted.gpg.d",
        ],
    )?;
    for name in COPIED {
        let to = to.join(name);
        if let Some(from) = plain(root, &format!("etc/{name}")) {
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent)?;
            }
            copy(&from, &to)?;
        }
    }
    write(&to.join("apt/apt.conf.d/90sandbox"), APT)?;
    match &sources.apt {
        Some(lines) => {
            fs::remove_dir_all(to.join("apt/sources.list.d"))?;
            folders(&to.join("apt/sources.list.d"), &[""])?;
            write(&to.join("apt/sources.list"), &(lines.join("\n") + "\n"))?;
        }
        None => strip(&to.join("apt"))?,
    }
    let users = |name: &str, master: &str| -> io::Result<String> {
        let mut users = fs::read_to_string(base_etc.join(name))?;
        // Packages that are there already have files of users that they made.
        let read = |path: String| {
            let path = plain(root, &path);
            path.and_then(|path| fs::read_to_string(path).ok())
                .unwrap_or_default()
        };
        let own = read(format!("etc/{name}"));
        let master = read(format!("usr/share/base-passwd/{master}"));
        for line in own
            .lines()
            .filter_map(system_account)
            .chain(master.lines().map(str::to_owned))
        {
            let named = |line: &str| line.split_once(':').map(|(name, _)| name.to_owned());
            if !users.lines().any(|known| named(known) == named(&line)) {
                users.push_str(&line);
                users.push('\n');
            }
        }
        Ok(users)
    };
    for (name, secrets, master) in [
        ("passwd", "shadow", "passwd.master"),
        ("group", "gshadow", "group.master"),
    ] {
        let users = users(name, master)?;
        let fields = if name == "passwd" {
            "*:19000:0:99999:7:::"
        } else {
            "*::"
        };
        let shadow: String = users
            .lines()
            .filter_map(|line| Some(format!("{}:{fields}\n", line.split_once(':')?.0)))
            .collect();
        write(&to.join(name), &users.replace(":*:", ":x:"))?;
        write(&to.join(secrets), &shadow)?;
    }
    Ok(())
}

/// A line of `passwd` or `group` without what is about people; none for accounts of people.
fn system_account(line: &str) -> Option<String> {
    let mut fields: Vec<&str> = line.split(':').collect();
    let system = fields.get(2)?.parse::<u32>().ok()? < 1000;
    fields[1] = "x";
    // The members of a group.
    if let [_, _, _, members] = &mut fields[..] {
        *members = "";
    }
    system.then(|| fields.join(":"))
}

/// Takes credentials out of the copied sources of apt.
fn strip(apt: &Path) -> io::Result<()> {
    let mut lists = vec![apt.join("sources.list")];
    lists.extend(
        fs::read_dir(apt.join("sources.list.d"))?
            .flatten()
            .map(|entry| entry.path()),
    );
    for path in lists.iter().filter(|path| path.is_file()) {
        write(path, &apt_lines(&fs::read_to_string(path)?))?;
    }
    Ok(())
}

fn var(root: &Path, to: &Path) -> io::Result<()> {
    folders(to, VAR)?;
    for (name, target) in [("tmp", "../tmp"), ("run", "/run"), ("lock", "/run/lock")] {
        symlink(target, to.join(name))?;
    }
    if let Some(list) = plain(root, "var/lib/dpkg") {
        copy(&list, &to.join("lib/dpkg"))?;
    }
    Ok(())
}

/// The topmost folders: what lies below of the same name is not seen where the mask is opaque.
fn mask(read_only: &[ReadOnly], to: &Path) -> io::Result<()> {
    folders(to, &["usr", "var", "opt"])?;
    for path in HIDDEN {
        let hidden = to.join(&path[1..]);
        folders(&hidden, &[""])?;
        setxattr(&hidden, "trusted.overlay.opaque", b"y", XattrFlags::empty())?;
    }
    let policy = to.join("usr/sbin/policy-rc.d");
    folders(&to.join("usr/sbin"), &[""])?;
    write(&policy, NO_SERVICES)?;
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o755))?;
    for ReadOnly { from, to: inside } in read_only {
        let below = ["/var/", "/opt/"]
            .iter()
            .any(|tree| inside.starts_with(tree));
        let place = to.join(&inside[1..]);
        if !below {
            continue;
        }
        if from.is_dir() {
            folders(&place, &[""])?;
        } else if let Some(parent) = place.parent() {
            folders(parent, &[""])?;
            write(&place, "")?;
        }
    }
    Ok(())
}

/// Makes folders that everybody may enter, with those above them up to `to`.
fn folders(to: &Path, names: &[&str]) -> io::Result<()> {
    for name in names {
        let path = to.join(name);
        fs::create_dir_all(&path)?;
        for folder in path.ancestors().take_while(|folder| folder.starts_with(to)) {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}

/// Copies files that everybody may read, links as they are, and folders, with their modes.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(from)?;
    let public = meta.mode() & 0o004 != 0;
    if meta.is_symlink() {
        symlink(fs::read_link(from)?, to)
    } else if meta.is_dir() && public {
        folders(to, &[""])?;
        for entry in fs::read_dir(from)?.flatten() {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        Ok(())
    } else if meta.is_file() && public {
        fs::write(to, fs::read(from)?)?;
        fs::set_permissions(to, fs::Permissions::from_mode(meta.mode() & 0o755))
    } else {
        Ok(())
    }
}

fn write(path: &Path, content: &str) -> io::Result<()> {
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn en_7_builds_know_the_accounts_of_the_system_and_nobodys_else() {
        #[track_caller]
        fn check(line: &str, expected: Option<&str>) {
            assert_eq!(system_account(line).as_deref(), expected);
        }
        check(
            "sshd:!:105:65534::/run/sshd:/usr/sbin/nologin",
            Some("sshd:x:105:65534::/run/sshd:/usr/sbin/nologin"),
        );
        check("ssl-cert:x:110:ada,eve", Some("ssl-cert:x:110:"));
        check("ada:x:1000:1000:Ada:/home/ada:/bin/bash", None);
        check("", None);
        check("odd", None);
    }
}
