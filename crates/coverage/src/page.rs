//! What is written and what is wrong.

use std::fmt::Write;

use crate::mention::Mentions;
use crate::rule::{Rule, Rules, State};

/// How many tests of a rule are named.
const SHOWN: usize = 3;

const HEAD: &str = "\
# Rules and their tests

Written by `make coverage` from `docs/rules.toml` and from the tests themselves: a test proves the rules that its name begins with or that
its doc comment names. Change those, not this page. `make lint` fails when the page is out of date, when a rule that holds now has no
test, or when a test names a rule that is not listed.
";

/// The whole page.
pub(crate) fn render(rules: &Rules, mentions: &Mentions) -> String {
    let mut page = format!("{HEAD}\n| state | rules | with a test |\n| --- | ---: | ---: |\n");
    for (name, kind) in KINDS {
        let (all, tested) = count(rules.all(), mentions, kind);
        let _ = writeln!(page, "| {name} | {all} | {tested} |");
    }
    for section in &rules.sections {
        let _ = write!(page, "\n## {} ({})\n\n", section.title, section.source);
        page.push_str("| rule | in a few words | tests | state |\n| --- | --- | --- | --- |\n");
        for rule in &section.rules {
            let tests = mentions.of(&rule.id);
            let (words, names, state) = (
                cell(&rule.words),
                names(&tests),
                state(rule, !tests.is_empty()),
            );
            let _ = writeln!(page, "| {} | {words} | {names} | {state} |", rule.id);
        }
    }
    page
}

/// One line of totals.
pub(crate) fn summary(rules: &Rules, mentions: &Mentions) -> String {
    let (all, tested) = count(rules.all(), mentions, KINDS[0].1);
    let total = rules.all().count();
    let tests = mentions.tests;
    format!(
        "coverage: {total} rules, {all} of them hold now, {tested} of these are named by one of {tests} tests"
    )
}

/// What `--check` fails for, one line each.
pub(crate) fn problems(rules: &Rules, mentions: &Mentions) -> Vec<String> {
    let untested = rules
        .all()
        .filter(|rule| rule.state == State::Now && mentions.of(&rule.id).is_empty())
        .map(|rule| format!("{} has no test: {}", rule.id, rule.words));
    let unknown = mentions
        .unknown
        .iter()
        .map(|(test, id)| format!("{test} names {id}, which is not in the list of rules"));
    untested.chain(unknown).collect()
}

type Kind = fn(&State) -> bool;

const KINDS: [(&str, Kind); 4] = [
    ("holds now", |state| *state == State::Now),
    ("later", |state| matches!(state, State::Later(_))),
    ("decided otherwise", |state| {
        matches!(state, State::DecidedOtherwise(_))
    }),
    ("not testable", |state| {
        matches!(state, State::NotTestable(_))
    }),
];

fn count<'a>(
    rules: impl Iterator<Item = &'a Rule>,
    mentions: &Mentions,
    kind: Kind,
) -> (usize, usize) {
    let of_kind: Vec<&Rule> = rules.filter(|rule| kind(&rule.state)).collect();
    let tested = of_kind
        .iter()
        .filter(|rule| !mentions.of(&rule.id).is_empty());
    (of_kind.len(), tested.count())
}

fn state(rule: &Rule, tested: bool) -> String {
    match &rule.state {
        State::Now if tested => "tested".to_owned(),
        State::Now => "**no test**".to_owned(),
        State::Later(part) => format!("not yet: {}", cell(part)),
        State::DecidedOtherwise(decision) => format!("decided otherwise: {}", cell(decision)),
        State::NotTestable(reason) => format!("not testable: {}", cell(reason)),
    }
}

fn names(tests: &[&str]) -> String {
    let shown = tests
        .iter()
        .take(SHOWN)
        .map(|test| format!("`{}`", cell(test)));
    let more = tests
        .len()
        .checked_sub(SHOWN)
        .filter(|more| *more > 0)
        .map(|more| format!("+{more}"));
    shown.chain(more).collect::<Vec<_>>().join("<br>")
}

/// A text that stays inside its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Test;

    const LIST: &str = "
[[section]]
title = 'Sequences'
source = 'runtime §5'
rules = [
    { id = 'SQ-1', words = 'a plain turn', state = 'now' },
    { id = 'SQ-2', words = 'one | two', state = 'now' },
    { id = 'SQ-23', words = 'outcomes', state = 'later: outcomes' },
    { id = 'SQ-30', words = 'x', state = 'decided otherwise: y' },
]
";

    fn mentions(rules: &Rules, names: &[&str]) -> Mentions {
        let test = |name: &&str| Test {
            file: "a.rs".to_owned(),
            name: (*name).to_owned(),
            comment: String::new(),
        };
        Mentions::collect(rules, names.iter().map(test).collect())
    }

    #[test]
    fn the_page_has_totals_and_a_row_for_each_rule() {
        let rules = Rules::parse(LIST).unwrap();
        let mentions = mentions(
            &rules,
            &["sq_1_d", "sq_1_a", "sq_1_b", "sq_1_c", "sq_23_early"],
        );
        let page = render(&rules, &mentions);
        let tables = page.strip_prefix(HEAD).unwrap();
        let expected = "
| state | rules | with a test |
| --- | ---: | ---: |
| holds now | 2 | 1 |
| later | 1 | 1 |
| decided otherwise | 1 | 0 |
| not testable | 0 | 0 |

## Sequences (runtime §5)

| rule | in a few words | tests | state |
| --- | --- | --- | --- |
| SQ-1 | a plain turn | `a.rs::sq_1_a`<br>`a.rs::sq_1_b`<br>`a.rs::sq_1_c`<br>+1 | tested |
| SQ-2 | one \\| two |  | **no test** |
| SQ-23 | outcomes | `a.rs::sq_23_early` | not yet: outcomes |
| SQ-30 | x |  | decided otherwise: y |
";
        assert_eq!(tables, expected);
    }

    #[test]
    fn untested_rules_and_unknown_names_are_problems() {
        let rules = Rules::parse(LIST).unwrap();
        let found = problems(&rules, &mentions(&rules, &["sq_1_a", "sq_99_b"]));
        let expected = [
            "SQ-2 has no test: one | two",
            "a.rs::sq_99_b names SQ-99, which is not in the list of rules",
        ];
        assert_eq!(found, expected);
        let clean = problems(&rules, &mentions(&rules, &["sq_1_a", "sq_2_b"]));
        assert_eq!(clean, Vec::<String>::new());
    }
}
