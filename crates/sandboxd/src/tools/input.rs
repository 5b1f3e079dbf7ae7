//! What a model may send to each tool (runtime TL-2). Unknown fields are ignored.

use serde::Deserialize;
use serde_json::Value;

/// The parsed input of one call.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Runs a command in the session's shell.
    Bash(Bash),
    /// Reads a file.
    Read(Read),
    /// Writes a file.
    Write(Write),
    /// Replaces text in a file.
    Edit(Edit),
    /// Finds files by name.
    Glob(Glob),
    /// Finds lines by content.
    Grep(Grep),
}

/// Input of `bash`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Bash {
    /// The command; required unless `restart` is set.
    pub command: Option<String>,
    /// Starts a fresh shell instead of running a command.
    pub restart: Option<bool>,
    /// The command's time limit in milliseconds; 0 and absent mean 120,000.
    pub timeout_ms: Option<u64>,
}

/// Input of `read`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Read {
    /// The file; relative paths start at the working directory.
    pub file_path: String,
    /// First and last line, counted from 1, both included; a last line of 0 or less means the end of the file.
    pub view_range: Option<Vec<i64>>,
}

/// Input of `write`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Write {
    /// The file; relative paths start at the working directory.
    pub file_path: String,
    /// The whole new content.
    pub content: String,
}

/// Input of `edit`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Edit {
    /// The file; relative paths start at the working directory.
    pub file_path: String,
    /// The text to replace.
    pub old_string: String,
    /// The text to put in its place.
    pub new_string: String,
    /// Replaces every occurrence instead of the only one.
    pub replace_all: Option<bool>,
}

/// Input of `glob`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Glob {
    /// A relative pattern; `**` crosses directories.
    pub pattern: String,
    /// The directory to look in; the working directory by default.
    pub path: Option<String>,
}

/// Input of `grep`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Grep {
    /// A regular expression.
    pub pattern: String,
    /// The file or directory to search; the working directory by default.
    pub path: Option<String>,
}

impl Input {
    /// The input of the tool `name`.
    ///
    /// # Errors
    /// A text for the model: the tool is not one of these six, or the input is not what it takes.
    pub fn parse(name: &str, input: &Value) -> Result<Self, String> {
        fn of<'a, T: Deserialize<'a>>(name: &str, input: &'a Value) -> Result<T, String> {
            T::deserialize(input).map_err(|error| format!("{name}: invalid input: {error}"))
        }
        if !input.is_object() {
            return Err(format!("{name}: invalid input: expected an object"));
        }
        match name {
            "bash" => of(name, input).map(Self::Bash),
            "read" => of(name, input).map(Self::Read),
            "write" => of(name, input).map(Self::Write),
            "edit" => of(name, input).map(Self::Edit),
            "glob" => of(name, input).map(Self::Glob),
            "grep" => of(name, input).map(Self::Grep),
            _ => Err(format!("unknown tool '{name}'")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tl_2_inputs_are_taken_as_given_and_errors_name_the_field() {
        #[track_caller]
        fn check(name: &str, input: Value, expected: Result<(), &str>) {
            let found = Input::parse(name, &input);
            match expected {
                Ok(()) => assert!(found.is_ok(), "{found:?}"),
                Err(text) => assert!(
                    found.as_ref().is_err_and(|error| error.contains(text)),
                    "{found:?}"
                ),
            }
        }
        check("bash", json!({"command": "ls", "timeout_ms": 5}), Ok(()));
        check("bash", json!({"restart": true, "unknown": 1}), Ok(()));
        check(
            "bash",
            json!({"command": 5}),
            Err("bash: invalid input: invalid type: integer `5`"),
        );
        check(
            "bash",
            json!({"command": "ls", "timeout_ms": -1}),
            Err("invalid value"),
        );
        check(
            "read",
            json!({"file_path": "a", "view_range": [1, -1]}),
            Ok(()),
        );
        check(
            "read",
            json!({}),
            Err("read: invalid input: missing field `file_path`"),
        );
        check(
            "write",
            json!({"file_path": "a"}),
            Err("missing field `content`"),
        );
        check(
            "edit",
            json!({"file_path": "a", "old_string": "b", "new_string": "c"}),
            Ok(()),
        );
        check(
            "glob",
            json!(["*"]),
            Err("glob: invalid input: expected an object"),
        );
        check("grep", json!({"pattern": "x", "path": null}), Ok(()));
        check("web_fetch", json!({}), Err("unknown tool 'web_fetch'"));
    }
}
