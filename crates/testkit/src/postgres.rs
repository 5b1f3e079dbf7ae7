//! One private PostgreSQL per test process, one fresh database per test.
//!
//! The cluster lives in a temporary folder and listens on a socket in it and nowhere else. It ends
//! with the process that started it, however that goes: a small shell holds the server and the
//! reading end of a pipe of ours, and cleans up at its end of file.

use std::io::Read;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

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
        static CLUSTER: OnceLock<Cluster> = OnceLock::new();
        let create = || CLUSTER.get_or_init(Cluster::start).create_database();
        let created = tokio::task::spawn_blocking(create).await;
        match created {
            Ok(url) => Self { url },
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }

    /// Its connection URL, `postgres://…?host=FOLDER`.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// A private PostgreSQL server. Tests that only need a database use [`Database::create`].
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    programs: PathBuf,
    keeper: Child,
    databases: AtomicU64,
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
        let mut keeper = keeper(&programs, &folder, user.as_ref())
            .spawn()
            .unwrap_or_else(|error| panic!("starting a shell for PostgreSQL: {error}"));
        let said = wait_until_ready(&mut keeper);
        let cluster = Self {
            folder,
            programs,
            keeper,
            databases: AtomicU64::new(0),
        };
        if let Err(said) = said {
            panic!(
                "PostgreSQL did not start in {}:\n{said}",
                cluster.folder.display()
            );
        }
        cluster
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
folder=$1 programs=$2 role=$3
trap '' INT HUP PIPE
finish() {
    [ -n "$server" ] && kill -QUIT "$server" 2>/dev/null && wait "$server"
    cd / && rm -rf "$folder"
}
cd "$folder" || exit 1
if "$programs/initdb" --pgdata data --username "$role" --auth trust --encoding UTF8 --no-locale \
    --no-sync >log 2>&1
then
    "$programs/postgres" -D data -k "$folder" -c listen_addresses= -c max_connections=400 \
        -c fsync=on -c synchronous_commit=on -c full_page_writes=on >>log 2>&1 </dev/null &
    server=$!
    until "$programs/pg_isready" --quiet --host "$folder"; do
        kill -0 "$server" 2>/dev/null || break
        sleep 0.02
    done
fi
if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then echo ready; else cat log; fi
exec >/dev/null
read -r _
finish
"#;

fn keeper(programs: &Path, folder: &Path, user: Option<&User>) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", KEEPER, "postgres-keeper"])
        .args([folder, programs])
        .arg(ROLE)
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

/// Ok when the keeper says so, else what it says; all of it is here before [`PATIENCE`] is over.
fn wait_until_ready(keeper: &mut Child) -> Result<(), String> {
    let mut stdout = keeper.stdout.take().expect("a piped stream");
    let started = Instant::now();
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut said = String::new();
        let _ = stdout.read_to_string(&mut said);
        let _ = send.send(said);
    });
    match receive.recv_timeout(PATIENCE) {
        Ok(said) if said.trim() == "ready" => Ok(()),
        Ok(said) => Err(said),
        Err(_) => Err(format!("no answer after {:?}", started.elapsed())),
    }
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
        let needed = ["initdb", "postgres", "pg_isready", "createdb"];
        needed.iter().all(|program| folder.join(program).is_file())
    };
    linked.chain(packaged).chain(pg_config()).find(complete)
}

fn pg_config() -> Option<PathBuf> {
    let asked = Command::new("pg_config").arg("--bindir").output().ok()?;
    let folder = String::from_utf8(asked.stdout).ok()?;
    Some(PathBuf::from(folder.trim()))
}
