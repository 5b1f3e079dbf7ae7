//! The escape suite: what hostile code in a sandbox tries, one script each, and what none of it may reach (security §5: probes
//! that read the host's flag: 0). A table for every provider.

mod files;
mod kernel;
mod processes;

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use manyhands_hands::{Block, Call, Error, Limits, Provider, Recipe, Sandbox};
use serde_json::json;

use crate::host::Host;

/// A script: its name, what it is after, and what it runs. In it `win` says that something was done that must not be, and the
/// words in braces stand for things of the host.
type Attempt = (&'static str, Aim, &'static str);

/// What a script is after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aim {
    /// To read one of the host's flags.
    Flag,
    /// To see or change the host, its processes or another sandbox.
    Host,
    /// To make a call of the kernel that sandboxes are kept from.
    Surface,
}

/// The session that tries, and the one it tries to reach.
const SESSION: &str = "sesn_escaping";
const OTHER: &str = "sesn_neighbour";

/// What every script may take.
const LIMIT: Duration = Duration::from_secs(40);

/// A host with flags in the places that scripts look for them.
pub(crate) struct Flags {
    /// Each flag is this and a few letters.
    flag: String,
    /// What `win` says.
    token: String,
    /// A folder that everybody on the host may read.
    folder: tempfile::TempDir,
    /// A process with a flag in its environment.
    decoy: Child,
    home: tempfile::NamedTempFile,
    shared: tempfile::NamedTempFile,
    port: u16,
    abstract_name: String,
    /// Whether a sandbox has a user space of its own: a container has one where its engine was told so.
    own_users: bool,
}

impl Flags {
    /// Plants them, also in the server's data directory.
    pub(crate) fn plant(data: &Path) -> Self {
        let flag = format!("flag-{:032x}", rand::random::<u128>());
        let open = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), 0o755);
        for place in [folder.path(), data] {
            fs::write(place.join("flag"), format!("{flag}-file\n")).unwrap();
            open(&place.join("flag"), 0o644);
        }
        let beside = |directory: PathBuf, name: &str| {
            let mut file = tempfile::NamedTempFile::new_in(directory).unwrap();
            writeln!(file, "{flag}-{name}").unwrap();
            open(file.path(), 0o644);
            file
        };
        let home = beside(std::env::home_dir().expect("a home"), "home");
        let shared = beside("/dev/shm".into(), "shared");
        let decoy = Command::new("sleep")
            .arg("1000000")
            .env("SECRET", format!("{flag}-environment"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let abstract_name = format!("manyhands-{:016x}", rand::random::<u64>());
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        for listener in [
            UnixListener::bind_addr(&address).unwrap(),
            UnixListener::bind(folder.path().join("door")).unwrap(),
        ] {
            let said = format!("{flag}-socket\n");
            // It ends with the test's process.
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let _ = (&stream).write_all(said.as_bytes());
                }
            });
        }
        open(&folder.path().join("door"), 0o666);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let said = format!("HTTP/1.0 200 OK\r\n\r\n{flag}-port\n");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = (&stream).write_all(said.as_bytes());
            }
        });
        Self {
            token: format!("{:016x}", rand::random::<u64>()),
            flag,
            folder,
            decoy,
            home,
            shared,
            port,
            abstract_name,
            own_users: true,
        }
    }

    /// A script with the things of this host in it.
    fn script(&self, script: &str, data: &Path) -> String {
        let own = |space: &&str| *space != "user" || self.own_users;
        let spaces = ["pid", "mnt", "net", "user", "ipc", "uts"]
            .into_iter()
            .filter(own);
        let spaces = spaces.map(|space| {
            let link = fs::read_link(format!("/proc/self/ns/{space}")).unwrap();
            format!("'{}'", link.display())
        });
        let words = [
            ("{DIR}", self.folder.path().display().to_string()),
            ("{DATA}", data.display().to_string()),
            ("{HOME}", self.home.path().display().to_string()),
            ("{SHM}", self.shared.path().display().to_string()),
            ("{OTHER}", OTHER.to_owned()),
            ("{PID}", self.decoy.id().to_string()),
            ("{PORT}", self.port.to_string()),
            ("{ABSTRACT}", self.abstract_name.clone()),
            ("{SPACES}", spaces.collect::<Vec<_>>().join(" ")),
        ];
        let script = words
            .iter()
            .fold(script.to_owned(), |script, (word, value)| {
                script.replace(word, value)
            });
        // Not in one piece, so that an error message that cites the script is no success.
        let (one, two) = self.token.split_at(8);
        let place = "place=$(mktemp -d /workspace/try.XXXXXX); cd $place";
        format!("win() {{ echo won-{one}''{two} $*; }}; {place}\n{script}\ncd /workspace")
    }

    /// What an output shows that it must not.
    fn seen(&self, output: &str) -> Option<String> {
        let won = format!("won-{}", self.token);
        let bad = |line: &&str| line.contains(&self.flag) || line.contains(&won);
        output.lines().find(bad).map(str::to_owned)
    }
}

impl Drop for Flags {
    fn drop(&mut self) {
        let _ = self.decoy.kill();
        let _ = self.decoy.wait();
    }
}

/// What of the host a script could have changed.
fn state_of_the_host() -> Vec<(String, String)> {
    let mut state = Vec::new();
    for path in [
        "kernel/core_pattern",
        "kernel/modprobe",
        "kernel/hostname",
        "kernel/sysrq",
    ] {
        let value = fs::read_to_string(format!("/proc/sys/{path}")).unwrap_or_default();
        state.push((path.to_owned(), value));
    }
    for folder in ["/usr/bin", "/etc", "/usr/sbin", "/"] {
        state.push((
            folder.to_owned(),
            Path::new(folder).join("planted").exists().to_string(),
        ));
    }
    state
}

/// Runs every attempt in a sandbox of this provider, beside one with a flag of its own; what they reached, a line each.
/// `surface` says whether calls that this provider leaves to its engine count.
pub(crate) async fn attempts(provider: &dyn Provider, data: &Path, surface: bool) -> Vec<String> {
    let mut flags = Flags::plant(data);
    flags.own_users = provider.name() != "container";
    let before = state_of_the_host();
    let limits = Limits {
        memory_bytes: 256 << 20,
        disk_bytes: 128 << 20,
        processes: 128,
        open_files: 1024,
    };
    let recipe = |session: &str| Recipe {
        limits: limits.clone(),
        ..Recipe::new(session, 1)
    };
    let other = provider.provision(&recipe(OTHER)).await.unwrap();
    let neighbour = format!("echo {}-neighbour | tee flag /tmp/flag ~/flag", flags.flag);
    execute(&other, "plant", &neighbour).await.unwrap();

    let mut reached = Vec::new();
    let all = files::ATTEMPTS
        .iter()
        .chain(kernel::ATTEMPTS)
        .chain(processes::ATTEMPTS);
    for (number, (name, aim, script)) in all.enumerate() {
        if *aim == Aim::Surface && !surface {
            continue;
        }
        let sandbox = provider.provision(&recipe(SESSION)).await.unwrap();
        let script = flags.script(script, data);
        let said = match execute(&sandbox, &format!("try-{number}"), &script).await {
            Ok(said) => said,
            // It may have ended its own sandbox; the next script gets another.
            Err(Error::Lost { .. }) => String::new(),
            Err(error) => panic!("{name}: {error}"),
        };
        reached.extend(flags.seen(&said).map(|line| format!("{name}: {line}")));
    }
    // The detector itself: a script that has the flag is seen, and so is one that says it won.
    let sandbox = provider.provision(&recipe(SESSION)).await.unwrap();
    for (number, script) in [format!("echo {}", flags.flag), "win".to_owned()]
        .iter()
        .enumerate()
    {
        let (id, text) = (format!("control-{number}"), flags.script(script, data));
        let said = execute(&sandbox, &id, &text).await.unwrap();
        assert!(flags.seen(&said).is_some(), "{script} is not seen");
    }
    if let Some(status) = flags.decoy.try_wait().unwrap() {
        reached.push(format!("a process of the host was ended: {status}"));
    }
    if state_of_the_host() != before {
        reached.push(format!("the host was changed: {:?}", state_of_the_host()));
    }
    let still = execute(&other, "look", "cat flag").await;
    if !still.is_ok_and(|still| still.contains("-neighbour")) {
        reached.push("the other sandbox was disturbed".to_owned());
    }
    for session in [SESSION, OTHER] {
        provider.destroy(session).await.unwrap();
    }
    reached
}

async fn execute(sandbox: &Arc<dyn Sandbox>, id: &str, command: &str) -> Result<String, Error> {
    let call = Call {
        call_id: id.to_owned(),
        epoch: 1,
        name: "bash".to_owned(),
        input: json!({"command": command, "timeout_ms": 30_000}),
        deadline: LIMIT,
    };
    let output = sandbox.execute(&call).await?;
    let texts = output.content.iter().map(|block| match block {
        Block::Text { text } => text.as_str(),
        other => panic!("not text: {other:?}"),
    });
    Ok(texts.collect::<Vec<_>>().join("\n"))
}

#[test]
fn sbx_1_the_suite_is_as_long_as_it_is_said_to_be() {
    let all = [files::ATTEMPTS, kernel::ATTEMPTS, processes::ATTEMPTS].concat();
    assert!(all.len() >= 60, "{}", all.len());
    let mut names: Vec<_> = all.iter().map(|(name, ..)| *name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all.len(), "two of one name");
}

/// security SBX-1 and §5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sbx_1_no_script_of_the_escape_suite_reaches_the_host() {
    let host = Host::new();
    let reached = attempts(&host.provider, host.data.path(), true).await;
    assert_eq!(reached, Vec::<String>::new());
}

/// A sandbox that is shown the file reads the flag, by the very scripts that must not reach it otherwise.
#[tokio::test]
async fn sbx_1_a_flag_within_reach_would_be_seen() {
    let room = tempfile::tempdir().unwrap();
    let flags = Flags::plant(room.path());
    let shown = flags.folder.path().join("flag");
    let host = Host::with(|config| {
        config
            .read_only
            .push(manyhands_hands::provider::namespace::ReadOnly {
                from: shown,
                to: "/opt/flag".to_owned(),
            });
    });
    let sandbox = host.sandbox(SESSION).await;
    let script = flags.script("find / -xdev -name '*flag*'; cat /opt/flag", room.path());
    let said = execute(&sandbox, "control", &script).await.unwrap();
    assert!(flags.seen(&said).is_some(), "{said}");
}
