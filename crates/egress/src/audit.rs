//! The journal of the way out: every refusal, and how many requests went where (security NET-10). Never a body.
//!
//! One line of JSON each in `egress.log` of the data directory, which is turned over at 16 MiB; three older ones are kept. A
//! session that is refused more than a hundred times in a second is told by counts, so that it cannot wash away others.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use manyhands_protocol::Timestamp;
use manyhands_protocol::time::SharedClock;
use serde::{Deserialize, Serialize};

use crate::host::Target;
use crate::policy::Reason;

/// The file in the data directory.
const FILE: &str = "egress.log";
/// How long a file becomes, in bytes.
const LONGEST: u64 = 16 << 20;
/// How many older files are kept.
const OLDER: u32 = 3;
/// Lines of refusals of one session in one second.
const LINES: u64 = 100;
/// Places that are counted in memory before they are written.
const PLACES: usize = 64;
const SECOND: Duration = Duration::from_secs(1);

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub time: Timestamp,
    /// Whose sandbox, `sesn_…`.
    pub session: String,
    /// The host, escaped and bounded; `*` where a count stands for several.
    pub host: String,
    /// The port; 0 where none was named.
    pub port: u16,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How often.
    pub count: u64,
}

/// What became of requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// They went there.
    Allowed,
    /// They did not.
    Refused {
        /// The code of the rule, for example `host_not_allowed`.
        reason: String,
        /// What exactly.
        detail: String,
    },
}

/// The file that lines are appended to.
pub struct Journal {
    path: PathBuf,
    longest: u64,
    file: Mutex<(File, u64)>,
    clock: SharedClock,
}

impl Journal {
    /// The journal of this data directory.
    ///
    /// # Errors
    /// When its file cannot be opened.
    pub fn open(directory: &Path, clock: SharedClock) -> io::Result<Self> {
        Self::with_length(directory, clock, LONGEST)
    }

    fn with_length(directory: &Path, clock: SharedClock, longest: u64) -> io::Result<Self> {
        let path = directory.join(FILE);
        let file = append(&path)?;
        let length = file.metadata()?.len();
        Ok(Self {
            path,
            longest,
            file: Mutex::new((file, length)),
            clock,
        })
    }

    /// Appends lines. A journal that cannot be written is told to the operator, and the way out stays as guarded as it was.
    fn append(&self, entries: &[Entry]) {
        let mut lines = Vec::new();
        for entry in entries {
            match serde_json::to_vec(entry) {
                Ok(line) => lines.extend(line.into_iter().chain(*b"\n")),
                Err(error) => tracing::error!(%error, "a line of the egress journal is lost"),
            }
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.write(&mut file, &lines) {
            metrics::counter!("manyhands_egress_journal_failures_total").increment(1);
            tracing::error!(path = %self.path.display(), %error, "the egress journal cannot be written");
        }
    }

    fn write(&self, (file, length): &mut (File, u64), lines: &[u8]) -> io::Result<()> {
        if *length > 0 && *length + lines.len() as u64 > self.longest {
            for number in (1..=OLDER).rev() {
                let newer = numbered(&self.path, number - 1);
                if newer.try_exists()? {
                    fs::rename(newer, numbered(&self.path, number))?;
                }
            }
            *file = append(&self.path)?;
            *length = 0;
        }
        file.write_all(lines)?;
        *length += lines.len() as u64;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).open(path)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    match number {
        0 => path.to_owned(),
        number => path.with_added_extension(number.to_string()),
    }
}

/// Whether there is a journal in this directory: a proxy kept one there.
pub fn exists(directory: &Path) -> bool {
    directory.join(FILE).exists()
}

/// What the journal of a data directory holds about a session (security NET-10).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The session's lines, oldest first.
    pub entries: Vec<Entry>,
    /// How many lines, of whatever session, could not be read.
    pub damaged: u64,
    /// When the oldest line was written that is still there, of whatever session; `None` when there is no line at all.
    pub since: Option<Timestamp>,
}

/// What is in the journal of a data directory about a session.
///
/// # Errors
/// When a file cannot be read; [`io::ErrorKind::NotFound`] when there is none: no server ran sandboxes with this directory.
pub fn read(directory: &Path, session: &str) -> io::Result<Found> {
    let path = directory.join(FILE);
    let mut found = Found::default();
    let mut files = 0;
    for number in (0..=OLDER).rev() {
        let file = match File::open(numbered(&path, number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        files += 1;
        for line in BufReader::new(file).split(b'\n') {
            match serde_json::from_slice::<Entry>(&line?) {
                Ok(entry) => {
                    found.since.get_or_insert(entry.time);
                    if entry.session == session {
                        found.entries.push(entry);
                    }
                }
                Err(_) => found.damaged += 1,
            }
        }
    }
    match files {
        0 => Err(io::ErrorKind::NotFound.into()),
        _ => Ok(found),
    }
}

/// One session's part of the journal.
pub(crate) struct SessionLog {
    journal: Arc<Journal>,
    session: String,
    window: Mutex<Window>,
}

/// What happened in this second and is not written yet.
struct Window {
    began: Timestamp,
    lines: u64,
    more: BTreeMap<Reason, u64>,
    allowed: HashMap<Target, u64>,
}

impl SessionLog {
    pub(crate) fn new(journal: Arc<Journal>, session: &str) -> Self {
        let began = journal.clock.now();
        Self {
            journal,
            session: session.to_owned(),
            window: Mutex::new(Window {
                began,
                lines: 0,
                more: BTreeMap::new(),
                allowed: HashMap::new(),
            }),
        }
    }

    /// Notes a refusal. The texts are escaped and bounded already.
    pub(crate) fn refused(&self, host: String, port: u16, reason: Reason, detail: String) {
        metrics::counter!("manyhands_egress_refused_total", "reason" => reason.code()).increment(1);
        let now = self.journal.clock.now();
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= window.began.after(SECOND) || now < window.began {
            self.write(&mut window, now);
        }
        if window.lines >= LINES {
            *window.more.entry(reason).or_default() += 1;
            return;
        }
        window.lines += 1;
        let outcome = Outcome::Refused {
            reason: reason.code().to_owned(),
            detail,
        };
        self.journal
            .append(&[self.entry(now, host, port, outcome, 1)]);
    }

    /// Counts a request that was allowed.
    pub(crate) fn allowed(&self, target: &Target) {
        metrics::counter!("manyhands_egress_allowed_total").increment(1);
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        *window.allowed.entry(target.clone()).or_default() += 1;
        if window.allowed.len() >= PLACES {
            let now = self.journal.clock.now();
            self.write(&mut window, now);
        }
    }

    /// Writes what is counted and not written. Called every second, and at the end.
    pub(crate) fn flush(&self) {
        let now = self.journal.clock.now();
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(&mut window, now);
    }

    fn write(&self, window: &mut Window, now: Timestamp) {
        let refused = std::mem::take(&mut window.more)
            .into_iter()
            .map(|(reason, count)| {
                let outcome = Outcome::Refused {
                    reason: reason.code().to_owned(),
                    detail: "more than a hundred refusals in a second".to_owned(),
                };
                self.entry(now, "*".to_owned(), 0, outcome, count)
            });
        let allowed = window.allowed.drain().map(|(target, count)| {
            let host = target.host.to_string();
            self.entry(now, host, target.port, Outcome::Allowed, count)
        });
        let entries: Vec<_> = refused.chain(allowed).collect();
        if !entries.is_empty() {
            self.journal.append(&entries);
        }
        window.began = now;
        window.lines = 0;
    }

    fn entry(
        &self,
        time: Timestamp,
        host: String,
        port: u16,
        outcome: Outcome,
        count: u64,
    ) -> Entry {
        Entry {
            time,
            session: self.session.clone(),
            host,
            port,
            outcome,
            count,
        }
    }
}

impl Drop for SessionLog {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests;
