//! Cost caps and what they count (runtime §11, §33). A token of input costs a hundredth of a cent here.

use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::{Reply, Usage};
use serde_json::{Value, json};

use crate::app::{TestApp, confirmation, id, ids, kinds, message, stories};
use crate::events::result;

stories! {
    bu_1_a_cap_is_shown_as_it_was_set,
    bu_2_a_model_without_prices_has_no_cap,
    bu_4_a_session_pauses_at_its_cap_and_goes_on_above_it,
    bu_5_a_turn_that_ends_beyond_the_cap_says_both,
    bu_6_at_the_cap_answers_are_recorded_and_nothing_is_asked,
    bu_9_a_raise_of_a_session_that_owes_nothing_starts_nothing,
    bu_9_a_cap_can_change_while_a_turn_runs,
    us_1_the_cost_is_exact_and_null_without_prices,
}

fn cap(amount: &str) -> Value {
    json!({"type": "limit", "max_list_cost": {"amount": amount, "currency": "USD"}})
}

/// So many hundredths of a cent.
fn costing(reply: Reply, tokens: u64) -> Reply {
    reply.usage(Usage {
        input_tokens: tokens,
        ..Usage::default()
    })
}

fn bash(id: &str) -> Reply {
    Reply::tool_use(id, "bash", json!({"command": "ls"}))
}

fn tools() -> Value {
    json!([
        {"type": "agent_toolset_20260401",
         "configs": [{"name": "write", "permission_policy": {"type": "always_ask"}}]},
        {"type": "custom", "name": "get_weather", "description": "Gets it.", "input_schema": {"type": "object"}},
    ])
}

/// The answer to a create with this budget.
async fn create(app: &TestApp, model: &str, budget: Value) -> manyhands_testkit::http::Answer {
    let agent = app.agent_of(model, tools()).await;
    let body = json!({"agent": agent, "environment_id": app.environment().await, "budget": budget});
    app.client.post("/v1/sessions", &body).await
}

/// A session that may cost so many cents.
async fn capped(app: &TestApp, cents: &str) -> String {
    id(&create(app, "priced-1", cap(cents)).await.ok())
}

async fn set(app: &TestApp, session: &str, budget: Value) -> manyhands_testkit::http::Answer {
    let path = format!("/v1/sessions/{session}");
    app.client.post(&path, &json!({"budget": budget})).await
}

#[track_caller]
fn refusal(answer: &manyhands_testkit::http::Answer, code: &str) -> String {
    let message = answer.error(400, "invalid_request_error");
    assert_eq!(
        answer.json()["error"]["details"]["error_code"],
        code,
        "{message}"
    );
    message
}

fn stop_reason(events: &[manyhands_testkit::events::Event], kind: &str) -> Value {
    let event = events.iter().rev().find(|event| event.kind() == kind);
    event.expect(kind).data["stop_reason"]["type"].clone()
}

async fn bu_1_a_cap_is_shown_as_it_was_set(app: &TestApp) {
    let session = create(app, "priced-1", cap("150")).await.ok();
    assert_eq!(session["budget"], cap("150"));
    assert_eq!(
        session["usage"]["list_cost"],
        json!({"amount": "0", "currency": "USD"})
    );
    assert_eq!(
        create(app, "priced-1", Value::Null).await.ok()["budget"],
        Value::Null
    );
    let list = app.client.get("/v1/sessions").await.ok();
    assert_eq!(list["data"][1]["budget"], cap("150"), "newest first");
    for (budget, problem) in [
        (cap("0"), "budget.max_list_cost.amount"),
        (cap("01"), "budget.max_list_cost.amount"),
        (cap("1.50"), "budget.max_list_cost.amount"),
        (json!({"type": "limit"}), "budget.max_list_cost.currency"),
        (
            json!({"max_list_cost": cap("1")["max_list_cost"]}),
            "budget.type",
        ),
    ] {
        create(app, "priced-1", budget).await.refused(problem);
    }
}

async fn bu_2_a_model_without_prices_has_no_cap(app: &TestApp) {
    let answer = create(app, "plain-1", cap("150")).await;
    let message = refusal(&answer, "model_not_budgetable");
    assert!(message.starts_with("budget: plain-1"), "{message}");
    assert_eq!(app.client.get("/v1/sessions").await.ok()["data"], json!([]));
    // The model counts that the session runs, whatever its agent names.
    let agent = app.agent_of("plain-1", json!([])).await;
    let body = json!({"agent": {"type": "agent_with_overrides", "id": agent, "model": "priced-1"},
        "environment_id": app.environment().await, "budget": cap("1")});
    app.client.post("/v1/sessions", &body).await.ok();
}

/// Acceptance scenario 11; runtime BU-4, BU-9, BU-10, SQ-16, SQ-17, IN-9.
async fn bu_4_a_session_pauses_at_its_cap_and_goes_on_above_it(app: &TestApp) {
    let session = capped(app, "1").await;
    app.model.push(costing(bash("toolu_1"), 140));
    let events = app.turn(&session, "go").await;
    assert_eq!(
        kinds(&events)[5..],
        [
            "agent.tool_use",
            "span.model_request_end",
            "agent.tool_result",
            "session.thread_status_idle",
            "session.usage",
            "session.status_idle"
        ],
        "the request that crosses the cap finishes, and so does its call"
    );
    let kind = "session.thread_status_idle";
    assert_eq!(stop_reason(&events, kind), "budget_reached");
    assert_eq!(
        stop_reason(&events, "session.status_idle"),
        "budget_reached"
    );
    let usage = &events[events.len() - 2].data;
    assert_eq!(usage["budget"], cap("1"));
    assert_eq!(usage["usage"]["list_cost"]["amount"], "1");
    let paused = app.events(&session).await;

    let refused = app.refused(&session, json!([message("more")])).await;
    let taken =
        "user.tool_confirmation, user.tool_result, user.custom_tool_result and user.interrupt";
    assert!(refused.contains(taken), "{refused}");
    let system = json!({"type": "system.message", "content": [{"type": "text", "text": "x"}]});
    app.refused(&session, json!([system])).await;
    let echo = app.send(&session, json!({"type": "user.interrupt"})).await;
    assert!(
        echo["processed_at"].is_string() && echo["id"].is_string(),
        "{echo}"
    );
    assert_eq!(
        app.events(&session).await,
        paused,
        "IN-9: it leaves no trace"
    );

    let message = refusal(&set(app, &session, cap("1")).await, "budget_not_raised");
    assert_eq!(
        message,
        "budget.max_list_cost must be greater than the session's consumed list cost"
    );
    assert_eq!(app.events(&session).await, paused);
    assert_eq!(app.model.hits(), 1);

    app.model.push(costing(bash("toolu_2"), 140));
    let mut stream = app.stream(&session, "").await;
    let raised = set(app, &session, cap("2")).await.ok();
    assert_eq!(raised["budget"], cap("2"));
    let events = stream.until_idle().await;
    assert_eq!(
        kinds(&events)[..4],
        [
            "session.updated",
            "session.thread_status_running",
            "session.status_running",
            "span.model_request_start"
        ],
        "it goes on by itself"
    );
    assert_eq!(events[0].data["budget"], cap("2"));
    assert_eq!(
        stop_reason(&events, "session.status_idle"),
        "budget_reached"
    );

    app.model.push(costing(Reply::text("Done."), 900));
    let removed = set(app, &session, Value::Null).await.ok();
    assert_eq!(removed["budget"], Value::Null);
    let events = stream.until_idle().await;
    assert_eq!(events[0].data["budget"], Value::Null);
    assert!(
        events[0]
            .data
            .as_object()
            .expect("an object")
            .contains_key("budget")
    );
    assert_eq!(stop_reason(&events, "session.status_idle"), "end_turn");
    refusal(&set(app, &session, cap("100")).await, "budget_create_only");
    assert_eq!(app.model.hits(), 3);
    let result = app.model.request(2).await.tool_results();
    assert_eq!(result[0].text, "ran ls");
}

async fn bu_5_a_turn_that_ends_beyond_the_cap_says_both(app: &TestApp) {
    let session = capped(app, "1").await;
    app.model.push(costing(Reply::text("Dear."), 200));
    let events = app.turn(&session, "go").await;
    assert_eq!(
        stop_reason(&events, "session.thread_status_idle"),
        "end_turn"
    );
    assert_eq!(
        stop_reason(&events, "session.status_idle"),
        "budget_reached"
    );
    app.refused(&session, json!([message("more")])).await;
    set(app, &session, cap("3")).await.ok();
    app.model.push(costing(Reply::text("Yes."), 10));
    let events = app.turn(&session, "more").await;
    assert_eq!(stop_reason(&events, "session.status_idle"), "end_turn");
}

/// runtime BU-6, BU-7
async fn bu_6_at_the_cap_answers_are_recorded_and_nothing_is_asked(app: &TestApp) {
    let session = capped(app, "1").await;
    let write = json!({"file_path": "/workspace/a", "content": "a"});
    let calls = Reply::tool_use("toolu_1", "get_weather", json!({}))
        .then_tool_use("toolu_2", "write", write);
    app.model.push(costing(calls, 200));
    let events = app.turn(&session, "go").await;
    assert_eq!(
        stop_reason(&events, "session.status_idle"),
        "requires_action",
        "BU-7"
    );
    let custom = ids(&events, "agent.custom_tool_use").remove(0);
    let asked = ids(&events, "agent.tool_use").remove(0);
    let mut stream = app.stream(&session, "").await;
    app.send(&session, confirmation(&asked, Some("no"))).await;
    let events = stream.until_idle().await;
    assert_eq!(
        stop_reason(&events, "session.status_idle"),
        "requires_action"
    );
    let echo = app.send(&session, result(&custom, "rain")).await;
    assert!(echo["processed_at"].is_string());
    let events = stream.until_idle().await;
    assert_eq!(
        stop_reason(&events, "session.status_idle"),
        "budget_reached"
    );
    assert_eq!(app.model.hits(), 1, "nothing was asked");
    assert!(app.events(&session).await.contains(&echo));
    app.model.push(costing(Reply::text("Rain."), 10));
    set(app, &session, Value::Null).await.ok();
    stream.until_idle().await;
    let results = app.model.request(2).await.tool_results();
    assert_eq!(
        (results[0].text.as_str(), results[1].is_error),
        ("rain", true)
    );
}

async fn bu_9_a_raise_of_a_session_that_owes_nothing_starts_nothing(app: &TestApp) {
    let session = capped(app, "1").await;
    set(app, &session, cap("5")).await.ok();
    app.model.push(costing(Reply::text("One."), 10));
    let events = app.turn(&session, "go").await;
    assert_eq!(
        kinds(&events)[0],
        "user.message",
        "no status event came before"
    );
    set(app, &session, cap("1")).await.ok();
    let updates = app.events(&session).await;
    let updates = updates
        .iter()
        .filter(|event| event["type"] == "session.updated");
    let caps: Vec<&Value> = updates.map(|event| &event["budget"]).collect();
    assert_eq!(caps, [&cap("5"), &cap("1")]);
    assert_eq!(app.retrieve(&session).await["status"], "idle");
}

async fn bu_9_a_cap_can_change_while_a_turn_runs(app: &TestApp) {
    let gate = Gate::new();
    let session = capped(app, "1").await;
    app.model
        .push(costing(bash("toolu_1"), 200).hold_first_token(&gate));
    app.model.push(costing(Reply::text("Done."), 10));
    let mut stream = app.stream(&session, "").await;
    app.send(&session, message("go")).await;
    gate.reached().await;
    set(app, &session, cap("9")).await.ok();
    gate.open();
    let events = stream.until_idle().await;
    assert_eq!(stop_reason(&events, "session.status_idle"), "end_turn");
    assert_eq!(app.model.hits(), 2);
}

/// runtime US-1, US-6, BU-3, BU-11
async fn us_1_the_cost_is_exact_and_null_without_prices(app: &TestApp) {
    let session = app
        .session_of(&app.agent_of("priced-1", json!([])).await)
        .await;
    for (turn, cents) in [(1, "0"), (2, "1"), (3, "1"), (4, "2")] {
        // 0.4 cents each: what is shown is the rounded sum, not a sum of rounded costs.
        app.model.push(costing(Reply::text("Yes."), 40));
        let events = app.turn(&session, &format!("turn {turn}")).await;
        let told = events[events.len() - 2].data["usage"].clone();
        assert_eq!(
            told["list_cost"],
            json!({"amount": cents, "currency": "USD"})
        );
        let shown = app.retrieve(&session).await["usage"].clone();
        assert_eq!(shown["list_cost"], told["list_cost"]);
        assert_eq!(shown["input_tokens"], 40 * turn);
    }
    app.model.push(Reply::text("Yes."));
    let free = app.session().await;
    let events = app.turn(&free, "hi").await;
    assert_eq!(
        events[events.len() - 2].data["usage"]["list_cost"],
        Value::Null
    );
    assert_eq!(app.retrieve(&free).await["usage"]["list_cost"], Value::Null);
}
