//! Sandboxes that wait started for sessions, and become theirs.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use manyhands_blobs::Blobs;
use manyhands_hands::memory::Memories;
use manyhands_hands::provider::Checkpoint;
use manyhands_hands::provider::namespace::{Config, Namespace};
use manyhands_hands::{Call, Error, Limits, Output, Probe, Provider, Recipe, Sandbox};
use manyhands_protocol::Timestamp;
use manyhands_sandboxd::frame::{self, Answer, Op, PROTOCOL, Reply, Request};
use manyhands_testkit::sandboxes;
use tokio::sync::OnceCell;

use crate::door::{Porter, ask, limited, says};
use crate::files::upload;
use crate::host::{Host, PATIENCE, call, run, text, until_gone};
use crate::survival::server_with;
use crate::teardown::{left, traces, until_nothing_is_left};

/// A recipe of the environment that all of these sessions have.
fn of_environment(recipe: Recipe) -> Recipe {
    Recipe {
        environment_id: Some("env_a".to_owned()),
        ..recipe
    }
}

fn recipe(session: &str) -> Recipe {
    of_environment(Recipe::new(session, 1))
}

/// The names of the folders of sandboxes that wait.
pub(crate) fn waiting(host: &Host) -> Vec<String> {
    let entries = fs::read_dir(host.data.path().join("sandboxes"));
    let entries = entries.into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(".pool-")).collect();
    names.sort();
    names
}

/// The control groups of sandboxes that wait or have waited; of this data directory, whose name is a part of theirs.
pub(crate) fn groups(host: &Host) -> Vec<String> {
    let folders = sandboxes::groups(host.data.path(), ".pool-");
    let names = folders.iter().filter_map(|folder| folder.file_name());
    // One folder for each controller.
    let names: BTreeSet<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.into_iter().collect()
}

/// How many users of the host are given away.
pub(crate) fn users(host: &Host) -> usize {
    let users = fs::read_dir(host.data.path().join("sandboxes/.uids"));
    users.map_or(0, Iterator::count)
}

/// A host where `warm` sandboxes wait after the first session of the environment had its own.
async fn warmed(warm: usize, change: impl FnOnce(&mut Config)) -> Host {
    let host = Host::with(|config| {
        config.warm = warm;
        change(config);
    });
    host.provider.provision(&recipe("sesn_0")).await.unwrap();
    host.provider.refilled().await;
    assert_eq!(waiting(&host).len(), warm);
    host
}

/// The number of a folder in its file system, which stays when its name changes.
fn number(host: &Host, name: &str) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(host.folder(name)).unwrap().ino()
}

/// Waits for what is done beside; each look takes a while by itself.
async fn until(mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    }
}

/// A provider all of whose first sandboxes have waited before.
pub(crate) struct Waiting {
    inner: Namespace,
    warmed: OnceCell<()>,
}

impl Waiting {
    pub(crate) fn new(inner: Namespace) -> Self {
        Self {
            inner,
            warmed: OnceCell::new(),
        }
    }
}

#[async_trait]
impl Provider for Waiting {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn probe(&self) -> Probe {
        self.inner.probe().await
    }

    async fn provision(&self, recipe: &Recipe) -> Result<Arc<dyn Sandbox>, Error> {
        let warm = async || {
            let first = of_environment(Recipe::new("sesn_first", 1));
            self.inner.provision(&first).await?;
            self.inner.destroy("sesn_first").await?;
            self.inner.refilled().await;
            Ok::<_, Error>(())
        };
        self.warmed.get_or_try_init(warm).await?;
        self.inner.provision(&of_environment(recipe.clone())).await
    }

    async fn find(&self, session: &str, epoch: i64) -> Result<Option<Arc<dyn Sandbox>>, Error> {
        self.inner.find(session, epoch).await
    }

    async fn memories(&self, session: &str) -> Result<Option<Arc<dyn Memories>>, Error> {
        self.inner.memories(session).await
    }

    async fn release(&self, session: &str) -> Result<(), Error> {
        self.inner.release(session).await
    }

    async fn destroy(&self, session: &str) -> Result<(), Error> {
        self.inner.destroy(session).await
    }
}

/// security SBX-1, SBX-8: as a session's own from the start, and the next one waits already.
#[tokio::test]
async fn sbx_8_a_sandbox_that_waited_is_one_sessions_own_and_goes_with_it() {
    let host = warmed(2, |_| {}).await;
    let notes = host.provider.probe().await.notes;
    assert!(
        notes
            .iter()
            .any(|note| note.contains("wait") && note.contains(": 2.")),
        "{notes:?}"
    );
    let waited: Vec<u64> = waiting(&host)
        .iter()
        .map(|name| number(&host, name))
        .collect();
    assert_eq!(
        host.provider.sessions().await.unwrap(),
        ["sesn_0"],
        "what waits is no session"
    );
    let mut seen = BTreeSet::new();
    for session in ["sesn_a", "sesn_b"] {
        let sandbox = host.provider.provision(&recipe(session)).await.unwrap();
        assert!(
            waited.contains(&number(&host, session)),
            "{session} took one"
        );
        run(
            &sandbox,
            "echo $HOSTNAME > /workspace/mine; echo x > /tmp/x",
        )
        .await;
        let uid = host.status(session, "Uid");
        for distinct in traces(&host, session).names.into_iter().chain([uid]) {
            if !distinct.starts_with("loop") {
                assert!(seen.insert(distinct.clone()), "{distinct} twice");
            }
        }
        let others = run(
            &sandbox,
            "ls -A /workspace /tmp /home/agent /mnt/session/outputs",
        )
        .await;
        assert_eq!(
            text(&others),
            "/home/agent:\n\n/mnt/session/outputs:\n\n/tmp:\nx\n\n/workspace:\nmine"
        );
    }
    host.provider.refilled().await;
    assert_eq!(waiting(&host).len(), 2, "two wait again");
    assert_eq!(users(&host), 5);
    // A session that has had its sandbox keeps it.
    let pid = host.process("sesn_a").unwrap();
    host.provider.provision(&recipe("sesn_a")).await.unwrap();
    assert_eq!(host.process("sesn_a"), Some(pid));
    let traces = traces(&host, "sesn_a");
    for session in ["sesn_0", "sesn_a", "sesn_b"] {
        host.provider.destroy(session).await.unwrap();
    }
    assert_eq!(waiting(&host).len(), 2, "they stay");
    host.provider.close().await;
    assert_eq!(waiting(&host), [""; 0]);
    assert_eq!(groups(&host), [""; 0]);
    until_nothing_is_left(&host, &traces).await;
    // Closed for good, and sessions have their own.
    host.provider.provision(&recipe("sesn_c")).await.unwrap();
    host.provider.refilled().await;
    assert_eq!(waiting(&host), [""; 0]);
}

/// security SBX-7
#[tokio::test]
async fn sbx_7_sandboxes_that_waited_differ_in_identity_and_randomness_and_name_nobody_else() {
    let host = warmed(2, |_| {}).await;
    let look = "head -c 16 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/uuid; echo $RANDOM$RANDOM$RANDOM; \
        python3 -c 'import random, uuid; print(random.getrandbits(128), uuid.uuid4())'";
    let mut seen = BTreeSet::new();
    for session in ["sesn_a", "sesn_b"] {
        let sandbox = host.provider.provision(&recipe(session)).await.unwrap();
        let said = run(&sandbox, look).await;
        for line in text(&said).lines().chain([sandbox.instance()]) {
            assert!(seen.insert(line.to_owned()), "{line} twice");
        }
        // The own id is no secret. The names that others wait under, or have, are nowhere.
        let names = run(
            &sandbox,
            "hostname; env; cat /proc/self/mountinfo /proc/self/cgroup /proc/1/cmdline /proc/self/mounts | tr '\\0' '\\n'",
        )
        .await;
        assert!(text(&names).starts_with("sandbox\n"));
        let known = ["sesn_0", "sesn_a", "sesn_b", ".pool-"];
        for other in known.into_iter().filter(|known| *known != session) {
            assert!(!text(&names).contains(other), "{other} in {names:?}");
        }
    }
    assert_eq!(seen.len(), 10);
}

/// security LEASE-1: what comes from an earlier owner is refused by the provider, by another server, and by the sandbox.
#[tokio::test]
async fn lease_1_a_sandbox_that_waited_obeys_nobody_before_its_owner() {
    let host = warmed(1, |_| {}).await;
    let waited = number(&host, &waiting(&host)[0]);
    let owner = of_environment(Recipe::new("sesn_a", 5));
    let sandbox = host.provider.provision(&owner).await.unwrap();
    assert_eq!(number(&host, "sesn_a"), waited);
    // No checkpoint of an earlier owner counts as newer than what this one may write.
    let tree = fs::read(host.folder("sesn_a").join("tree.json")).unwrap();
    let tree: serde_json::Value = serde_json::from_slice(&tree).unwrap();
    assert_eq!(tree["epoch"], 5, "{tree}");
    // Said to the sandbox before anything is asked of it: seen on a connection of its own.
    let mut stream = UnixStream::connect(host.folder("sesn_a").join("socket")).unwrap();
    let mut ask = |id, op| {
        frame::write(&mut stream, &Request { id, op }).unwrap();
        let reply: Reply = frame::read(&mut stream).unwrap().expect("an answer");
        reply.answer
    };
    let hello = ask(1, Op::Hello { protocol: PROTOCOL });
    assert!(matches!(hello, Answer::Hello { .. }), "{hello:?}");
    let call_ids = Vec::new();
    let earlier = ask(2, Op::Forget { call_ids, epoch: 4 });
    assert!(
        matches!(earlier, Answer::StaleEpoch { seen: 5 }),
        "{earlier:?}"
    );
    let stale = |refused: Option<Error>| {
        let is_stale = matches!(refused, Some(Error::StaleEpoch { epoch: 4, seen: 5 }));
        assert!(is_stale, "{refused:?}");
    };
    let late = Call {
        epoch: 4,
        ..call("late", "touch /workspace/late")
    };
    stale(sandbox.execute(&late).await.err());
    let before = of_environment(Recipe::new("sesn_a", 4));
    stale(host.provider.provision(&before).await.err());
    let beside = Namespace::new(Config::new(host.data.path()));
    stale(beside.find("sesn_a", 4).await.err());
    // The next owner finds it as any other.
    let next = beside.find("sesn_a", 6).await.unwrap().expect("it lives");
    assert_eq!(next.instance(), sandbox.instance());
    let stored = Call {
        epoch: 6,
        ..call("first", "ls /workspace")
    };
    assert_eq!(
        next.execute(&stored).await.unwrap(),
        Output::text("(no output)")
    );
}

/// security NET-1, NET-8: nothing is open before it has a session, then its own session's door and policy.
#[tokio::test]
async fn net_8_a_sandbox_that_waited_goes_out_as_its_session() {
    let gate = Porter::new("gate");
    let same = Arc::clone(&gate);
    let host = warmed(2, |config| config.gate = Some(same)).await;
    assert_eq!(gate.opened().len(), 1, "the first session's");
    for (session, name) in [("sesn_a", "a.example.com"), ("sesn_b", "b.example.com")] {
        let recipe = of_environment(limited(session, 1, name));
        let sandbox = host.provider.provision(&recipe).await.unwrap();
        let opened = gate.opened().pop().expect("a door");
        assert_eq!(opened, (session.to_owned(), recipe.network));
        assert_eq!(ask(&sandbox, 1).await, says("gate", session));
    }
    assert_eq!(gate.open_doors(), 3);
    // The next server opens the same door, by the record.
    let other = Porter::new("other");
    let next = Namespace::new(Config {
        gate: Some(Arc::clone(&other) as Arc<dyn manyhands_hands::Gate>),
        ..Config::new(host.data.path())
    });
    let found = next.find("sesn_a", 2).await.unwrap().expect("it lives");
    assert_eq!(ask(&found, 2).await, says("other", "sesn_a"));
    assert_eq!(
        other.opened(),
        [(
            "sesn_a".to_owned(),
            limited("sesn_a", 1, "a.example.com").network
        )]
    );
    host.provider.release("sesn_b").await.unwrap();
    assert_eq!(gate.open_doors(), 2);
}

/// runtime EN-3: what waited for an environment as it was is removed when a session comes that sees it changed.
#[tokio::test]
async fn en_3_an_environment_that_changed_gets_others() {
    let host = warmed(2, |_| {}).await;
    let before: BTreeSet<String> = waiting(&host).into_iter().collect();
    let changed = Recipe {
        limits: Limits {
            open_files: 512,
            ..Limits::default()
        },
        ..recipe("sesn_a")
    };
    let sandbox = host.provider.provision(&changed).await.unwrap();
    assert_eq!(text(&run(&sandbox, "ulimit -n").await), "512");
    host.provider.refilled().await;
    until(|| waiting(&host).len() == 2).await;
    let after: BTreeSet<String> = waiting(&host).into_iter().collect();
    assert!(before.is_disjoint(&after), "{before:?}, {after:?}");
    let next = Recipe {
        session: "sesn_b".to_owned(),
        ..changed
    };
    let waited: Vec<u64> = after.iter().map(|name| number(&host, name)).collect();
    let sandbox = host.provider.provision(&next).await.unwrap();
    assert!(waited.contains(&number(&host, "sesn_b")));
    assert_eq!(text(&run(&sandbox, "ulimit -n").await), "512");
}

/// runtime EN-17, EN-19: a session that has files, here or in a checkpoint, never gets another's empty ones.
#[tokio::test]
async fn en_17_a_session_with_files_takes_none_that_waited() {
    let host = warmed(1, |_| {}).await;
    let waits = waiting(&host);
    host.provider.release("sesn_0").await.unwrap();
    let again = of_environment(Recipe::new("sesn_0", 2));
    host.provider.provision(&again).await.unwrap();
    assert_eq!(waiting(&host), waits, "it has a folder here");
    let elsewhere = Recipe {
        checkpoint: Some(Checkpoint {
            blob: "checkpoints/none".to_owned(),
            size: 1,
            sha256: String::new(),
            epoch: 1,
            sandbox_created_at: Timestamp::from_micros(0),
        }),
        ..of_environment(Recipe::new("sesn_a", 2))
    };
    // Too old to be gone on with: it gets a sandbox, and not that one.
    host.provider.provision(&elsewhere).await.unwrap();
    assert_eq!(waiting(&host), waits);
    // Of another environment, or of none.
    let other = Recipe {
        environment_id: Some("env_b".to_owned()),
        ..recipe("sesn_b")
    };
    host.provider.provision(&other).await.unwrap();
    assert!(host.folder(&waits[0]).exists());
    host.provider
        .provision(&Recipe::new("sesn_c", 1))
        .await
        .unwrap();
    assert!(host.folder(&waits[0]).exists());
    // Its files are new, and are kept from then on as those of any other.
    host.provider.refilled().await;
    let sandbox = host.provider.provision(&recipe("sesn_d")).await.unwrap();
    assert!(!host.folder(&waits[0]).exists(), "this one took it");
    run(&sandbox, "echo kept > file").await;
    host.provider.release("sesn_d").await.unwrap();
    let again = of_environment(Recipe::new("sesn_d", 2));
    let sandbox = host.provider.provision(&again).await.unwrap();
    let read = Call {
        epoch: 2,
        ..call("read", "cat file")
    };
    assert_eq!(sandbox.execute(&read).await.unwrap(), Output::text("kept"));
}

/// runtime FI-2, EN-16: a session's files are there before its first call, also in a sandbox that waited.
#[tokio::test]
async fn fi_2_uploads_are_in_a_sandbox_that_waited() {
    let blobs = Blobs::memory();
    let shared = blobs.clone();
    let host = warmed(1, |config| config.blobs = Some(shared)).await;
    let waited = number(&host, &waiting(&host)[0]);
    let recipe = Recipe {
        uploads: vec![upload(&blobs, "d/data.csv", b"a,b\n").await],
        ..recipe("sesn_a")
    };
    let sandbox = host.provider.provision(&recipe).await.unwrap();
    assert_eq!(number(&host, "sesn_a"), waited);
    let read =
        "cat /mnt/session/uploads/d/data.csv; touch /mnt/session/uploads/x 2>&1 && echo DONE; true";
    let said = run(&sandbox, read).await;
    assert!(text(&said).starts_with("a,b\n") && !text(&said).contains("DONE"));
}

/// security SBX-8: what a killed server had waiting is removed by the next, and what a living one has is not.
#[tokio::test]
async fn sbx_8_only_what_waited_for_a_server_that_ended_is_swept() {
    let host = warmed(1, |_| {}).await;
    let ours = waiting(&host);
    let (mut child, _) = server_with(&host, "sesn_b", "call", "true", &["--warm", "1"]);
    child.kill().unwrap();
    child.wait().unwrap();
    // It was killed while it held a session's sandbox, and perhaps the next one that was to wait.
    let theirs: Vec<String> = waiting(&host)
        .into_iter()
        .filter(|name| !ours.contains(name))
        .collect();
    let traces: Vec<_> = theirs
        .iter()
        .filter(|name| host.process(name).is_some())
        .map(|name| traces(&host, name))
        .collect();
    let beside = Namespace::new(Config::new(host.data.path()));
    beside.sweep(&["sesn_b".to_owned()]).await.unwrap();
    assert_eq!(waiting(&host), ours);
    for traces in traces {
        let ours = crate::teardown::traces(&host, &ours[0]).names;
        until(|| left(&host, &traces).is_subset(&ours)).await;
    }
    assert_eq!(groups(&host).len(), 1);
    // It is as good as before.
    let waited = number(&host, &ours[0]);
    let sandbox = host.provider.provision(&recipe("sesn_a")).await.unwrap();
    assert_eq!(number(&host, "sesn_a"), waited);
    beside.sweep(&[]).await.unwrap();
    assert_eq!(run(&sandbox, "echo fine").await, Output::text("fine"));
    assert_eq!(host.process("sesn_a").map(|_| ()), Some(()));
}

/// A group that a removal has left is removed, and one that a session's sandbox is in is not.
#[tokio::test]
async fn sbx_8_a_group_of_one_that_waited_goes_when_nobody_is_in_it() {
    let host = warmed(1, |_| {}).await;
    let sandbox = host.provider.provision(&recipe("sesn_a")).await.unwrap();
    host.provider.close().await;
    let own = groups(&host);
    // Where no control group can be made there is none to look at.
    let limited = host.provider.probe().await.limits;
    let grouped = limited
        .iter()
        .any(|limit| limit.by.contains("control groups"));
    assert_eq!(own.len(), usize::from(grouped));
    host.provider.sweep(&[]).await.unwrap();
    assert_eq!(groups(&host), own);
    assert_eq!(run(&sandbox, "echo fine").await, Output::text("fine"));
    // As if a server had ended before it came to the group.
    let pid = host.process("sesn_a").unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    until_gone(pid);
    let next = Namespace::new(Config::new(host.data.path()));
    next.provision(&Recipe::new("sesn_a", 2)).await.unwrap();
    next.sweep(&[]).await.unwrap();
    assert_eq!(groups(&host), [""; 0]);
}

/// Whatever waited and died meanwhile is not given to anybody.
#[tokio::test]
async fn tool_3_one_that_died_while_it_waited_is_not_taken() {
    let host = warmed(2, |_| {}).await;
    for name in waiting(&host) {
        host.lose(&name);
    }
    let dead = waiting(&host);
    let sandbox = host.provider.provision(&recipe("sesn_a")).await.unwrap();
    assert_eq!(run(&sandbox, "echo fine").await, Output::text("fine"));
    host.provider.refilled().await;
    until(|| waiting(&host).iter().all(|name| !dead.contains(name))).await;
    assert_eq!(waiting(&host).len(), 2);
}

/// A failure to have one wait is nobody's but the log's: sessions get theirs as ever, and the next one tries again.
#[tokio::test]
async fn i9_sessions_do_not_notice_that_none_can_wait() {
    let host = Host::with(|config| {
        config.warm = 1;
        // One user for all: whoever comes second has none.
        config.uids = 1;
    });
    let sandbox = host.provider.provision(&recipe("sesn_a")).await.unwrap();
    host.provider.refilled().await;
    assert_eq!(run(&sandbox, "echo fine").await, Output::text("fine"));
    let waits = waiting(&host);
    match rustix::process::geteuid().is_root() {
        true => assert_eq!(waits, [""; 0]),
        // All of them are the server's own user.
        false => assert_eq!(waits.len(), 1),
    }
    host.provider.destroy("sesn_a").await.unwrap();
    let sandbox = host.provider.provision(&recipe("sesn_b")).await.unwrap();
    assert_eq!(run(&sandbox, "echo fine").await, Output::text("fine"));
}
