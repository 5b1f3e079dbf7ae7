use super::*;

fn made(config: &Config, way: Option<Way>) -> ContainerCreateBody {
    with_tree(config, way, None)
}

fn with_tree(config: &Config, way: Option<Way>, tree: Option<PathBuf>) -> ContainerCreateBody {
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
        way,
        memory: tree.is_some(),
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
    // Uploads and skills beside what is written.
    assert_eq!(mounts.len(), FOLDERS.len() + 2);
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
    let way = Way::Folder(shared);
    let body = building(&Config::new("/data"), &image, &limits, Some(&way));
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
    assert_eq!(on_disk.len(), FOLDERS.len() + 1);
    assert!(on_disk.contains(&(Some("/data/shown/memory"), Some(MOUNT))));
    assert!(on_disk.contains(&home), "{on_disk:?}");
    let rest = mounts.iter().filter(|mount| mount.source.is_none());
    let rest: Vec<_> = rest.map(|mount| mount.target.as_deref()).collect();
    assert_eq!(rest, [Some(UPLOADS), Some(SKILLS)]);
}

/// security NET-1, invariant I9: the way out is there as a whole or not at all, and a container says which one it has.
#[test]
fn net_1_a_container_has_one_way_out_or_none() {
    let config = Config::new("/data");
    let check = |way: Option<Way>, door: &str, trust: &str, folders: usize| {
        let body = made(&config, way);
        let told = |word: &str| body.cmd.as_ref().unwrap().iter().any(|it| it == word);
        let env = body.env.as_ref().unwrap();
        assert_eq!(told("--door"), door == "folder");
        assert_eq!(told("--carriers"), door == "streams");
        let says = body.labels.as_ref().unwrap().get(DOOR);
        assert_eq!(says.map_or("", String::as_str), door);
        let proxied = env.iter().any(|it| it.starts_with("HTTPS_PROXY="));
        assert_eq!(proxied, !door.is_empty());
        let trusted = env.iter().find_map(|it| it.strip_prefix("SSL_CERT_FILE="));
        assert_eq!(trusted.unwrap_or_default(), trust);
        let mounts = body.host_config.unwrap().mounts.unwrap();
        let bound = mounts
            .iter()
            .filter(|mount| mount.typ == Some(MountType::BIND));
        assert!(bound.clone().all(|mount| mount.read_only == Some(true)));
        assert_eq!(bound.count(), folders);
    };
    check(None, "", "", 0);
    let shared = Shared {
        door: "/data/door".into(),
        trust: "/data/trust".into(),
    };
    let trust = "/run/manyhands/trust/roots.pem";
    check(Some(Way::Folder(shared)), "folder", trust, 2);
    let trust = "/usr/libexec/manyhands/trust/roots.pem";
    check(Some(Way::Streams), "streams", trust, 0);
}

/// security NET-1: where packages are installed, the way over streams is process 1's; what tries the engine has no more than
/// a sandbox.
#[test]
fn net_1_builds_and_trials_see_what_their_way_needs_and_no_more() {
    let image = Image {
        name: "image".to_owned(),
        path: "/bin".to_owned(),
        packaged: false,
    };
    let config = Config::new("/data");
    let building = building(&config, &image, &Limits::default(), Some(&Way::Streams));
    let keeper = KEEPER.to_string();
    assert_eq!(building.cmd.unwrap(), ["hold", BUILDING, keeper.as_str()]);
    assert_eq!(building.host_config.unwrap().mounts, Some(Vec::new()));

    let knocking = knocking(&config, &image, Path::new("/data/door"));
    assert_eq!(knocking.user.unwrap(), "1000:1000");
    let host = knocking.host_config.unwrap();
    assert_eq!(host.network_mode.as_deref(), Some("none"));
    assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
    let mounts = host.mounts.unwrap();
    assert_eq!(mounts.len(), 1);
    assert_eq!(mounts[0].target.as_deref(), Some(door::INSIDE));
    assert_eq!(mounts[0].read_only, Some(true));
}
