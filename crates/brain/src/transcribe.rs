//! A conversation as one text of a bounded length, for a model that cannot read it otherwise (pure).

use serde_json::Value;

use crate::replay::{Role, Transcript};

/// The least that is left of a block before whole blocks are left out.
const LEAST: usize = 400;

/// What a block's name and the note of a cut take.
const NAME: usize = 64;

/// The conversation as a text of at most about `most` bytes: the longest blocks are cut in their middle first; when that
/// is not enough, the middle of the whole is left out.
pub(crate) fn conversation(transcript: &Transcript, most: usize) -> String {
    let turns = transcript.turns.iter().cloned().chain(transcript.tail());
    let blocks: Vec<(&'static str, String)> = turns
        .flat_map(|turn| {
            let who = match turn.role {
                Role::User => "User",
                Role::System => "Operator",
                Role::Assistant => "Assistant",
            };
            let texts = turn.blocks.into_iter();
            texts.filter_map(move |block| Some((who, text_of(&block)?)))
        })
        .collect();
    let names = NAME * blocks.len();
    let limit = fair_limit(
        blocks.iter().map(|(_, text)| text.len()),
        most.saturating_sub(names),
    );
    let lines: Vec<String> = blocks
        .iter()
        .map(|(who, text)| format!("{who}: {}\n\n", cut(text, limit)))
        .collect();
    format!(
        "The text of a conversation between a user and an assistant:\n\n{}",
        cut(&lines.concat(), most)
    )
}

/// The longest length that all may keep so that they fit together, but not below a readable least.
fn fair_limit(lengths: impl Iterator<Item = usize>, most: usize) -> usize {
    let mut lengths: Vec<usize> = lengths.collect();
    lengths.sort_unstable();
    let mut left = most;
    for (index, length) in lengths.iter().enumerate() {
        let share = left / (lengths.len() - index);
        if *length > share {
            return share.max(LEAST);
        }
        left -= length;
    }
    most
}

/// The text without its middle, when it is longer than `most` bytes. What is left out is told.
pub(crate) fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let head = text.floor_char_boundary(most / 2);
    let tail = text.ceil_char_boundary(text.len() - most / 2);
    format!(
        "{}\n[… {} bytes are left out here …]\n{}",
        &text[..head],
        tail - head,
        &text[tail..]
    )
}

/// A block as text; `None` for what no other turn can use (thinking).
fn text_of(block: &str) -> Option<String> {
    let block: Value = serde_json::from_str(block).ok()?;
    let name = |member: &str| block[member].as_str().unwrap_or_default();
    Some(match name("type") {
        "text" => name("text").to_owned(),
        "tool_use" => format!("[calls {} with {}]", name("name"), block["input"]),
        "tool_result" => {
            let parts = block["content"].as_array().map_or(&[][..], Vec::as_slice);
            let texts: Vec<String> = parts
                .iter()
                .filter_map(|part| text_of(&part.to_string()))
                .collect();
            let failed = if block["is_error"] == true {
                " of a failed call"
            } else {
                ""
            };
            format!("[result{failed}: {}]", texts.join("\n"))
        }
        "thinking" | "redacted_thinking" => return None,
        "document" if block["source"]["type"] == "text" => {
            let text = block["source"]["data"].as_str().unwrap_or_default();
            format!("[document {}: {text}]", name("title"))
        }
        kind => format!("[{kind}]"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Log;

    #[test]
    fn cc_1_long_blocks_lose_their_middle_before_short_ones() {
        let long = format!("BEGIN{}END", "x".repeat(10_000));
        let transcript = Log::default()
            .asked("a", "The question")
            .called("sandbox", &["call"])
            .result("call", &long)
            .fold();
        let text = conversation(&transcript, 3_000);
        assert!(text.contains("User: The question\n"), "{text}");
        assert!(
            text.contains("Assistant: [calls bash with {\"command\":\"call\"}]"),
            "{text}"
        );
        assert!(text.contains("[result: BEGINx"), "{text}");
        assert!(text.contains("xEND]"), "{text}");
        assert!(text.contains("bytes are left out here"), "{text}");
        assert!(text.len() < 3_200, "{}", text.len());
        let whole = conversation(&transcript, 100_000);
        assert!(whole.contains(&long), "nothing is cut without need");
    }

    #[test]
    fn cc_1_many_blocks_lose_the_middle_of_the_whole() {
        let mut log = Log::default();
        for n in 0..200 {
            let name = format!("m{n}");
            log = log
                .asked(&name, &format!("question {n}. {}", "y".repeat(500)))
                .said(&format!("answer {n}."));
        }
        let text = conversation(&log.fold(), 5_000);
        assert!(text.contains("question 0.") && text.contains("answer 199."));
        assert!(!text.contains("question 100."));
        assert!(text.len() < 5_300, "{}", text.len());
    }

    #[test]
    fn a_cut_keeps_characters_whole() {
        let text = "é".repeat(100);
        for most in 0..text.len() {
            let cut = cut(&text, most);
            assert!(cut.len() <= most + 60, "{most}");
        }
        assert_eq!(cut(&text, text.len()), text);
    }
}
