//! What an attached memory store adds to tool calls: the same turns in a session that has one and in one that has none, taking
//! turns, so that both meet the same machine.

use anyhow::{Context, Result, ensure};
use hyper::Method;
use serde_json::{Value, json};

use super::expect_hits;
use crate::floors;
use crate::report::Row;
use crate::sample::Samples;
use crate::subject::{Chat, Setup, Subject, id_of};

/// Memories in the store.
const MEMORIES: usize = 100;
/// Bytes of each.
const BYTES: usize = 1024;
/// Turns of one session; a few, so that the context stays about the same.
const TURNS: usize = 10;
/// Calls of a turn with many, one after the other.
const MANY: usize = 10;

/// Has `count` turns of each kind in sessions with a store, and as many in sessions without.
pub(crate) async fn run(setup: &Setup, count: usize) -> Result<Vec<Row>> {
    ensure!(count >= 100, "a p99 takes at least 100 samples");
    let subject = Subject::start(setup, "told").await?;
    let store = fill(&subject).await?;
    let mut arms = Arms::open(&subject, &store).await?;
    let one = arms.have(count, &[LOOK]).await?;
    let many = arms.have(count, &[LOOK; MANY]).await?;
    let write = arms.have(count, &[WRITE]).await?;
    expect_hits(&subject.stub, arms.asked).await?;
    let fsync = floors::fsync(&setup.folder, 4096, 200)?;
    let bare = |times: &Times, calls: usize| times.without.median() / calls as f64;
    Ok(vec![
        Row::new(
            format!("memory store of {MEMORIES}, added to a call, p50"),
            many.added(50, MANY),
            "ms",
            many.with.count(),
        )
        .below(2.0)
        .floor(
            "a call without a store, with its model request",
            bare(&many, MANY),
        )
        .note(format!(
            "a tenth of a turn of {MANY} calls; p99 {:.1} ms",
            many.added(99, MANY)
        )),
        Row::new(
            "… to a turn with one call, p50",
            one.added(50, 1),
            "ms",
            one.with.count(),
        )
        .floor("the turn without a store", bare(&one, 1))
        .note(format!(
            "the store is listed anew in each turn; p99 {:.1} ms",
            one.added(99, 1)
        )),
        Row::new(
            "… to a turn whose call writes a memory, p50",
            write.added(50, 1),
            "ms",
            write.with.count(),
        )
        .floor("one fsync", fsync.median())
        .note(format!("p99 {:.1} ms", write.added(99, 1))),
    ])
}

/// A command that only looks.
const LOOK: &str = "echo hello";
/// One that writes a file: a memory where there is a store.
const WRITE: &str = "date +%s%N > $FILE";

/// How long turns took.
struct Times {
    with: Samples,
    without: Samples,
}

impl Times {
    /// What the store adds to one of a turn's calls, at this percentile, over the median without one.
    fn added(&self, percent: usize, calls: usize) -> f64 {
        (self.with.percentile(percent) - self.without.median()) / calls as f64
    }
}

/// A session of each kind at a time.
struct Arms<'s> {
    subject: &'s Subject,
    resources: Value,
    /// How often the model has been asked.
    asked: u64,
}

impl<'s> Arms<'s> {
    async fn open(subject: &'s Subject, store: &str) -> Result<Self> {
        let resources = json!([{"type": "memory_store", "memory_store_id": store}]);
        let mut arms = Self {
            subject,
            resources,
            asked: 0,
        };
        let mut chat = subject.open_chat_with(&arms.resources).await?;
        arms.turn(&mut chat, &["cat /mnt/memory/notes/*/* | wc -c"])
            .await?;
        let events = subject.events(&chat).await?;
        let result = events
            .iter()
            .find(|event| event["type"] == "agent.tool_result");
        let said = result.and_then(|result| result["content"][0]["text"].as_str());
        ensure!(
            said.unwrap_or_default().trim() == (MEMORIES * BYTES).to_string(),
            "the memories are not in the sandbox: {events:#?}"
        );
        subject.delete(&chat).await?;
        Ok(arms)
    }

    /// `count` turns of each kind with these calls.
    async fn have(&mut self, count: usize, commands: &[&str]) -> Result<Times> {
        let (mut with, mut without) = (vec![], vec![]);
        for _ in 0..count.div_ceil(TURNS) {
            let mut having = self.subject.open_chat_with(&self.resources.clone()).await?;
            let mut bare = self.subject.open_chat().await?;
            // The first calls make the sandboxes.
            self.turn(&mut having, &["export FILE=/mnt/memory/notes/d0/m0"])
                .await?;
            self.turn(&mut bare, &["export FILE=/workspace/m0"]).await?;
            for _ in 0..TURNS {
                with.push(self.turn(&mut having, commands).await?);
                without.push(self.turn(&mut bare, commands).await?);
            }
            for chat in [having, bare] {
                self.subject.delete(&chat).await?;
            }
        }
        Ok(Times {
            with: Samples::new(with),
            without: Samples::new(without),
        })
    }

    /// A turn with these calls, one a model request, from before the send to its end.
    async fn turn(&mut self, chat: &mut Chat, commands: &[&str]) -> Result<std::time::Duration> {
        let calls = commands.iter().map(|command| {
            self.asked += 1;
            let id = format!("toolu_{}", self.asked);
            json!({"content": [{"type": "tool_use", "id": id, "name": "bash", "input": {"command": command}}]})
        });
        let mut replies: Vec<Value> = calls.collect();
        replies.push(json!({"content": [{"type": "text", "text": "Done."}]}));
        self.asked += 1;
        let turn = chat.turn(&format!("reply: {}", json!(replies))).await?;
        Ok(turn.whole)
    }
}

/// A store with its memories; its id.
async fn fill(subject: &Subject) -> Result<String> {
    let mut connection = subject.connect().await?;
    let body = json!({"name": "Notes"}).to_string();
    let made = connection
        .send(Method::POST, "/v1/memory_stores", body)
        .await?;
    let store = id_of(&made)?;
    let path = format!("/v1/memory_stores/{store}/memories");
    for number in 0..MEMORIES {
        let body = json!({
            "path": format!("/d{}/m{number}", number % 10),
            "content": "x".repeat(BYTES),
        });
        let made = connection
            .send(Method::POST, &path, body.to_string())
            .await?;
        id_of(&made).with_context(|| format!("memory {number}"))?;
    }
    Ok(store)
}
