//! What sessions are known to hang on elsewhere, replayed: each ends in an answer or a visible wait (security I3, I8).

use std::time::Duration;

use futures::FutureExt;
use manyhands_brain::{Need, Party, State};
use manyhands_hands::Output;
use manyhands_protocol::EventId;
use manyhands_protocol::agent::PermissionPolicy;
use manyhands_protocol::event::{Confirmation, EventBody};
use manyhands_store::{Append, Change, EntryKind, NewEntry, TailItem};
use manyhands_testkit::model::Reply;
use serde_json::json;

use crate::bed::{Bed, PATIENCE, confirmation, custom_result, interrupt, message, tools_under};

fn bash(id: &str) -> Reply {
    Reply::tool_use(id, "bash", json!({"command": "true"}))
}

fn ask(id: &str) -> Reply {
    Reply::tool_use(id, "ask_human", json!({"question": "?"}))
}

/// The next call of this type, the moment it is stored.
async fn next_call(tail: &mut manyhands_store::Subscription, type_name: &str) -> String {
    let wait = async {
        loop {
            let Some(TailItem::Entries(entries)) = tail.recv().await else {
                continue;
            };
            let call = entries
                .iter()
                .find(|entry| entry.kind == EntryKind::Event && &*entry.type_name == type_name);
            if let Some(call) = call {
                return call.event_id.as_str().to_owned();
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("a call is made")
}

/// Runtime TL-4: a tool that says nothing has a result that says so, whatever "nothing" looks like.
#[tokio::test]
async fn tl_4_i_8_empty_outputs_reach_the_model_as_text() {
    let silences: [fn() -> Output; 3] = [
        || Output::text(""),
        || Output::text(" \n"),
        || Output {
            content: Vec::new(),
            is_error: false,
        },
    ];
    for silence in silences {
        let mut bed = Bed::asleep([bash("toolu_1"), Reply::text("Done.")]).await;
        bed.hands = bed
            .hands
            .with_tool("bash", move |_| async move { silence() });
        bed.wake();
        let log = bed.turn("Go").await;
        assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
        let results = bed.model.request(2).await.tool_results();
        assert_eq!(results[0].text, "(no output)");
        bed.assert_each_call_has_one_result().await;
    }
    for content in [None, Some(Vec::new())] {
        let bed = Bed::new([ask("toolu_1"), Reply::text("Done.")]).await;
        bed.turn("Go").await;
        let call = bed.events("agent.custom_tool_use").await[0]["id"].clone();
        let result = EventBody::UserCustomToolResult {
            custom_tool_use_id: EventId::parse(call.as_str().unwrap()).unwrap(),
            content,
            is_error: None,
            session_thread_id: None,
        };
        bed.send(vec![result]).await;
        bed.seen("agent.message", 1).await;
        let results = bed.model.request(2).await.tool_results();
        assert_eq!(results[0].text, "(no output)");
    }
}

/// Runtime TC-3, SQ-7: a client that confirms the moment it sees the call, before or after the idle event.
#[tokio::test]
async fn sq_7_i_8_confirmations_race_the_ask() {
    for _ in 0..20 {
        let mut bed = Bed::asleep([bash("toolu_1"), Reply::text("Done.")]).await;
        bed.set_tools(tools_under(PermissionPolicy::AlwaysAsk {}, &[]))
            .await;
        bed.wake();
        let mut tail = bed.store.subscribe(&bed.session);
        bed.say("Go").await;
        let call = next_call(&mut tail, "agent.tool_use").await;
        bed.send(vec![confirmation(&call, Confirmation::Allow, None)])
            .await;
        bed.seen("agent.message", 1).await;
        bed.idle().await;
        let log = bed.log().await;
        assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
        assert_eq!(bed.hands.starts().len(), 1, "it ran once");
        bed.assert_each_call_has_one_result().await;
        bed.model.assert_done();
    }
}

/// Scenario 8 of runtime §41, SQ-10: a result the moment the call is seen, before or after the idle event.
#[tokio::test]
async fn sq_10_i_8_results_race_the_idle_event() {
    for _ in 0..20 {
        let bed = Bed::new([ask("toolu_1"), Reply::text("Done.")]).await;
        let mut tail = bed.store.subscribe(&bed.session);
        bed.say("Go").await;
        let call = next_call(&mut tail, "agent.custom_tool_use").await;
        bed.send(vec![custom_result(&call, "early")]).await;
        bed.seen("agent.message", 1).await;
        bed.idle().await;
        let log = bed.log().await;
        assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
        assert_eq!(bed.model.request(2).await.tool_results()[0].text, "early");
        bed.model.assert_done();
    }
}

/// Appends a client's event past all admission, as a brain of an older version might find it in a log.
async fn plant(bed: &Bed, body: EventBody) {
    bed.change(Change {
        append: Append {
            entries: vec![NewEntry::event(body)],
            ..Append::default()
        },
        wants_brain: true,
        ..Change::default()
    })
    .await;
}

/// Runtime SE-18, I3: the first result counts; one that comes twice, late, or for a call nobody made changes nothing.
#[tokio::test]
async fn se_18_i_8_duplicate_and_late_results_change_nothing() {
    let bed = Bed::new([
        ask("toolu_1").then_tool_use("toolu_2", "ask_human", json!({"question": "?"})),
        Reply::text("Done."),
        Reply::text("Still here."),
    ])
    .await;
    bed.turn("Go").await;
    let calls = bed.events("agent.custom_tool_use").await;
    let call = |index: usize| calls[index]["id"].as_str().unwrap().to_owned();
    bed.send(vec![custom_result(&call(0), "first")]).await;
    bed.seen("session.status_idle", 2).await;
    plant(&bed, custom_result(&call(0), "twice")).await;
    bed.send(vec![custom_result(&call(1), "second")]).await;
    bed.seen("agent.message", 1).await;
    bed.idle().await;
    let texts: Vec<String> = bed
        .model
        .request(2)
        .await
        .tool_results()
        .into_iter()
        .map(|result| result.text)
        .collect();
    assert_eq!(texts, ["first", "second"]);
    plant(&bed, custom_result(&call(1), "late")).await;
    plant(&bed, custom_result("sevt_01nobody", "unknown")).await;
    let log = bed.turn("Anybody there?").await;
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    assert_eq!(
        bed.model.request(3).await.last_user_text(),
        "Anybody there?"
    );
    bed.model.assert_done();
}

/// A client that was away, across a restart of the server, finds in the list and in `why` what is waited for.
#[tokio::test]
async fn tc_6_i_8_a_client_that_comes_back_finds_the_pending_answer() {
    let mut bed = Bed::new([ask("toolu_1"), Reply::text("Done.")]).await;
    let mut tail = bed.store.subscribe(&bed.session);
    bed.say("Go").await;
    let call = next_call(&mut tail, "agent.custom_tool_use").await;
    drop(tail);
    bed.seen("session.status_idle", 1).await;
    for crash in [false, true] {
        if crash {
            bed.crash().await;
            bed.wake();
        }
        let mut tail = bed.store.subscribe(&bed.session);
        let idle = &bed.events("session.status_idle").await[0];
        assert_eq!(idle["stop_reason"]["event_ids"], json!([call]));
        let why = bed.why().await;
        assert_eq!(
            (why.state, why.waiting_for),
            (State::AwaitingAnswers, Party::Client)
        );
        let [waiting] = &why.details.calls[..] else {
            panic!("{why:?}")
        };
        assert_eq!(
            (waiting.event_id.as_str(), waiting.needs),
            (&*call, Need::Result)
        );
        assert!(why.sentence.contains(&call), "{}", why.sentence);
        assert!(
            tail.recv().now_or_never().is_none(),
            "nothing is said twice"
        );
    }
    bed.send(vec![custom_result(&call, "back again")]).await;
    bed.seen("agent.message", 1).await;
    bed.idle().await;
    assert_eq!(
        bed.model.request(2).await.tool_results()[0].text,
        "back again"
    );
    bed.model.assert_done();
}

/// Runtime IN-2, SQ-12: a stop during the wait for a retry does not wait for it, and the message behind it is answered.
#[tokio::test]
async fn in_2_i_8_an_interrupt_ends_a_long_back_off() {
    let hour = Duration::from_secs(3600);
    let mut bed = Bed::asleep([Reply::overloaded(), Reply::text("Two.")]).await;
    bed.config.retries.base = hour;
    bed.config.retries.longest = hour;
    bed.config.retries.total = 10 * hour;
    bed.wake();
    bed.say("1").await;
    bed.seen("session.status_rescheduled", 1).await;
    let why = bed.why().await;
    assert_eq!(why.state, State::AwaitingRetry);
    assert!(why.until.is_some() && why.details.attempt == Some(1));
    bed.send(vec![interrupt(), message("2")]).await;
    bed.seen("agent.message", 1).await;
    bed.idle().await;
    let log = bed.log().await;
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    let ended = log
        .iter()
        .filter(|line| *line == "session.status_idle: end_turn");
    assert_eq!(ended.count(), 2, "the stopped turn, and the next");
    bed.model.assert_done();
}
