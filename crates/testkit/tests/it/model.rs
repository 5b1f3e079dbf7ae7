//! The scripted model answers as scripted, byte for byte, and notices bad requests.

use std::time::Duration;

use futures::StreamExt;
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use manyhands_testkit::gate::{Gate, PATIENCE};
use manyhands_testkit::http::{Answer, Client};
use manyhands_testkit::model::{ModelServer, Outcome, Reply, RetryAfter, Usage};
use serde_json::{Value, json};
use sse_stream::SseStream;

const MODEL: &str = "claude-opus-5";

fn client(model: &ModelServer) -> Client {
    Client::new(&model.url())
        .header("x-api-key", "key")
        .header("anthropic-version", "2026-10-21")
}

fn request() -> Value {
    json!({
        "model": MODEL,
        "max_tokens": 100,
        "stream": true,
        "messages": [{"role": "user", "content": "Hi"}],
    })
}

async fn ask(model: &ModelServer) -> Answer {
    client(model).post("/v1/messages", &request()).await
}

/// Opens a response without reading its body.
async fn open(model: &ModelServer) -> Incoming {
    let mut connection = client(model).connect().await.unwrap();
    let body = request().to_string();
    let answer = connection.begin(Method::POST, "/v1/messages", body).await;
    answer.unwrap().into_body()
}

/// Reads a body to its end; the flag says whether it ended well.
async fn read(mut body: Incoming) -> (Vec<u8>, bool) {
    let mut bytes = vec![];
    loop {
        match body.frame().await {
            Some(Ok(frame)) => bytes.extend_from_slice(&frame.into_data().unwrap()),
            Some(Err(_)) => return (bytes, false),
            None => return (bytes, true),
        }
    }
}

async fn events(body: &[u8]) -> Vec<Value> {
    let body = http_body_util::Full::new(bytes::Bytes::copy_from_slice(body));
    let frames: Vec<_> = SseStream::new(body).collect().await;
    frames
        .into_iter()
        .map(|frame| {
            let frame = frame.unwrap();
            let data: Value = serde_json::from_str(&frame.data.unwrap()).unwrap();
            assert_eq!(data["type"], frame.event.unwrap());
            data
        })
        .collect()
}

#[tokio::test]
async fn streams_a_message_in_the_public_form() {
    let usage = Usage {
        input_tokens: 3,
        output_tokens: 5,
        cache_creation_input_tokens: 7,
        cache_read_input_tokens: 11,
    };
    let reply = Reply::thinking("hmm", "c2ln")
        .then_text("hello")
        .then_tool_use_raw("toolu_1", "bash", r#"{"b": 1, "a": 2}"#)
        .split_into(2)
        .usage(usage);
    let model = ModelServer::with([reply]).await;
    let answer = ask(&model).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );

    let events = events(&answer.body).await;
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    let block = |deltas: usize| {
        let mut kinds = vec!["content_block_start"];
        kinds.extend(vec!["content_block_delta"; deltas]);
        kinds.push("content_block_stop");
        kinds
    };
    let mut expected = vec!["message_start"];
    expected.extend(block(3));
    expected.insert(2, "ping");
    expected.extend([block(2), block(3)].concat());
    expected.extend(["message_delta", "message_stop"]);
    assert_eq!(kinds, expected);

    let start = &events[0]["message"];
    assert_eq!(
        (&start["role"], &start["model"]),
        (&json!("assistant"), &json!(MODEL))
    );
    assert_eq!(start["usage"]["cache_read_input_tokens"], 11);
    let joined = |field: &str| -> String {
        let deltas = events
            .iter()
            .filter_map(|event| event["delta"][field].as_str());
        deltas.collect()
    };
    assert_eq!(joined("thinking"), "hmm");
    assert_eq!(joined("signature"), "c2ln");
    assert_eq!(joined("text"), "hello");
    assert_eq!(joined("partial_json"), r#"{"b": 1, "a": 2}"#);
    let end = &events[events.len() - 2];
    assert_eq!(end["delta"]["stop_reason"], "tool_use");
    assert_eq!(end["usage"]["output_tokens"], 5);
    assert_eq!(model.outcome(1).await, Outcome::Sent);
    model.assert_done();
}

#[tokio::test]
async fn errors_carry_status_envelope_and_hint() {
    let cases = [
        (Reply::server_error(), 500, "api_error", None),
        (Reply::overloaded(), 529, "overloaded_error", None),
        (Reply::bad_request("no"), 400, "invalid_request_error", None),
        (
            Reply::rate_limited(RetryAfter::Absent),
            429,
            "rate_limit_error",
            None,
        ),
        (
            Reply::rate_limited(RetryAfter::Seconds(2.0)),
            429,
            "rate_limit_error",
            Some(("retry-after", "2")),
        ),
        (
            Reply::rate_limited(RetryAfter::Millis(150)),
            429,
            "rate_limit_error",
            Some(("retry-after-ms", "150")),
        ),
        (
            Reply::rate_limited(RetryAfter::HttpDate("Wed, 21 Oct 2026 07:28:00 GMT".into())),
            429,
            "rate_limit_error",
            Some(("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")),
        ),
    ];
    let model = ModelServer::start().await;
    for (reply, status, kind, hint) in cases {
        model.push(reply);
        let answer = ask(&model).await;
        answer.error(status, kind);
        let mut sent = ["retry-after", "retry-after-ms"].iter();
        let sent = sent.find_map(|name| Some((*name, answer.header(name)?)));
        assert_eq!(sent, hint);
    }
}

#[tokio::test]
async fn cuts_at_any_byte() {
    let reply = Reply::text("hello").split_into(2);
    let whole = reply.wire(MODEL);
    let model = ModelServer::start().await;
    for at in (0..=whole.len()).step_by(7) {
        model.push(reply.clone().cut_at(at));
        let (got, ended) = read(open(&model).await).await;
        assert!(!ended, "the cut at {at} looks like an end");
        assert_eq!(got, with_number(&whole[..at], model.hits()), "cut at {at}");
        assert_eq!(model.outcome(model.hits()).await, Outcome::Cut);
    }
}

/// The message id counts requests; everything else is the same for each.
fn with_number(wire: &[u8], number: usize) -> Vec<u8> {
    let id = |number: usize| format!("msg_01scripted{number:08}");
    let text = String::from_utf8(wire.to_vec()).unwrap();
    let complete = text.replace(&id(1), &id(number));
    if complete == text && number != 1 && text.contains("msg_01scripted") {
        // The cut falls inside the id itself.
        let start = text.find("msg_01scripted").unwrap();
        let part = text.len() - start;
        return format!("{}{}", &text[..start], &id(number)[..part]).into_bytes();
    }
    complete.into_bytes()
}

#[tokio::test]
async fn hangs_up_before_the_answer() {
    let model = ModelServer::with([Reply::hang_up()]).await;
    let result = client(&model).try_post("/v1/messages", &request()).await;
    assert!(result.is_err());
    assert_eq!(model.outcome(1).await, Outcome::Cut);
}

#[tokio::test]
async fn goes_silent_until_released() {
    let gate = Gate::new();
    let model = ModelServer::with([Reply::text("hello").hold_first_token(&gate)]).await;
    let mut body = open(&model).await;
    gate.reached().await;
    let mut before = vec![];
    while !String::from_utf8_lossy(&before).contains("event: ping") {
        let frame = body.frame().await.unwrap().unwrap();
        before.extend_from_slice(&frame.into_data().unwrap());
    }
    assert!(!String::from_utf8_lossy(&before).contains("content_block_delta"));
    gate.open();
    let (after, ended) = read(body).await;
    assert!(ended && String::from_utf8_lossy(&after).contains("message_stop"));
}

#[tokio::test]
async fn holds_the_status_line() {
    let gate = Gate::new();
    let model = ModelServer::with([Reply::text("hello").hold_headers(&gate)]).await;
    let client = client(&model);
    let mut asking = tokio::spawn(async move { client.post("/v1/messages", &request()).await });
    gate.reached().await;
    let early = tokio::time::timeout(Duration::from_millis(20), &mut asking).await;
    assert!(early.is_err(), "answered before the gate opened");
    gate.open();
    assert_eq!(asking.await.unwrap().status, 200);
}

#[tokio::test]
async fn notices_a_client_that_goes_away() {
    let gate = Gate::new();
    let model = ModelServer::with([Reply::text("hello").hold_first_token(&gate)]).await;
    let body = open(&model).await;
    gate.reached().await;
    drop(body);
    assert_eq!(model.outcome(1).await, Outcome::ClientGone);
}

#[tokio::test]
async fn drips_whole_messages() {
    let reply = Reply::text("hello").drip(50, Duration::from_micros(100));
    let whole = reply.wire(MODEL);
    let model = ModelServer::with([reply]).await;
    assert_eq!(read(open(&model).await).await, (whole, true));
}

#[tokio::test]
async fn bends_the_stream() {
    let model = ModelServer::start().await;
    let bent = async |reply: Reply| {
        model.push(reply);
        let answer = ask(&model).await;
        assert_eq!(answer.status, 200);
        String::from_utf8(answer.body.to_vec()).unwrap()
    };
    let body = bent(Reply::text("a").without_message_stop()).await;
    assert!(body.contains("message_delta") && !body.contains("message_stop"));
    let body = bent(Reply::text("a").error_after(2, "overloaded_error", "busy")).await;
    assert_eq!(body.matches("event: ").count(), 3);
    assert!(body.ends_with("\n\n") && body.contains("event: error\ndata: {\"error\":{"));
    let body = bent(Reply::text("a").unknown_event()).await;
    assert!(body.contains("event: weather_report") && body.contains("message_stop"));
    let body = bent(Reply::text("a").malformed_event()).await;
    assert!(body.contains("{\"type\":\"content_block_st\n\n"));
    let body = bent(Reply::text("a").giant_line(1 << 20)).await;
    assert!(body.lines().any(|line| line.len() >= 1 << 20));
    let body = bent(Reply::raw(200, "text/html", "<p>no</p>")).await;
    assert_eq!(body, "<p>no</p>");
}

#[tokio::test]
async fn answers_by_function_and_records_what_it_saw() {
    let model = ModelServer::start().await;
    model.respond_with(|request| Reply::text(format!("You said {}", request.last_user_text())));
    let answer = ask(&model).await;
    assert!(String::from_utf8_lossy(&answer.body).contains("You said Hi"));
    let seen = model.request(1).await;
    assert_eq!(seen.header("anthropic-version"), Some("2026-10-21"));
    assert_eq!(seen.raw, request().to_string());
    assert_eq!((seen.model(), seen.messages().len()), (MODEL, 1));
}

#[tokio::test]
async fn a_bad_request_gets_400_and_is_remembered() {
    let model = ModelServer::with([Reply::text("kept for a good request")]).await;
    let mut bad = request();
    bad["temperature"] = json!(0.5);
    let answer = client(&model).post("/v1/messages", &bad).await;
    assert!(
        answer
            .error(400, "invalid_request_error")
            .contains("temperature")
    );
    let stranger = client(&model).without("x-api-key");
    let answer = stranger.post("/v1/messages", &request()).await;
    answer.error(401, "authentication_error");
    assert_eq!(ask(&model).await.status, 200);
    let answer = ask(&model).await;
    assert!(
        answer
            .error(400, "invalid_request_error")
            .contains("no reply left")
    );
    assert_eq!(client(&model).get("/v2/anything").await.status, 404);
    assert_eq!(model.take_violations().len(), 4);
}

#[tokio::test]
#[should_panic(expected = "top_k")]
async fn a_dirty_server_fails_the_test_when_dropped() {
    let model = ModelServer::start().await;
    let mut bad = request();
    bad["top_k"] = json!(1);
    client(&model).post("/v1/messages", &bad).await;
}

#[tokio::test]
async fn i6_holds_conversations_to_their_prefix() {
    let model = ModelServer::start().await;
    model.check_prefixes();
    model.respond_with(|_| Reply::text("Yes."));
    ask(&model).await;
    let mut next = request();
    next["messages"] = json!([
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]},
        {"role": "user", "content": "Really?"},
    ]);
    let post = async |body: &Value| client(&model).post("/v1/messages", body).await.status;
    assert_eq!(post(&next).await, 200);
    model.assert_clean();
    next["messages"][0]["content"] = json!("Ho");
    assert_eq!(post(&next).await, 400);
    let found = model.take_violations();
    assert!(found.len() == 1 && found[0].contains("I6"), "{found:?}");
}

#[tokio::test]
async fn model_4_thinking_must_come_back_as_issued() {
    let model = ModelServer::with([Reply::thinking("deep", "c2ln").then_text("ok")]).await;
    model.respond_with(|_| Reply::text("ok"));
    ask(&model).await;
    let mut next = request();
    next["messages"] = json!([
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "deep", "signature": "c2ln"},
            {"type": "text", "text": "ok"},
        ]},
        {"role": "user", "content": "More"},
    ]);
    let post = async |body: &Value| client(&model).post("/v1/messages", body).await.status;
    assert_eq!(post(&next).await, 200);
    next["messages"][1]["content"][0]["thinking"] = json!("shallow");
    assert_eq!(post(&next).await, 400);
    assert_eq!(model.take_violations().len(), 1);
}

#[tokio::test]
async fn waits_for_a_request_that_comes_later() {
    let model = ModelServer::with([Reply::text("a")]).await;
    let (request, answer) = tokio::join!(model.request(1), ask(&model));
    assert_eq!((request.number, answer.status), (1, 200));
    assert!(
        tokio::time::timeout(PATIENCE, model.outcome(1))
            .await
            .is_ok()
    );
}
