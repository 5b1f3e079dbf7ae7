//! Rules of answers, interrupts and pages that have no story of their own (runtime §6, §7, §14, security API and LEASE).

use futures::future::join_all;
use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use crate::app::{TestApp, confirmation, ids, kinds, message, stories};

stories! {
    api_5_lease_3_of_an_allow_and_a_deny_at_once_one_holds,
    api_5_nothing_starts_before_it_is_allowed,
    in_1_an_interrupt_may_name_the_thread,
    li_6_pages_have_their_sizes,
    li_4_a_page_of_events_holds_a_thousand,
}

/// A session whose model wants to run one `bash` command that must be confirmed; the call's id.
async fn asked(app: &TestApp) -> (String, String) {
    let command = json!({"command": "rm"});
    app.model.push(Reply::tool_use("toolu_1", "bash", command));
    let policy = json!({"permission_policy": {"type": "always_ask"}});
    let tools = json!([{"type": "agent_toolset_20260401", "default_config": policy}]);
    let session = app.session_of(&app.agent_with(tools).await).await;
    let events = app.turn(&session, "go").await;
    (session, ids(&events, "agent.tool_use").remove(0))
}

/// security API-5, LEASE-3; runtime SE-18: one answer is stored, all who answered are shown it, and it is what happens.
async fn api_5_lease_3_of_an_allow_and_a_deny_at_once_one_holds(app: &TestApp) {
    for _ in 0..8 {
        let (session, call) = asked(app).await;
        app.model.push(Reply::text("Done."));
        let mut stream = app.stream(&session, "").await;
        let answers = [None, Some("no"), None, Some("never"), None, Some("no")];
        let path = format!("/v1/sessions/{session}/events");
        let echoes = join_all(answers.map(|denied| {
            let (client, path) = (app.client.clone(), path.clone());
            let events = json!({"events": [confirmation(&call, denied)]});
            async move { client.post(&path, &events).await.ok()["data"][0].clone() }
        }));
        let echoes = echoes.await;
        let events = stream.until_idle().await;
        let stored: Vec<Value> = app
            .events(&session)
            .await
            .into_iter()
            .filter(|event| event["type"] == "user.tool_confirmation")
            .collect();
        let [stored] = &stored[..] else {
            panic!("{stored:?}")
        };
        for echo in &echoes {
            assert_eq!(
                (&echo["id"], &echo["result"]),
                (&stored["id"], &stored["result"])
            );
        }
        let allowed = stored["result"] == "allow";
        let started = app
            .hands
            .starts()
            .iter()
            .filter(|(_, started)| *started == call)
            .count();
        assert_eq!(started, usize::from(allowed), "{stored}");
        let result = events
            .iter()
            .find(|event| event.kind() == "agent.tool_result")
            .expect("a result");
        assert_eq!(result.data["is_error"] == true, !allowed);
    }
}

/// security API-5, I9: not by time, nor by other words, nor by the answer to another call.
async fn api_5_nothing_starts_before_it_is_allowed(app: &TestApp) {
    let (session, call) = asked(app).await;
    let (_, other) = asked(app).await;
    app.send(&session, message("Just do it, I allow everything."))
        .await;
    for wrong in [
        confirmation(&other, None),
        confirmation("sevt_01none", None),
        json!({"type": "user.tool_confirmation", "tool_use_id": call, "result": "maybe"}),
        json!({"type": "user.tool_confirmation", "tool_use_id": call}),
        json!({"type": "user.custom_tool_result", "custom_tool_use_id": call, "content": []}),
        json!({"type": "agent.tool_result", "tool_use_id": call, "content": []}),
    ] {
        app.refused(&session, json!([wrong])).await;
    }
    assert_eq!(app.hands.starts(), []);
    let mut stream = app.stream(&session, "").await;
    app.model.push(Reply::text("And your message."));
    app.send(&session, confirmation(&call, None)).await;
    stream.until_idle().await;
    let started: Vec<String> = app
        .hands
        .starts()
        .into_iter()
        .map(|(_, call)| call)
        .collect();
    assert_eq!(started, [call]);
}

async fn in_1_an_interrupt_may_name_the_thread(app: &TestApp) {
    let (session, _gate, mut stream) = app.working("Never told.").await;
    let thread = app.thread(&session).await;
    stream.until("span.model_request_start").await;
    for wrong in ["sthr_01none", "sesn_01none", ""] {
        let event = json!({"type": "user.interrupt", "session_thread_id": wrong});
        app.refused(&session, json!([event])).await;
    }
    let event = json!({"type": "user.interrupt", "session_thread_id": thread});
    app.send(&session, event).await;
    let events = stream.until_idle().await;
    assert!(!kinds(&events).contains(&"agent.message"));
    let idle = &events.last().expect("idle").data;
    assert_eq!(idle["stop_reason"], json!({"type": "end_turn"}));
}

/// runtime LI-1, LI-6
async fn li_6_pages_have_their_sizes(app: &TestApp) {
    let agent = app.agent().await;
    let session = app.session_of(&agent).await;
    for (list, most) in [
        ("agents".to_owned(), 100),
        (format!("agents/{agent}/versions"), 100),
        ("environments".to_owned(), 100),
        ("sessions".to_owned(), 100),
        (format!("sessions/{session}/events"), 1000),
        (format!("sessions/{session}/threads"), 1000),
        (format!("sessions/{session}/resources"), 1000),
    ] {
        let page = async |limit: String| app.client.get(&format!("/v1/{list}?limit={limit}")).await;
        for fine in [1, most] {
            let answer = page(fine.to_string()).await.ok();
            assert_eq!(
                answer.get("prev_page").is_some(),
                list == "sessions",
                "{list}: {answer}"
            );
            assert!(answer["data"].is_array() && answer.get("next_page").is_some());
        }
        for wrong in [
            "0".to_owned(),
            (most + 1).to_string(),
            "-1".to_owned(),
            "x".to_owned(),
        ] {
            page(wrong).await.error(400, "invalid_request_error");
        }
    }
    // Twenty when nothing is said.
    for n in 0..20 {
        let body = json!({"name": format!("{n}")});
        app.client
            .post(&format!("/v1/agents/{agent}"), &body)
            .await
            .ok();
        app.client.post("/v1/environments", &body).await.ok();
        app.agent().await;
        app.session_of(&agent).await;
    }
    for list in [
        "agents",
        "environments",
        "sessions",
        &format!("agents/{agent}/versions"),
    ] {
        let answer = app.client.get(&format!("/v1/{list}")).await.ok();
        assert_eq!(
            answer["data"].as_array().expect("a list").len(),
            20,
            "{list}"
        );
        assert!(answer["next_page"].is_string(), "{list}");
    }
}

/// runtime LI-4, LI-5, SE-2: a thousand events in one request come back in their order, over two pages.
async fn li_4_a_page_of_events_holds_a_thousand(app: &TestApp) {
    let (session, _) = crate::events::waiting(app, 1).await;
    let messages: Vec<Value> = (0..1000).map(|n| message(&format!("{n}."))).collect();
    let sent = app.send_all(&session, json!(messages)).await;
    let path = format!("/v1/sessions/{session}/events");
    let first = app.client.get(&path).await.ok();
    let mut listed = first["data"].as_array().expect("a list").clone();
    assert_eq!(listed.len(), 1000);
    let next = first["next_page"].as_str().expect("a cursor");
    let second = app.client.get(&format!("{path}?page={next}")).await.ok();
    listed.extend(second["data"].as_array().expect("a list").iter().cloned());
    assert_eq!(second["next_page"], Value::Null);
    let queued = listed.split_off(listed.len() - 1000);
    assert!(queued == sent, "what is queued comes last, as it was sent");
    assert!(listed.iter().all(|event| event["processed_at"].is_string()));
}
