//! The scripted model answers as scripted, byte for byte, and notices bad requests.

use std::time::Duration;

use futures::StreamExt;
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use manyhands_testkit::gate::{Gate, PATIENCE};
use manyhands_testkit::http::{Answer, Client};
use manyhands_testkit::model::{Format, ModelServer, Outcome, Reply, RetryAfter, Usage};
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

const USAGE: Usage = Usage {
    input_tokens: 3,
    output_tokens: 5,
    cache_creation_input_tokens: 7,
    cache_read_input_tokens: 11,
};

#[tokio::test]
async fn streams_a_message_in_the_public_form() {
    let reply = Reply::thinking("hmm", "c2ln")
        .then_text("hello")
        .then_tool_use_raw("toolu_1", "bash", r#"{"b": 1, "a": 2}"#)
        .split_into(2)
        .usage(USAGE);
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

fn chat_client(model: &ModelServer) -> Client {
    Client::new(&model.url()).header("authorization", "Bearer key")
}

fn chat_request() -> Value {
    json!({
        "model": MODEL,
        "stream": true,
        "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "Hi"}],
    })
}

async fn ask_chat(model: &ModelServer) -> Answer {
    let client = chat_client(model);
    client.post("/v1/chat/completions", &chat_request()).await
}

/// The chunks of a chat completion; the last line must be `[DONE]`.
fn chunks(body: &[u8]) -> Vec<Value> {
    let text = String::from_utf8(body.to_vec()).unwrap();
    let data: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect();
    let (done, chunks) = data.split_last().unwrap();
    assert_eq!(*done, "[DONE]");
    let chunks = chunks.iter();
    chunks
        .map(|chunk| serde_json::from_str(chunk).unwrap())
        .collect()
}

#[tokio::test]
async fn streams_a_chat_completion_from_the_same_script() {
    let reply = Reply::thinking("hmm", "c2ln")
        .then_text("hello")
        .then_tool_use_raw("call_1", "bash", r#"{"b": 1, "a": 2}"#)
        .then_tool_use("call_2", "read", json!({}))
        .split_into(2)
        .usage(USAGE);
    let model = ModelServer::with([reply]).await;
    let answer = ask_chat(&model).await;
    assert_eq!(answer.status, 200);
    let chunks = chunks(&answer.body);
    let delta = |chunk: &Value| chunk["choices"][0]["delta"].clone();
    assert_eq!(
        delta(&chunks[0]),
        json!({"role": "assistant", "content": ""})
    );
    let joined = |field: &str| -> String {
        let texts = chunks.iter().map(delta);
        texts
            .filter_map(|delta| Some(delta[field].as_str()?.to_owned()))
            .collect()
    };
    assert_eq!(joined("reasoning_content"), "hmm");
    assert_eq!(joined("content"), "hello");
    let mut calls = vec![String::new(), String::new()];
    for chunk in &chunks {
        let call = &chunk["choices"][0]["delta"]["tool_calls"][0];
        if let Some(index) = call["index"].as_u64() {
            calls[index as usize].push_str(call["function"]["arguments"].as_str().unwrap());
        }
    }
    assert_eq!(calls, [r#"{"b": 1, "a": 2}"#, "{}"]);
    let [finish, last] = &chunks[chunks.len() - 2..] else {
        panic!("two chunks at least")
    };
    assert_eq!(finish["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["prompt_tokens"], 21);
    assert_eq!(last["usage"]["prompt_tokens_details"]["cached_tokens"], 11);
    assert_eq!(model.request(1).await.format, Format::Chat);
    model.assert_done();
}

#[tokio::test]
async fn faults_bend_a_chat_completion_too() {
    let model = ModelServer::start().await;
    let bent = async |reply: Reply| {
        model.push(reply);
        String::from_utf8(ask_chat(&model).await.body.to_vec()).unwrap()
    };
    let body = bent(Reply::text("a").without_message_stop()).await;
    assert!(body.contains("\"content\":\"a\"") && !body.contains("\"finish_reason\":\"stop\""));
    let body = bent(Reply::text("a").error_after(2, "server_error", "busy")).await;
    assert!(body.ends_with("\n\n") && body.contains("data: {\"error\":{"));
    let body = bent(Reply::text("a").unknown_event()).await;
    assert!(body.contains("weather.report") && body.contains("[DONE]"));
    let body = bent(Reply::text("a").malformed_event()).await;
    assert!(body.contains("{\"choices\":[{\"ind\n\n"));
    let gate = Gate::new();
    model.push(Reply::text("a").hold_first_token(&gate));
    let asking = ask_chat(&model);
    let opening = async {
        gate.reached().await;
        gate.open();
    };
    let (answer, ()) = tokio::join!(asking, opening);
    assert_eq!(answer.status, 200);
    let whole = Reply::text("hello").wire_in(Format::Chat, MODEL);
    model.push(Reply::text("hello").cut_at(whole.len() / 2));
    let client = chat_client(&model);
    let cut = client
        .try_post("/v1/chat/completions", &chat_request())
        .await;
    assert!(cut.is_err());
}

#[tokio::test]
async fn a_bad_chat_request_gets_400_and_is_remembered() {
    let model = ModelServer::with([Reply::error(429, "requests", "Slow down")]).await;
    let answer = ask_chat(&model).await;
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        (answer.status, &body["error"]["message"]),
        (429, &json!("Slow down"))
    );
    let mut bad = chat_request();
    bad["temperature"] = json!(0.5);
    let answer = chat_client(&model).post("/v1/chat/completions", &bad).await;
    assert_eq!(answer.status, 400);
    let stranger = chat_client(&model).without("authorization");
    let answer = stranger.post("/v1/chat/completions", &chat_request()).await;
    assert_eq!(answer.status, 401);
    assert_eq!(model.take_violations().len(), 2);
}
