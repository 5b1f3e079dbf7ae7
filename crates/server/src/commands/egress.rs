//! `manyhands egress`: what the sandboxes of this data directory were refused, and where they went (security NET-10).

use std::io;

use manyhands_egress::audit::{self, Entry, Found, Outcome};
use manyhands_protocol::SessionId;

use super::out::{Out, aside};
use crate::config::{Config, Flags};
use crate::failure::Failure;

/// What `manyhands egress` is told: what to do about the way out of sandboxes.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Print what a session's sandbox was refused, and how many of its requests went where.
    Log {
        /// The session
        #[arg(value_name = "SESSION", value_parser = SessionId::parse)]
        session: SessionId,
        /// Print the lines as they are kept: one JSON object each
        #[arg(long)]
        json: bool,
        /// Which server.
        #[command(flatten)]
        flags: Box<Flags>,
    },
}

/// Prints the session's part of the journal, oldest first. The server needs not run.
///
/// # Errors
/// The configuration or the journal cannot be read, or there is no journal, which is no all-clear.
pub fn run(command: Command) -> anyhow::Result<()> {
    let Command::Log {
        session,
        json,
        flags,
    } = command;
    let directory = Config::without_services(*flags)?.data_dir;
    let place = directory.display();
    let found = audit::read(&directory, session.as_str()).map_err(|error| {
        let message = match error.kind() {
            io::ErrorKind::NotFound => format!("there is no egress journal in {place}"),
            _ => format!("the egress journal in {place} cannot be read: {error}"),
        };
        let hint =
            "name the data directory of the server that ran the session's sandbox with --data-dir";
        Failure::new(message, hint)
    })?;
    let mut out = Out::standard();
    for entry in &found.entries {
        match json {
            true => out.line(serde_json::to_string(entry)?),
            false => out.line(line(entry)),
        }
    }
    if found.damaged > 0 {
        let damaged = found.damaged;
        aside(format_args!(
            "{damaged} lines of the journal are damaged and not shown"
        ));
    }
    if found.entries.is_empty() {
        let nothing = nothing(&session, &found);
        match json {
            true => aside(nothing),
            false => out.line(nothing),
        }
    }
    out.finish()
}

/// What it means that a journal does not name a session, and what it does not mean.
fn nothing(session: &SessionId, found: &Found) -> String {
    let Some(since) = found.since else {
        return format!(
            "nothing of {session} is in the journal, nor of any other session: none of this data directory has asked for \
             anything yet"
        );
    };
    format!(
        "nothing of {session} is in the journal, which goes back to {since}: since then its sandbox has asked for nothing, or \
         it was a server with another data directory that ran it, or there is no such session"
    )
}

/// A line for people. What came from a sandbox is escaped in the journal already.
fn line(entry: &Entry) -> String {
    let Entry {
        time, host, port, ..
    } = entry;
    let place = match port {
        0 => host.clone(),
        port => format!("{host}:{port}"),
    };
    let times = match entry.count {
        1 => String::new(),
        count => format!(" ({count} times)"),
    };
    match &entry.outcome {
        Outcome::Allowed => format!("{time} allowed {place}{times}"),
        Outcome::Refused { reason, detail } => {
            format!("{time} refused {place}: {reason}: {detail}{times}")
        }
    }
}

#[cfg(test)]
mod tests {
    use manyhands_protocol::Timestamp;

    use super::*;

    /// security NET-10: what is not there is told with how far the journal can know.
    #[test]
    fn net_10_nothing_of_a_session_is_no_all_clear() {
        let session = SessionId::generate();
        let mut found = Found::default();
        assert!(nothing(&session, &found).contains("nor of any other session"));
        found.since = Some(Timestamp::from_micros(0));
        let told = nothing(&session, &found);
        assert!(
            told.contains(session.as_str())
                && told.contains("back to 1970-01-01T00:00:00")
                && told.contains("no such session"),
            "{told}"
        );
    }

    /// security NET-10
    #[test]
    fn net_10_lines_of_the_journal_are_told_to_people() {
        #[track_caller]
        fn check(outcome: Outcome, port: u16, count: u64, expected: &str) {
            let entry = Entry {
                time: Timestamp::from_micros(0),
                session: "sesn_1".to_owned(),
                host: "a.example".to_owned(),
                port,
                outcome,
                count,
            };
            let told = line(&entry);
            assert_eq!(told.split_once(' ').map(|(_, rest)| rest), Some(expected));
        }
        let refused = || Outcome::Refused {
            reason: "host_not_allowed".to_owned(),
            detail: "why".to_owned(),
        };
        check(Outcome::Allowed, 443, 1, "allowed a.example:443");
        check(Outcome::Allowed, 443, 7, "allowed a.example:443 (7 times)");
        check(
            refused(),
            80,
            1,
            "refused a.example:80: host_not_allowed: why",
        );
        check(
            refused(),
            0,
            2,
            "refused a.example: host_not_allowed: why (2 times)",
        );
    }
}
