//! Conversations that outgrow the model are summarised, and nothing that must survive is lost (runtime §32, ER-5,
//! security MODEL-4).

mod failing;

use manyhands_brain::compactions;
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::{Reply, Request, Usage};
use serde_json::json;

use crate::bed::{Bed, hold_at, interrupt, message, small_specs, system};

/// An answer after which the conversation counts 60,000 tokens.
fn long(text: &str) -> Reply {
    Reply::text(text).usage(tokens(60_000))
}

fn tokens(input_tokens: u64) -> Usage {
    Usage {
        input_tokens,
        ..Usage::default()
    }
}

fn too_long() -> Reply {
    Reply::bad_request("prompt is too long: 210000 tokens > 200000 maximum")
}

async fn small_bed(replies: impl IntoIterator<Item = Reply>) -> Bed {
    let mut bed = Bed::asleep(replies).await;
    bed.specs = small_specs;
    bed
}

/// The conversation of a request: who speaks, and the start of each text.
fn conversation(request: &Request) -> Vec<String> {
    let line = |message: &serde_json::Value| {
        let blocks = message["content"].as_array().unwrap();
        let texts: Vec<String> = blocks
            .iter()
            .map(|block| {
                let text = block["text"].as_str().or(block["type"].as_str()).unwrap();
                text.chars().take(12).collect()
            })
            .collect();
        format!("{}: {}", message["role"].as_str().unwrap(), texts.join("|"))
    };
    request.messages().iter().map(line).collect()
}

/// Where the request's first block holds a summary, its text.
fn summary_of(request: &Request) -> String {
    let text = request.messages()[0]["content"][0]["text"].as_str();
    text.unwrap().to_owned()
}

const PREFACE: &str = "The conversa";
const WISH: &str = "This convers";

/// Scenario 30 of runtime §41; runtime CC-1, CC-2, CC-3, security MODEL-4.
#[tokio::test]
async fn model_4_an_overflow_is_summarised_once_and_the_request_made_again() {
    let bed = Bed::new([
        Reply::text("Bonjour."),
        too_long(),
        Reply::text("They greeted each other."),
        Reply::text("Deux."),
        Reply::text("Trois."),
    ])
    .await;
    bed.send(vec![message("One"), system("Answer in French.")])
        .await;
    bed.seen("session.status_idle", 1).await;
    let first = bed.log().await;
    let log = bed.turn("Two").await;
    assert_eq!(
        log,
        [
            "user.message: Two",
            "session.thread_status_running",
            "session.status_running",
            "user.message processed",
            "span.model_request_start",
            "span.model_request_end (error)",
            "span.model_request_start",
            "span.model_request_end",
            "agent.thread_context_compacted",
            "span.model_request_start",
            "agent.message: Deux.",
            "span.model_request_end",
            "session.thread_status_idle: end_turn",
            "session.usage",
            "session.status_idle: end_turn",
        ]
    );
    assert_eq!(
        bed.log().await[..first.len()],
        first,
        "the log is whole (CC-2)"
    );
    let third = bed.model.request(3).await;
    assert_eq!(conversation(&third), [format!("user: The text of |{WISH}")]);
    assert!(summary_of(&third).contains("Operator: Answer in French."));
    let fourth = bed.model.request(4).await;
    assert_eq!(
        conversation(&fourth),
        [
            format!("user: {PREFACE}|Two"),
            "system: Answer in Fr".to_owned()
        ]
    );
    assert!(summary_of(&fourth).contains("They greeted each other."));
    assert!(
        fourth.system().contains("Linux sandbox"),
        "the sandbox note stays"
    );
    bed.turn("Three").await;
    let fifth = bed.model.request(5).await;
    assert_eq!(
        conversation(&fifth),
        [
            format!("user: {PREFACE}|Two"),
            "system: Answer in Fr".to_owned(),
            "assistant: Deux.".to_owned(),
            "user: Three".to_owned(),
        ]
    );
    bed.model.assert_done();
}

/// Runtime CC-1, CC-4, CC-5: near the window, behind the same bytes as the request before; counted like any request.
/// runtime SQ-22
#[tokio::test]
async fn cc_1_a_long_conversation_is_summarised_before_the_next_request() {
    let mut bed = small_bed([
        long("One."),
        Reply::text("All about one.").usage(tokens(60_010)),
        Reply::text("Two."),
    ])
    .await;
    bed.wake();
    bed.turn("1").await;
    let log = bed.turn("2").await;
    assert_eq!(
        log[1..],
        [
            "session.thread_status_running",
            "session.status_running",
            "span.model_request_start",
            "span.model_request_end",
            "agent.thread_context_compacted",
            "user.message processed",
            "span.model_request_start",
            "agent.message: Two.",
            "span.model_request_end",
            "session.thread_status_idle: end_turn",
            "session.usage",
            "session.status_idle: end_turn",
        ]
    );
    let second = bed.model.request(2).await;
    assert_eq!(
        conversation(&second),
        [
            "user: 1".to_owned(),
            "assistant: One.".to_owned(),
            format!("user: {WISH}")
        ]
    );
    let third = bed.model.request(3).await;
    assert_eq!(conversation(&third), [format!("user: {PREFACE}|2")]);
    let usage = bed.record().await.usage;
    assert_eq!(usage.input_tokens, 60_000 + 60_010 + 12);
    let found = compactions(&bed.store, &bed.session).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].summary, "All about one.");
    assert_eq!(found[0].model, "claude-opus-4-8");
    assert!(
        (60_000..60_100).contains(&found[0].tokens_before),
        "{found:?}"
    );
    bed.model.assert_done();
}

/// Runtime CC-1: also between a call's result and the answer to it.
#[tokio::test]
async fn cc_1_a_turn_goes_on_after_a_summary_in_its_middle() {
    let mut bed = small_bed([
        Reply::tool_use("toolu_1", "bash", json!({"command": "ls"})).usage(tokens(60_000)),
        Reply::text("ls was run: it said x."),
        Reply::tool_use("toolu_1", "bash", json!({"command": "ls -l"})),
        Reply::text("Done."),
    ])
    .await;
    bed.wake();
    let log = bed.turn("Look").await;
    let told = |line: &&String| line.starts_with("agent.");
    let told: Vec<&String> = log.iter().filter(told).collect();
    assert_eq!(
        told,
        [
            "agent.tool_use: bash {\"command\":\"ls\"} allow",
            "agent.tool_result: bash: {\"command\":\"ls\"}",
            "agent.thread_context_compacted",
            "agent.tool_use: bash {\"command\":\"ls -l\"} allow",
            "agent.tool_result: bash: {\"command\":\"ls -l\"}",
            "agent.message: Done.",
        ]
    );
    let third = bed.model.request(3).await;
    assert_eq!(conversation(&third), [format!("user: {PREFACE}")]);
    bed.assert_each_call_has_one_result().await;
    bed.model.assert_done();
}

/// Runtime CC-3: what is sent while the summary is written waits and is answered.
#[tokio::test]
async fn cc_3_input_during_a_summary_is_not_lost() {
    let gate = Gate::new();
    let mut bed = small_bed([
        long("One."),
        Reply::text("Summary.").hold_headers(&gate),
        Reply::text("Two and three."),
    ])
    .await;
    bed.wake();
    bed.turn("1").await;
    bed.say("2").await;
    gate.reached().await;
    bed.send(vec![message("3"), system("Be kind.")]).await;
    gate.open();
    bed.seen("session.status_idle", 2).await;
    let third = bed.model.request(3).await;
    assert_eq!(
        conversation(&third),
        [
            format!("user: {PREFACE}|2|3"),
            "system: Be kind.".to_owned()
        ]
    );
    bed.model.assert_done();
}

/// Runtime CC-3, security I1: what is stored between the summary and its append goes on with it.
#[tokio::test]
async fn cc_3_i_1_input_just_before_the_summary_is_written_is_not_lost() {
    let gate = Gate::new();
    let mut bed = small_bed([
        long("One."),
        Reply::text("Summary."),
        Reply::text("Two and three."),
        Reply::text("Four."),
    ])
    .await;
    bed.config.probe = Some(hold_at("brain::summary", 1, &gate));
    bed.config.transcript_cache = 0;
    bed.wake();
    bed.turn("1").await;
    bed.say("2").await;
    gate.reached().await;
    bed.send(vec![message("3"), system("Be kind.")]).await;
    gate.open();
    bed.seen("session.status_idle", 2).await;
    bed.turn("4").await;
    let fourth = bed.model.request(4).await;
    assert_eq!(
        conversation(&fourth),
        [
            format!("user: {PREFACE}|2|3"),
            "system: Be kind.".to_owned(),
            "assistant: Two and thre".to_owned(),
            "user: 4".to_owned(),
        ]
    );
    bed.model.assert_done();
}

/// Runtime IN-2: the request for a summary is cut off like any other, and asked again when it is needed.
#[tokio::test]
async fn in_2_an_interrupt_cuts_a_summary_off() {
    let gate = Gate::new();
    let mut bed = small_bed([
        long("One."),
        Reply::text("Never read.").hold_headers(&gate),
        Reply::text("Summary."),
        Reply::text("Three."),
    ])
    .await;
    bed.wake();
    bed.turn("1").await;
    let before = bed.log().await.len();
    bed.say("2").await;
    gate.reached().await;
    bed.send(vec![interrupt(), message("3")]).await;
    bed.seen("session.status_idle", 3).await;
    let log = bed.log().await.split_off(before);
    assert!(
        !log.iter().any(|line| line.starts_with("session.error")),
        "{log:?}"
    );
    assert!(log.contains(&"user.interrupt processed".to_owned()));
    let fourth = bed.model.request(4).await;
    assert_eq!(conversation(&fourth), [format!("user: {PREFACE}|2|3")]);
    bed.model.assert_done();
}

/// Invariant I6: a process that begins with the summary sends what one that remembers all would send.
#[tokio::test]
async fn i_6_a_cold_start_behind_a_summary_extends_the_conversation() {
    let mut bed = small_bed([]).await;
    bed.config.transcript_cache = 0;
    bed.model.respond_with(|request| {
        let turns = request.messages().len();
        if request.last_user_text().contains("Write the summary") {
            Reply::text("Summary.")
        } else if turns > 20 {
            long("Enough.")
        } else {
            Reply::text(format!("Answer {turns}."))
        }
    });
    bed.wake();
    for turn in 0..24 {
        bed.turn(&format!("Message {turn}")).await;
        if turn > 10 {
            bed.shut_down().await;
            bed.wake();
        }
    }
    let found = compactions(&bed.store, &bed.session).await.unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].position > 64, "behind the short logs");
    let last = bed.model.requests().last().unwrap().clone();
    assert!(summary_of(&last).contains("Summary."));
    bed.model.assert_clean();
}
