//! Which rules a test names.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;

use crate::rule::{self, Rules};
use crate::scan::Test;

/// A rule's tests, and the tests that name rules which nobody listed.
#[derive(Debug, Default)]
pub(crate) struct Mentions {
    by_rule: BTreeMap<String, Vec<Mention>>,
    /// Test and id.
    pub(crate) unknown: Vec<(String, String)>,
    /// How many tests were read.
    pub(crate) tests: usize,
}

/// A test that names a rule. Sorted: those whose own name says so come first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Mention {
    only_in_its_comment: bool,
    test: String,
}

impl Mentions {
    pub(crate) fn collect(rules: &Rules, tests: Vec<Test>) -> Self {
        let mut mentions = Self {
            tests: tests.len(),
            ..Self::default()
        };
        for test in tests {
            let place = format!("{}::{}", test.file, test.name);
            let by_name = in_name(rules, &test.name)
                .into_iter()
                .chain(in_text(rules, &test.name));
            let found = by_name.map(|id| (id, false));
            for (id, only_in_its_comment) in found.chain(
                in_text(rules, &test.comment)
                    .into_iter()
                    .map(|id| (id, true)),
            ) {
                if !rules.contains(&id) {
                    mentions.unknown.push((place.clone(), id));
                    continue;
                }
                mentions.by_rule.entry(id).or_default().push(Mention {
                    only_in_its_comment,
                    test: place.clone(),
                });
            }
        }
        for found in mentions.by_rule.values_mut() {
            found.sort();
            let mut seen = std::collections::HashSet::new();
            found.retain(|mention| seen.insert(mention.test.clone()));
        }
        mentions.unknown.sort();
        mentions.unknown.dedup();
        mentions
    }

    /// The tests of a rule, as `file::name`.
    pub(crate) fn of(&self, id: &str) -> Vec<&str> {
        let found = self.by_rule.get(id).map(Vec::as_slice).unwrap_or_default();
        found.iter().map(|mention| mention.test.as_str()).collect()
    }
}

/// The ids at the beginning of a function's name: `sq_7_tc_3_…`, `tl_14_and_tl_22_…`, `i4_…`, `test_sq_7_…`.
fn in_name(rules: &Rules, name: &str) -> Vec<String> {
    let name = name.strip_prefix("test_").unwrap_or(name);
    let mut words = name.split('_').peekable();
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        if word == "and" && !found.is_empty() {
            continue;
        }
        let letters = word
            .find(|char: char| !char.is_ascii_lowercase())
            .unwrap_or(word.len());
        let (prefix, number) = word.split_at(letters);
        let prefix = prefix.to_ascii_uppercase();
        if !rules.has_prefix(&prefix) {
            break;
        }
        if rule::is_number(number) {
            found.push(rule::id(&prefix, number));
        } else if let Some(number) =
            words.next_if(|next| number.is_empty() && rule::is_number(next))
        {
            found.push(rule::id(&prefix, number));
        } else {
            break;
        }
    }
    found
}

/// The ids anywhere in a text: `SQ-7`, `I3`, and `SQ-1 to SQ-5` for all between.
fn in_text(rules: &Rules, text: &str) -> Vec<String> {
    static ID: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\b([A-Z]+)(-?)([0-9]+[a-z]?)\b").expect("a pattern"));
    let mut found: Vec<String> = Vec::new();
    let mut end = 0;
    for parts in ID.captures_iter(text) {
        let (whole, prefix) = (parts.get(0).expect("the match"), &parts[1]);
        if !rules.has_prefix(prefix) || (parts[2].is_empty() && prefix != "I") {
            continue;
        }
        let id = rule::id(prefix, &parts[3]);
        match found.last() {
            Some(first) if text[end..whole.start()].split_whitespace().eq(["to"]) => {
                let first = first.clone();
                found.extend(rules.range(&first, &id));
            }
            _ => found.push(id),
        }
        end = whole.end();
    }
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        let ids = [
            "SQ-1", "SQ-2", "SQ-3", "TC-3", "AG-11a", "I3", "IN-2", "LOG-2",
        ];
        let rules: String = ids
            .iter()
            .map(|id| format!("{{ id = '{id}', words = 'x', state = 'now' }},"))
            .collect();
        Rules::parse(&format!(
            "[[section]]\ntitle = 'All'\nsource = 'x'\nrules = [{rules}]"
        ))
        .unwrap()
    }

    fn check(found: &[String], expected: &[&str]) {
        assert_eq!(found, expected);
    }

    #[test]
    fn names_begin_with_their_rules() {
        let rules = rules();
        for (name, expected) in [
            ("sq_1_plain_turn", &["SQ-1"][..]),
            ("sq_1_tc_3_two_rules", &["SQ-1", "TC-3"]),
            ("sq_1_and_tc_3_two_rules", &["SQ-1", "TC-3"]),
            ("test_sq_1_python", &["SQ-1"]),
            ("i3_short", &["I3"]),
            ("i_3_long", &["I3"]),
            ("ag_11a_letter", &["AG-11a"]),
            ("sq_99_unknown", &["SQ-99"]),
            ("plain_sq_1_not_at_the_beginning", &[]),
            ("in_a_hurry", &[]),
            ("sq1a2_is_no_number", &[]),
            ("utf_8_is_no_rule", &[]),
            ("sq", &[]),
        ] {
            check(&in_name(&rules, name), expected);
        }
    }

    #[test]
    fn texts_name_rules_anywhere() {
        let rules = rules();
        for (text, expected) in [
            ("runtime SQ-1, TC-3.", &["SQ-1", "TC-3"][..]),
            ("(security LOG-2, I3)", &["LOG-2", "I3"]),
            ("SQ-1 to SQ-3 hold", &["SQ-1", "SQ-2", "SQ-3"]),
            ("from SQ-1\n to SQ-2", &["SQ-1", "SQ-2"]),
            ("SQ-1 and then to SQ-3", &["SQ-1", "SQ-3"]),
            ("AG-11a is not AG-11", &["AG-11a", "AG-11"]),
            ("UTF-8, SHA-256, AES-256, SQ7, XSQ-1, SQ-1x2", &[]),
        ] {
            check(&in_text(&rules, text), expected);
        }
    }

    fn test(file: &str, name: &str, comment: &str) -> Test {
        Test {
            file: file.to_owned(),
            name: name.to_owned(),
            comment: comment.to_owned(),
        }
    }

    #[test]
    fn a_rule_knows_its_tests_and_unknown_ids_are_told() {
        let tests = vec![
            test("b.rs", "a_story", "SQ-1: told."),
            test("c.rs", "sq_1_by_name", "SQ-1 again"),
            test("d.ts", "SQ-2: a title", ""),
            test("e.rs", "sq_44_nobody_listed", "nor TC-9"),
        ];
        let mentions = Mentions::collect(&rules(), tests);
        assert_eq!(mentions.of("SQ-1"), ["c.rs::sq_1_by_name", "b.rs::a_story"]);
        assert_eq!(mentions.of("SQ-2"), ["d.ts::SQ-2: a title"]);
        assert_eq!(mentions.of("SQ-3"), Vec::<&str>::new());
        let place = "e.rs::sq_44_nobody_listed".to_owned();
        let unknown = [
            (place.clone(), "SQ-44".to_owned()),
            (place, "TC-9".to_owned()),
        ];
        assert_eq!(mentions.unknown, unknown);
    }
}
