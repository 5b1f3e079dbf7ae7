//! What goes out: whole conversations, each request an extension of the one before, well-formed for a strict endpoint.

use manyhands_testkit::model::{Format, Reply};
use serde_json::{Value, json};

use super::stage::{Stage, body, each_patient, shown};

/// Asks with the conversation so far, and adds the answer to it.
async fn turn(stage: &Stage, talk: &mut Vec<String>, user: Value, reply: Reply) -> Vec<String> {
    talk.push(says("user", user));
    stage.server.push(reply);
    let (response, _) = stage.send(body(talk)).await;
    let response = response.unwrap();
    // As the brain replays them: what is redacted is left out.
    let blocks = response.blocks.iter().map(|block| block.raw.get());
    let blocks: Vec<&str> = blocks.filter(|raw| !raw.contains("\"redacted\"")).collect();
    let blocks = blocks.join(",");
    talk.push(format!(r#"{{"role":"assistant","content":[{blocks}]}}"#));
    shown(&response)
}

fn says(role: &str, content: Value) -> String {
    json!({"role": role, "content": content}).to_string()
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn result(id: &str, content: Value) -> Value {
    json!({"type": "tool_result", "tool_use_id": id, "content": content})
}

fn image() -> Value {
    json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}})
}

/// invariant I6, runtime TL-4, SE-9: rounds of calls, results with images and errors, documents, steering, operators.
#[tokio::test]
async fn i6_a_conversation_of_all_kinds_extends_itself() {
    each_patient(async |stage| {
        stage.server.check_prefixes();
        let talk = &mut Vec::new();
        let call = || {
            Reply::thinking("Hm.", "c2ln")
                .then_text("I look.")
                .then_tool_use_raw("call_1", "bash", r#"{"command" : "ls"}"#)
                .then_tool_use("call_2", "bash", json!({"command": "cat x.png"}))
        };
        turn(&stage, talk, json!([text("Look around."), image()]), call()).await;
        let mut failed = result("call_2", json!([text("not there")]));
        failed["is_error"] = json!(true);
        let results = json!([
            result("call_1", json!([text("a"), image()])),
            failed,
            text("Hurry.")
        ]);
        turn(&stage, talk, results, Reply::text("Done.")).await;
        let document = json!({"type": "document", "title": "Notes",
            "source": {"type": "text", "media_type": "text/plain", "data": "one"}});
        let pdf = json!({"type": "document", "title": "a.pdf",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}});
        talk.push(says("user", json!([document, pdf])));
        talk.push(says("system", json!([text("Be brief.")])));
        stage.server.push(Reply::text("Read."));
        stage.send(body(talk)).await.0.unwrap();
        talk.push(says("assistant", json!([text("Read.")])));
        turn(&stage, talk, json!([text("Thanks.")]), Reply::text("Bye.")).await;

        let last = stage.server.request(4).await;
        assert_eq!(last.system(), "Be kind.");
        assert_eq!(last.tool_names(), ["bash"]);
        assert_eq!(last.last_user_text(), "Thanks.");
        let second = stage.server.request(2).await;
        let results = second.tool_results();
        let ids: Vec<&str> = results
            .iter()
            .map(|result| result.tool_use_id.as_str())
            .collect();
        assert_eq!(ids, ["call_1", "call_2"]);
        assert!(results[1].text.ends_with("not there"), "{results:?}");
        let raw = String::from_utf8(second.raw.to_vec()).unwrap();
        let (input, picture) = match stage.format {
            Format::Messages => (r#"{"command" : "ls"}"#, r#""data":"QUJD""#),
            Format::Chat => (r#"{\"command\" : \"ls\"}"#, "data:image/png;base64,QUJD"),
        };
        assert!(raw.contains(input), "{raw}");
        assert_eq!(raw.matches(picture).count(), 2, "{raw}");
        if stage.format == Format::Chat {
            assert_eq!(second.body["max_tokens"], 1000);
        }
        stage.server.assert_done();
    })
    .await;
}

/// security MODEL-5, runtime ER-11: an input that is no object comes back as one, so that no endpoint refuses it.
#[tokio::test]
async fn model_5_an_input_that_is_no_object_can_be_sent_back() {
    each_patient(async |stage| {
        let talk = &mut Vec::new();
        let call = Reply::empty().then_tool_use_raw("call_1", "bash", "[\"ls\"]");
        let said = turn(&stage, talk, json!([text("Go.")]), call).await;
        assert_eq!(said, ["call_1 bash [\"ls\"]"]);
        let results = json!([result(
            "call_1",
            json!([text("the input must be an object")])
        )]);
        turn(&stage, talk, results, Reply::text("I see.")).await;
        stage.server.assert_done();
    })
    .await;
}

/// security MODEL-1: a model of chat completions that writes no JSON at all is told so, instead of being asked again.
#[tokio::test]
async fn model_1_arguments_that_are_no_json_can_be_sent_back() {
    each_patient(async |stage| {
        let call = Reply::empty().then_tool_use_raw("call_1", "bash", "ls -l");
        if stage.format == Format::Messages {
            stage.check_retried(call).await;
            return;
        }
        let talk = &mut Vec::new();
        let said = turn(&stage, talk, json!([text("Go.")]), call).await;
        assert_eq!(said, ["call_1 bash \"ls -l\""]);
        let results = json!([result("call_1", json!([text("no")]))]);
        turn(&stage, talk, results, Reply::text("I see.")).await;
        stage.server.assert_done();
    })
    .await;
}

/// security MODEL-5: a request of many megabytes arrives whole.
#[tokio::test]
async fn model_5_big_requests_arrive_whole() {
    each_patient(async |stage| {
        let talk = &mut Vec::new();
        let mut picture = image();
        picture["source"]["data"] = json!("QUJD".repeat(1 << 20));
        let long = "word ".repeat(1 << 20);
        turn(
            &stage,
            talk,
            json!([text(&long), picture]),
            Reply::text("Seen."),
        )
        .await;
        let sent = stage.server.request(1).await;
        assert!(sent.raw.len() > (9 << 20), "{}", sent.raw.len());
        assert!(sent.last_user_text() == long, "the text arrives whole");
        stage.server.assert_done();
    })
    .await;
}

/// A conversation that one provider began goes on with the other: thinking, calls and results are legal for both.
#[tokio::test]
async fn a_conversation_moves_between_providers() {
    each_patient(async |stage| {
        let talk = &mut Vec::new();
        let call = Reply::thinking("Hm.", "c2ln")
            .then_tool_use("call_1", "bash", json!({"command": "ls"}))
            .then_tool_use("call.2:x", "bash", json!({"command": "pwd"}));
        let said = turn(&stage, talk, json!([text("Go.")]), call).await;
        let ids: Vec<&str> = said[1..]
            .iter()
            .map(|call| call.split(' ').next().unwrap())
            .collect();
        let other = match stage.format {
            Format::Messages => Format::Chat,
            Format::Chat => Format::Messages,
        };
        if stage.format == Format::Messages {
            // The scripted endpoint lets any id pass; the hosted one makes none that another would refuse.
            talk.pop();
            let call = json!({"type": "tool_use", "id": ids[0], "name": "bash", "input": {}});
            let thinking = json!({"type": "thinking", "thinking": "Hm.", "signature": "c2ln"});
            talk.push(says("assistant", json!([thinking, call])));
            talk.push(says("user", json!([result(ids[0], json!([text("a")]))])));
        } else {
            assert!(ids[1].starts_with("call_"), "{ids:?}");
            let results = ids.iter().map(|id| result(id, json!([text("a")])));
            talk.push(says("user", results.collect()));
        }
        let elsewhere = manyhands_testkit::model::ModelServer::with([Reply::text("Done.")]).await;
        let model = super::stage::provider(other, &elsewhere.url(), super::stage::patient());
        let moved = Stage {
            server: elsewhere,
            format: other,
            model,
        };
        let (response, _) = moved.send(body(talk)).await;
        assert_eq!(shown(&response.unwrap()), ["Done."]);
        moved.server.assert_done();
    })
    .await;
}
