//! PostgreSQL goes away in the middle of a turn and comes back: the turn ends by itself.

use manyhands_store::Database;
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::Reply;
use manyhands_testkit::postgres::{Cluster, Crash};
use serde_json::json;
use tokio::task::block_in_place;

use crate::app::{TestApp, ids, message};

/// runtime HT-12, HT-13, AR-6; security LOG-1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ht_12_a_restart_of_the_database_refuses_requests_for_a_while_and_loses_no_turn() {
    let mut cluster = block_in_place(Cluster::start);
    let url = cluster.create_database().into();
    let app = TestApp::on(Database::Postgres { url }).await;
    let session = app.session().await;
    let path = format!("/v1/sessions/{session}/events");

    // The answer comes while the database is away, and is asked for again if it could not be kept.
    let gate = Gate::new();
    let held = gate.clone();
    app.model
        .respond_with(move |_| Reply::text("Here I am.").hold_first_token(&held));
    let mut stream = app.stream(&session, "").await;
    let sent = app.send(&session, message("Are you there?")).await;
    let first = stream.next().await.expect("an event");
    app.model.request(1).await;
    block_in_place(|| cluster.crash(Crash::Kill));
    gate.open();

    let body = json!({"events": [message("refused")]});
    let stranger = app.client.clone();
    let (refused, ready) = tokio::join!(app.client.post(&path, &body), stranger.get("/readyz"));
    refused.error(503, "api_error");
    assert!(refused.header("retry-after").is_some(), "{refused}");
    assert_eq!(ready.status, 503, "{ready}");

    block_in_place(|| cluster.start_again());
    let position = first.id.expect("a position");
    let listener = app.client.clone().header("last-event-id", &position);
    let mut resumed = listener.stream(&format!("{path}/stream")).await;
    let told = resumed.until_idle().await;
    assert_eq!(ids(&told, "agent.message").len(), 1, "{told:?}");
    let listed = app.events(&session).await;
    let of = |kind| {
        listed
            .iter()
            .filter(|event| event["type"] == kind)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("agent.message").len(), 1, "{listed:?}");
    assert_eq!(
        of("user.message").len(),
        1,
        "the refused one is not there: {listed:?}"
    );
    assert_eq!(of("user.message")[0]["id"], sent["id"]);
    assert_eq!(app.client.get("/readyz").await.status, 200);
    app.end().await;
}
