use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::Request as Incoming;
use axum::http::HeaderMap;
use bytes::Bytes;
use manyhands_protocol::event::Preview;

use super::*;

type Seen = Arc<Mutex<Vec<(Method, String, HeaderMap)>>>;

/// A server that gives every request the same answer and keeps what it was asked.
async fn server(status: u16, chunks: Vec<Vec<u8>>) -> (Client, Seen) {
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    let answer = move |request: Incoming| {
        let (log, chunks) = (Arc::clone(&log), chunks.clone());
        async move {
            log.lock().unwrap().push((
                request.method().clone(),
                request.uri().to_string(),
                request.headers().clone(),
            ));
            let chunks = chunks.into_iter().map(Ok::<_, Infallible>);
            axum::http::Response::builder()
                .status(status)
                .body(Body::from_stream(futures::stream::iter(chunks)))
                .unwrap()
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/prefix/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        axum::serve(listener, Router::new().fallback(answer))
            .await
            .unwrap();
    });
    (
        Client::new(&url, SecretString::from("the-key")).unwrap(),
        seen,
    )
}

fn session() -> SessionId {
    SessionId::parse("sesn_1").unwrap()
}

async fn read_all(frames: &[u8]) -> (Vec<Item>, Error, Option<String>) {
    let chunks = frames.chunks(7).map(<[u8]>::to_vec).collect();
    let (client, _) = server(200, chunks).await;
    let mut stream = client.stream(&session(), None, Previews::On).await.unwrap();
    let mut items = vec![];
    loop {
        match stream.next().await {
            Ok(item) => items.push(item),
            Err(error) => return (items, error, stream.last_id().map(str::to_owned)),
        }
    }
}

#[tokio::test]
async fn ht_1_requests_carry_key_version_beta_and_the_base_path() {
    let page = json!({"data": [], "has_more": false, "first_id": null, "last_id": null});
    let (client, seen) = server(200, vec![page.to_string().into_bytes()]).await;
    assert_eq!(client.models().await.unwrap(), vec![]);
    let seen = seen.lock().unwrap();
    let (method, path, headers) = &seen[0];
    assert_eq!(
        (method, path.as_str()),
        (&Method::GET, "/prefix/v1/models?limit=1000")
    );
    assert_eq!(headers["authorization"], "Bearer the-key");
    assert_eq!(headers["anthropic-beta"], "managed-agents-2026-04-01");
    assert_eq!(headers["anthropic-version"], "2023-06-01");
}

#[tokio::test]
async fn ht_11_a_refusal_carries_the_servers_reason_and_request_id() {
    let body = json!({
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "model: unknown"},
        "request_id": "req_1",
    });
    let (client, _) = server(400, vec![body.to_string().into_bytes()]).await;
    let error = client.create_agent(&json!({})).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server refused the agent (400 Bad Request): model: unknown [req_1]"
    );
}

#[tokio::test]
async fn an_answer_that_is_no_envelope_is_still_an_error() {
    let (client, _) = server(502, vec![b"<html>".to_vec()]).await;
    let error = client.create_session(&json!({})).await.unwrap_err();
    assert!(error.to_string().contains("502 Bad Gateway"), "{error}");
    let (client, _) = server(200, vec![b"<html>".to_vec()]).await;
    let error = client.create_environment(&json!({})).await.unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error}");
}

#[tokio::test]
async fn nobody_there_names_the_address() {
    // Bound, so that nobody else gets the port, and not listening.
    let place = tokio::net::TcpSocket::new_v4().unwrap();
    place.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", place.local_addr().unwrap());
    let client = Client::new(&url, SecretString::from("k")).unwrap();
    let error = client.models().await.unwrap_err();
    assert_eq!(error.to_string(), format!("no answer from {url}"));
    assert!(!answers(&url, Duration::from_secs(1)).await);
}

#[test]
fn what_is_no_base_url_is_refused() {
    for url in ["localhost:8787", "ftp://x", "", "not a url"] {
        let refused = Client::new(url, SecretString::from("k"));
        assert!(matches!(refused, Err(Error::BaseUrl { .. })), "{url}");
    }
}

#[tokio::test]
async fn sse_frames_are_read_whatever_the_chunks_and_unknown_types_pass() {
    let frames = b": hello\n\n\
        event: ping\ndata: {}\n\n\
        event: event_start\ndata: {\"type\":\"event_start\",\"event\":{\"type\":\"agent.message\",\"id\":\"sevt_01a\"}}\n\n\
        event: from.tomorrow\ndata: {\"type\":\"from.tomorrow\"}\n\n\
        event: session.status_running\nid: 7\ndata: {\"type\":\"session.status_running\",\"id\":\"sevt_01b\",\"processed_at\":null}\n\n";
    let (items, error, last_id) = read_all(frames).await;
    assert_eq!(items.len(), 3, "{items:?}");
    assert!(matches!(
        items[0],
        Item::Preview(Preview::EventStart { .. })
    ));
    assert_eq!(items[1], Item::Unknown);
    assert!(matches!(&items[2], Item::Event(event) if event.id.as_str() == "sevt_01b"));
    assert_eq!(
        error.to_string(),
        "the event stream broke: the server ended it"
    );
    assert_eq!(last_id.as_deref(), Some("7"));
}

#[tokio::test]
async fn an_error_frame_ends_the_stream_with_its_message() {
    let frames = b"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"too slow\"}}\n\n";
    let (items, error, _) = read_all(frames).await;
    assert_eq!(items, vec![]);
    assert_eq!(error.to_string(), "the event stream broke: too slow");
}

#[tokio::test]
async fn a_known_event_that_cannot_be_read_is_an_error_and_not_skipped() {
    let frames =
        b"event: agent.message\ndata: {\"type\":\"agent.message\",\"id\":\"sevt_01a\"}\n\n";
    let (_, error, _) = read_all(frames).await;
    assert!(matches!(error, Error::Malformed { .. }), "{error}");
}

#[tokio::test]
async fn going_on_sends_the_last_id() {
    let (client, seen) = server(200, vec![]).await;
    client
        .stream(&session(), Some("41"), Previews::On)
        .await
        .unwrap();
    let seen = seen.lock().unwrap();
    let (_, path, headers) = &seen[0];
    assert_eq!(headers["last-event-id"], "41");
    assert_eq!(
        path,
        "/prefix/v1/sessions/sesn_1/events/stream?event_deltas%5B%5D=agent.message&event_deltas%5B%5D=agent.thinking"
    );
}

#[tokio::test]
async fn a_frame_without_end_is_cut_off() {
    let chunk = Bytes::from(vec![b'x'; 1 << 20]);
    let endless = futures::stream::iter((0..).map(move |_| Ok::<_, std::io::Error>(chunk.clone())));
    let mut stream = EventStream::new(endless);
    let error = stream.next().await.unwrap_err();
    assert!(error.to_string().contains("larger than 64 MiB"), "{error}");
}
