//! The real `manyhands serve` as a child process: talked to, killed, restarted.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;

use crate::gate::PATIENCE;
use crate::http::Client;
use crate::sandboxes;

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
    /// When it ends or is not ready within [`PATIENCE`]; the message carries all it has printed.
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
    /// When neither happens within [`PATIENCE`].
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
        let mut command = Command::new(&program);
        command
            .arg("serve")
            .args(["--listen", self.listen.as_deref().unwrap_or("127.0.0.1:0")])
            .arg("--data-dir")
            .arg(data_dir)
            .args(&self.args)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for name in ["PATH", "HOME"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.envs(&self.env);
        let started = Instant::now();
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("starting {}: {error}", program.display()));
        let output = Output::default();
        output.follow(child.stdout.take());
        output.follow(child.stderr.take());
        let pid = child.id().expect("not waited for yet");
        let mut running = Running {
            _watchdog: Watchdog::over(pid),
            child,
            pid,
            url: String::new(),
            output,
            ready_after: Duration::ZERO,
        };
        let ready = tokio::time::timeout(PATIENCE, running.become_ready()).await;
        match ready {
            Ok(Ok(url)) => running.url = url,
            Ok(Err(status)) => {
                // The last lines may still be in the pipes.
                running.output.closed().await;
                let output = running.output.text();
                return Err(Failed { status, output });
            }
            Err(_) => panic!(
                "the server was not ready within {PATIENCE:?}; it said:\n{}",
                running.output.text()
            ),
        }
        running.ready_after = started.elapsed();
        Ok(running)
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
    /// When it does not within [`PATIENCE`].
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
    /// When it does not stop within [`PATIENCE`].
    pub async fn terminate(&mut self) -> ExitStatus {
        let running = self.running.take().expect("the server is running");
        running.end(Signal::TERM).await
    }

    /// Presses Ctrl-C (SIGINT) and waits until it has stopped.
    ///
    /// # Panics
    /// When it does not stop within [`PATIENCE`].
    pub async fn interrupt(&mut self) -> ExitStatus {
        let running = self.running.take().expect("the server is running");
        running.end(Signal::INT).await
    }

    /// Waits until it ends by itself, as a failpoint makes it.
    ///
    /// # Panics
    /// When it does not within [`PATIENCE`].
    pub async fn ended(&mut self) -> ExitStatus {
        let running = self.running.take().expect("the server is running");
        running.wait().await
    }

    /// Starts it again on the same data, as before but for the environment variables given here
    /// (`None` removes one). The port is a new one.
    ///
    /// # Panics
    /// When it is still running, or as [`Builder::start`] does.
    pub async fn restart(&mut self, env: &[(&str, Option<&str>)]) {
        assert!(self.running.is_none(), "the server is still running");
        for (name, value) in env {
            match value {
                Some(value) => self.builder.env.insert((*name).to_owned(), value.into()),
                None => self.builder.env.remove(*name),
            };
        }
        let launched = self.builder.launch(&self.data_dir).await;
        self.running = Some(launched.unwrap_or_else(|failed| panic!("{failed}")));
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

#[derive(Debug)]
struct Running {
    _watchdog: Watchdog,
    child: Child,
    pid: u32,
    url: String,
    output: Output,
    ready_after: Duration,
}

impl Running {
    /// The URL it printed, once `/readyz` says 200, or how it ended before that.
    async fn become_ready(&mut self) -> Result<String, ExitStatus> {
        let output = self.output.clone();
        let ready = async {
            let url = output.url().await;
            let client = Client::new(&url);
            while !matches!(client.send(hyper::Method::GET, "/readyz", "").await, Ok(answer) if answer.status == 200)
            {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            url
        };
        tokio::select! {
            url = ready => Ok(url),
            status = self.child.wait() => Err(status.expect("a child can be waited for")),
        }
    }

    async fn end(self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.wait().await
    }

    async fn wait(mut self) -> ExitStatus {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| {
            panic!(
                "the server did not end within {PATIENCE:?}; it said:\n{}",
                self.output.text()
            )
        });
        status.expect("a child can be waited for")
    }

    fn kill_now(mut self) {
        self.signal(Signal::KILL);
        let until = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        // It may have ended by itself, which the wait that follows reports.
        let _ = kill_process(pid.expect("a process id"), signal);
    }
}

/// Kills the server when this process is gone, however it goes.
///
/// A shell of its own process group waits for a line on a pipe whose other end only we hold; its
/// reading end of file means that we died.
#[derive(Debug)]
struct Watchdog {
    _shell: Child,
    _pipe: Option<ChildStdin>,
}

impl Watchdog {
    fn over(pid: u32) -> Self {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", "read -r _ || kill -9 \"$1\"", "watchdog"])
            .arg(pid.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .expect("a shell");
        let pipe = shell.stdin.take();
        Self {
            _shell: shell,
            _pipe: pipe,
        }
    }
}

/// What a child prints, line by line.
#[derive(Clone, Debug)]
struct Output {
    text: Arc<Mutex<String>>,
    grew: watch::Sender<usize>,
    open: watch::Sender<usize>,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            text: Arc::default(),
            grew: watch::Sender::new(0),
            open: watch::Sender::new(0),
        }
    }
}

impl Output {
    fn follow(&self, pipe: Option<impl AsyncRead + Unpin + Send + 'static>) {
        let mut lines = BufReader::new(pipe.expect("a piped stream"));
        let this = self.clone();
        this.open.send_modify(|open| *open += 1);
        tokio::spawn(async move {
            let mut line = vec![];
            while matches!(lines.read_until(b'\n', &mut line).await, Ok(read) if read > 0) {
                this.lock().push_str(&String::from_utf8_lossy(&line));
                this.grew.send_modify(|length| *length += line.len());
                line.clear();
            }
            this.open.send_modify(|open| *open -= 1);
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, String> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn text(&self) -> String {
        self.lock().clone()
    }

    async fn closed(&self) {
        let mut open = self.open.subscribe();
        // A grandchild may keep a pipe open; what is there by then is enough.
        let closed = open.wait_for(|open| *open == 0);
        let _ = tokio::time::timeout(Duration::from_secs(1), closed).await;
    }

    async fn printed(&self, wanted: &str) {
        let mut grew = self.grew.subscribe();
        let there = grew.wait_for(|_| self.lock().contains(wanted));
        let there = tokio::time::timeout(PATIENCE, there).await.is_ok();
        assert!(
            there,
            "{wanted:?} was not printed; this was:\n{}",
            self.text()
        );
    }

    /// The base URL in the line that says where it listens; waits for that line.
    async fn url(&self) -> String {
        let mut grew = self.grew.subscribe();
        let _ = grew.wait_for(|_| listening(&self.lock()).is_some()).await;
        listening(&self.lock()).unwrap_or_default()
    }
}

/// Finds `listening on http://ADDR:PORT` in complete lines.
fn listening(output: &str) -> Option<String> {
    let lines = output
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    let mut urls = lines.filter_map(|line| {
        let (_, rest) = line.split_once("listening on http://")?;
        let end = rest.find(|c: char| c.is_whitespace() || c == '\x1b' || c == '"' || c == ',');
        let address = rest[..end?].trim_end_matches(['/', '.']);
        Some(format!("http://{address}"))
    });
    urls.next()
}

/// The product's program: `MANYHANDS_BIN`, else the newest build in the target folder.
///
/// # Panics
/// When neither is there; the message says what to do.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("MANYHANDS_BIN") {
        return PathBuf::from(path);
    }
    let built = target_dir().into_iter().flat_map(|target| {
        ["release", "debug"].map(|profile| target.join(profile).join("manyhands"))
    });
    let modified = |path: &PathBuf| path.metadata().and_then(|data| data.modified()).ok();
    let newest = built.filter(|path| path.is_file()).max_by_key(modified);
    newest.expect("no manyhands binary: run `make build`, or set MANYHANDS_BIN to one")
}

/// A program of this workspace beside the running one, as cargo lays them out.
pub fn sibling(name: &str) -> Option<PathBuf> {
    let running = std::env::current_exe().ok()?;
    let mut folders = running.ancestors().skip(1).take(2);
    folders.find_map(|folder| Some(folder.join(name)).filter(|path| path.is_file()))
}

fn target_dir() -> Option<PathBuf> {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(path) => Some(PathBuf::from(path)),
        // Tests and benches run from below the target folder.
        None => {
            let running = std::env::current_exe().ok()?;
            let mut folders = running.ancestors();
            let profile = folders.find(|path| path.ends_with("debug") || path.ends_with("release"));
            Some(profile?.parent()?.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_where_it_listens() {
        let check = |output: &str, expected: Option<&str>| {
            assert_eq!(listening(output).as_deref(), expected, "{output:?}");
        };
        check("", None);
        check("listening on http://127.0.0.1:80", None);
        check(
            "listening on http://127.0.0.1:80\n",
            Some("http://127.0.0.1:80"),
        );
        check(
            "hello\nINFO listening on http://127.0.0.1:81/ key=x\n",
            Some("http://127.0.0.1:81"),
        );
        check(
            "\x1b[2mlistening on http://[::1]:82\x1b[0m\n",
            Some("http://[::1]:82"),
        );
    }
}
