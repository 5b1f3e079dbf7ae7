//! Installing the packages of environments: each once, however many sessions ask for them, and told to those who wait (runtime
//! EN-7, EN-9). How it is done is the provider's.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::sync::watch;

use super::Told;
use super::namespace::chain;
use crate::Error;
use crate::packages::Manager;

/// How long a failed build is not tried again: many sessions may ask for the same.
const REST: Duration = Duration::from_secs(60);

/// How long a build may take.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Below this much free space a build ends.
const LEAST_SPACE: u64 = 512 << 20;

/// How often the space is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How much of a manager's last words is told.
const WORDS: usize = 1500;

/// How much of one line is told.
const LINE: usize = 120;

/// The longest line of a manager's output that is looked at, in bytes.
const LONGEST: u64 = 4096;

/// What a server builds and has built, by name.
#[derive(Default)]
pub(super) struct Builds(Mutex<HashMap<String, watch::Receiver<State>>>);

/// How far a build is.
#[derive(Debug, Clone)]
enum State {
    Running(String),
    Ended(Instant, Result<(), Failure>),
}

/// Why something is not built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    Packages { manager: &'static str, why: String },
    NoSpace,
    Host(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Host(chain(&error)),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let (manager, why) = match failure {
            Failure::Packages { manager, why } => (manager, why),
            Failure::NoSpace => ("this server", "no space is left".to_owned()),
            Failure::Host(why) => ("this server", why),
        };
        Self::Packages { manager, why }
    }
}

/// Where a build says how far it is.
#[derive(Clone)]
pub(super) struct Telling(watch::Sender<State>);

impl Telling {
    pub(super) fn say(&self, text: String) {
        self.0.send_replace(State::Running(text));
    }
}

impl Builds {
    /// Waits for the build of this name, which `build` begins unless it runs or has just failed. It goes on when nobody waits
    /// any more.
    pub(super) async fn wait<F>(
        &self,
        name: &str,
        told: Option<&Told>,
        build: impl FnOnce(Telling) -> F,
    ) -> Result<(), Error>
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let mut state = self.state(name, build);
        loop {
            let now = state.borrow_and_update().clone();
            match now {
                State::Running(text) => {
                    if let Some(told) = told {
                        told(&text);
                    }
                }
                State::Ended(_, ended) => return ended.map_err(Error::from),
            }
            if state.changed().await.is_err() {
                return Err(Failure::Host("the build was given up".to_owned()).into());
            }
        }
    }

    fn state<F>(&self, name: &str, build: impl FnOnce(Telling) -> F) -> watch::Receiver<State>
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let mut builds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = builds.get(name) {
            let rested = match &*state.borrow() {
                State::Running(_) => false,
                // What was removed in the meantime is built again at once.
                State::Ended(at, ended) => ended.is_ok() || at.elapsed() > REST,
            };
            let lost =
                state.has_changed().is_err() && matches!(&*state.borrow(), State::Running(_));
            if !rested && !lost {
                return state.clone();
            }
        }
        let (sender, receiver) = watch::channel(State::Running("waiting for packages".to_owned()));
        builds.insert(name.to_owned(), receiver.clone());
        drop(builds);
        let (name, built) = (name.to_owned(), build(Telling(sender.clone())));
        tokio::spawn(async move {
            let started = Instant::now();
            let built = built.await;
            let seconds = started.elapsed().as_secs_f64();
            match &built {
                Ok(()) => tracing::info!(layer = name, seconds, "packages are installed"),
                Err(failure) => {
                    tracing::warn!(
                        layer = name,
                        seconds,
                        ?failure,
                        "packages are not installed"
                    );
                }
            }
            let outcome = if built.is_ok() { "ok" } else { "failed" };
            metrics::counter!("manyhands_layers_total", "outcome" => outcome).increment(1);
            sender.send_replace(State::Ended(Instant::now(), built));
        });
        receiver
    }
}

/// A build within its limits of time and, where it is known what fills, of space.
pub(super) async fn within(
    folder: Option<&OwnedFd>,
    build: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let short = async {
        match folder {
            Some(folder) => space(folder).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = tokio::time::timeout(LIMIT, build) => ended.unwrap_or_else(|_| {
            Err(Failure::Host(format!("it took longer than {} minutes", LIMIT.as_secs() / 60)))
        }),
        error = short => Err(error),
    }
}

/// Comes back when there is too little space left.
async fn space(folder: &OwnedFd) -> Failure {
    loop {
        tokio::time::sleep(LOOK).await;
        match rustix::fs::fstatvfs(folder) {
            Ok(space) if space.f_bavail.saturating_mul(space.f_frsize) < LEAST_SPACE => {
                return Failure::NoSpace;
            }
            Ok(_) => {}
            Err(error) => return Failure::from(io::Error::from(error)),
        }
    }
}

/// What one command of a build says.
pub(super) struct Heard<'a> {
    manager: Manager,
    head: String,
    telling: &'a Telling,
    tail: String,
}

impl<'a> Heard<'a> {
    /// Says that step `number` of so many begins.
    pub(super) fn new(
        manager: Manager,
        (number, of): (usize, usize),
        telling: &'a Telling,
    ) -> Self {
        let head = format!("installing {manager} packages, step {number} of {of}");
        telling.say(head.clone());
        tracing::info!(%manager, number, of, "installing packages of an environment");
        Self {
            manager,
            head,
            telling,
            tail: String::new(),
        }
    }

    /// One line of what it says.
    pub(super) fn line(&mut self, line: &str) {
        let line: String = line
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        tracing::debug!(manager = %self.manager, line, "a package manager says");
        let short: String = line.chars().take(LINE).collect();
        self.telling.say(format!("{}: {short}", self.head));
        self.tail.push_str(&line);
        self.tail.push('\n');
        if self.tail.len() > 2 * WORDS {
            self.tail = last(&self.tail);
        }
    }

    /// Its last words, or how it ended where it said nothing.
    pub(super) fn failure(&self, ended: String) -> Failure {
        let words = last(&self.tail);
        let why = match words.trim() {
            "" => ended,
            words => words.to_owned(),
        };
        Failure::Packages {
            manager: self.manager.name(),
            why,
        }
    }
}

fn last(text: &str) -> String {
    let mut from = text.len().saturating_sub(WORDS);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text[from..].to_owned()
}

/// Hears each line of what a program says, until it says no more.
pub(super) async fn each_line(
    output: impl AsyncRead + Unpin,
    mut said: impl FnMut(&str),
) -> io::Result<()> {
    let mut lines = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        let read = (&mut lines)
            .take(LONGEST)
            .read_until(b'\n', &mut line)
            .await?;
        if read == 0 {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        if !line.is_empty() {
            said(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// runtime EN-7, EN-9: one build for all who ask at once, its failure for all, and none again right after it failed.
    #[tokio::test]
    async fn en_7_what_many_ask_for_is_built_once() {
        let builds = Builds::default();
        let count = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        let build = |fails: bool| {
            let count = std::sync::Arc::clone(&count);
            move |telling: Telling| async move {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let heard = Heard::new(Manager::Pip, (1, 2), &telling);
                tokio::task::yield_now().await;
                match fails {
                    true => Err(heard.failure("it ended".to_owned())),
                    false => Ok(()),
                }
            }
        };
        let texts = std::sync::Arc::new(Mutex::new(Vec::new()));
        let hears = std::sync::Arc::clone(&texts);
        let told: Told =
            std::sync::Arc::new(move |text| hears.lock().unwrap().push(text.to_owned()));
        let (one, other) = tokio::join!(
            builds.wait("a", Some(&told), build(false)),
            builds.wait("a", None, build(false))
        );
        assert!(one.is_ok() && other.is_ok());
        let built = || count.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(built(), 1);
        let texts = texts.lock().unwrap().clone();
        let last = texts.last().map(String::as_str);
        assert_eq!(last, Some("installing pip packages, step 1 of 2"));
        // What was built and is gone is built again; what failed rests.
        builds.wait("a", None, build(false)).await.unwrap();
        assert_eq!(built(), 2);
        for _ in 0..2 {
            let failed = builds.wait("b", None, build(true)).await.unwrap_err();
            assert!(
                matches!(&failed, Error::Packages { manager: "pip", why } if why == "it ended")
            );
        }
        assert_eq!(built(), 3);
    }

    #[test]
    fn en_9_the_last_words_of_a_manager_are_told_and_no_more() {
        let (sender, _receiver) = watch::channel(State::Running(String::new()));
        let telling = Telling(sender);
        let mut heard = Heard::new(Manager::Apt, (1, 1), &telling);
        for number in 0..200 {
            heard.line(&format!("lin\u{e9} {number} \u{1b}[1m"));
        }
        let Failure::Packages { manager, why } = heard.failure(String::new()) else {
            panic!("of another kind");
        };
        assert_eq!(manager, "apt");
        assert!(
            why.len() <= WORDS && why.ends_with("lin\u{e9} 199  [1m"),
            "{why}"
        );
    }
}
