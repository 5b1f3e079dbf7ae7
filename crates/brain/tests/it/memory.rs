//! Sessions with memory stores: what a tool writes becomes memories, what is written elsewhere becomes files, nothing is lost, and
//! the model is told where it went otherwise.

mod trouble;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::BoxFuture;
use manyhands_hands::Output;
use manyhands_protocol::MemoryStoreId;
use manyhands_protocol::id::ApiKeyId;
use manyhands_protocol::memory::{Access, Actor, MemoryPath, MemoryStore, Operation, View};
use manyhands_protocol::page::Order;
use manyhands_protocol::time::{Clock as _, SystemClock};
use manyhands_store::Belongings;
use manyhands_store::listing::Range;
use manyhands_store::memory::{Attach, Changed, Mutation, VersionFilter, Which};
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::Reply;
use serde_json::json;

use crate::bed::{Bed, PATIENCE, Things};

/// A session that writes one store and reads another, and as many turns with a call each as there are deeds. A deed is what the
/// tool does, with what the sandbox sees as `/`.
struct House {
    bed: Bed,
    notes: MemoryStoreId,
    rules: MemoryStoreId,
    home: tempfile::TempDir,
}

type Deed = Arc<dyn Fn(PathBuf) -> BoxFuture<'static, ()> + Send + Sync>;

fn deed(run: impl Fn(&Path) + Send + Sync + 'static) -> Deed {
    Arc::new(move |root| {
        run(&root);
        Box::pin(std::future::ready(()))
    })
}

fn store(name: &str) -> MemoryStore {
    let now = SystemClock.now();
    MemoryStore {
        id: MemoryStoreId::generate(),
        kind: Default::default(),
        name: name.to_owned(),
        description: format!("About {name}."),
        metadata: Default::default(),
        created_at: now,
        updated_at: now,
        archived_at: None,
    }
}

impl House {
    async fn new(deeds: impl IntoIterator<Item = Deed>) -> Self {
        let mut house = Self::asleep(deeds).await;
        house.bed.wake();
        house
    }

    async fn asleep(deeds: impl IntoIterator<Item = Deed>) -> Self {
        let deeds: Vec<Deed> = deeds.into_iter().collect();
        let replies = (0..deeds.len()).flat_map(|number| {
            let input = json!({"command": number.to_string()});
            let call = Reply::tool_use(format!("toolu_{number}"), "bash", input);
            [call, Reply::text("Done.")]
        });
        let stores = [store("Notes"), store("Rules")];
        let attach = |store: &MemoryStore, access| Attach {
            store: store.id.clone(),
            access,
            instructions: (access == Access::ReadOnly).then(|| "Keep to them.".to_owned()),
        };
        let belongings = Belongings {
            memory_stores: vec![
                attach(&stores[0], Access::ReadWrite),
                attach(&stores[1], Access::ReadOnly),
            ],
            ..Belongings::default()
        };
        let [notes, rules] = [stores[0].id.clone(), stores[1].id.clone()];
        let replies: Vec<Reply> = replies.collect();
        let things = Things {
            memory_stores: stores.into(),
            belongings,
            ..Things::default()
        };
        let mut bed = Bed::asleep_having(replies, things).await;
        let home = tempfile::tempdir().unwrap();
        let hands = bed.hands.clone().with_memory(home.path());
        let root = hands.memory_root(bed.session.as_str());
        bed.hands = hands.with_tool("bash", move |call| {
            let number = call.input["command"]
                .as_str()
                .and_then(|it| it.parse().ok());
            let deed = Arc::clone(&deeds[number.unwrap_or(0_usize)]);
            let root = root.clone();
            async move {
                deed(root).await;
                Output::text("ran")
            }
        });
        Self {
            bed,
            notes,
            rules,
            home,
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.home.path().join(self.bed.session.as_str()).join(path)
    }

    /// A client's change of the store that the session writes.
    async fn change(&self, mutation: Mutation) -> Changed {
        self.change_in(&self.notes, mutation).await
    }

    async fn change_in(&self, store: &MemoryStoreId, mutation: Mutation) -> Changed {
        let api_key_id = ApiKeyId::parse("apikey_1").unwrap();
        let actor = Actor::ApiActor { api_key_id };
        let changed = self
            .bed
            .store
            .change_memory(&self.bed.workspace, store, actor, mutation);
        changed.await.unwrap()
    }

    async fn text(&self, at: &str) -> Option<String> {
        let which = Which::Path(path(at));
        let memory = self.bed.store.memory(&self.notes, &which).await.unwrap();
        memory.and_then(|memory| memory.content)
    }

    async fn paths(&self) -> Vec<String> {
        let memories = self.bed.store.memories(&self.notes).await.unwrap();
        memories.iter().map(|it| it.path.to_string()).collect()
    }

    /// The versions of the store that the session writes, oldest first: what was done, where, and whether the session did it.
    async fn versions(&self) -> Vec<(Operation, String, bool)> {
        let (filter, view) = (VersionFilter::default(), View::Full);
        let range = Range {
            after: None,
            order: Order::Desc,
            limit: 100,
        };
        let store = &self.bed.store;
        let versions = store.list_memory_versions(&self.notes, &filter, &range, view);
        let mut versions: Vec<_> = versions.await.unwrap().into_iter().collect();
        versions.reverse();
        let line = |version: manyhands_protocol::memory::MemoryVersion| {
            let own = Actor::SessionActor {
                session_id: self.bed.session.clone(),
            };
            let path = version.path.map(|path| path.to_string());
            let is_own = version.created_by == Some(own);
            (version.operation, path.unwrap_or_default(), is_own)
        };
        versions.into_iter().map(line).collect()
    }

    /// A turn, and the result of its call.
    async fn turn(&self) -> String {
        let log = self.bed.turn("Go on").await;
        let result = log
            .iter()
            .find(|line| line.starts_with("agent.tool_result"));
        result.expect("a result").clone()
    }
}

fn path(path: &str) -> MemoryPath {
    MemoryPath::parse(path).unwrap()
}

fn create(at: &str, content: &str) -> Mutation {
    Mutation::Create {
        path: path(at),
        content: content.to_owned(),
    }
}

fn update(at: &str, content: &str) -> Mutation {
    Mutation::Update {
        memory: Which::Path(path(at)),
        content: Some(content.to_owned()),
        path: None,
        expected: None,
    }
}

fn delete(at: &str) -> Mutation {
    Mutation::Delete {
        memory: Which::Path(path(at)),
        expected: None,
    }
}

fn write(path: PathBuf, text: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

const RAN: &str = "agent.tool_result: ran";

/// runtime ME-8, ME-15
#[tokio::test]
async fn me_15_what_a_tool_writes_is_a_version_of_the_session() {
    let house = House::new([
        deed(|root| {
            write(root.join("memory/notes/a/one.md"), "one");
            write(root.join("memory/notes/two.md"), "two");
        }),
        deed(|root| {
            write(root.join("memory/notes/two.md"), "second");
            std::fs::rename(
                root.join("memory/notes/a/one.md"),
                root.join("memory/notes/three.md"),
            )
            .unwrap();
        }),
        deed(|root| std::fs::remove_file(root.join("memory/notes/two.md")).unwrap()),
    ])
    .await;
    assert_eq!(house.turn().await, RAN);
    assert_eq!(house.paths().await, ["/a/one.md", "/two.md"]);
    assert_eq!(house.turn().await, RAN);
    assert_eq!(house.paths().await, ["/three.md", "/two.md"]);
    assert_eq!(house.text("/two.md").await.as_deref(), Some("second"));
    assert_eq!(house.turn().await, RAN);
    assert_eq!(house.paths().await, ["/three.md"]);
    let line = |operation, path: &str| (operation, path.to_owned(), true);
    assert_eq!(
        house.versions().await,
        [
            line(Operation::Created, "/a/one.md"),
            line(Operation::Created, "/two.md"),
            line(Operation::Deleted, "/a/one.md"),
            line(Operation::Created, "/three.md"),
            line(Operation::Modified, "/two.md"),
            line(Operation::Deleted, "/two.md"),
        ]
    );
}

/// runtime ME-15
#[tokio::test]
async fn me_15_what_is_written_elsewhere_is_in_the_next_calls_files() {
    let house = House::new([
        deed(|root| {
            let text = std::fs::read_to_string(root.join("memory/notes/a.md")).unwrap();
            write(root.join("tmp/seen"), text);
        }),
        deed(|root| {
            let text = std::fs::read_to_string(root.join("memory/notes/a.md")).unwrap();
            assert!(!root.join("memory/notes/b.md").exists());
            write(root.join("tmp/seen"), text);
        }),
    ])
    .await;
    house.change(create("/a.md", "first")).await;
    house.change(create("/b.md", "other")).await;
    house
        .change_in(&house.rules, create("/style.md", "plain"))
        .await;
    assert_eq!(house.turn().await, RAN);
    assert_eq!(
        std::fs::read_to_string(house.at("tmp/seen")).unwrap(),
        "first"
    );
    assert_eq!(
        std::fs::read_to_string(house.at("memory/rules/style.md")).unwrap(),
        "plain"
    );
    house.change(update("/a.md", "second")).await;
    house.change(delete("/b.md")).await;
    assert_eq!(house.turn().await, RAN);
    assert_eq!(
        std::fs::read_to_string(house.at("tmp/seen")).unwrap(),
        "second"
    );
    assert!(house.versions().await.iter().all(|(_, _, own)| !own));
}

/// runtime ME-15: what runs long is heard while it runs, and hears of others.
#[tokio::test]
async fn me_15_a_running_call_is_no_island() {
    let gate = Gate::new();
    let inside = gate.clone();
    let long: Deed = Arc::new(move |root| {
        let gate = inside.clone();
        Box::pin(async move {
            write(root.join("memory/notes/own.md"), "half way");
            gate.pass().await;
        })
    });
    let house = House::new([long]).await;
    house.bed.say("Go on").await;
    gate.reached().await;
    let saved = async {
        while house.text("/own.md").await.is_none() {
            tokio::task::yield_now().await;
        }
        house.change(create("/other.md", "from elsewhere")).await;
        while !house.at("memory/notes/other.md").exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, saved)
        .await
        .expect("both see each other");
    gate.open();
    house.bed.idle().await;
}

/// runtime ME-16, ME-20, invariant I6 (the model checks the prefixes): the prompt names the stores as they were when the session
/// was made.
#[tokio::test]
async fn me_16_the_prompt_names_the_stores() {
    let house = House::new([deed(|_| {})]).await;
    house.turn().await;
    for number in 1..=2 {
        let system = house.bed.model.request(number).await.body["system"].to_string();
        for part in [
            "- /mnt/memory/notes (read and write): ",
            "About Notes.",
            "- /mnt/memory/rules (read only): ",
            "Keep to them.",
            "never outrank",
        ] {
            assert!(system.contains(part), "{part}: {system}");
        }
    }
}

/// runtime ME-14: where the file system does not keep a tool from it, the store does.
#[tokio::test]
async fn me_14_a_store_that_is_only_read_is_never_written() {
    let house = House::new([
        deed(|root| write(root.join("memory/rules/new.md"), "new")),
        deed(|root| assert!(!root.join("memory/rules/new.md").exists())),
    ])
    .await;
    house.turn().await;
    assert_eq!(house.bed.store.memories(&house.rules).await.unwrap(), []);
    house.turn().await;
    assert_eq!(house.bed.store.memories(&house.rules).await.unwrap(), []);
}
