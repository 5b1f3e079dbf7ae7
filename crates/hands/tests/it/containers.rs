//! What the `container` provider promises beyond the contract, seen from the engine's side.

use std::sync::Arc;

use manyhands_hands::provider::Origin;
use manyhands_hands::provider::container::{Config, Container, Doorway};
use manyhands_hands::{Error, Gate, Output, Provider, Recipe, Sandbox};
use manyhands_testkit::containers::{Engine, IMAGE};

use crate::door::{Porter, ask, limited, says};
use crate::host::{IDLE, data, pass, refusal, run, text, until_given_up};

/// A provider with a data directory of its own, on the engine that all tests share.
pub(crate) struct Containers {
    pub(crate) data: tempfile::TempDir,
    pub(crate) engine: &'static Engine,
    pub(crate) provider: Container,
}

impl Containers {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let data = data();
        let engine = Engine::shared();
        let mut config = Self::config(data.path(), engine);
        change(&mut config);
        Self {
            data,
            engine,
            provider: Container::new(config),
        }
    }

    fn config(data: &std::path::Path, engine: &Engine) -> Config {
        let mut config = Config::new(data);
        config.endpoint = Some(engine.socket().display().to_string());
        config.image = Some(IMAGE.to_owned());
        config
    }

    /// Another server of the same data directory.
    fn beside(&self) -> Container {
        self.beside_with(|_| {})
    }

    pub(crate) fn beside_with(&self, change: impl FnOnce(&mut Config)) -> Container {
        let mut config = Self::config(self.data.path(), self.engine);
        change(&mut config);
        Container::new(config)
    }

    pub(crate) async fn sandbox(&self, session: &str) -> Arc<dyn Sandbox> {
        let recipe = Recipe::new(session, 1);
        self.provider.provision(&recipe).await.unwrap()
    }

    /// The data directory's own name.
    pub(crate) fn id(&self) -> String {
        std::fs::read_to_string(self.data.path().join("containers/.id")).unwrap()
    }

    /// What the engine has of this data directory: containers by this format, running or not.
    pub(crate) fn listed(&self, format: &str) -> Vec<String> {
        let id = self.id();
        let (filter, format) = (
            format!("label=manyhands.data={id}"),
            format!("--format={format}"),
        );
        let listed = self
            .engine
            .podman(&["ps", "--all", "--filter", &filter, &format]);
        listed.lines().map(str::to_owned).collect()
    }

    pub(crate) fn has_stopped(&self) -> bool {
        matches!(&self.listed("{{.State}}")[..], [state] if state.starts_with("Exited"))
    }

    pub(crate) fn name(&self, session: &str) -> String {
        let all = self.listed("{{.Names}}");
        let found = all
            .into_iter()
            .find(|name| name.ends_with(&format!("-{session}")));
        found.expect("a container")
    }

    /// Removes a session's container behind the provider's back.
    pub(crate) fn remove(&self, session: &str) {
        self.engine
            .podman(&["rm", "--force", "--volumes", &self.name(session)]);
    }

    /// Ends a session's container behind the provider's back.
    pub(crate) fn kill(&self, session: &str) {
        self.engine.podman(&["kill", &self.name(session)]);
    }
}

/// security SBX-1, SBX-6: what the engine is told holds inside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sbx_1_inside_there_is_no_privilege_no_network_and_nothing_to_write_but_the_own_folders() {
    let host = Containers::new();
    let sandbox = host.sandbox("sesn_a").await;
    let said = async |command: &str| text(&run(&sandbox, command).await).to_owned();
    assert_eq!(
        said("id -u; id -g; pwd; echo $HOME").await,
        "1000\n1000\n/workspace\n/home/agent"
    );
    assert_eq!(said("cat /proc/1/comm").await, "sandboxd");
    let status =
        said("grep -E '^(Cap|NoNewPrivs|Seccomp_filters)' /proc/self/status | tr '\\t' ' '").await;
    for line in status.lines() {
        match line.split_once(": ").unwrap() {
            ("NoNewPrivs", value) => assert_eq!(value, "1"),
            // The engine's own and the three reviewed ones.
            ("Seccomp_filters", value) => assert!(value.parse::<u32>().unwrap() >= 4, "{line}"),
            (_, value) => assert_eq!(value, "0000000000000000", "{line}"),
        }
    }
    assert_eq!(said("ls /sys/class/net").await, "lo");
    let outside = said("for f in / /etc /usr /opt /run /mnt /mnt/session/uploads /proc/sys/kernel; do touch $f/x 2>/dev/null && echo $f; done").await;
    assert_eq!(outside, "(no output)");
    let inside = said("for f in /workspace /tmp /home/agent /mnt/session/outputs /var/tmp /dev/shm; do touch $f/x && echo -n .; done").await;
    assert_eq!(inside, "......");
    assert_eq!(
        said("unshare --user true 2>&1 | grep -c 'not permitted'").await,
        "1"
    );
}

/// security SBX-5: tools see the socket of process 1 and are not heard on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sbx_5_a_tool_cannot_speak_to_process_1() {
    let host = Containers::new();
    let sandbox = host.sandbox("sesn_a").await;
    let ask = r#"python3 -c '
import json, socket, struct
s = socket.socket(socket.AF_UNIX)
s.connect("\0manyhands-sandboxd")
hello = json.dumps({"id": 1, "op": "hello", "protocol": 1}).encode()
try:
    s.sendall(struct.pack(">I", len(hello)) + hello)
    print("answer", s.recv(100))
except OSError as error:
    print("closed", error.errno)
'"#;
    let said = run(&sandbox, ask).await;
    let said = text(&said);
    assert!(said == "answer b''" || said.starts_with("closed"), "{said}");
    let other = run(
        &sandbox,
        "/usr/libexec/manyhands/sandboxd connect </dev/null; echo $?",
    )
    .await;
    assert!(!text(&other).contains("hello"), "{other:?}");
}

/// security SBX-8, SBX-7: the next server finds the sandbox of one that is gone, and no second one is started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sbx_8_the_next_server_finds_a_sandbox_and_removes_what_no_session_has() {
    let host = Containers::new();
    let sandbox = host.sandbox("sesn_a").await;
    run(&sandbox, "echo kept > /workspace/file; sleep 1000 &").await;
    let mounts = "{{range .Mounts}}{{if eq .Type \"volume\"}}{{println .Name}}{{end}}{{end}}";
    let volumes = host
        .engine
        .podman(&["inspect", "--format", mounts, &host.name("sesn_a")]);
    // What it writes is on a disk of its own, where this server can make one.
    // Uploads and skills are not written by it.
    let expected = if rustix::process::geteuid().is_root() {
        2
    } else {
        6
    };
    assert_eq!(volumes.lines().count(), expected, "{volumes}");
    let next = host.beside();
    let found = next.find("sesn_a", 2).await.unwrap().expect("it runs");
    assert_eq!(found.instance(), sandbox.instance());
    let call = manyhands_hands::Call {
        epoch: 2,
        ..crate::host::call("next", "cat /workspace/file; jobs -r | wc -l")
    };
    assert_eq!(found.execute(&call).await.unwrap(), Output::text("kept\n1"));
    host.provider.destroy("sesn_b").await.unwrap();
    assert_eq!(next.sessions().await.unwrap(), ["sesn_a"]);
    // Also a container whose folder is gone is known, and goes.
    std::fs::remove_dir_all(host.data.path().join("containers/sesn_a")).unwrap();
    assert_eq!(next.sessions().await.unwrap(), ["sesn_a"]);
    next.sweep(&["sesn_a".to_owned()]).await.unwrap();
    assert_eq!(host.listed("{{.Names}}"), Vec::<String>::new());
    assert_eq!(
        host.provider.sessions().await.unwrap(),
        Vec::<String>::new()
    );
    for volume in volumes.lines() {
        let left = host.engine.podman(&[
            "volume",
            "ls",
            "--quiet",
            "--filter",
            &format!("name={volume}"),
        ]);
        assert_eq!(left, "", "the volumes go with their container");
    }
}

/// runtime EN-19, architecture §2: what tools write outlives the processes, what they start does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn en_19_files_stay_when_a_sandbox_rests_and_the_next_start_is_another_instance() {
    let host = Containers::new();
    let sandbox = host.sandbox("sesn_a").await;
    assert_eq!(sandbox.origin(), Some(Origin::New { expired: false }));
    run(
        &sandbox,
        "for f in /workspace /tmp /home/agent /mnt/session/outputs; do echo $f > $f/mark; done",
    )
    .await;
    host.provider.release("sesn_a").await.unwrap();
    assert!(host.has_stopped());
    let again = host.sandbox("sesn_a").await;
    assert_ne!(again.instance(), sandbox.instance());
    assert_eq!(again.origin(), Some(Origin::Kept { epoch: 1 }));
    let marks = run(
        &again,
        "cat /workspace/mark /tmp/mark /home/agent/mark /mnt/session/outputs/mark",
    )
    .await;
    assert_eq!(
        text(&marks),
        "/workspace\n/tmp\n/home/agent\n/mnt/session/outputs"
    );
}

/// architecture §3: without a running call for its idle time, a container is stopped.
#[tokio::test]
async fn sbx_8_an_idle_sandbox_is_stopped() {
    let host = Containers::with(|config| config.idle = IDLE);
    let sandbox = host.sandbox("sesn_a").await;
    let busy = run(&sandbox, "sleep 0.5; echo done");
    let (done, ()) = tokio::join!(busy, pass(IDLE));
    assert_eq!(done, Output::text("done"), "nor while it works");
    pass(IDLE).await;
    until_given_up(&sandbox).await;
    assert!(host.has_stopped());
    let gone = host.provider.find("sesn_a", 1).await.unwrap();
    assert!(gone.is_none());
}

/// security SBX-3: memory and processes are bounded for the sandbox as a whole, and its supervisor outlives both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sbx_3_limits_end_what_goes_beyond_them_and_not_the_sandbox() {
    let host = Containers::new();
    let mut recipe = Recipe::new("sesn_a", 1);
    recipe.limits.memory_bytes = 256 << 20;
    recipe.limits.processes = 64;
    recipe.limits.disk_bytes = 32 << 20;
    let sandbox = host.provider.provision(&recipe).await.unwrap();
    let eaten = run(
        &sandbox,
        "python3 -c 'x = bytearray(600 << 20); print(len(x))'",
    )
    .await;
    assert!(eaten.is_error, "{eaten:?}");
    let fork = r#"python3 -c '
import os, time
count = 0
try:
    while count < 500:
        if os.fork() == 0:
            time.sleep(2)
            os._exit(0)
        count += 1
except OSError:
    print(count)
'"#;
    let forked = run(&sandbox, fork).await;
    let count: u32 = text(&forked).parse().expect("it is stopped");
    assert!((1..64).contains(&count), "{forked:?}");
    let filled = run(&sandbox, "head -c 64M /dev/zero > big; stat -c %s big").await;
    // By the disk, where it has one, or by the limit of each file.
    let size = text(&filled)
        .lines()
        .last()
        .and_then(|line| line.parse::<u32>().ok());
    let most = size.expect("a size");
    assert!((16 << 20..=32 << 20).contains(&most), "{filled:?}");
    assert_eq!(
        text(&run(&sandbox, "ulimit -c; echo alive").await),
        "0\nalive"
    );
}

/// security SBX-2: what is missing is said, and nothing runs without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sbx_2_without_engine_or_image_nothing_is_started() {
    let check = async |change: fn(&mut Config), what: &str| {
        let host = Containers::with(change);
        let probe = host.provider.probe().await;
        assert!(
            !probe.usable() && probe.missing[0].what.contains(what),
            "{probe:?}"
        );
        let error = refusal(&host.provider, "sesn_a").await;
        assert!(
            matches!(&error, Error::Unavailable { what: said, .. } if said.contains(what)),
            "{error:?}"
        );
        assert!(
            !host.data.path().join("containers/sesn_a").exists(),
            "nothing was made"
        );
    };
    check(
        |config| config.endpoint = Some("/nowhere/socket".to_owned()),
        "cannot be reached",
    )
    .await;
    check(
        |config| config.image = Some("localhost/none".to_owned()),
        "the image localhost/none is missing",
    )
    .await;
    check(|config| config.image = None, "no image is named").await;
    let host = Containers::new();
    let probe = host.provider.probe().await;
    assert_eq!(probe.missing, []);
    assert!(
        probe.helpers[0].version.starts_with("Podman Engine "),
        "{probe:?}"
    );
}

/// security SBX-1 and §5, by the suite that the `namespace` provider has to stand too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sbx_1_no_script_of_the_escape_suite_reaches_the_host_from_a_container() {
    let host = Containers::new();
    let reached = crate::escape::attempts(&host.provider, host.data.path(), true).await;
    assert_eq!(reached, Vec::<String>::new());
}

/// security NET-1, NET-8, invariant I9: clients in a container find the gate without configuration, the next server opens the
/// same door, and where the way out is to be a folder that the engine does not see there is none at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn net_1_a_container_has_the_gates_way_out_or_none() {
    let (first, second) = (Porter::new("first"), Porter::new("second"));
    let gate: Arc<dyn Gate> = first.clone();
    let host = Containers::with(|config| config.gate = Some(gate));
    let recipe = limited("sesn_a", 1, "a.example.com");
    let sandbox = host.provider.provision(&recipe).await.unwrap();
    assert_eq!(ask(&sandbox, 1).await, says("first", "sesn_a"));
    let gate: Arc<dyn Gate> = second.clone();
    let later = host.beside_with(|config| config.gate = Some(gate));
    let found = later.find("sesn_a", 2).await.unwrap().expect("it lives");
    assert_eq!(ask(&found, 2).await, says("second", "sesn_a"));
    assert_eq!(second.opened(), [("sesn_a".to_owned(), recipe.network)]);
    later.release("sesn_a").await.unwrap();
    assert_eq!(second.open_doors(), 0);

    let closed = Porter::new("closed");
    let gate: Arc<dyn Gate> = closed.clone();
    let apart = Containers::with(|config| {
        config.gate = Some(gate);
        config.shared_folders = false;
        config.door = Doorway::Folder;
    });
    let sandbox = apart.sandbox("sesn_b").await;
    let tried = "env | grep -i proxy; ls /run/manyhands 2>/dev/null; curl -sS --max-time 5 http://1.1.1.1/ 2>&1 | grep -o 'curl: .[0-9]*'";
    assert_eq!(text(&run(&sandbox, tried).await), "curl: (7");
    assert!(closed.opened().is_empty());
}
