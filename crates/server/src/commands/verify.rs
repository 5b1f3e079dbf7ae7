//! `manyhands verify`: reads a whole store for damage, beside a running server or on a copy.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use manyhands_store::Database;
use manyhands_store::verify::{self, Counts, Damage, Source, Told};
use serde_json::json;

use super::out::{Out, aside};
use crate::config::{Config, Flags};
use crate::failure::Failure;

/// What `manyhands verify` is told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// A backup to be verified, instead of the store of the configuration.
    pub file: Option<PathBuf>,
    /// The same flags as `serve`.
    #[command(flatten)]
    pub flags: Flags,
    /// Print one JSON object per line: each damaged item, then the counts.
    #[arg(long)]
    pub json: bool,
}

/// The store could be read, and something in it is damaged.
const DAMAGED: u8 = 1;
/// The store could not be read to its end, or what was found not be printed.
const UNREADABLE: u8 = 2;

/// Reads the store and prints what is damaged: a line each, and a closing line. The status is 0 for a clean store, 1 for
/// a damaged one, 2 for one that cannot be read.
pub async fn run(args: Args) -> ExitCode {
    let json = args.json;
    let mut out = Out::standard();
    let found = look(args, &mut out).await;
    if let (true, Err(failure)) = (json, &found) {
        out.line(json!({"type": "error", "message": failure.to_string()}));
    }
    let printed = out.finish().map_err(|error| {
        let error = format!("{error:#}");
        Failure::new(error, "give standard output a place that can be written")
    });
    match found.and_then(|counts| printed.map(|()| counts)) {
        Ok(counts) if counts.damaged == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(DAMAGED),
        Err(failure) => {
            aside(format_args!("error: {failure}\nhint: {}", failure.hint()));
            ExitCode::from(UNREADABLE)
        }
    }
}

async fn look(args: Args, out: &mut Out) -> Result<Counts, Failure> {
    let (source, hint) = match args.file {
        Some(file) => (
            Source::File(file),
            "name a file that `manyhands backup` made",
        ),
        None => (
            Source::Database(database(args.flags)?),
            "name the data directory with --data-dir, or PostgreSQL with --database-url",
        ),
    };
    let mut progress = Progress::start("looked at");
    let mut tell = |told| match told {
        Told::Damage(Damage { item, reason }) if args.json => {
            out.line(json!({"type": "damage", "item": item, "reason": reason}));
        }
        Told::Damage(Damage { item, reason }) => out.line(format_args!("{item}: {reason}")),
        Told::Progress(counts) => progress.tell(&counts),
    };
    let counts = verify::verify(&source, &mut tell).await;
    let counts = counts.map_err(|error| Failure::of_store(&error, hint))?;
    if args.json {
        let mut line = json!(counts);
        line["type"] = "counts".into();
        line["ok"] = (counts.damaged == 0).into();
        out.line(line);
    } else {
        out.line(sentence(&counts));
    }
    Ok(counts)
}

fn database(flags: Flags) -> Result<Database, Failure> {
    match Config::without_services(flags) {
        Ok(config) => Ok(config.database),
        Err(error) => Err(Failure::new(error.to_string(), "correct the configuration")),
    }
}

/// The closing line.
pub(super) fn sentence(counts: &Counts) -> String {
    let damaged = match counts.damaged {
        0 => "nothing is damaged".to_owned(),
        1 => "1 item is damaged".to_owned(),
        many => format!("{many} items are damaged"),
    };
    format!(
        "{damaged}: {} sessions, {} entries, {} resources",
        counts.sessions, counts.entries, counts.resources
    )
}

/// Lines on standard error for what takes longer than a second.
pub(super) struct Progress {
    doing: &'static str,
    next: Instant,
}

impl Progress {
    const PAUSE: Duration = Duration::from_secs(1);

    pub(super) fn start(doing: &'static str) -> Self {
        Self {
            doing,
            next: Instant::now() + Self::PAUSE,
        }
    }

    pub(super) fn tell(&mut self, counts: &Counts) {
        let now = Instant::now();
        if now >= self.next {
            self.next = now + Self::PAUSE;
            aside(format_args!(
                "{} {} sessions, {} entries",
                self.doing, counts.sessions, counts.entries
            ));
        }
    }
}
