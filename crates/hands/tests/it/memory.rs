//! The folders of memory stores, as every provider has them (runtime ME-13 to ME-17).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use manyhands_blobs::Blobs;
use manyhands_hands::memory::{Answer, Ask, Folder, Memories, Over, Seen, Stamp};
use manyhands_hands::{Provider, Recipe, Sandbox};

use crate::host::{Host, PATIENCE, call, text};

pub(crate) const SESSION: &str = "sesn_a";

/// A store that is written, and one that is not.
pub(crate) fn recipe() -> Recipe {
    let folder = |name: &str, writable| Folder {
        name: name.to_owned(),
        writable,
    };
    Recipe {
        memory: vec![folder("notes", true), folder("rules", false)],
        ..Recipe::new(SESSION, 1)
    }
}

async fn sh(sandbox: &Arc<dyn Sandbox>, command: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let id = format!("call_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    text(&sandbox.execute(&call(&id, command)).await.unwrap()).to_owned()
}

async fn ask(memories: &Arc<dyn Memories>, ask: Ask) -> Answer {
    let mut answers = memories.ask(vec![ask]).await.unwrap();
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

async fn look(memories: &Arc<dyn Memories>, folder: &str) -> Seen {
    let writable = folder == "notes";
    let folder = folder.to_owned();
    let first = writable;
    match ask(
        memories,
        Ask::Look {
            folder,
            writable,
            first,
        },
    )
    .await
    {
        Answer::Seen(seen) => seen,
        other => panic!("{other:?}"),
    }
}

async fn put(memories: &Arc<dyn Memories>, folder: &str, path: &str, text: &str) -> Stamp {
    let over = Over::Nothing;
    let (folder, path, text) = (folder.to_owned(), path.to_owned(), text.to_owned());
    let put = Ask::Put {
        folder,
        path,
        text,
        over,
    };
    match ask(memories, put).await {
        Answer::Put { stamp: Some(stamp) } => stamp,
        other => panic!("{other:?}"),
    }
}

async fn laid(provider: &dyn Provider) -> (Arc<dyn Sandbox>, Arc<dyn Memories>) {
    let sandbox = provider.provision(&recipe()).await.unwrap();
    let memories = provider.memories(SESSION).await.unwrap().expect("folders");
    for folder in ["notes", "rules"] {
        assert_eq!(look(&memories, folder).await.files, []);
    }
    (sandbox, memories)
}

/// runtime ME-15: what a tool has written last is there when its sandbox has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn me_15_the_folders_are_read_without_a_sandbox() {
    let host = Host::new();
    let (sandbox, _) = laid(&host.provider).await;
    sh(&sandbox, "echo word > /mnt/memory/notes/new.md").await;
    host.lose(SESSION);
    let memories = host.provider.memories(SESSION).await.unwrap();
    let seen = look(&memories.expect("folders"), "notes").await;
    assert_eq!(seen.files.len(), 1);
}

/// runtime EN-17, ME-15: the folders are copies, and made anew elsewhere; what is kept for the agent goes along with its files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn en_17_memories_are_in_no_checkpoint() {
    let blobs = Blobs::memory();
    let host = || Host::with(|config| config.blobs = Some(blobs.clone()));
    let (one, two) = (host(), host());
    let (sandbox, memories) = laid(&one.provider).await;
    memories.note(b"noted".to_vec()).await.unwrap();
    let write = "echo word > /mnt/memory/notes/new.md; echo kept > /tmp/memory-kept-1";
    sh(&sandbox, write).await;
    one.provider.release(SESSION).await.unwrap();
    let next = Recipe {
        epoch: 2,
        checkpoint: Some(crate::checkpoint::keep(&one.provider, 1).await),
        ..recipe()
    };
    let sandbox = two.provider.provision(&next).await.unwrap();
    let look = "ls -R /mnt/memory; cat /tmp/memory-kept-1";
    let seen = crate::checkpoint::sh(&sandbox, 2, look).await;
    assert_eq!(
        seen,
        "/mnt/memory:\nnotes\nrules\n\n/mnt/memory/notes:\n\n/mnt/memory/rules:\nkept"
    );
    let memories = two.provider.memories(SESSION).await.unwrap();
    assert_eq!(memories.expect("folders").noted().await.unwrap(), None);
}

macro_rules! memories {
    ($($name:ident),* $(,)?) => {
        mod of_namespace {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let host = super::Host::new();
                let done = super::$name(&host.provider);
                tokio::time::timeout(super::PATIENCE, done).await.expect("it ends");
            })*
        }
        mod of_waiting {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let host = super::Host::with(|config| config.warm = 1);
                let waiting = crate::pool::Waiting::new(host.provider.clone());
                let done = super::$name(&waiting);
                tokio::time::timeout(super::PATIENCE, done).await.expect("it ends");
            })*
        }
        mod of_container {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let host = crate::containers::Containers::new();
                let done = super::$name(&host.provider);
                tokio::time::timeout(super::PATIENCE, done).await.expect("it ends");
            })*
        }
    };
}

memories!(
    me_13_a_store_is_a_folder_of_files,
    me_14_nothing_is_written_outside_or_where_it_may_only_be_read,
    me_15_what_a_tool_writes_is_heard_and_read,
    me_15_the_folders_outlive_the_processes,
    log_3_a_note_stays_as_long_as_the_folders,
);

async fn me_13_a_store_is_a_folder_of_files(provider: &dyn Provider) {
    let (sandbox, memories) = laid(provider).await;
    put(&memories, "notes", "a/one.md", "first\n").await;
    put(&memories, "rules", "style.md", "plain\n").await;
    let shown = sh(
        &sandbox,
        "cd /mnt/memory && ls && find . -type f | sort && cat notes/a/one.md rules/style.md",
    );
    assert_eq!(
        shown.await,
        "notes\nrules\n./notes/a/one.md\n./rules/style.md\nfirst\nplain"
    );
    let changed = sh(
        &sandbox,
        "cd /mnt/memory/notes && echo more >> a/one.md && mkdir b && mv a/one.md b/two.md && rmdir a && cat b/two.md",
    );
    assert_eq!(changed.await, "first\nmore");
}

/// security INP-7 as well: whose the files are cannot be changed from inside, whatever is tried.
async fn me_14_nothing_is_written_outside_or_where_it_may_only_be_read(provider: &dyn Provider) {
    let (sandbox, memories) = laid(provider).await;
    put(&memories, "rules", "d/style.md", "plain\n").await;
    for attempt in [
        "echo x > /mnt/memory/other",
        "mkdir /mnt/memory/other",
        "ln -s /tmp /mnt/memory/other",
        "mv /mnt/memory/notes /mnt/memory/moved",
        "mv /mnt/memory/rules /tmp/moved",
        "rmdir /mnt/memory/notes",
        "chmod 777 /mnt/memory",
        "cd /mnt/memory/rules; echo x >> d/style.md",
        "cd /mnt/memory/rules; echo x > new",
        "cd /mnt/memory/rules; rm -f d/style.md",
        "cd /mnt/memory/rules; mv d/style.md d/other.md",
        "cd /mnt/memory/rules; mv d e",
        "cd /mnt/memory/rules; ln -sf /etc/passwd d/style.md",
        "cd /mnt/memory/rules; chmod 666 d/style.md",
        "cd /mnt/memory/rules; chmod 777 d",
        "cd /mnt/memory/rules; chown 1000 d/style.md",
        "cd /mnt/memory/rules; touch -d @0 d/style.md",
        "cd /mnt/memory/rules; truncate -s 0 d/style.md",
        "cd /mnt/memory/notes; mv /mnt/memory/rules/d/style.md .",
        "cd /mnt/memory/notes; ln /mnt/memory/rules/d/style.md own && echo x >> own",
        "mount -o remount,rw /mnt/memory",
        "umount /mnt/memory",
        "mount --bind /tmp /mnt/memory/rules",
        "unshare -Ur mount -o remount,rw /mnt/memory && echo x > /mnt/memory/rules/new",
        "exec 9<>/mnt/memory/rules/d/style.md && echo x >&9",
    ] {
        let said = sh(
            &sandbox,
            &format!("({attempt}) >/dev/null 2>&1 && echo DONE || echo refused"),
        )
        .await;
        assert_eq!(said, "refused", "{attempt}");
    }
    let is = sh(
        &sandbox,
        "ls -A /mnt/memory; cat /mnt/memory/rules/d/style.md; find /mnt/memory/rules -type f",
    )
    .await;
    assert_eq!(is, "notes\nrules\nplain\n/mnt/memory/rules/d/style.md");
}

async fn me_15_what_a_tool_writes_is_heard_and_read(provider: &dyn Provider) {
    let (sandbox, memories) = laid(provider).await;
    assert_eq!(look(&memories, "notes").await.files, []);
    let wrote = sh(&sandbox, "printf word > /mnt/memory/notes/new.md");
    let (heard, _) = tokio::join!(tokio::time::timeout(PATIENCE, memories.stirred()), wrote);
    heard.expect("it is heard");
    let seen = look(&memories, "notes").await;
    let [(path, _)] = &seen.files[..] else {
        panic!("{seen:?}");
    };
    let read = Ask::Read {
        folder: "notes".to_owned(),
        path: path.clone(),
        most: 100,
    };
    let answer = ask(&memories, read).await;
    assert!(
        matches!(&answer, Answer::Text { text, .. } if text == "word"),
        "{answer:?}"
    );
    // What a tool has written is kept where the agent finds it.
    let over = Over::Kept;
    let (folder, path, text) = ("notes".to_owned(), path.clone(), "the store's".to_owned());
    let aside = ask(
        &memories,
        Ask::Put {
            folder,
            path,
            text,
            over,
        },
    )
    .await;
    let Answer::Aside { name, .. } = aside else {
        panic!("{aside:?}");
    };
    let show = format!("cat /mnt/memory/notes/new.md; echo; cat /tmp/{name} && rm /tmp/{name}");
    let both = sh(&sandbox, &show);
    assert_eq!(both.await, "the store's\nword");
}

async fn me_15_the_folders_outlive_the_processes(provider: &dyn Provider) {
    let (sandbox, memories) = laid(provider).await;
    put(&memories, "rules", "style.md", "plain\n").await;
    sh(&sandbox, "echo word > /mnt/memory/notes/new.md").await;
    provider.release(SESSION).await.unwrap();
    let sandbox = provider.provision(&recipe()).await.unwrap();
    let memories = provider.memories(SESSION).await.unwrap().expect("folders");
    assert_eq!(look(&memories, "notes").await.files.len(), 1);
    assert_eq!(look(&memories, "rules").await.files.len(), 1);
    let again = sh(&sandbox, "cat /mnt/memory/*/*; echo x > /mnt/memory/rules/x || echo more >> /mnt/memory/notes/new.md").await;
    assert!(again.starts_with("word\nplain\n"), "{again}");
    let seen = look(&memories, "notes").await.files;
    assert_eq!(seen.first().map(|(_, stamp)| stamp.size()), Some(10));
    provider.destroy(SESSION).await.unwrap();
    assert!(provider.memories(SESSION).await.unwrap().is_none());
}

async fn log_3_a_note_stays_as_long_as_the_folders(provider: &dyn Provider) {
    let (_sandbox, memories) = laid(provider).await;
    assert_eq!(memories.noted().await.unwrap(), None);
    memories.note(b"one".to_vec()).await.unwrap();
    memories.note(b"two\n".to_vec()).await.unwrap();
    provider.release(SESSION).await.unwrap();
    let _sandbox = provider.provision(&recipe()).await.unwrap();
    let memories = provider.memories(SESSION).await.unwrap().expect("folders");
    let note = memories.noted().await.unwrap().expect("a note");
    assert_eq!(
        (note.bytes.as_slice(), note.unbroken),
        (&b"two\n"[..], true)
    );
    provider.destroy(SESSION).await.unwrap();
    let (_sandbox, memories) = laid(provider).await;
    assert_eq!(memories.noted().await.unwrap(), None);
}
