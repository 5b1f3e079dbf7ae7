use super::*;
use serde_json::json;

fn request(messages: serde_json::Value) -> Request {
    let body = json!({"model": "scripted", "messages": messages}).to_string();
    Request { body: body.into() }
}

fn user(text: &str) -> serde_json::Value {
    json!({"role": "user", "content": [{"type": "text", "text": text}]})
}

#[derive(Default)]
struct Heard(Vec<String>);

impl Sink for Heard {
    fn delta(&mut self, delta: Delta<'_>) {
        if let Delta::Text { text, .. } = delta {
            self.0.push(text.to_owned());
        }
    }
}

#[tokio::test]
async fn the_first_fitting_rule_answers_step_by_step() {
    let script = Scripted::parse(
        r"
rules:
  - when: {contains: weather}
    steps:
      - tools: [{name: bash, input: {command: 'echo {last_text}', deep: [{x: '{last_text}'}]}}]
      - text: 'It says: {last_result}, {not_a_place}'
  - when: {matches: '^he(l+)o$'}
    steps: [{thinking: hm, text: hi}]
default:
  steps: [{text: 'what?'}]
",
    )
    .unwrap();
    let ask = async |messages| {
        let mut heard = Heard::default();
        let response = script.sample(&request(messages), &mut heard).await.unwrap();
        let blocks: Vec<serde_json::Value> = response
            .blocks
            .iter()
            .map(|block| serde_json::from_str(block.raw.get()).unwrap())
            .collect();
        (response, blocks, heard.0.concat())
    };
    let (response, blocks, _) = ask(json!([user("The WEATHER?")])).await;
    assert_eq!(response.stop, Stop::ToolUse);
    assert_eq!(blocks[0]["input"]["command"], "echo The WEATHER?");
    assert_eq!(blocks[0]["input"]["deep"][0]["x"], "The WEATHER?");
    // What an operator says between is no task and changes none.
    let told = json!({"role": "system", "content": [{"type": "text", "text": "hello"}]});
    let (response, ..) = ask(json!([user("The WEATHER?"), told])).await;
    assert_eq!(response.stop, Stop::ToolUse);
    let results = json!({"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "{last_text}\n"}]},
    ]});
    let assistant = json!({"role": "assistant", "content": blocks});
    let (response, _, heard) = ask(json!([user("The WEATHER?"), assistant, results])).await;
    assert_eq!(response.stop, Stop::EndTurn);
    assert_eq!(heard, "It says: {last_text}, {not_a_place}");
    let (_, blocks, _) = ask(json!([user("helllo")])).await;
    assert_eq!(blocks[0]["type"], "thinking");
    assert_eq!(blocks[1]["text"], "hi");
    let (_, blocks, _) = ask(json!([user("hello you")])).await;
    assert_eq!(blocks[0]["text"], "what?");
}

#[tokio::test]
async fn the_built_in_script_says_what_it_is_and_streams() {
    let script = Scripted::built_in();
    for text in ["hello", "Compute the first 20 Fibonacci numbers"] {
        let mut heard = Heard::default();
        let response = script
            .sample(&request(json!([user(text)])), &mut heard)
            .await
            .unwrap();
        assert!(heard.0.concat().contains("scripted model"), "{text}");
        assert!(heard.0.len() > 3, "{text}: several deltas");
        assert!(response.usage.input_tokens > 0 && response.usage.output_tokens > 0);
    }
}

#[test]
fn a_script_of_another_form_is_refused_with_its_place() {
    #[track_caller]
    fn check(yaml: &str, expected: &str) {
        let error = Scripted::parse(yaml).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        let told = format!("{error}: {}", cause.unwrap_or_default());
        assert!(told.contains(expected), "{told}");
    }
    check("rules: []", "default");
    check("default: {steps: []}", "no steps");
    check(
        "rules: [{when: {contains: a}, steps: []}]\ndefault: {steps: [{text: a}]}",
        "rule 1",
    );
    check(
        "rules: [{when: {matches: '('}, steps: [{text: a}]}]\ndefault: {steps: [{text: a}]}",
        "no regular expression",
    );
    check("default: {steps: [{say: a}]}", "say");
}
