//! The small parts of what is printed: colours, margins, one-line summaries, durations.

use manyhands_protocol::budget::Money;
use serde_json::{Map, Value};

const LABEL_WIDTH: usize = 11;
const SUMMARY_CHARS: usize = 100;

/// Whether colours are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Escape sequences, for a terminal.
    Coloured,
    /// Nothing but text.
    Plain,
}

impl Style {
    /// Colours only on a terminal, and not where `NO_COLOR` holds anything.
    pub(crate) fn choose(is_terminal: bool, no_color: Option<&std::ffi::OsStr>) -> Self {
        if is_terminal && no_color.is_none_or(|value| value.is_empty()) {
            Self::Coloured
        } else {
            Self::Plain
        }
    }

    /// The name of who speaks, in the left margin.
    pub(crate) fn label(self, name: &str) -> String {
        self.margin_text(name, "1;36")
    }

    /// As [`Style::label`], for trouble.
    pub(crate) fn bad(self, name: &str) -> String {
        self.margin_text(name, "1;31")
    }

    /// A heading of its own line.
    pub(crate) fn heading(self, text: &str) -> String {
        self.paint(text, "1")
    }

    /// The start of a tool call's line.
    pub(super) fn tool(self, name: &str) -> String {
        self.margin_text(&format!("  {}", safe(name)), "33")
    }

    /// A line of a tool's result.
    pub(super) fn quoted(self, line: &str) -> String {
        format!(
            "{:LABEL_WIDTH$}{}\n",
            "",
            self.paint(&format!("│ {line}"), "2")
        )
    }

    /// The end of a tool's result.
    pub(super) fn after(self, name: &str, is_error: bool, took: &str) -> String {
        let name = safe(name);
        let line = format!("└ {name} {}{took}", if is_error { "failed " } else { "" });
        let code = if is_error { "31" } else { "2" };
        format!("{:LABEL_WIDTH$}{}\n", "", self.paint(line.trim_end(), code))
    }

    fn margin_text(self, text: &str, code: &str) -> String {
        let gap = " ".repeat(LABEL_WIDTH.saturating_sub(text.chars().count()).max(1));
        format!("{}{gap}", self.paint(text, code))
    }

    fn paint(self, text: &str, code: &str) -> String {
        match self {
            Self::Coloured => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Plain => text.to_owned(),
        }
    }
}

/// Text from a model or a tool, made harmless for a terminal: control characters other than newline and tab, and
/// characters that turn the direction of writing, become `�`.
pub(crate) fn safe(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\n' | '\t' => character,
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            _ if character.is_control() => '\u{fffd}',
            _ => character,
        })
        .collect()
}

/// Text whose further lines start where the first one does.
pub(super) fn margin(text: &str) -> String {
    text.replace('\n', &format!("\n{:LABEL_WIDTH$}", ""))
}

/// Words on lines that fit beside the margin of a terminal of 100 columns.
pub(crate) fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut width = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if width > 0 && width + 1 + length > 100 - LABEL_WIDTH {
            lines.push('\n');
            width = 0;
        }
        if width > 0 {
            lines.push(' ');
            width += 1;
        }
        lines.push_str(word);
        width += length;
    }
    margin(&lines)
}

/// A tool's input on one line: what a person wants to know first.
pub(crate) fn summary(name: &str, input: &Map<String, Value>) -> String {
    let text = |key: &str| input.get(key).and_then(Value::as_str);
    let line = match name {
        "bash" => text("command").map(str::to_owned),
        "write" => text("file_path").map(|path| {
            let lines = text("content").unwrap_or_default().lines().count();
            format!("{path} ({})", count(lines, "line"))
        }),
        "read" | "edit" => text("file_path").map(str::to_owned),
        "glob" | "grep" => text("pattern").map(str::to_owned),
        _ => None,
    };
    let line = line.unwrap_or_else(|| Value::Object(input.clone()).to_string());
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= SUMMARY_CHARS {
        return line;
    }
    let kept: String = line.chars().take(SUMMARY_CHARS - 1).collect();
    format!("{kept}…")
}

/// Milliseconds, as a person says them.
pub(super) fn duration(millis: i64) -> String {
    match millis {
        ..1000 => format!("{millis} ms"),
        1000..60_000 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        _ => format!("{} min {} s", millis / 60_000, millis % 60_000 / 1000),
    }
}

/// Whole cents as dollars.
pub(super) fn dollars(money: Money) -> String {
    format!("${}.{:02}", money.cents / 100, money.cents % 100)
}

/// A number of things.
pub(super) fn count(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}
