//! What a container is made from, as the engine is told. Pure: the whole of a sandbox's isolation can be read here
//! (security SBX-1, SBX-3).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, Mount, MountType,
    ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

use manyhands_protocol::file::UPLOADS;
use manyhands_sandboxd::bridge::LOBBY;

use super::Config;
use super::image::Image;
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

/// The label that says for the making of which image.
pub(super) const SITE: &str = "manyhands.site";

/// For how long a container for building may run, in seconds: longer than a build, whose maker ends it.
const BUILDING: &str = "2000";

/// Where tools leave what they hand over.
pub(super) const OUTPUTS: &str = "/mnt/session/outputs";

/// Of 1024, a container's share of the processor against the rest of the host's.
const CPU_SHARES: i64 = 256;

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
    pub(super) shared: Option<Shared>,
    /// Where the engine finds the folders that the sandbox writes; without it they are volumes of its own.
    pub(super) tree: Option<PathBuf>,
}

/// The container.
pub(super) fn container(wanted: &Wanted<'_>) -> ContainerCreateBody {
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
        labels: Some(labels(
            wanted.data,
            &[(SESSION, wanted.session), (IMAGE, &wanted.image.name)],
        )),
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
    shared: Option<&Shared>,
) -> ContainerCreateBody {
    let folder = |options: &str| format!("rw,nosuid,nodev,{options}mode=1777");
    let host = HostConfig {
        readonly_rootfs: Some(false),
        cap_add: Some(CAPABILITIES.map(str::to_owned).into()),
        mounts: Some(shared.map(ways).unwrap_or_default()),
        // What is in these is not kept.
        tmpfs: Some(HashMap::from([
            ("/tmp".to_owned(), folder("exec,")),
            (LOBBY.to_owned(), folder("size=64m,")),
        ])),
        ..confined(config, limits, Ceiling::own())
    };
    ContainerCreateBody {
        hostname: Some("sandbox".to_owned()),
        user: Some("0:0".to_owned()),
        entrypoint: Some(vec![SANDBOXD.to_owned()]),
        cmd: Some(["hold", BUILDING].map(str::to_owned).into()),
        image: Some(image.name.clone()),
        working_dir: Some("/".to_owned()),
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
    let mut mounts: Vec<Mount> = written.chain([volume(UPLOADS)]).collect();
    mounts.extend(wanted.shared.iter().flat_map(ways));
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

/// The way out, and whom to trust there.
fn ways(Shared { door, trust }: &Shared) -> Vec<Mount> {
    vec![
        bound(door, door::INSIDE, true),
        bound(trust, door::TRUST, true),
    ]
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
    if wanted.shared.is_some() {
        all.extend(door::ENVIRONMENT.map(|(name, value)| format!("{name}={value}")));
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
    if wanted.shared.is_some() {
        arguments.push(("--door", door::SOCKET.to_owned()));
    }
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
mod tests {
    use super::*;

    fn made(config: &Config, shared: Option<Shared>) -> ContainerCreateBody {
        with_tree(config, shared, None)
    }

    fn with_tree(
        config: &Config,
        shared: Option<Shared>,
        tree: Option<PathBuf>,
    ) -> ContainerCreateBody {
        container(&Wanted {
            session: "sesn_1",
            data: "d",
            config,
            image: &Image {
                name: "image".to_owned(),
                path: "/usr/bin:/bin".to_owned(),
                packaged: false,
            },
            filtered: true,
            limits: &Limits::default(),
            ceiling: Ceiling {
                open_files: 1024,
                processes: 9000,
            },
            shared,
            tree,
        })
    }

    /// security SBX-1: nothing of the host, no privilege, no network.
    #[test]
    fn sbx_1_a_container_gets_nothing_that_it_could_escape_with() {
        let body = made(&Config::new("/data"), None);
        let host = body.host_config.unwrap();
        assert_eq!(host.network_mode.as_deref(), Some("none"));
        assert_eq!(body.network_disabled, Some(true));
        assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
        assert_eq!((host.cap_add, host.privileged), (None, Some(false)));
        assert_eq!(host.security_opt.unwrap(), ["no-new-privileges"]);
        assert_eq!(host.readonly_rootfs, Some(true));
        assert_eq!(
            (host.binds, host.devices, host.pid_mode),
            (None, None, None)
        );
        assert_eq!(body.user.as_deref(), Some("1000:1000"));
        let mounts = host.mounts.unwrap();
        assert!(
            mounts
                .iter()
                .all(|mount| mount.typ == Some(MountType::VOLUME) && mount.source.is_none())
        );
        assert_eq!(mounts.len(), FOLDERS.len() + 1);
        assert!(FOLDERS.iter().any(|(_, inside)| *inside == OUTPUTS));
        let filters = body.cmd.unwrap();
        assert_eq!(filters.iter().filter(|word| *word == "--filter").count(), 3);
    }

    /// security SBX-1, NET-1: who installs packages is root of a container without a network, with what managers need.
    #[test]
    fn sbx_1_a_build_is_confined_as_a_sandbox_is_but_for_its_user() {
        let image = Image {
            name: "image".to_owned(),
            path: String::new(),
            packaged: false,
        };
        let shared = Shared {
            door: "/data/door".into(),
            trust: "/data/trust".into(),
        };
        let limits = Limits::default();
        let body = building(&Config::new("/data"), &image, &limits, Some(&shared));
        assert_eq!(body.network_disabled, Some(true));
        let build = body.host_config.unwrap();
        let session = made(&Config::new("/data"), None).host_config.unwrap();
        assert_eq!(build.network_mode, session.network_mode);
        assert_eq!(build.cap_drop.as_deref(), session.cap_drop.as_deref());
        let added = build.cap_add.unwrap();
        for never in ["CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_MKNOD"] {
            assert!(!added.iter().any(|it| it == never));
        }
        assert_eq!(build.security_opt, session.security_opt);
        assert_eq!(build.memory, session.memory);
        assert_eq!(build.privileged, Some(false));
        let mounts = build.mounts.unwrap();
        assert!(mounts.iter().all(|mount| mount.read_only == Some(true)));
        assert_eq!(mounts.len(), 2);
    }

    /// security SBX-3, runtime EN-14
    #[test]
    fn sbx_3_every_limit_is_told_to_the_engine() {
        let mut config = Config::new("/data");
        config.cpus = Some(1.5);
        config.runtime = Some("runsc".to_owned());
        let host = made(&config, None).host_config.unwrap();
        let limits = Limits::default();
        assert_eq!(host.memory, Some(number(limits.memory_bytes)));
        assert_eq!(host.memory_swap, host.memory, "no swap on top");
        assert_eq!(host.pids_limit, Some(number(limits.processes)));
        assert_eq!(host.nano_cpus, Some(1_500_000_000));
        assert_eq!(host.runtime.as_deref(), Some("runsc"));
        let ulimits = host.ulimits.unwrap();
        let hard = |name: &str| {
            let found = ulimits
                .iter()
                .find(|limit| limit.name.as_deref() == Some(name));
            found.and_then(|limit| limit.hard)
        };
        assert_eq!(hard("nofile"), Some(1024), "not above what can be raised");
        assert_eq!(hard("nproc"), Some(9000));
        assert_eq!(hard("fsize"), Some(number(limits.disk_bytes)));
        assert_eq!(hard("core"), Some(0));
    }

    /// security SBX-3: with a disk of its own, nothing that a sandbox writes is elsewhere.
    #[test]
    fn sbx_3_with_a_disk_all_that_is_written_is_on_it() {
        let body = with_tree(&Config::new("/data"), None, Some("/data/shown".into()));
        let mounts = body.host_config.unwrap().mounts.unwrap();
        let on_disk = mounts
            .iter()
            .filter(|mount| mount.typ == Some(MountType::BIND));
        let on_disk: Vec<_> = on_disk
            .map(|mount| (mount.source.as_deref(), mount.target.as_deref()))
            .collect();
        let home = (Some("/data/shown/home"), Some("/home/agent"));
        assert_eq!(on_disk.len(), FOLDERS.len());
        assert!(on_disk.contains(&home), "{on_disk:?}");
        let rest = mounts.iter().find(|mount| mount.source.is_none());
        assert_eq!(
            rest.and_then(|mount| mount.target.as_deref()),
            Some(UPLOADS)
        );
    }

    /// security NET-1, invariant I9: the way out is there as a whole or not at all.
    #[test]
    fn net_1_without_shared_folders_there_is_no_way_out() {
        let config = Config::new("/data");
        let check = |shared: Option<Shared>, expected: bool| {
            let body = made(&config, shared);
            let told = |word: &str| body.cmd.as_ref().unwrap().iter().any(|it| it == word);
            let env = body.env.as_ref().unwrap();
            assert_eq!(told("--door"), expected);
            assert_eq!(
                env.iter().any(|it| it.starts_with("HTTPS_PROXY=")),
                expected
            );
            let mounts = body.host_config.unwrap().mounts.unwrap();
            let bound = mounts
                .iter()
                .filter(|mount| mount.typ == Some(MountType::BIND));
            assert!(bound.clone().all(|mount| mount.read_only == Some(true)));
            assert_eq!(bound.count(), if expected { 2 } else { 0 });
        };
        check(None, false);
        let shared = Shared {
            door: "/data/door".into(),
            trust: "/data/trust".into(),
        };
        check(Some(shared), true);
    }
}
