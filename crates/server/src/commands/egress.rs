//! `manyhands egress`: what the sandboxes of this data directory were refused, and where they went (security NET-10).

use anyhow::Context as _;
use manyhands_egress::audit::{self, Entry, Outcome};
use manyhands_protocol::SessionId;

use crate::config::{Config, Flags};

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
/// The configuration or the journal cannot be read.
pub fn run(command: Command) -> anyhow::Result<()> {
    let Command::Log {
        session,
        json,
        flags,
    } = command;
    let directory = Config::load(*flags)?.data_dir;
    let read = audit::read(&directory, session.as_str());
    let (entries, damaged) = read.with_context(|| {
        format!(
            "the egress journal in {} cannot be read",
            directory.display()
        )
    })?;
    for entry in &entries {
        match json {
            true => println!("{}", serde_json::to_string(entry)?),
            false => println!("{}", line(entry)),
        }
    }
    if damaged > 0 {
        eprintln!("{damaged} lines of the journal are damaged and not shown");
    }
    if entries.is_empty() && !json {
        println!("nothing went out of this session's sandbox, and nothing was refused");
    }
    Ok(())
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
