//! Programs that the engine starts inside a running container, and the connections that they carry.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::io::AsyncWrite;
use tokio_util::io::StreamReader;

use super::engine::{Engine, LAST_WORDS, failed};
use super::spec::{KEEPER, SANDBOXD};
use crate::Error;
use crate::provider::link::{Link, Unanswered};

/// How long process 1 of a container may take until it answers.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Between two looks at a program whose streams have ended.
const PAUSE: Duration = Duration::from_millis(20);

/// A program to be started in a container.
pub(super) struct Program<'a> {
    pub(super) user: u32,
    pub(super) words: &'a [&'a str],
    /// What it finds in its environment beside what the container has.
    pub(super) variables: &'a [(String, String)],
}

/// The standard streams of a program in a container. Dropping them ends it.
pub(super) struct Streams {
    pub(super) input: Pin<Box<dyn AsyncWrite + Send>>,
    pub(super) output: StreamReader<BoxStream<'static, io::Result<Bytes>>, Bytes>,
    said: Said,
}

/// What a program says of its failures.
type Said = Arc<Mutex<String>>;

impl Streams {
    /// Those of a program of a test's own.
    #[cfg(test)]
    pub(super) fn of(stream: tokio::io::DuplexStream) -> Self {
        let (output, input) = tokio::io::split(stream);
        let pieces = tokio_util::io::ReaderStream::new(output);
        Self {
            input: Box::pin(input),
            output: StreamReader::new(pieces.boxed()),
            said: Said::default(),
        }
    }

    /// What the program has said of its failures.
    pub(super) fn said(&self) -> String {
        words(&self.said)
    }
}

fn words(said: &Said) -> String {
    let said = said.lock().unwrap_or_else(PoisonError::into_inner);
    said.trim().to_owned()
}

impl Engine {
    /// A connection to process 1 of a container, by way of a program started inside, and the instance that answers on it.
    ///
    /// # Errors
    /// A text that says why there is none.
    pub(super) async fn connect(&self, name: &str) -> Result<(Link, String), String> {
        let streams = self.run(name, KEEPER, &[SANDBOXD, "connect"]).await?;
        let said = Arc::clone(&streams.said);
        let link = Link::over(streams.output, streams.input);
        match link.greet(ANSWER_LIMIT).await {
            Ok(instance) => Ok((link, instance)),
            Err(Unanswered::Mute(why)) => Err(why),
            Err(Unanswered::Closed) => Err(format!("the connection ended: {}", words(&said))),
        }
    }

    /// Starts a program in a running container, as this user.
    ///
    /// # Errors
    /// A text that says why it does not run.
    pub(super) async fn run(
        &self,
        name: &str,
        user: u32,
        words: &[&str],
    ) -> Result<Streams, String> {
        let program = Program {
            user,
            words,
            variables: &[],
        };
        self.begin(name, &program).await.map(|(streams, _)| streams)
    }

    /// How a program ended whose streams have ended: its status.
    pub(super) async fn ended_with(&self, id: &str) -> Result<i64, Error> {
        let doing = "see how a program ended";
        let started = Instant::now();
        loop {
            let found = self.docker().await?.inspect_exec(id).await;
            let found = found.map_err(|error| failed(doing, &error))?;
            match (found.running, found.exit_code) {
                (Some(false), Some(code)) => return Ok(code),
                // The streams end a moment before the engine has noted the rest.
                _ if started.elapsed() < ANSWER_LIMIT => tokio::time::sleep(PAUSE).await,
                _ => return Err(Error::io(doing, io::Error::from(io::ErrorKind::TimedOut))),
            }
        }
    }

    /// As `run`, and the name by which the program is known.
    pub(super) async fn begin(
        &self,
        name: &str,
        program: &Program<'_>,
    ) -> Result<(Streams, String), String> {
        let docker = self.docker().await.map_err(|error| error.to_string())?;
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            user: Some(format!("{0}:{0}", program.user)),
            cmd: Some(
                program
                    .words
                    .iter()
                    .map(|word| (*word).to_owned())
                    .collect(),
            ),
            env: Some(
                program
                    .variables
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect(),
            ),
            ..CreateExecOptions::default()
        };
        let made = docker.create_exec(name, options).await;
        let made = made.map_err(|error| error.to_string())?;
        let started = docker.start_exec(&made.id, None).await;
        let StartExecResults::Attached { output, input } =
            started.map_err(|error| error.to_string())?
        else {
            return Err("the engine did not connect us".to_owned());
        };
        let said: Said = Arc::default();
        let words = Arc::clone(&said);
        let output = output.filter_map(move |piece| {
            std::future::ready(match piece {
                Ok(LogOutput::StdOut { message }) => Some(Ok(message)),
                Ok(other) => {
                    let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
                    if words.len() < LAST_WORDS {
                        words.push_str(&other.to_string());
                    }
                    None
                }
                Err(error) => Some(Err(io::Error::other(error))),
            })
        });
        let streams = Streams {
            input,
            output: StreamReader::new(output.boxed()),
            said,
        };
        Ok((streams, made.id))
    }
}
