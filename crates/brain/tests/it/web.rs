//! Turns with web tools: they run beside the server, within the agent's and the environment's bounds.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use manyhands_egress::address::Allowed;
use manyhands_egress::dial::{Dialler, Resolve, Tcp, Timeouts};
use manyhands_egress::host::Host;
use manyhands_egress::outbound::Outbound;
use manyhands_hands::web::Web;
use manyhands_hands::web::search::{Brave, Keyed, Searxng};
use manyhands_hands::{Call, Output};
use manyhands_protocol::agent::Tool;
use manyhands_testkit::gate::Gate;
use manyhands_testkit::model::Reply;
use manyhands_testkit::site::{Site, page};
use serde_json::{Value, json};

use crate::bed::{Bed, hold_at, tools};

/// Every name is this machine.
struct Here;

#[async_trait]
impl Resolve for Here {
    async fn resolve(&self, _: &Host) -> io::Result<Vec<IpAddr>> {
        Ok(vec![IpAddr::from([127, 0, 0, 1])])
    }
}

fn web(site: &Site, searches: bool) -> Web {
    let allowed = Allowed::parse(["127.0.0.1/32"]).unwrap();
    let dialler = Dialler::new(Arc::new(Here), Arc::new(Tcp), allowed, Timeouts::default());
    let outbound = Outbound::new(dialler, &[site.address().port()]).unwrap();
    let service = || {
        let base = format!("http://{}", site.address()).parse().unwrap();
        let client = manyhands_egress::client(manyhands_egress::Timeouts::default()).unwrap();
        Arc::new(Searxng::new(client, base)) as Arc<_>
    };
    Web::new(outbound, searches.then(service))
}

fn answer(path: &str, _: u16) -> Vec<u8> {
    match path {
        "/long" => page("text/plain", "0123456789".repeat(10_001).as_bytes()),
        path if path.starts_with("/search?") => {
            let hit = |url: &str| json!({"title": "A  page", "url": url, "content": "about it"});
            let hits = [
                hit("https://docs.example.com/a"),
                hit("https://other.net/b"),
                hit("ftp://docs.example.com/c"),
            ];
            let found = json!({"results": hits}).to_string();
            page("application/json", found.as_bytes())
        }
        path => page("text/plain", format!("this is {path}").as_bytes()),
    }
}

fn fetch(id: &str, url: &str) -> Reply {
    Reply::tool_use(id, "web_fetch", json!({"url": url}))
}

/// The usual tools, with settings of a web tool.
fn with(config: Value) -> Vec<Tool> {
    let mut tools = tools();
    if let Tool::AgentToolset { configs, .. } = &mut tools[0] {
        let mut whole = json!({"type": config["name"], "enabled": true, "permission_policy": {"type": "always_allow"}});
        let members = whole.as_object_mut().unwrap();
        members.extend(config.as_object().unwrap().clone());
        configs.push(serde_json::from_value(whole).unwrap());
    }
    tools
}

async fn bed<const N: usize>(site: &Site, searches: bool, replies: [Reply; N]) -> Bed {
    let mut bed = Bed::asleep(replies).await;
    bed.config.web = Some(web(site, searches));
    bed
}

async fn results(bed: &Bed) -> Vec<(String, bool)> {
    let events = bed.events("agent.tool_result").await;
    let result = |event: &Value| {
        let text = event["content"][0]["text"].as_str().unwrap().to_owned();
        (text, event["is_error"].as_bool().unwrap())
    };
    events.iter().map(result).collect()
}

/// runtime WB-1, WB-6
#[tokio::test]
async fn wb_1_a_page_is_fetched_without_a_sandbox_and_within_the_lists() {
    let site = Site::start(answer).await;
    let mut bed = bed(
        &site,
        false,
        [
            fetch("toolu_1", &site.url("docs.example.com", "/a")).then_tool_use(
                "toolu_2",
                "web_fetch",
                json!({"url": site.url("other.net", "/b")}),
            ),
            Reply::text("Done."),
        ],
    )
    .await;
    bed.set_tools(with(
        json!({"name": "web_fetch", "allowed_domains": ["example.com"]}),
    ))
    .await;
    bed.wake();
    bed.turn("Read it").await;
    let results = results(&bed).await;
    assert!(
        results
            .iter()
            .any(|(text, error)| text.ends_with("\n\nthis is /a") && !error),
        "{results:?}"
    );
    assert!(
        results
            .iter()
            .any(|(text, error)| text.starts_with("url_not_allowed: other.net") && *error),
        "{results:?}"
    );
    assert_eq!(site.asked(), ["/a"]);
    assert!(bed.hands.starts().is_empty(), "no sandbox is needed");
    bed.assert_each_call_has_one_result().await;
}

/// runtime WB-6, WB-12, US-1
#[tokio::test]
async fn wb_12_answered_searches_are_counted_and_filtered() {
    let site = Site::start(answer).await;
    let mut bed = bed(
        &site,
        true,
        [
            Reply::tool_use("toolu_1", "web_search", json!({"query": "it"})),
            fetch("toolu_2", &site.url("docs.example.com", "/a")),
            Reply::text("Done."),
        ],
    )
    .await;
    bed.set_tools(with(
        json!({"name": "web_search", "blocked_domains": ["other.net"]}),
    ))
    .await;
    bed.wake();
    bed.turn("Search").await;
    let found = &results(&bed).await[0];
    assert_eq!(
        found,
        &(
            "1. A page\nhttps://docs.example.com/a\nabout it\n".to_owned(),
            false
        )
    );
    let usage = &bed.events("session.usage").await[0]["usage"]["server_tool_use"];
    assert_eq!(
        usage,
        &json!({"web_search_requests": 1, "web_fetch_requests": 0})
    );
}

/// What Brave says of a country that it does not know, and of a question that it does not take.
fn refusal(path: &str, _: u16) -> Vec<u8> {
    let place = match path.contains("country=ZZ") {
        true => "country",
        false => "q",
    };
    let wrong =
        json!({"loc": ["query", place], "msg": "Input should be 'AR' or 'AT'", "type": "enum"});
    let body = json!({"type": "ErrorResponse", "error": {"status": 422, "code": "VALIDATION", "meta": {"errors": [wrong]}}});
    let body = body.to_string();
    format!(
        "HTTP/1.1 422 Unprocessable Entity\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A bed whose searches go to Brave, for users in this country.
async fn located<const N: usize>(site: &Site, country: &str, replies: [Reply; N]) -> Bed {
    let mut bed = bed(site, false, replies).await;
    let endpoint = format!("http://{}/search", site.address()).parse().unwrap();
    let client = manyhands_egress::client(manyhands_egress::Timeouts::default()).unwrap();
    let brave = Brave(Keyed {
        client,
        endpoint,
        key: "key".into(),
    });
    let allowed = Allowed::parse(["127.0.0.1/32"]).unwrap();
    let dialler = Dialler::new(Arc::new(Here), Arc::new(Tcp), allowed, Timeouts::default());
    let outbound = Outbound::new(dialler, &[site.address().port()]).unwrap();
    bed.config.web = Some(Web::new(outbound, Some(Arc::new(brave))));
    let location = json!({"type": "approximate", "country": country});
    bed.set_tools(with(
        json!({"name": "web_search", "user_location": location}),
    ))
    .await;
    bed.wake();
    bed
}

/// runtime ER-10, ER-2: what the service does not take of the settings ends the turn, with all calls, and is not tried again.
#[tokio::test]
async fn er_10_settings_that_the_service_does_not_take_end_the_turn() {
    let site = Site::start(refusal).await;
    let bed = located(
        &site,
        "ZZ",
        [
            Reply::tool_use("toolu_1", "web_search", json!({"query": "it"})).then_tool_use(
                "toolu_2",
                "ask_human",
                json!({"question": "why?"}),
            ),
            Reply::text("Never mind."),
        ],
    )
    .await;
    let log = bed.turn("Search").await;
    assert_eq!(
        log.last().unwrap(),
        "session.status_idle: retries_exhausted"
    );
    let error = &bed.events("session.error").await[0]["error"];
    assert_eq!(error["retry_status"], json!({"type": "exhausted"}));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("user_location.country"), "{message}");
    assert_eq!(site.asked().len(), 1);
    bed.assert_each_call_has_one_result().await;
    let log = bed.turn("Then do not").await;
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    bed.model.assert_done();
}

/// runtime ER-11: a question that it does not take is the model's matter.
#[tokio::test]
async fn er_11_a_question_that_the_service_refuses_is_a_failed_call() {
    let site = Site::start(refusal).await;
    let bed = located(
        &site,
        "AT",
        [
            Reply::tool_use("toolu_1", "web_search", json!({"query": "it"})),
            Reply::text("Done."),
        ],
    )
    .await;
    let log = bed.turn("Search").await;
    assert_eq!(log.last().unwrap(), "session.status_idle: end_turn");
    assert!(bed.events("session.error").await.is_empty());
    let (text, error) = &results(&bed).await[0];
    assert!(text.contains("answered 422") && *error, "{text}");
}

#[tokio::test]
async fn wb_1_without_a_service_a_search_says_so() {
    let site = Site::start(answer).await;
    let mut bed = bed(
        &site,
        false,
        [
            Reply::tool_use("toolu_1", "web_search", json!({"query": "it"})),
            Reply::text("Done."),
        ],
    )
    .await;
    bed.wake();
    bed.turn("Search").await;
    let (text, error) = &results(&bed).await[0];
    assert!(text.contains("not configured") && *error, "{text}");
    let usage = &bed.events("session.usage").await[0]["usage"]["server_tool_use"];
    assert_eq!(usage["web_search_requests"], 0);
}

/// runtime WB-7, WB-8
#[tokio::test]
async fn wb_8_only_shown_urls_are_fetched_where_sources_are_set() {
    let site = Site::start(answer).await;
    let (told, untold) = (
        site.url("docs.example.com", "/told"),
        site.url("docs.example.com", "/untold"),
    );
    let mut bed = bed(
        &site,
        false,
        [
            fetch("toolu_1", &told),
            fetch("toolu_2", &untold),
            Reply::text("Done."),
        ],
    )
    .await;
    bed.set_tools(with(
        json!({"name": "web_fetch", "url_sources": {"server_tool_results": {"type": "none"}}}),
    ))
    .await;
    bed.wake();
    bed.turn(&format!("Read {told}.")).await;
    let results = results(&bed).await;
    assert!(!results[0].1, "{results:?}");
    assert!(
        results[1].0.starts_with("url_not_allowed") && results[1].1,
        "{results:?}"
    );
    assert_eq!(site.asked(), ["/told"]);
}

/// runtime TL-3
#[tokio::test]
async fn tl_3_a_long_page_goes_to_a_file_of_the_sandbox() {
    let site = Site::start(answer).await;
    let mut bed = bed(
        &site,
        false,
        [
            fetch("toolu_1", &site.url("docs.example.com", "/long")),
            Reply::text("Done."),
        ],
    )
    .await;
    let written: Arc<Mutex<Vec<Value>>> = Arc::default();
    let files = Arc::clone(&written);
    bed.hands = bed.hands.with_tool("write", move |call: Call| {
        files.lock().unwrap().push(call.input);
        async { Output::text("written") }
    });
    bed.wake();
    bed.turn("Read").await;
    let (text, error) = &results(&bed).await[0];
    assert!(
        !error && text.chars().count() < 21_000,
        "{} characters",
        text.chars().count()
    );
    let files = written.lock().unwrap().clone();
    let [file] = files.as_slice() else {
        panic!("one file: {files:?}")
    };
    assert!(
        text.contains(file["file_path"].as_str().unwrap()),
        "{}",
        &text[text.len() - 300..]
    );
    assert!(
        file["content"]
            .as_str()
            .unwrap()
            .ends_with(&"0123456789".repeat(10_001))
    );
    bed.assert_each_call_has_one_result().await;
}

/// security LOG-2, invariant I4
#[tokio::test]
async fn log_2_a_web_call_that_died_with_its_wake_is_not_repeated() {
    for (point, unknown) in [
        ("brain::answered", true),
        ("brain::result", true),
        ("brain::resulted", false),
    ] {
        let site = Site::start(answer).await;
        let mut bed = bed(&site, false, []).await;
        let url = site.url("docs.example.com", "/a");
        bed.model
            .respond_with(move |request| match request.messages().len() {
                1 => fetch("toolu_1", &url),
                _ => Reply::text("Done."),
            });
        let gate = Gate::new();
        bed.config.probe = Some(hold_at(point, 1, &gate));
        bed.die_on("Read", &gate).await;
        bed.idle().await;
        let results = results(&bed).await;
        assert_eq!(results.len(), 1, "{point}");
        assert_eq!(results[0].1, unknown, "{point}: {results:?}");
        assert!(site.asked().len() <= 1, "{point}");
        bed.assert_each_call_has_one_result().await;
    }
}

#[tokio::test]
async fn wb_11_new_lists_hold_from_the_next_turn() {
    let site = Site::start(answer).await;
    let url = site.url("docs.example.com", "/a");
    let mut bed = bed(&site, false, []).await;
    bed.model.respond_with(move |request| {
        let messages = request.messages();
        // Each turn fetches once: the first message, and the one behind the first answer.
        if messages.len() % 4 == 1 {
            fetch(&format!("toolu_{}", messages.len()), &url)
        } else {
            Reply::text("Done.")
        }
    });
    bed.wake();
    bed.turn("Read").await;
    bed.set_tools(with(
        json!({"name": "web_fetch", "blocked_domains": ["example.com"]}),
    ))
    .await;
    bed.turn("Again").await;
    let refused: Vec<bool> = results(&bed)
        .await
        .iter()
        .map(|(_, error)| *error)
        .collect();
    assert_eq!(refused, [false, true]);
    assert_eq!(site.asked(), ["/a"]);
}
