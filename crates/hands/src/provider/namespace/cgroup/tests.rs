use super::*;

const UNIFIED: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";

#[test]
fn our_own_groups() {
    #[track_caller]
    fn check(own: &str, mounts: &str, expected: Cgroups) {
        assert_eq!(parse(own, mounts), expected);
    }
    check(
        "0::/user.slice/a.service\n",
        UNIFIED,
        Cgroups::Unified("/sys/fs/cgroup/user.slice/a.service".into()),
    );
    let mounts = "40 1 0:3 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        41 1 0:4 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        42 1 0:5 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n\
        43 1 0:6 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
    let expected = vec![
        (Controller::Cpu, "/sys/fs/cgroup/cpu,cpuacct/".into()),
        (Controller::Memory, "/sys/fs/cgroup/memory/a/b".into()),
    ];
    check(
        "4:memory:/a/b\n3:freezer:/\n2:cpu,cpuacct:/\n0::/\n",
        mounts,
        Cgroups::Legacy(expected),
    );
    let inside = "41 1 0:4 /docker/x /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory";
    let expected = vec![(Controller::Memory, "/sys/fs/cgroup/memory/y".into())];
    check("4:memory:/docker/x/y\n", inside, Cgroups::Legacy(expected));
    check("4:memory:/elsewhere\n", inside, Cgroups::None);
    check("", "", Cgroups::None);
}

#[test]
fn sbx_3_version_2_on_a_tree_of_files() {
    let tree = tempfile::tempdir().unwrap();
    let own = tree.path();
    let read = |path: &str| fs::read_to_string(own.join(path)).unwrap();
    fs::write(own.join("cgroup.controllers"), "cpu memory pids\n").unwrap();
    let groups = Cgroups::Unified(own.to_owned()).usable();
    assert_eq!(groups, Cgroups::Unified(own.to_owned()));
    assert_eq!(read("cgroup.subtree_control"), "+memory +pids +cpu");

    // The kernel makes the files with the group; here the test does.
    let group = own.join("manyhands-x");
    fs::create_dir(&group).unwrap();
    for file in ["cgroup.procs", "cpu.weight", "cpu.max"] {
        fs::write(group.join(file), "").unwrap();
    }
    let limits = Limits {
        memory_bytes: 1 << 20,
        processes: 7,
        ..Limits::default()
    };
    assert_eq!(groups.make("manyhands-x", &limits).unwrap().len(), 1);
    assert_eq!(read("manyhands-x/memory.max"), "1048576");
    assert_eq!(read("manyhands-x/pids.max"), "7");
    assert_eq!(read("manyhands-x/cpu.weight"), "25");
    assert_eq!(read("manyhands-x/cpu.max"), "200000 100000");
    assert!(!group.join("memory.swap.max").exists());
    assert_eq!(groups.named("manyhands-"), ["manyhands-x"]);
    assert!(groups.bounds_memory() && !Cgroups::None.bounds_memory());

    fs::write(own.join("cgroup.controllers"), "cpu pids\n").unwrap();
    assert_eq!(
        Cgroups::Unified(own.to_owned()).usable(),
        Cgroups::None,
        "no memory controller"
    );
}
