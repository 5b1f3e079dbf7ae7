//! The folders of memory stores in a container, in a volume of their own or on the session's disk (runtime ME-13, ME-14).
//!
//! The folder above belongs to the user by whom this server comes in, as do stores that may only be read, with all that is in them: no
//! tool can become that user. A store that may be written is open to tools, and what is in it theirs. So two programs inside do what
//! is asked, one as either user, for as long as somebody holds these folders.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex as Plain, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::AsyncWrite;
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::task::AbortHandle;

use super::Container;
use super::engine::Engine;
use super::exec::Streams;
use super::files::say;
use super::spec::{KEEPER, SANDBOXD, USER};
use crate::Error;
use crate::memory::{self, Answer, Ask, KEPT, MOUNT, Memories, Note};
use crate::provider::link;
use crate::provider::namespace::{blocking, files};

/// The note's name in a session's folder.
const NOTE: &str = "memory.json";

/// How long one answer may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The folders of a session whose container runs.
struct Carried {
    session: String,
    /// The session's folder.
    folder: PathBuf,
    engine: Engine,
    container: String,
    helpers: Mutex<Option<Helpers>>,
    stirred: Arc<Notify>,
    /// Whether tools write the folders that were looked at.
    writable: Plain<HashMap<String, bool>>,
}

/// The programs inside.
struct Helpers {
    keeper: Helper,
    user: Helper,
}

/// One of them. Dropping it ends it.
struct Helper {
    input: Pin<Box<dyn AsyncWrite + Send>>,
    answers: mpsc::UnboundedReceiver<Answer>,
    reader: AbortHandle,
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Container {
    /// The folders of a session whose container runs; `None` when it does not.
    pub(super) async fn carried(&self, session: &str) -> Result<Option<Arc<dyn Memories>>, Error> {
        if !self.host.folder(session).exists() || !self.host.runs(session).await? {
            return Ok(None);
        }
        Ok(Some(Arc::new(Carried {
            session: session.to_owned(),
            folder: self.host.folder(session),
            engine: self.host.engine.clone(),
            container: self.host.name(session).await?,
            helpers: Mutex::default(),
            stirred: Arc::default(),
            writable: Plain::default(),
        })))
    }
}

/// Forgets what was noted of a container: the next one has nothing.
pub(super) fn forget(session: &std::path::Path) -> io::Result<()> {
    match std::fs::remove_file(session.join(NOTE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Helper {
    async fn start(
        engine: &Engine,
        container: &str,
        user: u32,
        stirred: &Arc<Notify>,
    ) -> io::Result<Self> {
        let command = [SANDBOXD, "memory", MOUNT, KEPT];
        let started = engine.run(container, user, &command).await;
        let Streams { input, output, .. } = started.map_err(io::Error::other)?;
        let (sender, answers) = mpsc::unbounded_channel();
        let stirred = Arc::clone(stirred);
        // No more is answered than was asked, so what waits here is bounded.
        let reader = tokio::spawn(async move {
            let mut output = output;
            while let Ok(answer) = link::frame::<Answer>(&mut output).await {
                match answer {
                    Answer::Stirred => stirred.notify_one(),
                    answer => {
                        if sender.send(answer).is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Ok(Self {
            input,
            answers,
            reader: reader.abort_handle(),
        })
    }

    /// Asks all of it, and then waits for the answers.
    async fn ask(&mut self, asks: &[Ask]) -> io::Result<Vec<Answer>> {
        for ask in asks {
            say(&mut self.input, ask).await?;
        }
        let mut answers = Vec::with_capacity(asks.len());
        while answers.len() < asks.len() {
            let next = tokio::time::timeout(LIMIT, self.answers.recv()).await;
            let next = next.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
            answers.push(next.ok_or(io::ErrorKind::UnexpectedEof)?);
        }
        Ok(answers)
    }
}

impl Carried {
    /// Whether a folder is written by tools; whoever looks at it says so.
    fn is_writable(&self, ask: &Ask) -> bool {
        let mut known = self.writable.lock().unwrap_or_else(PoisonError::into_inner);
        match ask {
            Ask::Look {
                folder, writable, ..
            } => {
                known.insert(folder.clone(), *writable);
                *writable
            }
            Ask::Read { folder, .. }
            | Ask::Put { folder, .. }
            | Ask::Remove { folder, .. }
            | Ask::Clear { folder, .. } => known.get(folder).copied().unwrap_or_default(),
        }
    }

    async fn open(&self) -> io::Result<Helpers> {
        let start = |user| Helper::start(&self.engine, &self.container, user, &self.stirred);
        let (keeper, user) = tokio::try_join!(start(KEEPER), start(USER))?;
        Ok(Helpers { keeper, user })
    }

    async fn ask_with(&self, helpers: &mut Helpers, asks: &[Ask]) -> io::Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(asks.len());
        let same = |one: &Ask, other: &Ask| self.is_writable(one) == self.is_writable(other);
        for run in asks.chunk_by(same) {
            let is_writable = run.iter().any(|ask| self.is_writable(ask));
            let helper = match is_writable {
                true => &mut helpers.user,
                false => &mut helpers.keeper,
            };
            answers.extend(helper.ask(run).await?);
        }
        Ok(answers)
    }
}

#[async_trait]
impl Memories for Carried {
    async fn ask(&self, asks: Vec<Ask>) -> Result<Vec<Answer>, Error> {
        let doing = format!("work on the memories of {}", self.session);
        let fail = |error| Error::io(doing.clone(), error);
        let mut open = self.helpers.lock().await;
        // Taken, so that what was cut short is not gone on with.
        let mut helpers = match open.take() {
            Some(helpers) => helpers,
            None => {
                let mut helpers = self.open().await.map_err(fail)?;
                // The folders are made by the one to whom the folder above belongs.
                let looks = asks.iter().filter(|ask| matches!(ask, Ask::Look { .. }));
                let looks: Vec<Ask> = looks.cloned().collect();
                helpers.keeper.ask(&looks).await.map_err(fail)?;
                helpers
            }
        };
        let answers = self.ask_with(&mut helpers, &asks).await.map_err(fail)?;
        *open = Some(helpers);
        Ok(answers)
    }

    async fn stirred(&self) {
        self.stirred.notified().await;
    }

    async fn noted(&self) -> Result<Option<Note>, Error> {
        let path = self.folder.join(NOTE);
        blocking(
            &format!("read the note on {}", self.session),
            move || match std::fs::read(path) {
                Ok(bytes) => Ok(memory::read(&bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            },
        )
        .await
    }

    async fn note(&self, bytes: Vec<u8>) -> Result<(), Error> {
        let path = self.folder.join(NOTE);
        let doing = format!("note the memories of {}", self.session);
        blocking(&doing, move || {
            files::replace(&path, &memory::written(&bytes), 0o600)
        })
        .await
    }
}
