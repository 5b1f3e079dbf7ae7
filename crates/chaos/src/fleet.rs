//! The servers under fire: started, killed, started again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use manyhands_testkit::daemon::Daemon;
use manyhands_testkit::http::Client;
use manyhands_testkit::postgres::Cluster;
use tokio::process::Command;
use tokio::sync::{Mutex, watch};

/// Where a world keeps its sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Database {
    /// SQLite and one server.
    Sqlite,
    /// PostgreSQL and two servers of one place.
    Postgres,
}

impl Database {
    /// Its name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// What to start servers with.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// The server's program.
    pub(crate) program: &'a Path,
    pub(crate) database: Database,
    /// Where data goes, on a real disk.
    pub(crate) folder: &'a Path,
    /// The model's URL.
    pub(crate) model: &'a str,
    /// More lines of `manyhands.toml`.
    pub(crate) settings: &'a str,
}

/// The servers of a world.
#[derive(Debug)]
pub(crate) struct Fleet {
    program: PathBuf,
    data: PathBuf,
    url: Option<String>,
    servers: Vec<Server>,
    /// Dropped last: it ends the database.
    _cluster: Option<Cluster>,
}

#[derive(Debug)]
struct Server {
    daemon: Mutex<Daemon>,
    /// How to talk to it while it is up.
    door: watch::Sender<Option<Client>>,
}

impl Fleet {
    /// Starts all servers on a fresh data directory.
    pub(crate) async fn start(plan: Plan<'_>) -> Result<Self> {
        let data = plan.folder.join("data");
        let config = plan.folder.join("manyhands.toml");
        fs::write(&config, plan.settings)?;
        let (cluster, servers) = match plan.database {
            Database::Sqlite => (None, 1),
            Database::Postgres => {
                let start = tokio::task::spawn_blocking(Cluster::start);
                (Some(start.await?), 2)
            }
        };
        let url = cluster.as_ref().map(Cluster::create_database);
        let mut fleet = Self {
            program: plan.program.to_owned(),
            data,
            url,
            servers: vec![],
            _cluster: cluster,
        };
        for _ in 0..servers {
            let mut builder = Daemon::builder()
                .binary(plan.program)
                .data_dir(&fleet.data)
                .model(plan.model)
                .arg("--config")
                .arg(
                    config
                        .to_str()
                        .context("a folder with a name that is text")?,
                );
            if let Some(url) = &fleet.url {
                builder = builder.env("MANYHANDS_DATABASE_URL", url);
            }
            let daemon = builder.try_start().await;
            let daemon = daemon.map_err(|failed| anyhow!("{failed}"))?;
            let door = watch::Sender::new(Some(daemon.client()));
            let daemon = Mutex::new(daemon);
            fleet.servers.push(Server { daemon, door });
        }
        Ok(fleet)
    }

    /// The data directory that all servers share.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// How many servers there are.
    pub(crate) fn len(&self) -> usize {
        self.servers.len()
    }

    /// A client of a server that is up, this one if it is.
    pub(crate) async fn client(&self, wish: usize) -> Client {
        loop {
            let count = self.servers.len();
            let order = (0..count).map(|next| &self.servers[(wish + next) % count]);
            for server in order {
                let here = server.door.borrow().clone();
                if let Some(client) = here {
                    return client;
                }
            }
            let changes = self.servers.iter().map(|server| {
                let mut door = server.door.subscribe();
                Box::pin(async move { door.wait_for(Option::is_some).await.map(drop) })
            });
            // The senders live in `self`.
            let _ = futures::future::select_all(changes).await;
        }
    }

    /// `kill -9` of one server.
    pub(crate) async fn kill(&self, index: usize) {
        let server = &self.servers[index];
        let mut daemon = server.daemon.lock().await;
        server.door.send_replace(None);
        daemon.kill9().await;
    }

    /// Starts a server that was killed, and says how long it took to be ready. With `patience` it is killed again in
    /// the middle of its start when it is not ready by then, which gives `None`.
    pub(crate) async fn restart(
        &self,
        index: usize,
        patience: Option<Duration>,
    ) -> Option<Duration> {
        let server = &self.servers[index];
        let mut daemon = server.daemon.lock().await;
        let start = daemon.restart(&[]);
        match patience {
            None => start.await,
            Some(patience) => {
                // Dropping the start kills what it started.
                if tokio::time::timeout(patience, start).await.is_err() {
                    self.gone(index).await;
                    return None;
                }
            }
        }
        server.door.send_replace(Some(daemon.client()));
        Some(daemon.ready_after())
    }

    /// Waits until no more servers run than those that are up beside this one.
    async fn gone(&self, index: usize) {
        let others = self.servers.iter().enumerate();
        let others =
            others.filter(|(other, server)| *other != index && server.door.borrow().is_some());
        let others = others.count();
        while running(&self.data) > others {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Writes a database that would go with its cluster beside the data directory, for whoever looks for the cause.
    /// Says what to look at.
    pub(crate) async fn keep(&self) -> String {
        let Some(url) = &self.url else {
            return self.data.display().to_string();
        };
        let path = self.data.with_file_name("database.sql");
        let mut dump = Command::new("pg_dump");
        dump.arg("--file").arg(&path).arg(url).kill_on_drop(true);
        match dump.output().await {
            Ok(done) if done.status.success() => path.display().to_string(),
            Ok(done) => format!("lost: {}", String::from_utf8_lossy(&done.stderr).trim()),
            Err(error) => format!("lost: pg_dump: {error}"),
        }
    }

    /// Stops all servers in good order and reads the whole store for damage.
    pub(crate) async fn verify(&self) -> Result<()> {
        for server in &self.servers {
            server.door.send_replace(None);
            let status = server.daemon.lock().await.terminate().await;
            anyhow::ensure!(
                status.success(),
                "a server that was told to stop ended with {status}"
            );
        }
        let mut verify = Command::new(&self.program);
        verify
            .args(["verify", "--json", "--data-dir"])
            .arg(&self.data);
        if let Some(url) = &self.url {
            verify.env("MANYHANDS_DATABASE_URL", url);
        }
        let verified = verify.kill_on_drop(true).output().await?;
        let said = String::from_utf8_lossy(&verified.stdout);
        anyhow::ensure!(
            verified.status.success(),
            "STORE-3: manyhands verify: {said}"
        );
        Ok(())
    }
}

/// How many servers run on this data directory. One that has ended and was not waited for has no arguments any more.
fn running(data: &Path) -> usize {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let wanted = data.to_str().unwrap_or_default();
    lines
        .filter(|line| {
            let mut words = line.split(|byte| *byte == 0);
            words.nth(1) == Some(b"serve") && words.any(|word| word == wanted.as_bytes())
        })
        .count()
}
