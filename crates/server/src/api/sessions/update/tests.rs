use manyhands_protocol::Metadata;
use serde_json::json;

use super::*;
use crate::api::sessions::sample;

/// What a cent is in units of `token_cost`.
const CENT: u64 = 100_000_000_000;

fn state(status: SessionStatus, budget: Option<u64>, token_cost: u64) -> SessionState {
    let mut state = sample::state(status, "m");
    state.record.title = Some("old".to_owned());
    state.record.metadata = Metadata::from([("k".to_owned(), "v".to_owned())]);
    state.record.budget = budget.map(Budget::of_cents);
    state.record.usage.token_cost = token_cost;
    state
}

fn update(body: Value) -> Result<Update, ApiError> {
    parse(serde_json::from_value(body).expect("params"))
}

fn cap(amount: &str) -> Value {
    json!({"budget": {"type": "limit", "max_list_cost": {"amount": amount, "currency": "USD"}}})
}

/// What the one event of a change says, without its type; null when nothing is written.
#[track_caller]
fn told(state: &SessionState, body: Value) -> Value {
    let change = decide(state, update(body).expect("well formed")).expect("accepted");
    match &change.append.entries[..] {
        [] => {
            assert_eq!(change, Change::default());
            Value::Null
        }
        [before @ .., NewEntry::Event { body, .. }] => {
            // A new agent comes with the one that an open turn goes on with (UP-3).
            let private = before
                .iter()
                .all(|entry| matches!(entry, NewEntry::Private { .. }));
            assert!(private, "{before:?}");
            assert_eq!(before.len(), usize::from(change.agent.is_some()));
            let mut event = json!(body);
            let members = event.as_object_mut().expect("an object");
            assert_eq!(members.remove("type"), Some(json!("session.updated")));
            assert_eq!(change.wants_brain, members.contains_key("budget"));
            event
        }
        entries => panic!("{entries:?}"),
    }
}

#[track_caller]
fn refused(state: &SessionState, body: Value, problem: &str, code: &str) {
    let error = update(body).and_then(|update| decide(state, update).map(|_| ()));
    let error = error.expect_err(problem);
    assert!(error.message().starts_with(problem), "{}", error.message());
    let body: Value = serde_json::from_str(&error.body(None)).expect("JSON");
    assert_eq!(
        body["error"]["details"]["error_code"]
            .as_str()
            .unwrap_or_default(),
        code
    );
}

/// runtime UP-4, SQ-21
#[test]
fn up_4_only_what_changes_is_told() {
    let idle = state(SessionStatus::Idle, Some(5), 0);
    for nothing in [
        json!({}),
        json!({"title": "old", "metadata": {"k": "v", "none": null}, "agent": {"tools": []}}),
        json!({"metadata": null, "agent": {}}),
        cap("5"),
    ] {
        assert_eq!(told(&idle, nothing), Value::Null);
    }
    assert_eq!(
        told(&idle, json!({"title": "new"})),
        json!({"title": "new"})
    );
    assert_eq!(told(&idle, json!({"title": null})), json!({"title": null}));
    let metadata = told(&idle, json!({"metadata": {"a": "b"}}));
    assert_eq!(
        metadata,
        json!({"metadata": {"a": "b", "k": "v"}}),
        "the whole bag"
    );
    let cleared = told(&idle, json!({"title": "new", "metadata": {"k": null}}));
    assert_eq!(
        cleared,
        json!({"title": "new"}),
        "absent when cleared to empty"
    );
    let tool = json!({"type": "custom", "name": "ask", "description": "Asks.", "input_schema": {"type": "object"}});
    let agent = told(&idle, json!({"agent": {"tools": [tool]}}))["agent"].clone();
    assert_eq!(
        (&agent["tools"], &agent["name"]),
        (&json!([tool]), &json!("coder"))
    );
    let server = json!({"type": "url", "name": "docs", "url": "https://docs.example.com/mcp"});
    let toolset = json!({"type": "mcp_toolset", "mcp_server_name": "docs"});
    let both = json!({"agent": {"tools": [toolset], "mcp_servers": [server]}});
    let agent = told(&idle, both)["agent"].clone();
    assert_eq!(agent["mcp_servers"], json!([server]));
    assert_eq!(agent["tools"][0]["mcp_server_name"], "docs");
}

/// runtime UP-3, AG-9
#[test]
fn up_3_tools_and_servers_are_validated_together() {
    let server = json!({"type": "url", "name": "docs", "url": "https://docs.example.com/mcp"});
    let toolset = json!({"type": "mcp_toolset", "mcp_server_name": "docs"});
    let mut with = state(SessionStatus::Idle, None, 0);
    let definition = &mut with.record.agent.definition;
    definition.tools = definition::tools(std::slice::from_ref(&toolset)).expect("tools");
    definition.mcp_servers = definition::servers(std::slice::from_ref(&server)).expect("servers");
    let orphan = "agent.tools[0].mcp_server_name: \"docs\" is not one of mcp_servers";
    let lonely = "agent.mcp_servers[0].name: no mcp_toolset names \"docs\"";
    refused(&with, json!({"agent": {"mcp_servers": []}}), orphan, "");
    refused(&with, json!({"agent": {"mcp_servers": null}}), orphan, "");
    refused(&with, json!({"agent": {"tools": []}}), lonely, "");
    let none = told(&with, json!({"agent": {"tools": [], "mcp_servers": null}}));
    assert_eq!(none["agent"]["mcp_servers"], json!([]));
    let same = json!({"agent": {"tools": [toolset], "mcp_servers": [server]}});
    assert_eq!(told(&with, same), Value::Null);
    let bare = state(SessionStatus::Idle, None, 0);
    refused(
        &bare,
        json!({"agent": {"mcp_servers": [server]}}),
        lonely,
        "",
    );
}

/// runtime UP-1, UP-2, UP-6, LC-13
#[test]
fn up_2_the_agent_changes_only_while_idle_and_the_rest_at_any_time() {
    for status in [SessionStatus::Running, SessionStatus::Rescheduling] {
        let busy = state(status, Some(5), 0);
        refused(
            &busy,
            json!({"agent": {"tools": []}}),
            "agent: can only be changed while",
            "",
        );
        let rest = json!({"title": "new", "metadata": {"a": "b"}, "budget": null});
        assert_eq!(told(&busy, rest).as_object().expect("an object").len(), 3);
    }
    let idle = state(SessionStatus::Idle, None, 0);
    refused(
        &idle,
        json!({"vault_ids": []}),
        "vault_ids: cannot be changed",
        "",
    );
    refused(
        &idle,
        json!({"vault_ids": null}),
        "vault_ids: cannot be changed",
        "",
    );
    let ended = state(SessionStatus::Terminated, Some(5), 0);
    refused(&ended, json!({"title": "x"}), "the session has ended", "");
    refused(&ended, json!({"budget": null}), "the session has ended", "");
}

/// runtime BU-9
#[test]
fn bu_9_a_new_cap_lies_above_what_is_consumed() {
    let message = "budget.max_list_cost must be greater than the session's consumed list cost";
    let used = state(SessionStatus::Idle, Some(2), 2 * CENT);
    for amount in ["1", "2"] {
        refused(&used, cap(amount), message, "budget_not_raised");
    }
    assert_eq!(told(&used, cap("3")), cap("3"));
    // The sum counts, not what is shown of it: half a hundredth of a cent over is over.
    let over = state(SessionStatus::Idle, Some(2), 3 * CENT + CENT / 20_000);
    refused(&over, cap("3"), message, "budget_not_raised");
    assert_eq!(told(&over, cap("4")), cap("4"));
    let below = state(SessionStatus::Running, Some(9), 3 * CENT - 1);
    assert_eq!(told(&below, cap("3")), cap("3"), "lower is allowed, too");
    let mut running = state(SessionStatus::Running, Some(1), 0);
    running.record.active_millis = 450_000;
    refused(&running, cap("1"), message, "budget_not_raised");
}

/// runtime BU-10
#[test]
fn bu_10_a_cap_is_removed_for_good() {
    let capped = state(SessionStatus::Idle, Some(2), 5 * CENT);
    assert_eq!(
        told(&capped, json!({"budget": null})),
        json!({"budget": null})
    );
    let free = state(SessionStatus::Idle, None, 0);
    assert_eq!(told(&free, json!({"budget": null})), Value::Null);
    let problem = "budget: can only be set when a session is created";
    refused(&free, cap("5"), problem, "budget_create_only");
}

/// runtime BU-11
#[test]
fn bu_11_where_the_cost_is_not_known_the_cap_is_only_removed() {
    let mut unknown = state(SessionStatus::Idle, Some(2), 0);
    unknown.record.usage.unpriced_requests = 1;
    refused(
        &unknown,
        cap("9"),
        "budget: cannot be changed, only removed",
        "model_not_budgetable",
    );
    assert_eq!(
        told(&unknown, json!({"budget": null})),
        json!({"budget": null})
    );
}

/// runtime BU-1
#[test]
fn bu_1_a_budget_has_one_form() {
    let capped = state(SessionStatus::Idle, Some(2), 0);
    for amount in ["0", "01", "1.5", "-1", ""] {
        refused(
            &capped,
            cap(amount),
            "budget.max_list_cost.amount: expected",
            "",
        );
    }
    refused(&capped, json!({"budget": {}}), "budget.type: expected", "");
    refused(&capped, json!({"budget": 5}), "budget.type: expected", "");
}
