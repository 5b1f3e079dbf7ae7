//! What is kept of repositories between sessions: who fills it, who sees it, and that a clone never depends on it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt as _;
use manyhands_blobs::Blobs;
use manyhands_brain::{Clones, Hosts};
use manyhands_hands::provider::{Origin, Upload};
use manyhands_hands::{Call, Output};
use manyhands_protocol::{ResourceId, SessionId, Timestamp};
use manyhands_store::repositories::{KeptClone, NewRepository};
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::Reply;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::bed::{Bed, PATIENCE, hold_at};

const NEW: Origin = Origin::New { expired: false };
const URL: &str = "https://git.example.com/acme/tools.git";
const KEY: &str = "git.example.com:443/acme/tools";
const PACK: &str = "0123456789abcdef0123456789abcdef01234567";

/// A host that shows everything, or nothing; and for which sessions it was asked.
#[derive(Default)]
struct Host {
    closed: AtomicBool,
    asked: Mutex<Vec<(SessionId, String)>>,
}

#[async_trait]
impl Hosts for Host {
    async fn shows(&self, session: &SessionId, url: &str) -> bool {
        let asked = (session.clone(), url.to_owned());
        self.asked.lock().unwrap().push(asked);
        !self.closed.load(Ordering::SeqCst)
    }
}

/// What a clone was told, and what was shown to the sandbox while it ran.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    from: String,
    shown: Vec<Upload>,
}

struct World {
    bed: Bed,
    blobs: Blobs,
    host: Arc<Host>,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// How the next clones end.
    made: Arc<Mutex<String>>,
}

impl World {
    async fn new() -> Self {
        let mut world = Self::asleep().await;
        world.bed.wake();
        world
    }

    /// No brain yet.
    async fn asleep() -> Self {
        let replies = (0..9).flat_map(|turn| {
            let call = Reply::tool_use(format!("toolu_{turn}"), "bash", json!({"command": "ls"}));
            [call, Reply::text("Done.")]
        });
        let repository = NewRepository {
            id: ResourceId::generate(),
            url: URL.to_owned(),
            mount_path: "/workspace/tools".to_owned(),
            checkout: None,
            token: None,
        };
        let mut bed = Bed::asleep_with(replies, vec![repository]).await;
        let (host, seen) = (Arc::new(Host::default()), Arc::default());
        let made = Arc::new(Mutex::new(format!("new {PACK}")));
        let blobs = Blobs::memory();
        let hands = bed.hands.clone().with_blobs(blobs.clone());
        hands.start_from(NEW);
        let world = (
            hands.clone(),
            bed.session.clone(),
            Arc::clone(&seen),
            Arc::clone(&made),
        );
        bed.hands = hands.with_tool("bash", move |call: Call| {
            let (hands, session, seen, made) = world.clone();
            async move {
                if !call.call_id.starts_with("clone-") {
                    return Output::text("ran");
                }
                let command = call.input["command"].as_str().unwrap_or_default();
                let from = command.lines().find_map(|line| line.strip_prefix("from="));
                let from = from.unwrap_or_default().trim_matches('\'').to_owned();
                let shown = hands.uploads(session.as_str());
                let seen: &Mutex<Vec<Seen>> = &seen;
                seen.lock().unwrap().push(Seen { from, shown });
                Output::text(format!(
                    "\nmanyhands-repository: there {}",
                    made.lock().unwrap()
                ))
            }
        });
        bed.config.clones = Some(Clones {
            hosts: Arc::clone(&host) as Arc<dyn Hosts>,
            most: 1 << 20,
            least: 1,
            age: Duration::from_secs(3600),
            permits: Arc::new(Semaphore::new(1)),
        });
        Self {
            bed,
            blobs,
            host,
            seen,
            made,
        }
    }

    async fn kept(&self) -> Option<KeptClone> {
        let workspace = self.bed.store.default_workspace().await.unwrap();
        let oldest = Timestamp::from_micros(0);
        let kept = self.bed.store.kept_clone(&workspace, KEY, oldest);
        kept.await.unwrap()
    }

    /// The names of all blobs of clones.
    async fn listed(&self) -> Vec<String> {
        let listed = self.blobs.list("repositories");
        let listed: Vec<_> = listed.try_collect().await.unwrap();
        listed.into_iter().map(|blob| blob.name).collect()
    }

    /// What comes beside a turn is looked for until it is there: nobody tells of it.
    async fn until(&self, is: impl Fn(Option<&KeptClone>) -> bool) -> Option<KeptClone> {
        let look = async {
            loop {
                let kept = self.kept().await;
                if is(kept.as_ref()) {
                    return kept;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.expect("in time")
    }

    /// A turn in a sandbox that is started from `origin`; what its clone has seen.
    async fn turn(&self, origin: Origin, made: &str) -> Seen {
        *self.made.lock().unwrap() = made.to_owned();
        self.bed.hands.start_from(origin);
        self.bed.hands.lose(self.bed.session.as_str());
        self.bed.turn("Go on").await;
        let seen = self.seen.lock().unwrap();
        seen.last().expect("a clone").clone()
    }
}

/// runtime GH-3: what the first has cloned is shown to the next, for as long as it clones.
#[tokio::test]
async fn gh_3_what_was_cloned_is_shown_to_the_next_sandbox() {
    let world = World::new().await;
    let first = world.turn(NEW, &format!("new {PACK}")).await;
    assert_eq!((first.from.as_str(), first.shown.len()), ("", 0));
    let kept = world.until(|kept| kept.is_some()).await.expect("kept");
    let paths = [
        "/workspace/tools/.git/packed-refs\n",
        &format!("/workspace/tools/.git/objects/pack/pack-{PACK}.pack\n"),
    ];
    assert_eq!(kept.head, paths[0].len() as u64);
    assert_eq!(kept.size, paths.concat().len() as u64);

    let second = world.turn(NEW, "kept").await;
    let [upload] = &second.shown[..] else {
        panic!("{second:?}")
    };
    assert_eq!(second.from, format!("/mnt/session/uploads/{}", upload.path));
    assert_eq!((&upload.blob, upload.size), (&kept.blob, kept.size));
    let after = world.bed.hands.uploads(world.bed.session.as_str());
    assert_eq!(after, [], "only while it clones");
    let asked = world.host.asked.lock().unwrap().clone();
    let own = (world.bed.session.clone(), URL.to_owned());
    assert!(asked.len() >= 2 && asked.iter().all(|it| *it == own));
    assert!(world.bed.events("session.error").await.is_empty());
}

/// security CRED-9: without the host's yes nothing is shown, and nothing is kept.
#[tokio::test]
async fn cred_9_nothing_is_shown_that_the_host_does_not_show() {
    let world = World::new().await;
    world.turn(NEW, &format!("new {PACK}")).await;
    let kept = world.until(|kept| kept.is_some()).await.expect("kept");
    world.host.closed.store(true, Ordering::SeqCst);
    let seen = world.turn(NEW, "").await;
    assert_eq!((seen.from.as_str(), seen.shown.len()), ("", 0));
    assert_eq!(world.kept().await, Some(kept.clone()));
    // A sandbox that says it has cloned what its session may not read takes nobody's place.
    world.turn(NEW, &format!("broken {PACK}")).await;
    let workspace = world.bed.store.default_workspace().await.unwrap();
    let dropped = world.bed.store.drop_clone(&workspace, &kept.blob).await;
    dropped.unwrap();
    let asked = || world.host.asked.lock().unwrap().len();
    let before = asked();
    world.turn(NEW, &format!("new {PACK}")).await;
    let look = async {
        while asked() == before {
            tokio::task::yield_now().await;
        }
        while world.bed.store.loose_blobs(9).await.unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("in time");
    assert_eq!(world.kept().await, None);
}

/// security SBX-6, runtime GH-3: only a new sandbox is shown anything, and only what a new one has cloned is kept.
#[tokio::test]
async fn gh_3_a_sandbox_that_is_not_new_takes_no_part() {
    let world = World::new().await;
    for origin in [Origin::Kept { epoch: 1 }, Origin::Restored] {
        world.turn(origin, &format!("new {PACK}")).await;
    }
    assert_eq!(world.kept().await, None);
    world.turn(NEW, &format!("new {PACK}")).await;
    world.until(|kept| kept.is_some()).await;
    let asked = world.host.asked.lock().unwrap().len();
    let seen = world.turn(Origin::Restored, "").await;
    assert_eq!((seen.from.as_str(), seen.shown.len()), ("", 0));
    assert_eq!(world.host.asked.lock().unwrap().len(), asked, "nor asked");
}

/// runtime GH-3: what is outgrown or of no use goes; another takes its place where there is one.
#[tokio::test]
async fn gh_3_what_is_of_no_use_is_let_go_of() {
    let world = World::new().await;
    world.turn(NEW, &format!("new {PACK}")).await;
    let first = world.until(|kept| kept.is_some()).await;
    world.turn(NEW, &format!("broken {PACK}")).await;
    let second = world.until(|kept| kept.is_some() && kept != first.as_ref());
    assert!(second.await.is_some());
    world.turn(NEW, "outgrown").await;
    world.until(|kept| kept.is_none()).await;
    // Words that nobody understands are about nothing.
    for words in ["new", "new ../../etc/passwd", "new 0123", "constructed"] {
        let seen = world.turn(NEW, words).await;
        assert_eq!(seen.from, "", "{words}");
    }
    assert_eq!(world.kept().await, None);
}

/// security LOG-3, runtime GH-3: a server that dies when a clone is among the blobs and in no row leaves nothing to be shown, and a
/// blob that the look at all blobs finds; the next new sandbox's clone is kept as if nothing had been.
#[tokio::test]
async fn log_3_a_server_dies_between_the_blob_and_the_row_of_a_clone() {
    let mut world = World::asleep().await;
    let gate = Gate::new();
    world.bed.config.probe = Some(hold_at("brain::clone_joined", 1, &gate));
    // As a server that dies gives back what it had of the machine.
    world.bed.config.clones.as_mut().unwrap().permits = Arc::new(Semaphore::new(2));
    world.bed.wake();
    world.turn(NEW, &format!("new {PACK}")).await;
    gate.reached().await;
    world.bed.crash().await;
    let stray = world.listed().await;
    assert_eq!(stray.len(), 1);
    assert_eq!(world.kept().await, None);
    let absent = world.bed.store.absent_blobs(&stray).await.unwrap();
    assert_eq!(absent, stray, "it has no row");

    world.bed.config.probe = None;
    world.bed.wake();
    let seen = world.turn(NEW, &format!("new {PACK}")).await;
    assert_eq!((seen.from.as_str(), seen.shown.len()), ("", 0));
    let kept = world.until(|kept| kept.is_some()).await.expect("kept");
    assert!(!stray.contains(&kept.blob));
    let all = world.listed().await;
    assert_eq!(all.len(), 2);
    let absent = world.bed.store.absent_blobs(&all).await.unwrap();
    assert_eq!(absent, stray, "and still only the first has none");
    let seen = world.turn(NEW, "kept").await;
    assert_eq!(seen.shown.len(), 1);
    assert!(world.bed.events("session.error").await.is_empty());
}
