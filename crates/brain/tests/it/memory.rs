//! Sessions with memory stores: what a tool writes becomes memories, what is written elsewhere becomes files, nothing is lost, and
//! the model is told where it went otherwise.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use manyhands_hands::Output;
use manyhands_protocol::memory::{
    Access, Actor, CONTENT, MemoryPath, MemoryStore, Operation, View,
};
use manyhands_protocol::time::{Clock as _, SystemClock};
use manyhands_protocol::MemoryStoreId;
use manyhands_protocol::id::ApiKeyId;
use manyhands_protocol::page::Order;
use manyhands_store::Belongings;
use manyhands_store::listing::Range;
use manyhands_store::memory::{Attach, Changed, Mutation, VersionFilter, Which};
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::Reply;
use serde_json::json;

use crate::bed::{Bed, PATIENCE, hold_at, interrupt};

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
        let mut bed = Bed::asleep_having(replies, stores.into(), belongings).await;
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

/// runtime ME-15: the store wins, what the agent wrote is kept, and the result names both.
#[tokio::test]
async fn me_15_a_conflict_is_told_and_nothing_is_lost() {
    let gate = Gate::new();
    let inside = gate.clone();
    let both: Deed = Arc::new(move |root| {
        let gate = inside.clone();
        Box::pin(async move {
            gate.pass().await;
            write(root.join("memory/notes/a.md"), "the agent's");
            std::fs::remove_file(root.join("memory/notes/b.md")).unwrap();
            write(root.join("memory/notes/c.md"), "edited");
            write(root.join("memory/notes/d.md"), "new here");
        })
    });
    let mut house = House::asleep([deed(|_| {}), both, deed(|_| {})]).await;
    // Nobody looks while the call runs.
    house.bed.config.tick = Duration::from_secs(60);
    house.bed.wake();
    for name in ["a", "b", "c"] {
        house.change(create(&format!("/{name}.md"), "first")).await;
    }
    assert_eq!(house.turn().await, RAN);
    house.bed.say("Go on").await;
    gate.reached().await;
    house.change(update("/a.md", "the client's")).await;
    house.change(update("/b.md", "the client's")).await;
    house.change(delete("/c.md")).await;
    house.change(create("/d.md", "new there")).await;
    gate.open();
    house.bed.idle().await;
    let log = house.bed.log().await;
    let result = log
        .iter()
        .rfind(|line| line.starts_with("agent.tool_result"))
        .unwrap();
    assert!(
        result.starts_with("agent.tool_result: ran|[Memory stores:\n"),
        "{result}"
    );
    assert!(!result.ends_with("(error)"), "{result}");
    assert_eq!(result.lines().count(), 5, "{result}");
    let mut kept = Vec::new();
    for (name, elsewhere) in [
        ("a", "changed"),
        ("b", "changed"),
        ("c", "removed"),
        ("d", "changed"),
    ] {
        let line = format!("\"/mnt/memory/notes/{name}.md\" was {elsewhere} elsewhere");
        let line = result
            .lines()
            .find(|it| it.contains(&line))
            .unwrap_or_else(|| panic!("{name}: {result}"));
        if let Some((_, rest)) = line.split_once("kept as /tmp/") {
            let file = rest.split(':').next().unwrap();
            kept.push(std::fs::read_to_string(house.at("tmp").join(file)).unwrap());
        }
    }
    assert_eq!(kept, ["the agent's", "edited", "new here"]);
    let texts = [
        ("/a.md", Some("the client's")),
        ("/b.md", Some("the client's")),
        ("/c.md", None),
        ("/d.md", Some("new there")),
    ];
    for (at, text) in texts {
        assert_eq!(house.text(at).await.as_deref(), text, "{at}");
        let file = std::fs::read_to_string(house.at("memory/notes").join(&at[1..])).ok();
        assert_eq!(file.as_deref(), text, "{at}");
    }
    // It is told once.
    assert_eq!(house.turn().await, RAN);
}

/// runtime ME-17, ME-2, ME-3: what breaks a rule is undone, and the call has failed.
#[tokio::test]
async fn me_17_what_is_no_memory_is_put_back_and_told() {
    let house = House::new([
        deed(|_| {}),
        deed(|root| {
            let notes = root.join("memory/notes");
            write(notes.join("a.md"), vec![b'x'; CONTENT + 1]);
            write(notes.join("bytes"), b"\xff\xfe");
            write(notes.join("line\nbreak"), "x");
            write(notes.join(format!("{}x", "d/".repeat(20))), "x");
            std::os::unix::fs::symlink("/etc/passwd", notes.join("link")).unwrap();
            write(notes.join("fine.md"), vec![b'x'; CONTENT]);
        }),
        deed(|_| {}),
    ])
    .await;
    house.change(create("/a.md", "first")).await;
    assert_eq!(house.turn().await, RAN);
    let result = house.turn().await;
    assert!(result.ends_with("] (error)"), "{result}");
    for (file, why) in [
        ("a.md", "a memory has at most 102400 bytes"),
        ("bytes", "it is no UTF-8 text"),
        ("line\\nbreak", "no control or format characters"),
        ("d/x", "at most 20 segments"),
        ("link", "no link"),
    ] {
        let is_it =
            |line: &str| line.contains(&format!("{file}\" was not saved: ")) && line.contains(why);
        assert!(result.lines().any(is_it), "{file}: {result}");
    }
    assert_eq!(house.paths().await, ["/a.md", "/fine.md"]);
    assert_eq!(house.text("/a.md").await.as_deref(), Some("first"));
    let mut left: Vec<_> = std::fs::read_dir(house.at("memory/notes"))
        .unwrap()
        .map(|it| it.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["a.md", "fine.md"]);
    let kept = std::fs::read_dir(house.at("tmp")).unwrap().count();
    assert_eq!(kept, 4, "all but the link");
    assert_eq!(house.turn().await, RAN);
}

/// runtime ME-11, ME-17: a session goes on with stores that are archived or gone.
#[tokio::test]
async fn me_11_writes_to_a_store_that_is_archived_or_gone_are_refused() {
    let house = House::new([
        deed(|_| {}),
        deed(|root| {
            write(root.join("memory/notes/a.md"), "edited");
            write(root.join("memory/notes/new.md"), "new");
        }),
        deed(|root| std::fs::remove_file(root.join("memory/notes/b.md")).unwrap()),
        deed(|root| write(root.join("memory/notes/new.md"), "new")),
    ])
    .await;
    house.change(create("/a.md", "first")).await;
    house.change(create("/b.md", "first")).await;
    assert_eq!(house.turn().await, RAN);
    let (store, workspace) = (&house.bed.store, &house.bed.workspace);
    let archived = store
        .archive_memory_store(workspace, &house.notes)
        .await
        .unwrap();
    assert!(archived.is_some_and(|store| store.archived_at.is_some()));
    let result = house.turn().await;
    assert_eq!(
        result
            .matches("was not saved: the store is archived")
            .count(),
        2,
        "{result}"
    );
    assert!(result.ends_with("(error)"), "{result}");
    assert_eq!(
        std::fs::read_to_string(house.at("memory/notes/a.md")).unwrap(),
        "first"
    );
    assert!(!house.at("memory/notes/new.md").exists());
    assert_eq!(house.turn().await, RAN, "memories can be deleted");
    assert_eq!(house.paths().await, ["/a.md"]);
    assert!(
        store
            .delete_memory_store(workspace, &house.notes)
            .await
            .unwrap()
    );
    let result = house.turn().await;
    assert!(
        result.contains("new.md\" was not saved: the store is gone"),
        "{result}"
    );
    assert!(!house.at("memory/notes/a.md").exists());
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

/// security LOG-3, runtime ME-15: a server that dies at any step leaves nothing undone and nothing done twice.
#[tokio::test]
async fn log_3_a_server_dies_between_file_and_version() {
    for (point, nth) in [
        ("brain::memory_change", 1),
        ("brain::memory_changed", 1),
        ("brain::memory_change", 2),
        ("brain::result", 1),
        ("brain::resulted", 1),
    ] {
        let mut house = House::asleep([
            deed(|root| {
                write(root.join("memory/notes/one.md"), "one");
                write(root.join("memory/notes/two.md"), vec![b'x'; CONTENT + 1]);
                write(root.join("memory/notes/three.md"), "three");
            }),
            deed(|_| {}),
        ])
        .await;
        let gate = Gate::new();
        house.bed.config.probe = Some(hold_at(point, nth, &gate));
        house.bed.wake();
        house.bed.say("Go on").await;
        gate.reached().await;
        house.bed.crash().await;
        house.bed.config.probe = None;
        house.bed.wake();
        house.bed.idle().await;
        assert_eq!(house.paths().await, ["/one.md", "/three.md"], "{point}");
        let versions = house.versions().await;
        assert_eq!(versions.len(), 2, "{point}: {versions:?}");
        let results = house.bed.events("agent.tool_result").await;
        assert_eq!(results.len(), 1, "{point}");
        let text = results[0].to_string();
        assert_eq!(text.matches("was not saved").count(), 1, "{point}: {text}");
        assert_eq!(house.bed.hands.starts().len(), 1, "{point}");
        house.turn().await;
    }
}

/// runtime IN-3: what a call wrote before it was interrupted is saved.
#[tokio::test]
async fn in_3_what_an_interrupted_call_has_written_is_saved() {
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
    house.bed.send(vec![interrupt()]).await;
    house.bed.idle().await;
    assert_eq!(house.text("/own.md").await.as_deref(), Some("half way"));
}
