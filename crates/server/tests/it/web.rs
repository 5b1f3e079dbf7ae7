//! Web tools in environments that limit their hosts (runtime WB-9).

use manyhands_server::Config;
use manyhands_testkit::model::Reply;
use manyhands_testkit::site::{Site, page};
use serde_json::json;

use crate::app::{TestApp, id};

/// Lets the guarded client reach a site of this machine.
fn reach(config: &mut Config, port: u16) {
    config.egress.allow_addresses = vec!["127.0.0.1/32".to_owned(), "::1/128".to_owned()];
    config.egress.ports = vec![80, 443, port];
}

/// The result of fetching a page of the site in an environment whose hosts are others.
async fn fetched(app: &TestApp, port: u16) -> (String, bool) {
    let networking = json!({"type": "limited", "allowed_hosts": ["example.org"]});
    let environment =
        json!({"name": "limited", "config": {"type": "cloud", "networking": networking}});
    let environment = id(&app.client.post("/v1/environments", &environment).await.ok());
    let body = json!({"agent": app.agent().await, "environment_id": environment});
    let session = id(&app.client.post("/v1/sessions", &body).await.ok());
    let url = format!("http://localhost:{port}/page");
    app.model
        .push(Reply::tool_use("toolu_1", "web_fetch", json!({"url": url})));
    app.model.push(Reply::text("Done."));
    let events = app.turn(&session, "read it").await;
    let result = events
        .iter()
        .find(|event| event.kind() == "agent.tool_result");
    let result = &result.expect("a result").data;
    let text = result["content"][0]["text"].as_str().expect("a text");
    (text.to_owned(), result["is_error"] == true)
}

/// runtime CONFLICT-2, WB-9: the hosts of a limited environment bind the web tools, unless the operator says otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflict_2_limited_networking_binds_the_web_tools() {
    let site = Site::start(|_, _| page("text/plain", b"the page")).await;
    let port = site.address().port();
    let app = TestApp::with(|config| reach(config, port)).await;
    let (text, is_error) = fetched(&app, port).await;
    assert!(is_error && text.starts_with("url_not_allowed"), "{text}");
    assert!(site.asked().is_empty());
    app.end().await;
    let app = TestApp::with(|config| {
        reach(config, port);
        config.web.within_environment = false;
    })
    .await;
    let (text, is_error) = fetched(&app, port).await;
    assert!(!is_error && text.contains("the page"), "{text}");
    assert_eq!(site.asked(), ["/page"]);
    app.end().await;
}
