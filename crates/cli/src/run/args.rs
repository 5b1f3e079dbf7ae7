//! What `manyhands run` is told.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, bail};
use manyhands_protocol::budget::Budget;
use manyhands_protocol::{AgentId, EnvironmentId, EventId, SessionId};
use secrecy::SecretString;
use serde_json::Value;

use super::answers;
use crate::local::Wanted;

/// Which server, and its key. Shared by the commands that need a running one.
#[derive(Clone, Debug, clap::Args)]
pub struct ServerArgs {
    /// The server's base URL, unless it is the local one
    #[arg(long, env = "MANYHANDS_URL", value_name = "URL")]
    pub url: Option<String>,
    /// The data directory of a local server, which holds its API key
    #[arg(
        long,
        env = "MANYHANDS_DATA_DIR",
        default_value = "manyhands-data",
        value_name = "DIR"
    )]
    pub data_dir: PathBuf,
    /// A file that holds the API key; without it MANYHANDS_API_KEY, then the data directory
    #[arg(long, value_name = "FILE", value_parser = key_from_file)]
    pub api_key_file: Option<SecretString>,
    /// The key in the environment. Not a flag, because other users of a machine can read the flags of a process
    #[arg(skip = std::env::var("MANYHANDS_API_KEY").ok().map(SecretString::from))]
    pub api_key: Option<SecretString>,
}

impl ServerArgs {
    /// As the search for a server wants it.
    pub(crate) fn wanted(&self) -> Wanted<'_> {
        Wanted {
            url: self.url.as_deref(),
            key: self.api_key_file.as_ref().or(self.api_key.as_ref()),
            data_dir: &self.data_dir,
        }
    }
}

/// What `manyhands run` is told.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXIT_STATUS)]
pub struct Args {
    /// What the agent is to do; "-" reads it from standard input
    #[arg(value_name = "TASK", required_unless_present = "session")]
    pub task: Option<String>,
    /// Which server
    #[command(flatten)]
    pub server: ServerArgs,
    /// Go on with this session; without a task, answer what it waits for or watch it
    #[arg(long, value_name = "ID", value_parser = SessionId::parse,
        conflicts_with_all = ["agent", "model", "system", "environment", "budget"])]
    pub session: Option<SessionId>,
    /// Run this agent; without it, one with all built-in tools that this command keeps
    #[arg(long, value_name = "ID", value_parser = AgentId::parse)]
    pub agent: Option<AgentId>,
    /// The model, for this session only
    #[arg(long, value_name = "ID")]
    pub model: Option<String>,
    /// The system prompt, for this session only
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Run in this environment; without it, one that this command keeps
    #[arg(long, value_name = "ID", value_parser = EnvironmentId::parse)]
    pub environment: Option<EnvironmentId>,
    /// The most the session may cost at list prices, in dollars
    #[arg(long, value_name = "DOLLARS", value_parser = dollars)]
    pub budget: Option<Budget>,
    /// Allow every tool call that asks
    #[arg(long)]
    pub yes: bool,
    /// Allow this tool call of the session
    #[arg(long, value_name = "EVENT", value_parser = EventId::parse, requires = "session")]
    pub allow: Vec<EventId>,
    /// Refuse this tool call of the session
    #[arg(long, value_name = "EVENT", value_parser = EventId::parse, requires = "session")]
    pub deny: Vec<EventId>,
    /// Why, for the model, of all that --deny names
    #[arg(long, value_name = "TEXT", requires = "deny")]
    pub reason: Option<String>,
    /// Answer this call of a custom tool
    #[arg(long, value_name = "EVENT=TEXT", value_parser = result, requires = "session")]
    pub result: Vec<(EventId, String)>,
    /// Print one JSON object per line: the session, then its events
    #[arg(long)]
    pub json: bool,
}

/// Scripts depend on these.
const EXIT_STATUS: &str = "\
Exit status:
  0    the turn is over
  1    the server cannot be reached or refused
  2    the arguments are wrong
  3    the session waits for answers to tool calls; standard error says how to give them
  4    the session reached its budget
  5    the turn failed
  6    the model refused
  130  interrupted";

impl Args {
    /// The task's text, if there is one.
    pub(super) fn task(&self) -> anyhow::Result<Option<String>> {
        let task = match self.task.as_deref() {
            Some("-") => {
                let mut text = String::new();
                std::io::stdin()
                    .read_to_string(&mut text)
                    .context("cannot read the task from standard input")?;
                Some(text.trim_end().to_owned())
            }
            task => task.map(str::to_owned),
        };
        if task.as_ref().is_some_and(|task| task.trim().is_empty()) {
            bail!("the task is empty");
        }
        Ok(task)
    }

    /// The answers that were given as flags, as events.
    pub(super) fn answers(&self) -> Vec<Value> {
        let allowed = self.allow.iter().map(answers::allow);
        let reason = self.reason.as_deref();
        let denied = self.deny.iter().map(|call| answers::deny(call, reason));
        let results = self.result.iter();
        let results = results.map(|(call, text)| answers::result(call, text));
        allowed.chain(denied).chain(results).collect()
    }
}

fn key_from_file(path: &str) -> Result<SecretString, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    match text.trim() {
        "" => Err("the file is empty".to_owned()),
        key => Ok(SecretString::from(key)),
    }
}

/// `1`, `0.5`, `12.34`: a cap of whole cents.
fn dollars(text: &str) -> Result<Budget, String> {
    let expected = || "expected dollars with at most two decimals, more than nothing".to_owned();
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    if whole.is_empty() || part.is_empty() || part.len() > 2 || !digits(whole) || !digits(part) {
        return Err(expected());
    }
    let whole: Option<u64> = whole.parse().ok();
    let part: Option<u64> = format!("{part:0<2}").parse().ok();
    let cents = whole
        .zip(part)
        .and_then(|(whole, part)| whole.checked_mul(100)?.checked_add(part));
    cents
        .filter(|cents| *cents > 0)
        .map(Budget::of_cents)
        .ok_or_else(expected)
}

fn result(text: &str) -> Result<(EventId, String), String> {
    let (call, text) = text
        .split_once('=')
        .ok_or("expected EVENT=TEXT".to_owned())?;
    let call = EventId::parse(call).map_err(|error| error.to_string())?;
    Ok((call, text.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        let words = ["run"].iter().chain(words);
        Line::try_parse_from(words).map(|line| line.args)
    }

    #[test]
    fn a_run_needs_a_task_or_a_session() {
        for (words, good) in [
            (&["do it"][..], true),
            (&["--session", "sesn_1"], true),
            (&["do it", "--session", "sesn_1"], true),
            (&[], false),
            (&["do it", "--session", "agent_1"], false),
            (&["do it", "--session", "sesn_1", "--model", "m"], false),
            (&["do it", "--allow", "sevt_1"], false),
            (&["--session", "sesn_1", "--reason", "no"], false),
            (&["do it", "and more"], false),
        ] {
            assert_eq!(parse(words).is_ok(), good, "{words:?}");
        }
    }

    #[test]
    fn bu_1_dollars_become_whole_cents() {
        for (text, cents) in [
            ("1", Some(100)),
            ("0.5", Some(50)),
            ("0.05", Some(5)),
            ("12.34", Some(1234)),
            ("007", Some(700)),
            ("0", None),
            ("0.00", None),
            ("0.001", None),
            ("-1", None),
            (".5", None),
            ("5.", None),
            ("1e3", None),
            ("999999999999999999999", None),
        ] {
            let budget = dollars(text).ok().map(|budget| budget.max_list_cost.cents);
            assert_eq!(budget, cents, "{text}");
        }
    }

    #[test]
    fn se_17_answers_become_events_of_one_request() {
        let words = "--session sesn_1 --allow sevt_1 --deny sevt_2 --reason no --result sevt_3=a=b";
        let args = parse(&words.split(' ').collect::<Vec<_>>()).unwrap();
        let events = serde_json::json!([
            {"type": "user.tool_confirmation", "tool_use_id": "sevt_1", "result": "allow"},
            {"type": "user.tool_confirmation", "tool_use_id": "sevt_2", "result": "deny", "deny_message": "no"},
            {"type": "user.custom_tool_result", "custom_tool_use_id": "sevt_3",
                "content": [{"type": "text", "text": "a=b"}]},
        ]);
        assert_eq!(Value::Array(args.answers()), events);
    }

    #[test]
    fn the_key_is_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "the-key\n").unwrap();
        let path = file.path().to_str().unwrap();
        let args = parse(&["x", "--api-key-file", path]).unwrap();
        assert!(args.server.api_key_file.is_some());
        assert!(!format!("{args:?}").contains("the-key"));
        std::fs::write(file.path(), "\n").unwrap();
        assert!(parse(&["x", "--api-key-file", path]).is_err());
    }
}
