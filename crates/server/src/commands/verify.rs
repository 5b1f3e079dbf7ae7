//! `manyhands verify`: reads a whole store for damage, beside a running server or on a copy.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use manyhands_store::verify::{self, Counts, Source, Told};
use serde_json::json;

use crate::config::{Config, Flags};

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
/// The store could not be read to its end.
const UNREADABLE: u8 = 2;

/// Reads the store and prints what is damaged: a line each, and a closing line. The status is 0 for a clean store, 1 for
/// a damaged one, 2 for one that cannot be read.
pub async fn run(args: Args) -> ExitCode {
    let json = args.json;
    match look(args).await {
        Ok(counts) if counts.damaged == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(DAMAGED),
        Err(error) => {
            if json {
                let line = json!({"type": "error", "message": format!("{error:#}")});
                println!("{line}");
            }
            eprintln!("error: {error:#}");
            eprintln!(
                "hint: name the data directory with --data-dir, or PostgreSQL with --database-url"
            );
            ExitCode::from(UNREADABLE)
        }
    }
}

async fn look(args: Args) -> anyhow::Result<Counts> {
    let source = match args.file {
        Some(file) => Source::File(file),
        None => Source::Database(Config::load(args.flags)?.database),
    };
    let mut progress = Progress::start("looked at");
    let counts = verify::verify(&source, &mut |told| match told {
        Told::Damage(damage) if args.json => {
            println!(
                "{}",
                json!({"type": "damage", "item": damage.item, "reason": damage.reason})
            );
        }
        Told::Damage(damage) => println!("{}: {}", damage.item, damage.reason),
        Told::Progress(counts) => progress.tell(&counts),
    })
    .await?;
    if args.json {
        let mut line = serde_json::to_value(counts)?;
        line["type"] = "counts".into();
        line["ok"] = (counts.damaged == 0).into();
        println!("{line}");
    } else {
        println!("{}", sentence(&counts));
    }
    Ok(counts)
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
            eprintln!(
                "{} {} sessions, {} entries",
                self.doing, counts.sessions, counts.entries
            );
        }
    }
}
