//! Golden JSON of every event: what is on the wire today must still be read and written the same tomorrow.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use manyhands_protocol::event::{Event, EventBody, PERSISTED_TYPES, Preview, StopReason};
use manyhands_protocol::patch::Patch;
use manyhands_protocol::session::SessionUpdateParams;
use serde_json::{Value, json};

const STREAM_ONLY: [&str; 3] = ["session.deleted", "event_start", "event_delta"];

fn golden_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn golden(name: &str) -> Value {
    let path = golden_directory().join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("golden files hold JSON")
}

#[test]
fn li_4a_there_is_one_golden_file_for_each_type_and_no_other() {
    let files: BTreeSet<String> = std::fs::read_dir(golden_directory())
        .expect("the golden directory is there")
        .map(|entry| entry.expect("readable").path())
        .map(|path| {
            path.file_stem()
                .expect("named")
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    let types: BTreeSet<String> = PERSISTED_TYPES
        .iter()
        .chain(&STREAM_ONLY)
        .map(|name| (*name).to_owned())
        .collect();
    assert_eq!(files, types);
    assert_eq!(types.len(), 44);
}

#[test]
fn every_event_keeps_its_golden_form() {
    for name in PERSISTED_TYPES.iter().chain(["session.deleted"].iter()) {
        let golden = golden(name);
        let event: Event = serde_json::from_value(golden.clone())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(event.body.type_name(), *name);
        assert_eq!(
            serde_json::to_value(&event).expect("serialises"),
            golden,
            "{name}"
        );
    }
}

#[test]
fn st_9_previews_keep_their_golden_form() {
    for name in ["event_start", "event_delta"] {
        let golden = golden(name);
        let preview: Preview = serde_json::from_value(golden.clone()).expect("a preview");
        assert_eq!(preview.type_name(), name);
        assert_eq!(
            serde_json::to_value(&preview).expect("serialises"),
            golden,
            "{name}"
        );
    }
}

#[test]
fn events_written_by_a_newer_server_are_read_without_their_unknown_members() {
    let mut newer = golden("agent.message");
    newer["confidence"] = json!(0.5);
    let event: Event = serde_json::from_value(newer).expect("unknown members do not hurt");
    assert_eq!(
        serde_json::to_value(&event).expect("serialises"),
        golden("agent.message")
    );
}

#[test]
fn sq_24_every_stop_reason_has_its_wire_form() {
    for (reason, wire) in [
        (StopReason::EndTurn, json!({"type": "end_turn"})),
        (
            StopReason::RequiresAction { event_ids: vec![] },
            json!({"type": "requires_action", "event_ids": []}),
        ),
        (
            StopReason::RetriesExhausted,
            json!({"type": "retries_exhausted"}),
        ),
        (StopReason::BudgetReached, json!({"type": "budget_reached"})),
        (StopReason::Refusal, json!({"type": "refusal"})),
    ] {
        assert_eq!(serde_json::to_value(&reason).expect("serialises"), wire);
        assert_eq!(
            serde_json::from_value::<StopReason>(wire).expect("parses"),
            reason
        );
    }
}

#[test]
fn up_4_a_session_update_tells_a_cleared_title_from_an_unchanged_one() {
    let check = |title: Option<Option<String>>, wire: Value| {
        let body = EventBody::SessionUpdated {
            agent: None,
            budget: None,
            metadata: None,
            title,
        };
        assert_eq!(serde_json::to_value(&body).expect("serialises"), wire);
        assert_eq!(
            serde_json::from_value::<EventBody>(wire).expect("parses"),
            body
        );
    };
    check(None, json!({"type": "session.updated"}));
    check(
        Some(None),
        json!({"type": "session.updated", "title": null}),
    );
    check(
        Some(Some("T".to_owned())),
        json!({"type": "session.updated", "title": "T"}),
    );
}

#[test]
fn ht_16_absent_null_and_value_are_three_things() {
    let parse = |value: Value| {
        serde_json::from_value::<SessionUpdateParams>(value)
            .expect("parses")
            .title
    };
    assert_eq!(parse(json!({})), Patch::Keep);
    assert_eq!(parse(json!({"title": null})), Patch::Clear);
    assert_eq!(parse(json!({"title": "x"})), Patch::Set("x".to_owned()));
    assert_eq!(Patch::Clear.apply(Some(1)), None);
    assert_eq!(Patch::Keep.apply(Some(1)), Some(1));
}

#[test]
fn bodies_are_written_as_the_store_joins_them() {
    let body = serde_json::to_string(&EventBody::AgentThinking {}).expect("serialises");
    assert_eq!(body, r#"{"type":"agent.thinking"}"#);
}
