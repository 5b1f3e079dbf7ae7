use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use secrecy::SecretString;

use super::*;

/// What a server answers to one opening of the stream.
#[derive(Clone, Copy)]
enum Answer {
    /// These frames, and then it breaks: position, event id, whether it is processed.
    Frames(&'static [(u32, &'static str, bool)]),
    Refused(StatusCode),
}

struct Server {
    client: Client,
    asked: Arc<Mutex<Vec<Option<String>>>>,
}

/// Answers the n-th opening with the n-th answer, and with the last one from then on.
async fn server(answers: &'static [Answer]) -> Server {
    let asked = Arc::new(Mutex::new(vec![]));
    let log = Arc::clone(&asked);
    let answer = move |request: Request| {
        let log = Arc::clone(&log);
        async move {
            let number = {
                let mut log = log.lock().unwrap();
                log.push(after(request.headers()));
                log.len() - 1
            };
            let answer = answers[number.min(answers.len() - 1)];
            let (status, body) = match answer {
                Answer::Refused(status) => (status, String::new()),
                Answer::Frames(frames) => (StatusCode::OK, frames.iter().map(frame).collect()),
            };
            Ok::<_, Infallible>((status, body))
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        axum::serve(listener, Router::new().fallback(answer))
            .await
            .unwrap();
    });
    let client = Client::new(&url, SecretString::from("the-key")).unwrap();
    Server { client, asked }
}

fn after(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("last-event-id")?;
    Some(value.to_str().unwrap().to_owned())
}

fn frame((position, id, processed): &(u32, &str, bool)) -> String {
    let at = if *processed {
        "\"2026-11-21T10:00:00Z\""
    } else {
        "null"
    };
    format!(
        "event: session.status_running\nid: {position}\n\
         data: {{\"type\":\"session.status_running\",\"id\":\"{id}\",\"processed_at\":{at}}}\n\n"
    )
}

/// Reads until the feed gives up, and checks what it gave and from where it went on each time.
async fn check(answers: &'static [Answer], start: Start, given: &[&str], asked: &[Option<&str>]) {
    let server = server(answers).await;
    let session = SessionId::parse("sesn_1").unwrap();
    let mut feed = Feed::open(&server.client, &session, Previews::Off, start)
        .await
        .unwrap();
    let mut seen = vec![];
    let error = loop {
        match feed.next().await {
            Ok(Item::Event(event)) => seen.push(event.id.to_string()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(error.is_final(), "{error}");
    assert_eq!(seen, given);
    let openings = server.asked.lock().unwrap();
    let openings: Vec<Option<&str>> = openings.iter().map(Option::as_deref).collect();
    assert_eq!(openings, asked);
}

const GONE: Answer = Answer::Refused(StatusCode::NOT_FOUND);

/// runtime ST-1, ST-2: nothing is missed and nothing told twice.
#[tokio::test]
async fn st_2_a_broken_stream_goes_on_behind_its_last_frame() {
    let answers = &[
        Answer::Frames(&[(3, "sevt_1", true), (4, "sevt_2", true)]),
        Answer::Refused(StatusCode::SERVICE_UNAVAILABLE),
        Answer::Frames(&[(5, "sevt_3", true)]),
        GONE,
    ];
    check(
        answers,
        Start::Beginning,
        &["sevt_1", "sevt_2", "sevt_3"],
        &[Some("0"), Some("4"), Some("4"), Some("5")],
    )
    .await;
}

#[tokio::test]
async fn st_2_a_stream_that_breaks_before_its_first_frame_goes_on_behind_the_last_known_event() {
    let answers = &[
        Answer::Frames(&[]),
        Answer::Frames(&[(1, "sevt_1", true), (2, "sevt_2", false)]),
        Answer::Frames(&[(3, "sevt_2", true), (4, "sevt_3", true)]),
        GONE,
    ];
    check(
        answers,
        Start::After(EventId::parse("sevt_2").unwrap()),
        &["sevt_3"],
        &[None, Some("0"), Some("2"), Some("4")],
    )
    .await;
}

#[tokio::test]
async fn an_answer_that_is_final_is_not_asked_for_again() {
    check(
        &[Answer::Frames(&[]), GONE],
        Start::Beginning,
        &[],
        &[Some("0"), Some("0")],
    )
    .await;
}
