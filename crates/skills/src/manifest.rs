//! The front matter of a `SKILL.md`: YAML between two lines of three dashes, of which name and description count. Other
//! members are whatever other programs make of them, and are left alone.

use serde::Deserialize;

use crate::{DESCRIPTION, NAME, Problem};

/// How long the front matter may be, in bytes.
const LONGEST: usize = 64 << 10;

/// What a skill says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// A slug of lower-case letters, digits and hyphens.
    pub name: String,
    /// What it does and when to use it: 1 to 1024 characters, on one line.
    pub description: String,
}

#[derive(Deserialize)]
struct Raw {
    name: Option<String>,
    description: Option<String>,
}

/// The name and the description of a `SKILL.md`, of which at least the beginning is given.
///
/// # Errors
/// [`Problem::Refused`] says what is wrong with the front matter.
pub fn front_matter(text: &[u8]) -> Result<Manifest, Problem> {
    let refused = |why: &str| Problem::Refused(format!("SKILL.md: {why}"));
    let head = &text[..text.len().min(LONGEST)];
    let head = match std::str::from_utf8(head) {
        Ok(head) => head,
        // The cut may go through a character.
        Err(error) if error.error_len().is_none() && text.len() > LONGEST => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return Err(refused("is not UTF-8 text")),
    };
    let head = head.strip_prefix('\u{feff}').unwrap_or(head);
    let missing = || {
        refused(
            "begins with a line \"---\", its name and description as YAML, and another line \"---\"",
        )
    };
    let yaml = between(head).ok_or_else(missing)?;
    let raw: Raw = serde_yaml_ng::from_str(yaml).map_err(|error| {
        let why = error.to_string();
        let why: String = why.chars().take(200).collect();
        refused(&format!(
            "the front matter is not the YAML of a skill: {why}"
        ))
    })?;
    let name = raw.name.ok_or_else(|| refused("name is required"))?;
    if !is_name(&name) {
        return Err(refused(
            "name has 1 to 64 lower-case letters and digits, with single hyphens between them",
        ));
    }
    if ["anthropic", "claude"]
        .iter()
        .any(|word| name.contains(word))
    {
        return Err(refused(
            "name must not have \"anthropic\" or \"claude\" in it",
        ));
    }
    let description = raw.description.unwrap_or_default();
    let description = one_line(&description);
    if description.is_empty() {
        return Err(refused("description is required"));
    }
    if description.chars().count() > DESCRIPTION {
        return Err(refused("description has more than 1024 characters"));
    }
    Ok(Manifest { name, description })
}

/// Whether a text is the name of a skill: a slug of letters, digits and single hyphens.
pub fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= NAME
        && text
            .split('-')
            .all(|word| !word.is_empty() && word.bytes().all(plain))
}

/// What is between a first line of three dashes and the next one.
fn between(text: &str) -> Option<&str> {
    let mut lines = text.split_inclusive('\n');
    let first = lines.next()?;
    if first.trim_end() != "---" || !first.ends_with('\n') {
        return None;
    }
    let mut end = first.len();
    for line in lines {
        if line.trim_end() == "---" {
            return text.get(first.len()..end);
        }
        end += line.len();
    }
    None
}

/// The words of a text with single spaces between them: it can be no line of its own (security INP-5).
fn one_line(text: &str) -> String {
    let clean = |character: char| {
        if character.is_control() {
            ' '
        } else {
            character
        }
    };
    let text: String = text.chars().map(clean).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sk_1_names_and_descriptions_are_read_from_the_front_matter() {
        #[track_caller]
        fn check(text: &str, name: &str, description: &str) {
            let read = front_matter(text.as_bytes()).expect(text);
            assert_eq!((&*read.name, &*read.description), (name, description));
        }
        check("---\nname: a\ndescription: b\n---\nbody", "a", "b");
        check("---\r\nname: a-1\r\ndescription: b\r\n---\r\n", "a-1", "b");
        check("\u{feff}---\nname: a\ndescription: b\n---", "a", "b");
        // What public skills have beside the two members is theirs.
        check(
            "---\nname: pdf-forms\ndescription: >\n  Fills\n  forms.\nlicense: MIT\nallowed-tools: [Bash, Read]\n\
             metadata:\n  version: 1.0\n  deep: {a: [1, 2]}\n---\n# Title\n---\n",
            "pdf-forms",
            "Fills forms.",
        );
        check(
            "---\nname: a\ndescription: \"x\\ny\\tz\"\n---\n",
            "a",
            "x y z",
        );
        // A body that is longer than what is read, and cut inside a character.
        let long = format!("---\nname: a\ndescription: b\n---\n{}", "ü".repeat(LONGEST));
        check(&long, "a", "b");
        let longest = "d".repeat(DESCRIPTION);
        check(
            &format!(
                "---\nname: {}\ndescription: {longest}\n---\n",
                "n".repeat(NAME)
            ),
            &"n".repeat(NAME),
            &longest,
        );
    }

    #[test]
    fn sk_1_what_is_no_front_matter_of_a_skill_is_refused() {
        #[track_caller]
        fn check(text: &[u8], problem: &str) {
            let error = front_matter(text).expect_err(problem).to_string();
            assert!(error.contains(problem), "{error}");
        }
        let with = |yaml: &str| format!("---\n{yaml}\n---\n");
        for text in [
            "",
            "name: a",
            "---",
            "---\nname: a\ndescription: b",
            "x\n---\nname: a\n---",
        ] {
            check(text.as_bytes(), "begins with a line");
        }
        check(b"---\nname: \xff\n---\n", "not UTF-8");
        check(with("- a").as_bytes(), "not the YAML");
        check(with("name: [a]\ndescription: b").as_bytes(), "not the YAML");
        check(
            with("name: a\nname: b\ndescription: c").as_bytes(),
            "not the YAML",
        );
        check(
            with("name: !!binary x").as_bytes(),
            "description is required",
        );
        check(with("description: b").as_bytes(), "name is required");
        for name in [
            "A",
            "a_b",
            "-a",
            "a-",
            "a--b",
            "ü",
            "''",
            "a b",
            &"n".repeat(65),
        ] {
            check(
                with(&format!("name: {name}\ndescription: b")).as_bytes(),
                "name has 1 to 64",
            );
        }
        check(
            with("name: my-claude\ndescription: b").as_bytes(),
            "must not have",
        );
        check(
            with("name: anthropics\ndescription: b").as_bytes(),
            "must not have",
        );
        check(with("name: a").as_bytes(), "description is required");
        check(
            with("name: a\ndescription: '  '").as_bytes(),
            "description is required",
        );
        let long = "d".repeat(DESCRIPTION + 1);
        check(
            with(&format!("name: a\ndescription: {long}")).as_bytes(),
            "more than 1024",
        );
    }

    /// security INP-1: what grows when it is read is given up on, quickly.
    #[test]
    fn inp_1_yaml_that_unfolds_without_end_is_refused() {
        let mut yaml = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let below = format!("*a{}, ", level - 1).repeat(9);
            yaml.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        let begun = std::time::Instant::now();
        let text = format!("---\n{yaml}name: a\ndescription: b\n---\n");
        // Whether what is not looked at unfolds or not, it takes no time.
        let _ = front_matter(text.as_bytes());
        assert!(begun.elapsed().as_secs() < 5);
        let deep = format!("---\nx: {}\nname: a\n---\n", "[".repeat(30_000));
        assert!(front_matter(deep.as_bytes()).is_err());
    }
}
