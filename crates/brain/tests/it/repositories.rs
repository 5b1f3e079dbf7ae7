//! Sessions with repositories: cloned before the first call, once per start of a sandbox, and told where they are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use manyhands_hands::{Call, Output};
use manyhands_protocol::ResourceId;
use manyhands_store::repositories::NewRepository;
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::Reply;
use serde_json::json;

use crate::bed::{Bed, interrupt};

/// What the command's last line says.
const THERE: &str = "manyhands-repository: there";

fn call(id: &str) -> Reply {
    Reply::tool_use(id, "bash", json!({"command": "ls"}))
}

/// Three turns with a call each, in a sandbox whose clones end in this way.
async fn bed(
    names: &[&str],
    clone: impl Fn(Call) -> BoxFuture<'static, Output> + Send + Sync + 'static,
) -> Bed {
    let repository = |name: &&str| NewRepository {
        id: ResourceId::generate(),
        url: format!("https://git.example.com/acme/{name}"),
        mount_path: format!("/workspace/{name}"),
        checkout: None,
        token: None,
    };
    let replies = ["toolu_1", "toolu_2", "toolu_3"].map(|id| [call(id), Reply::text("Done.")]);
    let repositories = names.iter().map(repository).collect();
    let mut bed = Bed::asleep_with(replies.into_iter().flatten(), repositories).await;
    let clone = Arc::new(clone);
    bed.hands = bed.hands.clone().with_tool("bash", move |call| {
        let clone = Arc::clone(&clone);
        async move {
            match call.call_id.starts_with("clone-") {
                true => clone(call).await,
                false => Output::text("ran"),
            }
        }
    });
    bed.wake();
    bed
}

fn said(text: &str) -> BoxFuture<'static, Output> {
    let output = Output::text(text);
    async move { output }.boxed()
}

/// What was started in the sandbox, in order: clones by the number of their try, and calls; but no looks for skills.
fn started(bed: &Bed) -> Vec<String> {
    let starts = bed.hands.starts().into_iter();
    let starts = starts.filter(|(_, call)| !call.starts_with("skills-"));
    let shown = |(_, call): (String, String)| match call.strip_prefix("clone-") {
        Some(clone) => format!("clone {}", clone.rsplit('-').next().unwrap_or_default()),
        None => "call".to_owned(),
    };
    starts.map(shown).collect()
}

/// runtime GH-3, I6: before the first call of each start, in the order of their places; and the model knows where they are.
#[tokio::test]
async fn gh_3_repositories_are_cloned_once_per_start_of_a_sandbox() {
    let bed = bed(&["b", "a"], |call| {
        let command = call.input["command"].as_str().unwrap_or_default();
        assert!(command.contains("url='https://git.example.com/acme/"));
        said(THERE)
    })
    .await;
    bed.turn("Look").await;
    assert_eq!(started(&bed), ["clone 1", "clone 1", "call"]);
    bed.turn("Again").await;
    assert_eq!(started(&bed)[3..], ["call"], "it is the same sandbox");
    bed.hands.lose(bed.session.as_str());
    bed.turn("Once more").await;
    assert_eq!(started(&bed)[4..], ["clone 1", "clone 1", "call"]);
    assert!(bed.events("session.error").await.is_empty());
    for number in 1..=6 {
        let system = bed.model.request(number).await.body["system"].to_string();
        assert!(
            system.contains("- /workspace/a from https://git.example.com/acme/a"),
            "{system}"
        );
    }
}

/// runtime GH-7, ER-6: the client is told once, the model with its next result, and the session goes on.
#[tokio::test]
async fn gh_7_a_repository_that_cannot_be_cloned_is_told_once() {
    let bed = bed(&["tools"], |_| {
        said(
            "fatal: could not read Username for 'https://git.example.com': terminal prompts disabled\n\
             manyhands-repository: clone",
        )
    })
    .await;
    bed.turn("Look").await;
    let errors = bed.events("session.error").await;
    assert_eq!(errors.len(), 1);
    let told = &errors[0]["error"];
    assert_eq!(told["type"], "repository_authentication_error");
    assert_eq!(told["retry_status"]["type"], "retrying");
    assert_eq!(told["repository_url"], "https://git.example.com/acme/tools");
    let message = told["message"].as_str().expect("a message").to_owned();
    let results = bed.model.request(2).await.tool_results();
    assert_eq!(results[0].text, format!("[{message}]\nran"));
    bed.hands.lose(bed.session.as_str());
    bed.turn("Again").await;
    assert_eq!(
        started(&bed),
        ["clone 1", "call", "clone 1", "call"],
        "another start tries again"
    );
    assert_eq!(bed.events("session.error").await.len(), 1);
    bed.assert_each_call_has_one_result().await;
}

/// runtime GH-7: what broke off is begun again, and not for ever.
#[tokio::test]
async fn gh_7_a_clone_that_breaks_off_is_begun_again() {
    const BROKEN: &str = "fatal: early EOF\nmanyhands-repository: clone";
    let tries = AtomicUsize::new(0);
    let second = bed(&["tools"], move |_| {
        match tries.fetch_add(1, Ordering::SeqCst) {
            0 => said(BROKEN),
            _ => said(THERE),
        }
    })
    .await;
    second.turn("Look").await;
    assert_eq!(started(&second), ["clone 1", "clone 2", "call"]);
    assert!(second.events("session.error").await.is_empty());

    let never = bed(&["tools"], |_| said(BROKEN)).await;
    never.turn("Look").await;
    assert_eq!(started(&never), ["clone 1", "clone 2", "clone 3", "call"]);
    let errors = never.events("session.error").await;
    assert_eq!(errors[0]["error"]["type"], "repository_clone_error");
}

/// runtime IN-2, GH-3: an interrupt does not wait for a clone, which goes on; what comes next waits for the same one. So does a
/// brain that comes after one that died.
#[tokio::test]
async fn in_2_an_interrupt_leaves_a_clone_to_itself() {
    let gate = Gate::new();
    let held = gate.clone();
    let mut bed = bed(&["tools"], move |_| {
        let held = held.clone();
        async move {
            held.pass().await;
            Output::text(THERE)
        }
        .boxed()
    })
    .await;
    bed.say("Look").await;
    gate.reached().await;
    let why = serde_json::to_value(bed.why().await)
        .expect("JSON")
        .to_string();
    assert!(why.contains("https://git.example.com/acme/tools"), "{why}");
    bed.send(vec![interrupt()]).await;
    bed.idle().await;
    assert_eq!(started(&bed), ["clone 1"], "the call was never begun");
    bed.turn("Again").await;
    bed.say("Once more").await;
    bed.seen("agent.tool_use", 2).await;
    bed.crash().await;
    bed.wake();
    gate.open();
    bed.seen("session.status_idle", 3).await;
    assert_eq!(started(&bed), ["clone 1", "call"]);
    assert!(bed.events("session.error").await.is_empty());
    bed.assert_each_call_has_one_result().await;
}
