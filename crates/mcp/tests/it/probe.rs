//! Trying tokens out (runtime VA-17).

use std::time::Duration;

use manyhands_mcp::{ErrorAnswer, Failure, Settings, Stumble, Token, probe};
use manyhands_protocol::CredentialId;
use manyhands_testkit::mcp::{Asked, Peer, Reply, polite};
use serde_json::{Value, json};
use url::Url;

use crate::world::{in_plain_http, outbound};

const TOKEN: &str = "probed-token-canary";

async fn tried(
    settings: Settings,
    answer: impl FnMut(&Asked) -> Reply + Send + 'static,
) -> (Result<(), Stumble>, Peer) {
    let peer = Peer::start(answer).await;
    let url = Url::parse(&peer.url("mcp.example.com", "/mcp")).expect("a URL");
    let token = Token {
        credential: CredentialId::generate(),
        secret: TOKEN.into(),
    };
    let gate = outbound(&[peer.address().port()]);
    (probe(gate, settings, &url, token).await, peer)
}

fn fine(asked: &Asked) -> Reply {
    polite(asked, &json!([]), |_, _| Value::Null)
}

#[tokio::test]
async fn va_17_a_server_that_goes_along_was_asked_for_its_tools() {
    let (tried, peer) = tried(in_plain_http(), fine).await;
    assert_eq!(tried, Ok(()));
    assert!(
        peer.what().contains(&"tools/list".to_owned()),
        "{:?}",
        peer.what()
    );
    let authorized =
        |asked: &Asked| asked.header("authorization") == Some("Bearer probed-token-canary");
    assert!(peer.asked().iter().all(authorized));
}

#[tokio::test]
async fn va_17_the_step_and_the_answer_are_told() {
    #[track_caller]
    fn check(tried: Result<(), Stumble>, step: &str, answer: Option<(u16, &str, &str)>) -> Failure {
        let stumble = tried.expect_err("a stumble");
        let expected = answer.map(|(status, content_type, body)| ErrorAnswer {
            status,
            content_type: (!content_type.is_empty()).then(|| content_type.to_owned()),
            body: body.as_bytes().to_vec(),
            whole: true,
        });
        assert_eq!((stumble.step, stumble.answer), (step, expected));
        stumble.failure
    }
    let no =
        |status: u16| move |_: &Asked| Reply::new(status, &[("content-type", "text/plain")], b"no");
    let (refused, _) = tried(in_plain_http(), no(401)).await;
    let failure = check(refused, "initialize", Some((401, "text/plain", "no")));
    assert!(
        matches!(failure, Failure::Authentication { .. }),
        "{failure:?}"
    );
    let (absent, _) = tried(in_plain_http(), no(404)).await;
    check(absent, "initialize", Some((404, "text/plain", "no")));
    let (broken, _) = tried(in_plain_http(), no(503)).await;
    check(broken, "initialize", Some((503, "text/plain", "no")));
    let (list, _) = tried(in_plain_http(), |asked| match asked.what() {
        "tools/list" => Reply::new(403, &[], b"not yours"),
        _ => fine(asked),
    })
    .await;
    let failure = check(list, "tools/list", Some((403, "", "not yours")));
    assert!(
        matches!(failure, Failure::Authentication { .. }),
        "{failure:?}"
    );
    // An error of an earlier step is no answer to a later one.
    let short = Settings {
        list: Duration::from_millis(300),
        ..in_plain_http()
    };
    let (silent, _) = tried(short, |asked| match asked.what() {
        "tools/list" => Reply::raw("").hold(),
        "server/discover" => Reply::new(404, &[], b"unknown"),
        _ => fine(asked),
    })
    .await;
    check(silent, "tools/list", None);
}

/// security INP-1: what is kept of an answer is bounded.
#[tokio::test]
async fn inp_1_a_long_answer_is_kept_in_part() {
    let long = |_: &Asked| Reply::new(400, &[("content-type", "text/html")], &[b'x'; 200 << 10]);
    let (tried, _) = tried(in_plain_http(), long).await;
    let answer = tried.expect_err("a stumble").answer.expect("an answer");
    assert!(!answer.whole && answer.body.len() <= 64 << 10);
}

/// security CRED-4
#[tokio::test]
async fn cred_4_no_token_goes_over_plain_http_without_leave() {
    let (tried, peer) = tried(Settings::default(), fine).await;
    let stumble = tried.expect_err("a stumble");
    assert_eq!((stumble.step, stumble.answer), ("initialize", None));
    assert_eq!(peer.asked().len(), 0);
}
