//! Sessions whose sandboxes have credentials that they cannot use.

use manyhands_protocol::VaultId;
use manyhands_protocol::environment::Networking;
use manyhands_testkit::model::{Reply, Usage};
use serde_json::{Value, json};

use crate::bed::{Bed, Things, small_specs};

const ERROR: &str = "session.error";

/// A session with a vault, in an environment that lets out to one host; no brain yet.
async fn bed(replies: impl IntoIterator<Item = Reply>) -> (Bed, VaultId) {
    let vault = VaultId::generate();
    let things = Things {
        vault_ids: vec![vault.clone()],
        ..Things::default()
    };
    let bed = Bed::asleep_having(replies, things).await;
    bed.set_networking(Networking::Limited {
        allowed_hosts: vec!["open.example".to_owned()],
        allow_mcp_servers: false,
        allow_package_managers: false,
    })
    .await;
    (bed, vault)
}

fn call(id: &str) -> Reply {
    Reply::tool_use(id, "bash", json!({"command": "ls"}))
}

/// The credentials that the client was told of, in order.
async fn told(bed: &Bed) -> Vec<Value> {
    let errors = bed.events(ERROR).await.into_iter();
    errors
        .map(|told| told["error"]["credential_id"].clone())
        .collect()
}

/// runtime ER-7, ER-3: for information, before the first result, once for each credential; and the session goes on.
#[tokio::test]
async fn er_7_a_credential_for_a_closed_host_is_told_once() {
    let turns = ["toolu_1", "toolu_2", "toolu_3", "toolu_4"];
    let turns = turns.map(|id| [call(id), Reply::text("Done.")]);
    let (mut bed, vault) = bed(turns.into_iter().flatten()).await;
    bed.add_variable(&vault, "FINE", &["open.example"]).await;
    let closed = ["open.example", "closed.example", "*.closed.example"];
    let first = bed.add_variable(&vault, "CLOSED", &closed).await;
    bed.wake();
    let log = bed.turn("Look").await;
    let position = |word: &str| log.iter().position(|line| line.starts_with(word));
    assert!(
        position("agent.tool_use") < position(ERROR)
            && position(ERROR) < position("agent.tool_result"),
        "{log:?}"
    );
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    let errors = bed.events(ERROR).await;
    let message = "the credential for CLOSED is for hosts that the session's environment does not let out: closed.example, \
                   *.closed.example";
    assert_eq!(
        errors.iter().map(|told| &told["error"]).collect::<Vec<_>>(),
        [&json!({
            "type": "credential_host_unreachable_error", "message": message,
            "retry_status": {"type": "retrying"}, "credential_id": first, "vault_id": vault,
        })]
    );

    // Neither another sandbox nor another brain says it again; what is new is said.
    bed.hands.lose(bed.session.as_str());
    bed.turn("Again").await;
    bed.crash().await;
    bed.wake();
    bed.turn("And again").await;
    assert_eq!(told(&bed).await, [json!(first)]);
    let second = bed.add_variable(&vault, "LATER", &["closed.example"]).await;
    // A sandbox gets it when it is furnished.
    bed.hands.lose(bed.session.as_str());
    bed.turn("Once more").await;
    assert_eq!(told(&bed).await, [json!(first), json!(second)]);
    bed.assert_each_call_has_one_result().await;
    bed.model.assert_done();
}

/// runtime ER-7, CC-3, invariant I6: what was told goes on behind a summary, also for a process that begins with it.
#[tokio::test]
async fn er_7_what_was_told_before_a_summary_is_known_behind_it() {
    let usage = Usage {
        input_tokens: 60_000,
        ..Usage::default()
    };
    let (mut bed, vault) = bed([
        call("toolu_1"),
        Reply::text("Done.").usage(usage),
        Reply::text("All was looked at."),
        call("toolu_2"),
        Reply::text("Done again."),
    ])
    .await;
    bed.specs = small_specs;
    let closed = bed
        .add_variable(&vault, "CLOSED", &["closed.example"])
        .await;
    bed.wake();
    bed.turn("Look").await;
    bed.crash().await;
    bed.wake();
    bed.turn("Again").await;
    bed.seen("agent.thread_context_compacted", 1).await;
    assert_eq!(told(&bed).await, [json!(closed)]);
    bed.model.assert_done();
}
