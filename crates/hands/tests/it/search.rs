//! What a search service is asked, and what is taken of its answer.

use manyhands_hands::web::search::{Hit, Keyed, Question, Search as _, Tavily, Trouble};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use crate::host::PATIENCE;

/// A request that a service was sent: its lines above the body, and the body.
struct Asked {
    head: Vec<String>,
    body: Value,
}

/// Asks Tavily once, which answers so; what it was asked, and what came of it.
async fn ask(status: &str, answer: &Value) -> (Asked, Result<Vec<Hit>, Trouble>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/search", listener.local_addr().unwrap());
    let served = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            match line.trim_end() {
                "" => break,
                line => head.push(line.to_owned()),
            }
        }
        let length = head
            .iter()
            .find_map(|line| line.strip_prefix("content-length: "))
            .expect("a body");
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).await.unwrap();
        let answer = answer.to_string();
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
            answer.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        let body = serde_json::from_slice(&body).unwrap();
        Asked { head, body }
    };
    let tavily = Tavily(Keyed {
        client: manyhands_egress::client(manyhands_egress::Timeouts::default()).unwrap(),
        endpoint: endpoint.parse().unwrap(),
        key: "tvly-secret".into(),
    });
    let question = Question {
        query: "who is it?".to_owned(),
        location: None,
    };
    let both = futures::future::join(served, tavily.search(&question));
    tokio::time::timeout(PATIENCE, both).await.expect("it ends")
}

/// runtime WB-1: the question goes as Tavily wants it, the key where it wants it, and its results are read.
#[tokio::test]
async fn wb_1_tavily_is_asked_and_its_results_are_read() {
    let result = |title: &str, url: &str, content: &str| json!({"title": title, "url": url, "content": content, "score": 0.82, "raw_content": null});
    let answer = json!({
        "query": "who is it?",
        "follow_up_questions": null,
        "answer": null,
        "images": [],
        "results": [
            result("A page", "https://docs.example.com/a", "about it"),
            {"title": "Another", "url": "https://other.example.net/b", "score": 0.4},
        ],
        "response_time": 1.67,
        "request_id": "123e4567-e89b-12d3-a456-426614174111",
    });
    let (asked, hits) = ask("200 OK", &answer).await;
    assert_eq!(asked.head[0], "POST /search HTTP/1.1");
    for line in [
        "authorization: Bearer tvly-secret",
        "content-type: application/json",
    ] {
        assert!(asked.head.iter().any(|found| found == line), "{line}");
    }
    assert_eq!(
        asked.body,
        json!({"query": "who is it?", "max_results": 20, "search_depth": "basic"})
    );
    let hit = |title: &str, url: &str, text: Option<&str>| Hit {
        title: title.to_owned(),
        url: url.to_owned(),
        text: text.map(str::to_owned),
    };
    let expected = [
        hit("A page", "https://docs.example.com/a", Some("about it")),
        hit("Another", "https://other.example.net/b", None),
    ];
    assert_eq!(hits.unwrap(), expected);
}

/// runtime ER-11: what it refuses is a failed call, and nobody is told the key.
#[tokio::test]
async fn er_11_what_tavily_refuses_is_a_failed_call() {
    for status in [
        "401 Unauthorized",
        "429 Too Many Requests",
        "432 Plan limit",
    ] {
        let answer =
            json!({"detail": {"error": "Unauthorized: missing or invalid API key tvly-secret."}});
        let (_, hits) = ask(status, &answer).await;
        let (number, _) = status.split_once(' ').unwrap();
        let failed = Trouble::Failed(format!("the search service answered {number}"));
        assert_eq!(hits, Err(failed));
    }
}
