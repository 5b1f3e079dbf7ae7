//! One private container engine per test process: Podman, with an image of its own and nothing of the machine's.
//!
//! The image was made by `scripts/container-image` and is imported once, into a store that all test processes read;
//! everything else lies in a temporary folder. The engine and its containers end with the process that started it, however
//! that goes: a small shell holds them and the reading end of a pipe of ours, and cleans up at its end of file.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

/// The image's name in [`Engine`].
pub const IMAGE: &str = "localhost/manyhands-base:latest";

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    folder: PathBuf,
    socket: PathBuf,
    /// Its end ends the engine.
    _alive: ChildStdin,
    _keeper: Child,
}

impl Engine {
    /// The engine that all tests of the process share.
    ///
    /// # Panics
    /// When Podman or the image is missing, or the engine does not start; the message says what to do. It never skips.
    pub fn shared() -> &'static Self {
        static ENGINE: OnceLock<Engine> = OnceLock::new();
        ENGINE.get_or_init(Self::start)
    }

    /// The socket of its API.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Runs `podman` on what the engine keeps, and gives what it says.
    ///
    /// # Panics
    /// When it fails.
    pub fn podman(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("podman");
        command.args(options(&self.folder, &store()));
        let ran = command.args(arguments).output().expect("podman runs");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "podman {arguments:?}: {said}");
        String::from_utf8_lossy(&ran.stdout).trim().to_owned()
    }

    fn start() -> Self {
        let store = store();
        import(&store);
        let folder = tempfile::Builder::new()
            .prefix("manyhands-podman-")
            .tempdir();
        // Removed by the keeper, which outlives us.
        let folder = folder.expect("a temporary folder").keep();
        let socket = folder.join("socket");
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "keeper"]).arg(&folder);
        command.args(options(&folder, &store));
        let mut keeper = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("a shell for the container engine");
        let alive = keeper.stdin.take().expect("a piped stream");
        let said = keeper.stdout.take().expect("a piped stream");
        let mut lines = BufReader::new(said);
        let mut first = String::new();
        lines.read_line(&mut first).expect("the keeper speaks");
        if first != "ready\n" {
            let mut rest = String::new();
            lines.read_to_string(&mut rest).expect("text");
            panic!(
                "Podman does not start: {first}{rest}Run scripts/setup; it needs root, or subordinate user ids."
            );
        }
        Self {
            folder,
            socket,
            _alive: alive,
            _keeper: keeper,
        }
    }
}

/// Starts the engine, reports, and when we are gone ends it with all of its containers.
const KEEPER: &str = r#"
folder=$1
shift
trap '' INT HUP PIPE
# Monitors of containers write to where they are started.
cd "$folder" || exit 1
podman "$@" system service --time=0 "unix://$folder/socket" >"$folder/log" 2>&1 </dev/null &
server=$!
while [ ! -S "$folder/socket" ]; do
    kill -0 "$server" 2>/dev/null || { cat "$folder/log"; rm -rf "$folder"; exit 1; }
    sleep 0.02
done
echo ready
exec >/dev/null
cat >/dev/null
kill "$server" 2>/dev/null
wait "$server" 2>/dev/null
podman "$@" rm --all --force --time 0 --volumes >/dev/null 2>&1 </dev/null
# Monitors of programs that were run inside stay for minutes, and what clears up after containers may still be at it: both
# would come back to what is removed here.
for _ in $(seq 100); do
    found=
    for process in /proc/[0-9]*; do
        case $(readlink "$process/exe") in */conmon | */podman) ;; *) continue ;; esac
        tr '\0' ' ' <"$process/cmdline" | grep -qF "$folder/" || continue
        kill -9 "${process#/proc/}"
        found=yes
    done 2>/dev/null
    sort -r -k 5 /proc/self/mountinfo | while read -r _ _ _ _ point _; do
        case $point in "$folder"/*) umount -l "$point" ;; esac
    done
    rm -rf "$folder" 2>/dev/null && [ -z "$found" ] && break
    sleep 0.1
done
"#;

/// How `podman` is told to keep everything in `folder`, images in `store` apart.
fn options(folder: &Path, store: &Path) -> Vec<String> {
    let below = |name: &str| folder.join(name).display().to_string();
    vec![
        "--root".to_owned(),
        below("root"),
        "--runroot".to_owned(),
        below("run"),
        "--tmpdir".to_owned(),
        below("tmp"),
        "--storage-driver=overlay".to_owned(),
        format!("--storage-opt=additionalimagestore={}", store.display()),
        // No init system is asked for, neither for groups nor for a journal.
        "--cgroup-manager=cgroupfs".to_owned(),
        "--events-backend=none".to_owned(),
        "--runtime=runc".to_owned(),
    ]
}

/// The cache of the project's scripts.
fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cache");
    let folder = std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from);
    folder.join("manyhands")
}

/// Where the image is kept for all test processes. Read-only for engines; the archive's name makes another image another
/// store.
fn store() -> PathBuf {
    let archive = archive();
    let name = archive.file_stem().expect("a name").to_owned();
    cache().join("containers").join(name)
}

/// The newest archive of `scripts/container-image`.
fn archive() -> PathBuf {
    let folder = cache().join("container-image");
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let archives = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|it| it == "tar"));
    archives.max().unwrap_or_else(|| {
        panic!(
            "no image for containers in {}. Run scripts/setup.",
            folder.display()
        )
    })
}

/// Imports the image once, however many processes come at the same time.
fn import(store: &Path) {
    std::fs::create_dir_all(store).expect("a folder for images");
    let lock = std::fs::File::create(store.join("lock")).expect("a lock");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("a lock");
    let done = store.join("done");
    if done.exists() {
        return;
    }
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let below = |name: &str| scratch.path().join(name);
    let imported = Command::new("podman")
        .arg("--root")
        .arg(store)
        .arg("--runroot")
        .arg(below("run"))
        .arg("--tmpdir")
        .arg(below("tmp"))
        .args([
            "--storage-driver=overlay",
            "--events-backend=none",
            "import",
            "--quiet",
        ])
        .arg(archive())
        .arg(IMAGE)
        .output()
        .unwrap_or_else(|error| panic!("podman cannot be run: {error}. Run scripts/setup."));
    let said = String::from_utf8_lossy(&imported.stderr);
    assert!(imported.status.success(), "podman import: {said}");
    // Its own home of layers stays mounted otherwise.
    let _ = rustix::mount::unmount(store.join("overlay"), rustix::mount::UnmountFlags::DETACH);
    std::fs::write(done, "").expect("a mark");
}
