//! The list of rules.

use std::collections::HashMap;

use anyhow::{anyhow, bail};
use serde::Deserialize;

/// All rules, by section, in the order of the file.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) sections: Vec<Section>,
    /// Prefix → its ids.
    ids: HashMap<String, Vec<String>>,
}

/// Rules that belong together.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Section {
    /// What its rules are about.
    pub(crate) title: String,
    /// Where they are stated.
    pub(crate) source: String,
    pub(crate) rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// `SQ-7`, `AG-11a`, `I3`.
    pub(crate) id: String,
    /// What it asks for, short.
    pub(crate) words: String,
    pub(crate) state: State,
}

/// What is to be expected of a rule.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum State {
    /// It holds, so a test must prove it.
    Now,
    /// A part of the platform that is not built yet owns it.
    Later(String),
    /// The project does something else, on purpose.
    DecidedOtherwise(String),
    /// No test can prove it, for this reason.
    NotTestable(String),
}

impl TryFrom<String> for State {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "now" {
            return Ok(Self::Now);
        }
        let (kind, reason) = text.split_once(": ").unwrap_or((&text, ""));
        if reason.is_empty() {
            return Err(format!(
                "a state is `now` or a kind with a reason, not `{text}`"
            ));
        }
        match kind {
            "later" => Ok(Self::Later(reason.to_owned())),
            "decided otherwise" => Ok(Self::DecidedOtherwise(reason.to_owned())),
            "not testable" => Ok(Self::NotTestable(reason.to_owned())),
            _ => Err(format!("there is no state `{kind}`")),
        }
    }
}

impl Rules {
    /// Reads the list; ids are unique and have the form of one.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            section: Vec<Section>,
        }
        let sections = toml::from_str::<File>(text)?.section;
        let mut ids: HashMap<String, Vec<String>> = HashMap::new();
        for rule in sections.iter().flat_map(|section| &section.rules) {
            let (prefix, _) =
                split(&rule.id).ok_or_else(|| anyhow!("`{}` is no id of a rule", rule.id))?;
            let siblings = ids.entry(prefix.to_owned()).or_default();
            if siblings.contains(&rule.id) {
                bail!("{} is listed twice", rule.id);
            }
            siblings.push(rule.id.clone());
        }
        Ok(Self { sections, ids })
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Rule> {
        self.sections.iter().flat_map(|section| &section.rules)
    }

    /// Whether any rule's id begins like this, so that a word of this form is meant as one.
    pub(crate) fn has_prefix(&self, prefix: &str) -> bool {
        self.ids.contains_key(prefix)
    }

    pub(crate) fn contains(&self, id: &str) -> bool {
        split(id).is_some_and(|(prefix, _)| {
            self.ids
                .get(prefix)
                .is_some_and(|ids| ids.iter().any(|known| known == id))
        })
    }

    /// The ids from one to another of the same prefix, in the order of the list; just these two when they are not
    /// both listed in this order.
    pub(crate) fn range(&self, first: &str, last: &str) -> Vec<String> {
        let place = |id: &str| {
            let (prefix, _) = split(id)?;
            let ids = self.ids.get(prefix)?;
            Some((ids, ids.iter().position(|known| known == id)?))
        };
        match (place(first), place(last)) {
            (Some((ids, from)), Some((_, to))) if from <= to => ids[from..=to].to_vec(),
            _ => vec![first.to_owned(), last.to_owned()],
        }
    }
}

/// The id of a rule from its two parts. The invariants are written without a dash.
pub(crate) fn id(prefix: &str, number: &str) -> String {
    let dash = if prefix == "I" { "" } else { "-" };
    format!("{prefix}{dash}{number}")
}

fn split(whole: &str) -> Option<(&str, &str)> {
    let (prefix, number) = whole.split_at(whole.find(|char: char| !char.is_ascii_uppercase())?);
    let number = number.strip_prefix('-').unwrap_or(number);
    (is_number(number) && id(prefix, number) == whole).then_some((prefix, number))
}

/// Digits, and at most one small letter behind them.
pub(crate) fn is_number(text: &str) -> bool {
    let digits = text
        .strip_suffix(|char: char| char.is_ascii_lowercase())
        .unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(rules: &str) -> String {
        format!("[[section]]\ntitle = 'Sequences'\nsource = 'runtime §5'\nrules = [{rules}]")
    }

    fn refused(rules: &str, reason: &str) {
        let error = format!("{:#}", Rules::parse(&file(rules)).unwrap_err());
        assert!(error.contains(reason), "{error}");
    }

    #[test]
    fn a_list_is_read() {
        let rules = Rules::parse(&file(
            "{ id = 'SQ-1', words = 'a turn', state = 'now' }, { id = 'SQ-11a', words = 'b', state = 'later: several agents' }",
        ))
        .unwrap();
        assert_eq!(
            rules.all().map(|rule| rule.id.as_str()).collect::<Vec<_>>(),
            ["SQ-1", "SQ-11a"]
        );
        let states: Vec<&State> = rules.all().map(|rule| &rule.state).collect();
        assert_eq!(
            states,
            [&State::Now, &State::Later("several agents".to_owned())]
        );
        assert!(rules.contains("SQ-11a") && !rules.contains("SQ-11") && !rules.contains("SQ"));
        assert!(rules.has_prefix("SQ") && !rules.has_prefix("S"));
    }

    #[test]
    fn a_wrong_list_is_refused() {
        refused(
            "{ id = 'SQ1', words = 'a', state = 'now' }",
            "`SQ1` is no id",
        );
        refused(
            "{ id = 'I-1', words = 'a', state = 'now' }",
            "`I-1` is no id",
        );
        refused(
            "{ id = 'sq-1', words = 'a', state = 'now' }",
            "`sq-1` is no id",
        );
        refused(
            "{ id = 'SQ-1', words = 'a', state = 'soon: x' }",
            "there is no state `soon`",
        );
        refused(
            "{ id = 'SQ-1', words = 'a', state = 'later' }",
            "a kind with a reason",
        );
        refused("{ id = 'SQ-1', words = 'a' }", "missing field `state`");
        let twice = "{ id = 'SQ-1', words = 'a', state = 'now' }, { id = 'SQ-1', words = 'b', state = 'now' }";
        refused(twice, "SQ-1 is listed twice");
    }
}
