//! The stub as a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use manyhands_testkit::http::Client;
use serde_json::{Value, json};

struct Stub {
    process: Child,
    stdin: Option<ChildStdin>,
    client: Client,
}

impl Stub {
    fn start(args: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_manyhands-model-stub"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap();
        let client = Client::new(url)
            .header("x-api-key", "stub")
            .header("anthropic-version", "2026-10-21");
        let stdin = process.stdin.take();
        Self {
            process,
            stdin,
            client,
        }
    }

    async fn ask(&self, messages: Value) -> String {
        let body = json!({"model": "m", "max_tokens": 9, "stream": true, "messages": messages});
        let answer = self.client.post("/v1/messages", &body).await;
        String::from_utf8(answer.body.to_vec()).unwrap()
    }

    async fn stats(&self) -> Value {
        self.client.get("/stats").await.ok()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn greets_and_counts() {
    let stub = Stub::start(&["--check"]);
    let hi = json!([{"role": "user", "content": "Hi"}]);
    let body = stub.ask(hi.clone()).await;
    assert_eq!(body.matches("text_delta").count(), 4);
    assert!(body.contains("event: message_stop"));
    assert!(stub.ask(json!([])).await.contains("at least one message"));
    let stats = stub.stats().await;
    assert_eq!((&stats["hits"], &stats["refused"]), (&json!(2), &json!(1)));
}

#[tokio::test]
async fn plays_a_tool_round() {
    let stub = Stub::start(&["--mode", "bash"]);
    let call = stub
        .ask(json!([{"role": "user", "content": "run: pwd"}]))
        .await;
    assert!(call.contains(r#"{\"command\":\"pwd\"}"#) && call.contains("tool_use"));
    let result = json!([{"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "x", "content": "/workspace"},
    ]}]);
    assert!(stub.ask(result).await.contains("done: /workspace"));
}

#[tokio::test]
async fn follows_a_script() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let script = json!({"replies": [{"content": [{"type": "text", "text": "From a file."}]}]});
    write!(file, "{script}").unwrap();
    let path = file.path().to_str().unwrap();
    let stub = Stub::start(&["--mode", "script", "--script", path]);
    let body = stub.ask(json!([{"role": "user", "content": "Hi"}])).await;
    assert!(body.contains("From a file."));
}

#[tokio::test]
async fn ends_with_its_standard_input() {
    let mut stub = Stub::start(&[]);
    drop(stub.stdin.take());
    assert!(stub.process.wait().unwrap().success());
}

#[tokio::test]
async fn speaks_chat_completions_too() {
    let stub = Stub::start(&["--mode", "bash", "--check"]);
    let client = stub.client.clone().header("authorization", "Bearer stub");
    let ask = async |messages: Value| {
        let body = json!({"model": "m", "stream": true, "stream_options": {"include_usage": true},
            "messages": messages});
        let answer = client.post("/v1/chat/completions", &body).await;
        String::from_utf8(answer.body.to_vec()).unwrap()
    };
    let user = json!({"role": "user", "content": "run: pwd"});
    let call = ask(json!([user])).await;
    assert!(call.contains(r#"{\"command\":\"pwd\"}"#) && call.contains("tool_calls"));
    assert!(call.ends_with("data: [DONE]\n\n"));
    let refused = ask(json!([])).await;
    assert!(refused.contains("at least one message"), "{refused}");
    let calls = json!([{"id": "a", "type": "function",
        "function": {"name": "bash", "arguments": "{}"}}]);
    let round = json!([
        user,
        {"role": "assistant", "content": null, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "a", "content": "/workspace"},
    ]);
    assert!(ask(round).await.contains("done: /workspace"));
}
