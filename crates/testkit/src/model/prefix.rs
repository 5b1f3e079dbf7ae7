//! Security I6 on the wire: each request of a conversation extends the one before, byte for byte.
//!
//! Compared is what a prompt cache compares, in its order: tools, system, then the blocks of the
//! conversation; of a chat completions request, its messages. The moving `cache_control` marks are left out, and a string counts as the text
//! block it stands for; everything else, key order included, must be the same bytes.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The conversations seen so far.
#[derive(Clone, Debug, Default)]
pub struct Prefixes {
    heads: Vec<Vec<String>>,
}

impl Prefixes {
    /// Takes the raw body of the next request.
    ///
    /// It must extend the last request of some conversation, or open a new one, which has no
    /// assistant turn yet. A repeated request is an extension by nothing.
    ///
    /// # Errors
    /// Says where the request leaves the conversation it shares most with, or that it is not JSON.
    pub fn extend(&mut self, raw: &[u8]) -> Result<(), String> {
        let request = Request::parse(raw)?;
        let shared = |head: &Vec<String>| {
            let pairs = head.iter().zip(&request.pieces);
            pairs.take_while(|(old, new)| old == new).count()
        };
        let closest = self.heads.iter_mut().max_by_key(|head| shared(head));
        match closest {
            Some(head) if shared(head) == head.len() => {
                *head = request.pieces;
                Ok(())
            }
            Some(head) if request.continues => {
                let at = shared(head);
                let none = "nothing".to_owned();
                let new = request.pieces.get(at).unwrap_or(&none);
                Err(format!(
                    "not an extension of the previous request (I6): piece {at} was {} and is {}",
                    head[at], new
                ))
            }
            None if request.continues => {
                Err("a conversation that begins in the middle (I6)".to_owned())
            }
            _ => {
                self.heads.push(request.pieces);
                Ok(())
            }
        }
    }

    /// Takes the raw body of a request that leaves its conversation, as the head of another one.
    ///
    /// # Errors
    /// Says that it is not JSON.
    pub fn branch(&mut self, raw: &[u8]) -> Result<(), String> {
        self.heads.push(Request::parse(raw)?.pieces);
        Ok(())
    }
}

struct Request {
    /// Tools, system and blocks, one piece of text each.
    pieces: Vec<String>,
    /// Whether the model has answered before.
    continues: bool,
}

impl Request {
    fn parse(raw: &[u8]) -> Result<Self, String> {
        let body: Members = serde_json::from_slice(raw).map_err(|error| error.to_string())?;
        let mut pieces = vec![];
        for part in ["tools", "system"] {
            for block in blocks(body.get(part))? {
                pieces.push(format!("{part} {block}"));
            }
        }
        let mut continues = false;
        let messages = body.get("messages").map_or("[]", RawValue::get);
        let messages: Vec<Members> =
            serde_json::from_str(messages).map_err(|error| error.to_string())?;
        let chat = body.get("stream_options").is_some();
        for message in &messages {
            let role = message.get("role").map_or("", RawValue::get);
            continues |= role == "\"assistant\"";
            if chat {
                pieces.push(format!("{role} {}", message.without_mark()));
                continue;
            }
            for block in blocks(message.get("content"))? {
                pieces.push(format!("{role} {block}"));
            }
        }
        Ok(Self { pieces, continues })
    }
}

/// The blocks of some content as text without their `cache_control`.
fn blocks(content: Option<&RawValue>) -> Result<Vec<String>, String> {
    let Some(content) = content.map(RawValue::get) else {
        return Ok(vec![]);
    };
    if content.starts_with('"') {
        return Ok(vec![format!("\"type\":\"text\",\"text\":{content}")]);
    }
    let blocks: Vec<Members> = serde_json::from_str(content).map_err(|error| error.to_string())?;
    Ok(blocks.iter().map(Members::without_mark).collect())
}

/// The members of a JSON object in the order and bytes they were sent in.
struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    fn get(&self, name: &str) -> Option<&RawValue> {
        let mut members = self.0.iter();
        members.find(|(key, _)| key == name).map(|(_, raw)| &**raw)
    }

    fn without_mark(&self) -> String {
        let kept = self.0.iter().filter(|(key, _)| key != "cache_control");
        let kept: Vec<String> = kept.map(|(key, raw)| format!("{key:?}:{raw}")).collect();
        kept.join(",")
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = vec![];
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = r#"{"model":"m","tools":[{"name":"t"}],"system":"S","messages":[
        {"role":"user","content":[{"type":"text","text":"hi","cache_control":{"type":"ephemeral"}}]}]}"#;
    const SECOND: &str = r#"{"model":"m","tools":[{"name":"t"}],"system":"S","messages":[
        {"role":"user","content":[{"type":"text","text":"hi"}]},
        {"role":"assistant","content":[{"type":"tool_use","id":"a","name":"t","input":{"b":1, "a":2}}]},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"x","cache_control":{"type":"ephemeral"}}]}]}"#;

    #[track_caller]
    fn check(requests: &[&str], last: Result<(), &str>) {
        let mut prefixes = Prefixes::default();
        let (end, before) = requests.split_last().unwrap();
        for request in before {
            prefixes.extend(request.as_bytes()).unwrap();
        }
        match (prefixes.extend(end.as_bytes()), last) {
            (Ok(()), Ok(())) => {}
            (Err(found), Err(expected)) if found.contains(expected) => {}
            (found, expected) => panic!("{found:?} is not {expected:?}"),
        }
    }

    #[test]
    fn i6_extensions_repetitions_and_new_conversations_pass() {
        check(&[FIRST, SECOND], Ok(()));
        check(&[FIRST, FIRST], Ok(()));
        check(&[FIRST, SECOND, SECOND], Ok(()));
        check(&[FIRST, &FIRST.replace("hi", "ho")], Ok(()));
        let plain = FIRST.replace(
            r#"[{"type":"text","text":"hi","cache_control":{"type":"ephemeral"}}]"#,
            r#""hi""#,
        );
        check(&[&plain, SECOND], Ok(()));
        check(&[FIRST, &FIRST.replace("hi", "ho"), SECOND], Ok(()));
    }

    #[test]
    fn i6_a_branch_goes_on_beside_what_it_left() {
        let mut prefixes = Prefixes::default();
        let other = SECOND.replace("toolu", "other").replace("\"x\"", "\"y\"");
        prefixes.extend(FIRST.as_bytes()).unwrap();
        prefixes.extend(SECOND.as_bytes()).unwrap();
        assert!(prefixes.extend(other.as_bytes()).is_err());
        prefixes.branch(other.as_bytes()).unwrap();
        prefixes.extend(other.as_bytes()).unwrap();
        prefixes.extend(SECOND.as_bytes()).unwrap();
    }

    #[test]
    fn i6_holds_for_chat_completions_too() {
        let first = r#"{"stream_options":{},"tools":[{"type":"function"}],"messages":[
            {"role":"user","content":"hi"}]}"#;
        let more = r#"{"role":"user","content":"hi"},
            {"role":"assistant","content":null,"tool_calls":[{"id":"a","function":{"arguments":"{ }"}}]},
            {"role":"tool","tool_call_id":"a","content":"x"}"#;
        let second = first.replace(r#"{"role":"user","content":"hi"}"#, more);
        check(&[first, &second], Ok(()));
        let third = second.replace("{ }", "{}");
        check(&[first, &second, &third], Err("piece 2 was \"assistant\""));
    }

    #[test]
    fn i6_a_changed_byte_is_found() {
        check(
            &[FIRST, &SECOND.replace("\"S\"", "\"s\"")],
            Err("piece 1 was system"),
        );
        check(
            &[FIRST, &SECOND.replace("hi", "Hi")],
            Err("piece 2 was \"user\""),
        );
        check(
            &[FIRST, &SECOND.replace("\"t\"}]", "\"t\",\"x\":1}]")],
            Err("piece 0 was tools"),
        );
        // The same input with other white space is other bytes.
        check(
            &[FIRST, SECOND, &SECOND.replace("1, ", "1,")],
            Err("piece 3 was \"assistant\""),
        );
        check(&[SECOND], Err("begins in the middle"));
    }
}
