//! The real `manyhands serve` as a child process: talked to, killed, restarted.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::Command;

use self::running::Running;
use crate::http::Client;
use crate::sandboxes;

mod output;
mod running;

/// What a server is started with. Cheap to change between two starts.
#[derive(Debug, Default)]
pub struct Builder {
    binary: Option<PathBuf>,
    data_dir: Option<PathBuf>,
    env: BTreeMap<String, OsString>,
    args: Vec<String>,
    listen: Option<String>,
}

impl Builder {
    /// Runs this program instead of the one [`binary`] finds.
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    /// Keeps its data here, beyond the daemon's life. By default it has a folder of its own that
    /// goes when the daemon is dropped.
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(path.into());
        self
    }

    /// Sets an environment variable. Of the test's own environment the server sees only `PATH`
    /// and `HOME`, so that a key in the developer's shell changes nothing.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    /// Points the `anthropic` provider at a scripted model, with a key that is no key.
    pub fn model(self, url: &str) -> Self {
        self.env("MANYHANDS_ANTHROPIC_BASE_URL", url)
            .env("ANTHROPIC_API_KEY", "stub")
    }

    /// Adds an argument after `serve --listen … --data-dir …`.
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Listens here instead of on a free port of 127.0.0.1.
    pub fn listen(mut self, address: &str) -> Self {
        self.listen = Some(address.to_owned());
        self
    }

    /// Starts the server and waits until it is ready.
    ///
    /// # Panics
    /// When it ends or is not ready within [`PATIENCE`](crate::gate::PATIENCE); the message carries all it has printed.
    pub async fn start(self) -> Daemon {
        match self.try_start().await {
            Ok(daemon) => daemon,
            Err(failed) => panic!("{failed}"),
        }
    }

    /// Starts the server and waits until it is ready, for stories of servers that refuse to start.
    ///
    /// # Errors
    /// When it ends before it is ready.
    ///
    /// # Panics
    /// When neither happens within [`PATIENCE`](crate::gate::PATIENCE).
    pub async fn try_start(self) -> Result<Daemon, Failed> {
        let temporary = match &self.data_dir {
            Some(_) => None,
            None => Some(tempfile::tempdir().expect("a temporary folder")),
        };
        let data_dir = match (&self.data_dir, &temporary) {
            (Some(path), _) => path.clone(),
            (None, Some(folder)) => folder.path().join("data"),
            (None, None) => unreachable!("one of the two was just made"),
        };
        let running = self.launch(&data_dir).await?;
        Ok(Daemon {
            builder: self,
            data_dir,
            running: Some(running),
            _temporary: temporary,
        })
    }

    async fn launch(&self, data_dir: &Path) -> Result<Running, Failed> {
        let program = self.binary.clone().unwrap_or_else(binary);
        let mut command = Command::new(program);
        command
            .arg("serve")
            .args(["--listen", self.listen.as_deref().unwrap_or("127.0.0.1:0")])
            .arg("--data-dir")
            .arg(data_dir)
            .args(&self.args)
            .env_clear();
        for name in ["PATH", "HOME"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.envs(&self.env);
        Running::launch(command).await
    }
}

/// A server that ended before it was ready.
#[derive(Debug)]
pub struct Failed {
    /// How it ended.
    pub status: ExitStatus,
    /// All it printed, both streams.
    pub output: String,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Self { status, output } = self;
        write!(formatter, "the server ended ({status}); it said:\n{output}")
    }
}

/// A running server, ended by pid when dropped, with the sandboxes it left behind.
#[derive(Debug)]
pub struct Daemon {
    builder: Builder,
    data_dir: PathBuf,
    running: Option<Running>,
    _temporary: Option<TempDir>,
}

impl Daemon {
    /// What to start a server with.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts a server on a fresh data directory whose model is at this URL.
    pub async fn with_model(url: &str) -> Self {
        Self::builder().model(url).start().await
    }

    /// The base URL, without a trailing slash.
    ///
    /// # Panics
    /// When the server is not running.
    pub fn url(&self) -> &str {
        &self.running().url
    }

    /// Its process id. Panics when it is not running.
    pub fn pid(&self) -> u32 {
        self.running().pid
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The key the server wrote to `DIR/api-key`.
    pub fn api_key(&self) -> String {
        let path = self.data_dir.join("api-key");
        let key = std::fs::read_to_string(&path);
        let key = key.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        key.trim().to_owned()
    }

    /// A client with the server's key.
    pub fn client(&self) -> Client {
        Client::with_key(self.url(), &self.api_key())
    }

    /// All it printed so far, both streams.
    pub fn output(&self) -> String {
        self.running().output.text()
    }

    /// Waits until it has printed this text.
    ///
    /// # Panics
    /// When it does not within [`PATIENCE`](crate::gate::PATIENCE).
    pub async fn printed(&self, text: &str) {
        self.running().output.printed(text).await;
    }

    /// How long the last start took until `/readyz` answered 200.
    pub fn ready_after(&self) -> Duration {
        self.running().ready_after
    }

    /// Ends it as a power cut of the process would: SIGKILL, nothing flushed. Sandboxes live on.
    pub async fn kill9(&mut self) {
        let running = self.running.take().expect("the server is running");
        running.end(Signal::KILL).await;
    }

    /// Asks it to stop (SIGTERM) and waits until it has.
    ///
    /// # Panics
    /// When it does not stop within [`PATIENCE`](crate::gate::PATIENCE).
    pub async fn terminate(&mut self) -> ExitStatus {
        let running = self.running.take().expect("the server is running");
        running.end(Signal::TERM).await
    }

    /// Presses Ctrl-C (SIGINT) and waits until it has stopped.
    ///
    /// # Panics
    /// When it does not stop within [`PATIENCE`](crate::gate::PATIENCE).
    pub async fn interrupt(&mut self) -> ExitStatus {
        let running = self.running.take().expect("the server is running");
        running.end(Signal::INT).await
    }

    /// Waits until it ends by itself, as a failpoint makes it.
    ///
    /// # Panics
    /// When it does not within [`PATIENCE`](crate::gate::PATIENCE).
    pub async fn ended(&mut self) -> ExitStatus {
        let running = self.running.take().expect("the server is running");
        running.wait().await
    }

    /// How it ended, if it does so by itself within this time; else it goes on.
    pub async fn ended_within(&mut self, time: Duration) -> Option<ExitStatus> {
        let running = self.running.as_mut().expect("the server is running");
        let status = tokio::time::timeout(time, running.exited()).await.ok()?;
        self.running = None;
        Some(status)
    }

    /// Starts it again on the same data, as before but for the environment variables given here
    /// (`None` removes one). The port is a new one.
    ///
    /// # Panics
    /// When it is still running, or as [`Builder::start`] does.
    pub async fn restart(&mut self, env: &[(&str, Option<&str>)]) {
        if let Err(failed) = self.try_restart(env).await {
            panic!("{failed}");
        }
    }

    /// As [`Daemon::restart`], for stories of servers that do not come up.
    ///
    /// # Errors
    /// When it ends before it is ready; it can be started again.
    ///
    /// # Panics
    /// When it is still running, or neither happens within [`PATIENCE`](crate::gate::PATIENCE).
    pub async fn try_restart(&mut self, env: &[(&str, Option<&str>)]) -> Result<(), Failed> {
        assert!(self.running.is_none(), "the server is still running");
        for (name, value) in env {
            match value {
                Some(value) => self.builder.env.insert((*name).to_owned(), value.into()),
                None => self.builder.env.remove(*name),
            };
        }
        self.running = Some(self.builder.launch(&self.data_dir).await?);
        Ok(())
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the server is running")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            if std::thread::panicking() {
                eprintln!("--- the server said ---\n{}---", running.output.text());
            }
            // Synchronous, so that the data directory goes after its writer.
            running.kill_now();
        }
        sandboxes::end_below(&self.data_dir);
    }
}

/// The product's program: `MANYHANDS_BIN`, else the one built in the running test's profile, else
/// in the other.
///
/// # Panics
/// When there is none; the message says what to do.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("MANYHANDS_BIN") {
        return PathBuf::from(path);
    }
    let running = std::env::current_exe().expect("the path of this program");
    // Tests run from `deps` below the profile's folder, other programs from the folder itself.
    let mut folders = running.ancestors();
    let own = folders.find(|path| path.ends_with("debug") || path.ends_with("release"));
    let profiles = own.into_iter().flat_map(|own| {
        [
            own.to_owned(),
            own.with_file_name("debug"),
            own.with_file_name("release"),
        ]
    });
    let mut built = profiles.map(|profile| profile.join("manyhands"));
    built
        .find(|path| path.is_file())
        .expect("no manyhands binary: run `make build`, or set MANYHANDS_BIN to one")
}
