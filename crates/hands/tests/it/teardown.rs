//! Nothing stays of a session that has ended: process, mount, name space, control group, loop device, folder, user
//! (security SBX-8), and no two sandboxes are alike (SBX-7).

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use manyhands_hands::{Provider, Recipe};

use crate::host::{Host, run, text};
use crate::survival::server;

/// How long anything of a session may stay.
const LIMIT: Duration = Duration::from_secs(10);

/// What the host has of a session's sandbox.
pub(crate) struct Traces {
    /// Each by a name that nothing else has while it is there.
    pub(crate) names: BTreeSet<String>,
    /// When the youngest process of the machine was started. The number of a name space that is gone goes to the next new
    /// one: that a younger process has it says nothing.
    youngest: u64,
}

/// The folders of the processes that there are, and when each was started, in ticks since the machine was.
fn processes() -> impl Iterator<Item = (PathBuf, u64)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    // What has ended meanwhile, and what is no process, has no start.
    entries.filter_map(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // Its name, which comes second, may be anything.
        let (_, rest) = stat.rsplit_once(") ")?;
        let start = rest.split(' ').nth(19)?.parse().ok()?;
        Some((entry.path(), start))
    })
}

/// What the host has of a session's sandbox now.
pub(crate) fn traces(host: &Host, session: &str) -> Traces {
    let pid = host.process(session).expect("a live sandbox");
    let pid = pid.as_raw_nonzero();
    let mut names: BTreeSet<String> = ["pid", "mnt", "net", "ipc", "uts", "user", "cgroup"]
        .iter()
        .map(|space| {
            let link = fs::read_link(format!("/proc/{pid}/ns/{space}")).unwrap();
            link.display().to_string()
        })
        .collect();
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let groups = groups.lines().filter_map(|line| line.rsplit('/').next());
    names.extend(
        groups
            .filter(|name| name.starts_with("manyhands-"))
            .map(str::to_owned),
    );
    names.extend(devices(host));
    Traces {
        names,
        youngest: processes().map(|(_, start)| start).max().unwrap_or(0),
    }
}

/// The loop devices that show a file of this data directory.
fn devices(host: &Host) -> Vec<String> {
    let data = host.data.path().display().to_string();
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    devices
        .filter_map(|device| {
            let shown = fs::read_to_string(device.path().join("loop/backing_file")).ok()?;
            shown
                .starts_with(&data)
                .then(|| device.file_name().to_string_lossy().into_owned())
        })
        .collect()
}

/// Which of the traces there still are.
pub(crate) fn left(host: &Host, traces: &Traces) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = devices(host).into_iter().collect();
    for (process, _) in processes().filter(|(_, start)| *start <= traces.youngest) {
        let spaces = fs::read_dir(process.join("ns"))
            .into_iter()
            .flatten()
            .flatten();
        found.extend(
            spaces
                .filter_map(|space| Some(fs::read_link(space.path()).ok()?.display().to_string())),
        );
    }
    for controller in fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
    {
        let groups = fs::read_dir(controller.path())
            .into_iter()
            .flatten()
            .flatten();
        found.extend(groups.map(|group| group.file_name().to_string_lossy().into_owned()));
    }
    traces.names.intersection(&found).cloned().collect()
}

/// Waits until nothing is left; each look takes a while by itself.
pub(crate) async fn until_nothing_is_left(host: &Host, traces: &Traces) {
    let started = Instant::now();
    loop {
        let left = left(host, traces);
        if left.is_empty() {
            break;
        }
        assert!(started.elapsed() < LIMIT, "left after {LIMIT:?}: {left:?}");
        tokio::task::yield_now().await;
    }
    let sandboxes = host.data.path().join("sandboxes");
    for entry in fs::read_dir(sandboxes).unwrap().flatten() {
        let inside = fs::read_dir(entry.path()).unwrap().flatten();
        let inside: Vec<_> = inside.map(|entry| entry.path()).collect();
        assert!(inside.is_empty(), "{inside:?}");
    }
}

/// What would like to stay.
const CLINGING: &str = "setsid -f sleep 100000; (trap '' TERM HUP INT; sleep 100000) </dev/null >/dev/null 2>&1 & \
    head -c 3000000 /dev/urandom > big; exec 9<big; setsid -f python3 -c 'import mmap, time\nf = open(\"big\", \"r+b\")\n\
    m = mmap.mmap(f.fileno(), 0)\nm[0] = 1\ntime.sleep(100000)' </dev/null >/dev/null 2>&1; echo ready";

#[tokio::test]
async fn sbx_8_nothing_is_left_ten_seconds_after_a_session() {
    let host = Host::new();
    let sandbox = host.sandbox("sesn_a").await;
    assert_eq!(text(&run(&sandbox, CLINGING).await), "ready");
    let traces = traces(&host, "sesn_a");
    assert_eq!(left(&host, &traces), traces.names, "all of it can be seen");
    host.provider.destroy("sesn_a").await.unwrap();
    until_nothing_is_left(&host, &traces).await;
}

#[tokio::test]
async fn sbx_8_what_a_killed_server_leaves_of_a_gone_session_is_cleared_by_the_next() {
    let host = Host::new();
    let command =
        "setsid -f sleep 100000; head -c 3000000 /dev/zero > big; echo started; sleep 100000";
    let (mut child, _) = server(&host, "sesn_a", "call", command);
    child.kill().unwrap();
    child.wait().unwrap();
    let traces = traces(&host, "sesn_a");
    assert_eq!(left(&host, &traces), traces.names, "it outlives its server");
    let gone = host.provider.sessions().await.unwrap();
    assert_eq!(gone, ["sesn_a"]);
    host.provider.sweep(&gone).await.unwrap();
    until_nothing_is_left(&host, &traces).await;
}

/// A handle on the files that somebody still has keeps none of it for longer than itself.
#[tokio::test]
async fn sbx_8_a_handle_on_the_files_of_a_removed_session_ends_with_its_holder() {
    let host = Host::new();
    let sandbox = host.sandbox("sesn_a").await;
    run(&sandbox, "echo kept > file").await;
    let traces = traces(&host, "sesn_a");
    let tree = host.provider.writable("sesn_a").await.unwrap().unwrap();
    host.provider.destroy("sesn_a").await.unwrap();
    let (file, _) = tree.open_file("workspace/file".as_ref()).unwrap();
    assert_eq!(std::io::read_to_string(file).unwrap(), "kept\n");
    drop(tree);
    until_nothing_is_left(&host, &traces).await;
    assert!(host.provider.writable("sesn_a").await.unwrap().is_none());
}

/// A sandbox that rests has files and nothing else, and the files are there for the next one.
#[tokio::test]
async fn sbx_8_a_resting_sandbox_holds_no_device() {
    let host = Host::new();
    let sandbox = host.sandbox("sesn_a").await;
    run(&sandbox, "echo kept > file").await;
    let traces = traces(&host, "sesn_a");
    host.provider.release("sesn_a").await.unwrap();
    let started = Instant::now();
    while !left(&host, &traces).is_empty() {
        assert!(started.elapsed() < LIMIT, "{:?}", left(&host, &traces));
        tokio::task::yield_now().await;
    }
    assert_eq!(host.read("sesn_a", "workspace/file").await, "kept\n");
}

#[tokio::test]
async fn sbx_7_no_two_sandboxes_have_one_identity_or_the_same_randomness() {
    let host = Host::new();
    let look = "head -c 16 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/uuid; echo $RANDOM$RANDOM$RANDOM; \
        python3 -c 'import random, uuid; print(random.getrandbits(128), uuid.uuid4())'";
    let mut seen = BTreeSet::new();
    let mut lines = 0;
    for (session, again) in [("sesn_a", true), ("sesn_b", true), ("sesn_a", false)] {
        let sandbox = host
            .provider
            .provision(&Recipe::new(session, 1))
            .await
            .unwrap();
        let said = run(&sandbox, look).await;
        for line in text(&said).lines().chain([sandbox.instance()]) {
            lines += 1;
            assert!(seen.insert(line.to_owned()), "{line} twice");
        }
        let id = "ls /etc/machine-id /var/lib/dbus/machine-id 2>/dev/null";
        assert_eq!(
            text(&run(&sandbox, id).await)
                .lines()
                .filter(|line| line.starts_with('/'))
                .count(),
            0
        );
        if again {
            host.provider.release(session).await.unwrap();
        }
    }
    assert_eq!(lines, 15);
}
