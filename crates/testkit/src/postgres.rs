//! One private PostgreSQL per test process, one fresh database per test.
//!
//! The cluster lives in a temporary folder and listens on a socket in it and nowhere else. It ends
//! with the process that started it, however that goes: a small shell holds the server and the
//! reading end of a pipe of ours, and cleans up at its end of file.

mod proxy;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, OnceLock, PoisonError};

pub use proxy::{Proxy, Side};

use crate::gate::PATIENCE;

/// The superuser of the private cluster; no password, the socket's folder is the lock.
const ROLE: &str = "manyhands";

/// A fresh database of its own, in the cluster all tests of the process share.
#[derive(Debug)]
pub struct Database {
    url: String,
}

impl Database {
    /// Creates an empty database, starting the cluster first if this is the process's first one.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start; the message says what to do. It never
    /// skips.
    pub async fn create() -> Self {
        let created = tokio::task::spawn_blocking(|| shared().create_database()).await;
        match created {
            Ok(url) => Self { url },
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }

    /// The socket of the cluster that all tests of the process share, for a [`Proxy`].
    ///
    /// # Panics
    /// As [`create`](Self::create).
    pub fn socket() -> PathBuf {
        shared().socket()
    }

    /// Its connection URL, `postgres://…?host=FOLDER`.
    pub fn url(&self) -> &str {
        &self.url
    }
}

fn shared() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(Cluster::start)
}

/// A private PostgreSQL server, which can be stopped and started. Tests that only need a database use
/// [`Database::create`].
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    programs: PathBuf,
    keeper: Child,
    said: Mutex<Receiver<String>>,
    databases: AtomicU64,
}

/// How a server ends without having shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// `pg_ctl stop -m immediate`.
    Immediate,
    /// `kill -9` of the postmaster.
    Kill,
}

impl Cluster {
    /// Makes a cluster with durable settings and waits until it takes connections.
    ///
    /// # Panics
    /// As [`Database::create`].
    pub fn start() -> Self {
        Self::start_in(&std::env::temp_dir())
    }

    /// As [`start`](Self::start), in a folder of its own in `parent`: on the disk that is to be measured.
    ///
    /// # Panics
    /// As [`Database::create`].
    pub fn start_in(parent: &Path) -> Self {
        Self::make(None, parent)
    }

    /// Makes a standby that follows this server, and lets this server's commits wait for it from now on.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn standby(&self) -> Self {
        let standby = Self::make(Some(&self.folder), &std::env::temp_dir());
        self.sql("ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.sql("SELECT pg_reload_conf()");
        standby
    }

    fn make(primary: Option<&Path>, parent: &Path) -> Self {
        let programs = programs().unwrap_or_else(|| {
            panic!(
                "PostgreSQL is not installed: no initdb in PATH, /usr/lib/postgresql/*/bin or \
                 where pg_config points. Run scripts/setup."
            )
        });
        let folder = tempfile::Builder::new()
            .prefix("manyhands-postgres-")
            .tempdir_in(parent);
        // Removed by the keeper, which outlives us.
        let folder = folder.expect("a temporary folder").keep();
        let user = User::unprivileged();
        if let Some(user) = &user {
            let owned = chown(&folder, Some(user.uid), Some(user.gid));
            owned.expect("root can give away a folder");
        }
        let mut keeper = keeper(&programs, &folder, primary, user.as_ref())
            .spawn()
            .unwrap_or_else(|error| panic!("starting a shell for PostgreSQL: {error}"));
        let cluster = Self {
            folder,
            programs,
            said: Mutex::new(hear(&mut keeper)),
            keeper,
            databases: AtomicU64::new(0),
        };
        cluster.expect("ready");
        cluster
    }

    /// Ends the server on the spot.
    ///
    /// # Panics
    /// When it does not end.
    pub fn crash(&mut self, crash: Crash) {
        self.tell(match crash {
            Crash::Immediate => "QUIT",
            Crash::Kill => "KILL",
        });
        self.expect("ended");
    }

    /// Starts the server again, and waits until it takes connections.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        self.tell("start");
        self.expect("ready");
    }

    /// Makes a standby a primary, and waits until it is.
    ///
    /// # Panics
    /// When it refuses.
    pub fn promote(&self) {
        self.sql("SELECT pg_promote()");
    }

    /// The socket it listens on, for a [`Proxy`].
    pub fn socket(&self) -> PathBuf {
        self.folder.join(".s.PGSQL.5432")
    }

    /// Runs one statement as superuser and gives what it says.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn sql(&self, sql: &str) -> String {
        let ran = Command::new(self.programs.join("psql"))
            .arg("--host")
            .arg(&self.folder)
            .args([
                "--username",
                ROLE,
                "--no-psqlrc",
                "--quiet",
                "--tuples-only",
                "--no-align",
            ])
            .args(["--command", sql, "postgres"])
            .output()
            .unwrap_or_else(|error| panic!("running psql: {error}. Run scripts/setup."));
        assert!(
            ran.status.success(),
            "{sql}: {}",
            String::from_utf8_lossy(&ran.stderr)
        );
        String::from_utf8_lossy(&ran.stdout).trim().to_owned()
    }

    fn tell(&mut self, word: &str) {
        let stdin = self.keeper.stdin.as_mut().expect("a piped stream");
        writeln!(stdin, "{word}").expect("the keeper reads");
    }

    /// What the keeper says next; anything else is the log of a server that failed.
    #[track_caller]
    fn expect(&self, word: &str) {
        let lines = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let mut said = Vec::new();
        loop {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) if line == word => return,
                Ok(line) => said.push(line),
                Err(_) => panic!(
                    "PostgreSQL in {} is not {word}:\n{}",
                    self.folder.display(),
                    said.join("\n")
                ),
            }
        }
    }

    /// Creates an empty database and returns its connection URL.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn create_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Relaxed) + 1);
        let created = Command::new(self.programs.join("createdb"))
            .arg("--host")
            .arg(&self.folder)
            .args(["--username", ROLE, "--template", "template0", &name])
            .output()
            .unwrap_or_else(|error| panic!("running createdb: {error}. Run scripts/setup."));
        assert!(
            created.status.success(),
            "createdb: {}",
            String::from_utf8_lossy(&created.stderr)
        );
        format!(
            "postgres://{ROLE}@localhost/{name}?host={}",
            self.folder.display()
        )
    }
}

impl Drop for Cluster {
    /// Stops the server and waits until its folder is gone.
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// What the keeper does: make the cluster, run it, report, and end it when we are gone.
///
/// `initdb` needs no fsync, since a cluster that dies while being made is thrown away; the server
/// itself runs with durable settings, as the product insists (security STORE-1). Immediate stop:
/// nobody will read this data again.
const KEEPER: &str = r#"
folder=$1 programs=$2 role=$3 primary=$4
trap '' INT HUP PIPE
end() {
    [ -n "$server" ] && kill "-$1" "$server" 2>/dev/null && wait "$server" 2>/dev/null
    server=
}
serve() {
    "$programs/postgres" -D data -k "$folder" -c listen_addresses= -c max_connections=400 \
        -c fsync=on -c synchronous_commit=on -c full_page_writes=on >>log 2>&1 </dev/null &
    server=$!
    until "$programs/pg_isready" --quiet --host "$folder"; do
        kill -0 "$server" 2>/dev/null || return 1
        sleep 0.02
    done
}
make() {
    if [ -n "$primary" ]; then
        "$programs/pg_basebackup" --pgdata data --host "$primary" --username "$role" \
            --write-recovery-conf --checkpoint fast --no-sync
    else
        "$programs/initdb" --pgdata data --username "$role" --auth trust --encoding UTF8 --no-locale --no-sync
    fi
}
cd "$folder" || exit 1
make >log 2>&1 && serve
if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then echo ready; else cat log; exec >/dev/null; fi
while read -r word; do
    case $word in
    start)
        # What a killed server leaves behind ends a moment later.
        until serve; do sleep 0.1; done
        echo ready ;;
    *)
        end "$word"
        echo ended ;;
    esac
done
end QUIT
cd / && rm -rf "$folder"
"#;

fn keeper(programs: &Path, folder: &Path, primary: Option<&Path>, user: Option<&User>) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", KEEPER, "postgres-keeper"])
        .args([folder, programs])
        .arg(ROLE)
        .arg(primary.unwrap_or(Path::new("")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // Ctrl-C in the terminal must not take it before it has cleaned up.
        .process_group(0)
        .current_dir("/");
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid).env("HOME", folder);
    }
    command
}

/// The keeper's lines, as they come.
fn hear(keeper: &mut Child) -> Receiver<String> {
    let stdout = keeper.stdout.take().expect("a piped stream");
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    receive
}

/// Whom the server runs as when we are root, which initdb refuses to be.
#[derive(Debug)]
struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// `postgres`, else `nobody`; `None` when we are not root and need nobody else.
    fn unprivileged() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let find = |name| passwd.lines().find_map(|line| Self::parse(line, name));
        let user = find("postgres").or_else(|| find("nobody"));
        Some(user.expect("a user named postgres or nobody to run PostgreSQL as"))
    }

    fn parse(line: &str, name: &str) -> Option<Self> {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        Some(Self {
            uid: fields.nth(1)?.parse().ok()?,
            gid: fields.next()?.parse().ok()?,
        })
    }
}

/// The folder with `initdb` and its siblings, the newest version if there are several.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // A link in PATH leads to the folder where the rest is.
    let linked = std::env::split_paths(&path).map(|folder| folder.join("initdb"));
    let linked = linked.filter_map(|initdb| Some(initdb.canonicalize().ok()?.parent()?.to_owned()));
    let mut packaged: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    let version =
        |folder: &PathBuf| -> Option<u32> { folder.parent()?.file_name()?.to_str()?.parse().ok() };
    packaged.sort_by_key(|folder| std::cmp::Reverse(version(folder)));
    let complete = |folder: &PathBuf| {
        let needed = ["initdb", "postgres", "pg_isready", "createdb", "psql"];
        needed.iter().all(|program| folder.join(program).is_file())
    };
    linked.chain(packaged).chain(pg_config()).find(complete)
}

fn pg_config() -> Option<PathBuf> {
    let asked = Command::new("pg_config").arg("--bindir").output().ok()?;
    let folder = String::from_utf8(asked.stdout).ok()?;
    Some(PathBuf::from(folder.trim()))
}
