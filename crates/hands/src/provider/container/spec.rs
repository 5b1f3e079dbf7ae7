//! What a container is made from, as the engine is told. Pure: the whole of a sandbox's isolation can be read here
//! (security SBX-1, SBX-3).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, Mount, MountType,
    ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

use manyhands_protocol::file::UPLOADS;
use manyhands_protocol::skill::SKILLS;
use manyhands_sandboxd::bridge::LOBBY;

use super::Config;
use super::doorway::Passage;
use super::image::Image;
use super::shown;
use crate::memory::MOUNT;
use crate::packages::plan::{CAPABILITIES, Kind};
use crate::provider::namespace::launch::{ENVIRONMENT, FOLDERS};
use crate::provider::{Limits, door};

/// Where `sandboxd` is inside. Not below `/run`, which engines may cover.
pub(super) const SANDBOXD: &str = "/usr/libexec/manyhands/sandboxd";

/// Where the system-call filters are inside, in their order.
pub(super) const FILTERS: [&str; 3] = [
    "/usr/libexec/manyhands/filter-0",
    "/usr/libexec/manyhands/filter-1",
    "/usr/libexec/manyhands/filter-2",
];

/// Where whom to trust is inside, where it is in the image. Not below `/run` either.
pub(super) const TRUST: &str = "/usr/libexec/manyhands/trust";

/// The user of everything that tools run.
pub(super) const USER: u32 = 1000;

/// The user by whom this server comes in. No tool can become it.
pub(super) const KEEPER: u32 = 61_000;

/// The label that says whose container it is: the data directory's own id.
pub(super) const DATA: &str = "manyhands.data";

/// The label that says for which session.
pub(super) const SESSION: &str = "manyhands.session";

/// The label that says from which image.
pub(super) const IMAGE: &str = "manyhands.image";

/// The label that says by which way clients inside get out.
pub(super) const DOOR: &str = "manyhands.door";

/// The label that says for the making of which image.
pub(super) const SITE: &str = "manyhands.site";

/// For how long a container for building may run, in seconds: longer than a build, whose maker ends it.
const BUILDING: &str = "2000";

/// Where tools leave what they hand over.
pub(super) const OUTPUTS: &str = "/mnt/session/outputs";

/// Of 1024, a container's share of the processor against the rest of the host's.
const CPU_SHARES: i64 = 256;

/// How clients inside get out.
pub(super) enum Way {
    Folder(Shared),
    /// By carriers; whom to trust is in the image.
    Streams,
}

impl Way {
    /// What tells clients inside of it.
    pub(super) fn environment(&self) -> impl Iterator<Item = (String, String)> {
        let inside = match self {
            Self::Folder(_) => door::TRUST,
            Self::Streams => TRUST,
        };
        let told = door::ENVIRONMENT.into_iter();
        told.map(move |(name, value)| (name.to_owned(), value.replace(door::TRUST, inside)))
    }

    /// What a container's label says of it.
    fn passage(&self) -> Passage {
        match self {
            Self::Folder(_) => Passage::Folder,
            Self::Streams => Passage::Streams,
        }
    }

    fn mounts(&self) -> Vec<Mount> {
        match self {
            Self::Folder(Shared { door, trust }) => vec![
                bound(door, door::INSIDE, true),
                bound(trust, door::TRUST, true),
            ],
            Self::Streams => Vec::new(),
        }
    }
}

/// Folders of this host that a container sees read-only: the socket of its way out, and whom to trust there.
pub(super) struct Shared {
    pub(super) door: PathBuf,
    pub(super) trust: PathBuf,
}

/// The most that this process could raise a limit of its own to. An engine on the same host can raise as much, and one that
/// cannot raise limits at all refuses more.
#[derive(Clone, Copy)]
pub(super) struct Ceiling {
    pub(super) open_files: u64,
    pub(super) processes: u64,
}

/// Everything that one container is made from.
pub(super) struct Wanted<'a> {
    pub(super) session: &'a str,
    pub(super) data: &'a str,
    pub(super) config: &'a Config,
    pub(super) image: &'a Image,
    pub(super) filtered: bool,
    pub(super) limits: &'a Limits,
    pub(super) ceiling: Ceiling,
    pub(super) way: Option<Way>,
    /// Whether it has folders of memory stores.
    pub(super) memory: bool,
    /// Where the engine finds the folders that the sandbox writes; without it they are volumes of its own.
    pub(super) tree: Option<PathBuf>,
}

/// The container.
pub(super) fn container(wanted: &Wanted<'_>) -> ContainerCreateBody {
    let mut said = vec![
        (SESSION, wanted.session),
        (IMAGE, wanted.image.name.as_str()),
    ];
    said.extend(wanted.way.iter().map(|way| (DOOR, way.passage().name())));
    ContainerCreateBody {
        hostname: Some("sandbox".to_owned()),
        user: Some(format!("{USER}:{USER}")),
        env: Some(environment(wanted)),
        entrypoint: Some(vec![SANDBOXD.to_owned()]),
        cmd: Some(arguments(wanted)),
        image: Some(wanted.image.name.clone()),
        working_dir: Some("/workspace".to_owned()),
        network_disabled: Some(true),
        // Whatever the image says: nothing but tools runs inside.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }),
        labels: Some(labels(wanted.data, &said)),
        host_config: Some(host(wanted)),
        ..ContainerCreateBody::default()
    }
}

/// What a container of this data directory carries, so that it is found again and nothing else is taken for it.
pub(super) fn labels(data: &str, others: &[(&str, &str)]) -> HashMap<String, String> {
    let all = [(DATA, data)].into_iter().chain(others.iter().copied());
    all.map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// A container in which packages are installed, by root and into the image that is made of it. It waits for programs that this
/// server starts inside.
pub(super) fn building(
    config: &Config,
    image: &Image,
    limits: &Limits,
    way: Option<&Way>,
) -> ContainerCreateBody {
    let folder = |options: &str| format!("rw,nosuid,nodev,{options}mode=1777");
    let host = HostConfig {
        readonly_rootfs: Some(false),
        cap_add: Some(CAPABILITIES.map(str::to_owned).into()),
        mounts: Some(way.map(Way::mounts).unwrap_or_default()),
        // What is in these is not kept.
        tmpfs: Some(HashMap::from([
            ("/tmp".to_owned(), folder("exec,")),
            (LOBBY.to_owned(), folder("size=64m,")),
        ])),
        ..confined(config, limits, Ceiling::own())
    };
    let mut words = vec!["hold".to_owned(), BUILDING.to_owned()];
    if let Some(Way::Streams) = way {
        words.push(KEEPER.to_string());
    }
    ContainerCreateBody {
        hostname: Some("sandbox".to_owned()),
        user: Some("0:0".to_owned()),
        entrypoint: Some(vec![SANDBOXD.to_owned()]),
        cmd: Some(words),
        image: Some(image.name.clone()),
        working_dir: Some("/".to_owned()),
        network_disabled: Some(true),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    }
}

/// A container that is as sandboxes are, and tries whether the socket in this folder of the host can be reached.
pub(super) fn knocking(config: &Config, image: &Image, folder: &Path) -> ContainerCreateBody {
    let host = HostConfig {
        mounts: Some(vec![bound(folder, door::INSIDE, true)]),
        ..confined(config, &Limits::default(), Ceiling::own())
    };
    ContainerCreateBody {
        user: Some(format!("{USER}:{USER}")),
        entrypoint: Some(vec![SANDBOXD.to_owned()]),
        cmd: Some(["knock", door::SOCKET].map(str::to_owned).into()),
        image: Some(image.name.clone()),
        network_disabled: Some(true),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    }
}

fn host(wanted: &Wanted<'_>) -> HostConfig {
    HostConfig {
        mounts: Some(mounts(wanted)),
        tmpfs: Some(HashMap::from([(
            LOBBY.to_owned(),
            "rw,nosuid,nodev,size=64m,mode=1777".to_owned(),
        )])),
        ..confined(wanted.config, wanted.limits, wanted.ceiling)
    }
}

/// What holds for every container: no network, no privilege, and limits.
fn confined(config: &Config, limits: &Limits, ceiling: Ceiling) -> HostConfig {
    let Limits {
        memory_bytes,
        disk_bytes,
        processes,
        open_files,
    } = *limits;
    let memory = number(memory_bytes);
    let open_files = open_files.min(ceiling.open_files);
    HostConfig {
        network_mode: Some("none".to_owned()),
        ipc_mode: Some("private".to_owned()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        userns_mode: config.userns.clone(),
        runtime: config.runtime.clone(),
        privileged: Some(false),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        readonly_rootfs: Some(true),
        shm_size: Some(memory / 4),
        memory: Some(memory),
        // The same: no swap on top.
        memory_swap: Some(memory),
        pids_limit: Some(number(processes)),
        cpu_shares: Some(CPU_SHARES),
        nano_cpus: config.cpus.map(|cpus| (cpus * 1e9) as i64),
        ulimits: Some(vec![
            ulimit("nofile", open_files),
            // Counted for the user on the whole host, and so no limit of one sandbox: the group of processes has that.
            ulimit("nproc", ceiling.processes),
            ulimit("fsize", disk_bytes),
            ulimit("core", 0),
        ]),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            ..RestartPolicy::default()
        }),
        ..HostConfig::default()
    }
}

fn mounts(wanted: &Wanted<'_>) -> Vec<Mount> {
    // Without names, so that they go with their container.
    let volume = |inside: &str| Mount {
        target: Some(inside.to_owned()),
        typ: Some(MountType::VOLUME),
        ..Mount::default()
    };
    let written = FOLDERS
        .into_iter()
        .map(|(name, inside)| match &wanted.tree {
            Some(tree) => bound(&tree.join(name), inside, false),
            None => volume(inside),
        });
    // Of this one no tool is the owner.
    let mut mounts: Vec<Mount> = written.chain([volume(UPLOADS), volume(SKILLS)]).collect();
    if wanted.memory {
        mounts.push(match &wanted.tree {
            Some(tree) => bound(&tree.join(shown::MEMORY), MOUNT, false),
            None => volume(MOUNT),
        });
    }
    mounts.extend(wanted.way.iter().flat_map(Way::mounts));
    mounts
}

fn bound(from: &Path, inside: &str, read_only: bool) -> Mount {
    Mount {
        source: Some(from.display().to_string()),
        target: Some(inside.to_owned()),
        typ: Some(MountType::BIND),
        read_only: Some(read_only),
        ..Mount::default()
    }
}

fn environment(wanted: &Wanted<'_>) -> Vec<String> {
    let mut all: Vec<String> = ENVIRONMENT
        .iter()
        .filter(|(name, _)| *name != "PATH")
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    all.push(format!("PATH=/home/agent/.local/bin:{}", wanted.image.path));
    if wanted.image.packaged {
        let paths = Kind::System.paths().iter();
        all.extend(paths.map(|(name, value)| format!("{name}={value}")));
    }
    if let Some(way) = &wanted.way {
        all.extend(
            way.environment()
                .map(|(name, value)| format!("{name}={value}")),
        );
    }
    all
}

fn arguments(wanted: &Wanted<'_>) -> Vec<String> {
    let open_files = wanted.limits.open_files.min(wanted.ceiling.open_files);
    let mut arguments = vec![
        ("--keeper", KEEPER.to_string()),
        ("--root", "/workspace".to_owned()),
        ("--spill", "/tmp/tool-output".to_owned()),
        ("--open-files", open_files.to_string()),
        ("--file-bytes", wanted.limits.disk_bytes.to_string()),
    ];
    if wanted.filtered {
        arguments.extend(FILTERS.map(|path| ("--filter", path.to_owned())));
    }
    arguments.extend(wanted.way.iter().map(|way| match way {
        Way::Folder(_) => ("--door", door::SOCKET.to_owned()),
        Way::Streams => ("--carriers", KEEPER.to_string()),
    }));
    arguments
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
}

fn ulimit(name: &str, limit: u64) -> ResourcesUlimits {
    ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(number(limit)),
        hard: Some(number(limit)),
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
