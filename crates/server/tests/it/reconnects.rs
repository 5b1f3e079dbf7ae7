//! Listeners that come, go and come again miss nothing (runtime ST-1, ST-2, security STREAM-1).

use manyhands_testkit::events::Event;
use manyhands_testkit::gate::PATIENCE;
use manyhands_testkit::model::Reply;
use serde_json::Value;

use crate::app::{TestApp, id, kinds, message, stories};

stories! {
    st_2_a_stream_resumes_without_gap_or_double,
    st_2_a_list_and_a_stream_together_miss_nothing,
}

async fn st_2_a_stream_resumes_without_gap_or_double(app: &TestApp) {
    app.model.push(Reply::text("One."));
    app.model.push(Reply::text("Two."));
    let session = app.session().await;
    let told = app.turn(&session, "first").await;
    let path = format!("/v1/sessions/{session}/events/stream");
    for (index, event) in told.iter().enumerate() {
        let position = event.id.clone().expect("a position");
        let client = app.client.clone().header("last-event-id", &position);
        let mut stream = client.stream(&path).await;
        for expected in &told[index + 1..] {
            let event = stream.next().await.expect("an event");
            assert_eq!((&event.id, &event.data), (&expected.id, &expected.data));
        }
        if index == 0 {
            // And on into what is live.
            app.send(&session, message("second")).await;
            let live = stream.until_idle().await;
            assert_eq!(kinds(&live)[0], "user.message");
        }
    }
    for (position, query) in [("x", ""), ("-1", ""), ("999999", "")] {
        let client = app.client.clone().header("last-event-id", position);
        client
            .get(&format!("{path}{query}"))
            .await
            .error(400, "invalid_request_error");
    }
}

/// runtime ST-2, ST-17; security STREAM-1: the client's way to miss nothing is to open, to list, and to skip what it
/// has seen. Clients come while events do.
async fn st_2_a_list_and_a_stream_together_miss_nothing(app: &TestApp) {
    const CLIENTS: usize = 12;
    // Messages behind a pending call start nothing.
    let (session, _) = crate::events::waiting(app, 1).await;
    let sent = tokio::sync::watch::Sender::new(0);
    let listed = std::sync::atomic::AtomicUsize::new(0);
    let sending = async {
        let mut ids = Vec::new();
        // As long as somebody is on the way between opening and listing, and one more.
        while listed.load(std::sync::atomic::Ordering::SeqCst) < CLIENTS {
            ids.push(id(&app.send(&session, message("more")).await));
            sent.send_replace(ids.len());
        }
        ids.push(id(&app.send(&session, message("last")).await));
        ids
    };
    let client = async |begin: usize| {
        let mut sent = sent.subscribe();
        let begun = sent.wait_for(|count| *count >= begin).await;
        drop(begun.expect("the sender lives"));
        let mut stream = app.stream(&session, "").await;
        let mut seen: Vec<String> = app.events(&session).await.iter().map(id).collect();
        listed.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        loop {
            let event = stream.next_event(PATIENCE).await.expect("an event");
            let id = id(&event.data);
            if !seen.contains(&id) {
                seen.push(id);
            }
            if event.data["content"][0]["text"] == "last" {
                return seen;
            }
        }
    };
    let clients = futures::future::join_all((0..CLIENTS).map(|n| client(3 * n)));
    let (sent, heard) = tokio::join!(sending, clients);
    let all: Vec<String> = app.events(&session).await.iter().map(id).collect();
    assert!(all.ends_with(&sent), "each id is one event");
    for seen in heard {
        assert_eq!(seen, all, "in order, and nothing is missing");
    }
}

/// A stream is taken up where it broke off, by another server process on the same store.
async fn resumes_after_a_restart(app: TestApp) {
    app.model.push(Reply::text("One."));
    let session = app.session().await;
    let path = format!("/v1/sessions/{session}/events/stream");
    let told = app.turn(&session, "first").await;
    let app = app.restarted().await;
    app.model.push(Reply::text("Two."));
    let mut live = None;
    for at in [0, 4, told.len() - 1] {
        let position = told[at].id.clone().expect("a position");
        let client = app.client.clone().header("last-event-id", &position);
        let mut stream = client.stream(&path).await;
        for expected in &told[at + 1..] {
            let event = stream.next_event(PATIENCE).await.expect("an event");
            assert_eq!((&event.id, &event.data), (&expected.id, &expected.data));
        }
        live = Some(stream);
    }
    // What follows is live, behind it without a gap.
    app.send(&session, message("second")).await;
    let events = live.expect("a stream").until_idle().await;
    let position = |event: &Event| -> i64 {
        let id = event.id.as_ref().expect("a position");
        id.parse().expect("a number")
    };
    assert!(position(&events[0]) > position(told.last().expect("events")));
    let mut all: Vec<Event> = told;
    all.extend(events);
    let last_appearances = all.iter().enumerate().filter(|(index, event)| {
        let later = &all[index + 1..];
        later
            .iter()
            .all(|later| later.data["id"] != event.data["id"])
    });
    let last_appearances: Vec<Value> = last_appearances
        .map(|(_, event)| event.data.clone())
        .collect();
    assert_eq!(app.events(&session).await, last_appearances);
    app.end().await;
}

/// runtime ST-1, ST-2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn st_2_a_stream_resumes_after_a_restart_on_sqlite() {
    resumes_after_a_restart(TestApp::sqlite().await).await;
}

/// runtime ST-1, ST-2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn st_2_a_stream_resumes_after_a_restart_on_postgres() {
    resumes_after_a_restart(TestApp::postgres().await).await;
}
