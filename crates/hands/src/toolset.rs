//! The built-in agent toolset as a model sees it: names, descriptions, input schemas (runtime TL-1, TL-2).
//!
//! The tools of the sandbox run in `sandboxd`, those of the web in [`web`]; this side validates and picks deadlines.

use std::sync::LazyLock;
use std::time::Duration;

use manyhands_sandboxd::tools::Input;
use serde_json::{Value, json};

use crate::web;

/// The outer time limit of a call (runtime TL-20), above the 120 s that a command gets by default.
pub const DEADLINE: Duration = Duration::from_secs(150);

/// The longest outer time limit that a command's own `timeout_ms` can ask for (security SBX-3).
pub const LONGEST: Duration = Duration::from_secs(3600);

/// A tool as a model is told about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// The tool's name.
    pub name: &'static str,
    /// What it does and how to use it well.
    pub description: &'static str,
    /// The JSON schema of its input.
    pub input_schema: Value,
    /// Where it runs.
    pub place: Place,
}

/// Where a tool runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the session's sandbox.
    Sandbox,
    /// Beside the server (runtime WB-1).
    Server,
}

/// The eight tools, in the documented order; the same bytes every time.
pub fn definitions() -> &'static [Definition] {
    static DEFINITIONS: LazyLock<Vec<Definition>> = LazyLock::new(all);
    &DEFINITIONS
}

/// The tool of this name.
pub fn find(name: &str) -> Option<&'static Definition> {
    definitions()
        .iter()
        .find(|definition| definition.name == name)
}

/// Whether the tool `name` takes this input.
///
/// # Errors
/// A text for the model.
pub fn validate(name: &str, input: &Value) -> Result<(), String> {
    match find(name).map(|definition| definition.place) {
        Some(Place::Server) => web::Input::parse(name, input).map(drop),
        Some(Place::Sandbox) | None => Input::parse(name, input).map(drop),
    }
}

/// The outer time limit of a sandbox tool's call: [`DEADLINE`], or half a minute above a command's own limit, at most [`LONGEST`].
pub fn deadline(name: &str, input: &Value) -> Duration {
    match Input::parse(name, input) {
        Ok(Input::Bash(bash)) => {
            let own = Duration::from_millis(bash.timeout_ms.unwrap_or(0))
                .saturating_add(Duration::from_secs(30));
            own.clamp(DEADLINE, LONGEST)
        }
        _ => DEADLINE,
    }
}

fn all() -> Vec<Definition> {
    let text = |description: &str| json!({"type": "string", "description": description});
    let object = |properties: Value, required: &[&str]| json!({"type": "object", "properties": properties, "required": required});
    let file = text("Path of the file. Relative paths start at the working directory, /workspace.");
    vec![
        Definition {
            name: "bash",
            description: "Run a command in a persistent bash shell inside the sandbox. Working directory, variables \
                and functions carry over from call to call. Standard output and standard error come back together; a \
                non-zero exit status makes the result an error. Standard input is empty, so pass flags that avoid \
                prompts. A command is stopped after 120 seconds unless timeout_ms says otherwise, and the next call \
                then gets a fresh shell; start long-running services in the background with their output redirected \
                to a file. Only the end of very long output is returned.",
            input_schema: object(
                json!({
                    "command": text("The command or script to run. Required unless restart is true."),
                    "restart": {"type": "boolean", "description": "Discard the shell and start a fresh one."},
                    "timeout_ms": {"type": "integer", "minimum": 0,
                        "description": "Time limit of this command in milliseconds. Default 120000."},
                }),
                &[],
            ),
            place: Place::Sandbox,
        },
        Definition {
            name: "read",
            description: "Read a file in the sandbox. Text files up to 256 KiB come back as they are; pass view_range \
                to read part of a larger one. Images (png, jpg, gif, webp) and PDFs come back as pictures and \
                documents you can look at.",
            input_schema: object(
                json!({
                    "file_path": file,
                    "view_range": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2,
                        "description": "First and last line to return, counted from 1 and inclusive. A last line of \
                            0 or less means the end of the file. Text files only."},
                }),
                &["file_path"],
            ),
            place: Place::Sandbox,
        },
        Definition {
            name: "write",
            description: "Write a text file in the sandbox, replacing what is there and creating missing \
                directories. To change part of a file, use edit.",
            input_schema: object(
                json!({"file_path": file, "content": text("The whole new content of the file.")}),
                &["file_path", "content"],
            ),
            place: Place::Sandbox,
        },
        Definition {
            name: "edit",
            description: "Replace text in a file in the sandbox by exact match. old_string must occur exactly once, \
                white space included, unless replace_all is set; add surrounding lines to make it unique.",
            input_schema: object(
                json!({
                    "file_path": file,
                    "old_string": text("The exact text to replace."),
                    "new_string": text("The text to put in its place."),
                    "replace_all": {"type": "boolean", "description": "Replace every occurrence. Default false."},
                }),
                &["file_path", "old_string", "new_string"],
            ),
            place: Place::Sandbox,
        },
        Definition {
            name: "glob",
            description: "Find files in the sandbox by name. The pattern is relative, with * and ? inside a name and \
                ** across directories, for example src/**/*.py. Returns up to 200 paths, newest first.",
            input_schema: object(
                json!({
                    "pattern": text("The pattern. Must be relative and must not contain '..'."),
                    "path": text("Directory to look in. Default: the working directory."),
                }),
                &["pattern"],
            ),
            place: Place::Sandbox,
        },
        Definition {
            name: "grep",
            description: "Search the contents of files in the sandbox with a regular expression. Returns matching \
                lines as file:line:text. Binary files and files that git ignores are skipped.",
            input_schema: object(
                json!({
                    "pattern": text("The regular expression (no look-around or back-references)."),
                    "path": text("File or directory to search. Default: the working directory."),
                }),
                &["pattern"],
            ),
            place: Place::Sandbox,
        },
        Definition {
            name: "web_fetch",
            description: "Fetch a page from the public web by its full URL. Pages come as Markdown of their main part, \
                other texts as they are, PDFs and pictures as documents and pictures you can look at. It runs outside \
                the sandbox, sends no cookies or credentials, and cannot log in or submit forms.",
            input_schema: object(
                json!({"url": text("The page's full URL, beginning with https:// or http://.")}),
                &["url"],
            ),
            place: Place::Server,
        },
        Definition {
            name: "web_search",
            description: "Search the web. Returns up to ten results, each with its title, URL and a short text; use \
                web_fetch to read one.",
            input_schema: object(json!({"query": text("What to look for.")}), &["query"]),
            place: Place::Server,
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tl_1_the_eight_tools_in_order() {
        let named = |place| {
            let of_place = definitions().iter().filter(move |tool| tool.place == place);
            of_place.map(|tool| tool.name).collect::<Vec<_>>()
        };
        let sandbox = ["bash", "read", "write", "edit", "glob", "grep"];
        assert_eq!(named(Place::Sandbox), sandbox);
        assert_eq!(named(Place::Server), ["web_fetch", "web_search"]);
        assert_eq!(definitions().len(), 8);
    }

    #[test]
    fn tl_2_schemas_and_validation_agree() {
        for definition in definitions() {
            let required = definition.input_schema["required"].as_array().unwrap();
            let mut input = json!({});
            for field in required {
                let kind = &definition.input_schema["properties"][field.as_str().unwrap()]["type"];
                assert_eq!(kind, "string", "required fields are strings");
                let error = validate(definition.name, &input).unwrap_err();
                assert!(error.contains(field.as_str().unwrap()), "{error}");
                input[field.as_str().unwrap()] = json!("x");
            }
            assert_eq!(
                validate(definition.name, &input),
                Ok(()),
                "{}",
                definition.name
            );
        }
        assert!(validate("web_search", &json!({"query": " "})).is_err());
    }

    #[test]
    fn tl_20_deadlines_are_above_the_commands_own() {
        #[track_caller]
        fn check(name: &str, input: Value, seconds: u64) {
            assert_eq!(deadline(name, &input), Duration::from_secs(seconds));
        }
        check("bash", json!({"command": "ls"}), 150);
        check("bash", json!({"command": "ls", "timeout_ms": 600_000}), 630);
        check(
            "bash",
            json!({"command": "ls", "timeout_ms": u64::MAX}),
            3600,
        );
        check("grep", json!({"pattern": "x", "timeout_ms": 600_000}), 150);
    }
}
