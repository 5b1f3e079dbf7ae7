//! What goes otherwise than the agent meant it: conflicts, refusals, servers that die, and interrupts.

use std::sync::Arc;
use std::time::Duration;

use manyhands_protocol::memory::CONTENT;
use manyhands_testkit::gate::Gate;

use super::{Deed, House, RAN, create, deed, delete, update, write};
use crate::bed::{hold_at, interrupt};

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
