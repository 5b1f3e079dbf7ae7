//! One server after the other on the same data, each with a point to die at; the stories go on through all of them.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use futures::future::join_all;
use manyhands_hands::provider::namespace::{Config, Namespace};
use manyhands_testkit::daemon::{Builder, Daemon, binary};
use manyhands_testkit::gate::PATIENCE;
use manyhands_testkit::postgres;
use serde_json::json;
use tokio::process::Command;

use crate::model::{self, MARKER};
use crate::points::{Deed, Point};
use crate::story::{End, Place, Story, expect};

/// The variable that names the point.
const DIES_AT: &str = "MANYHANDS_DIES_AT";

/// So many stories bring a server to a point as often as the list says.
const STORIES: usize = 3;

/// How long a server may live when its clients have nothing left to do, before another story is told.
const SOON: Duration = Duration::from_secs(4);

/// Where the store is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Store {
    Sqlite,
    Postgres,
}

/// Servers on the same data.
struct Lane {
    daemon: Daemon,
    place: Place,
    stories: Vec<Story>,
    /// Of `verify`, beside the data directory.
    database: Option<postgres::Database>,
}

/// Dies at each point, the n-th time that it is passed, and sees to what is left.
pub(crate) async fn sweep(points: &[(&Point, u32)], store: Store) {
    let model = model::start().await;
    let (builder, database) = builder(store, &model.url()).await;
    let mut lane = Lane::settle(builder.start().await, database).await;
    lane.daemon.kill9().await;
    for (number, (point, nth)) in points.iter().enumerate() {
        println!("{} for the {nth}. time", point.name);
        lane.stories
            .push(Story::new(format!("s{number}"), point.deed));
        lane.die_at(point.name, *nth).await;
    }
    lane.daemon.restart(&[(DIES_AT, None)]).await;
    lane.end().await;
    model.assert_clean();
}

/// Dies at a point of the first start, and sees that the next start is one.
pub(crate) async fn first_start(point: &Point, nth: u32, store: Store) {
    println!("{} for the {nth}. time, at the first start", point.name);
    let model = model::start().await;
    let (builder, database) = builder(store, &model.url()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let armed = format!("{}={nth}", point.name);
    let builder = builder.data_dir(&data).env(DIES_AT, &armed);
    let failed = builder.try_start().await.expect_err("it dies");
    assert!(killed(failed.status), "{}: {failed}", point.name);
    let (builder, _) = match &database {
        None => self::builder(store, &model.url()).await,
        Some(database) => (on(database.url(), &model.url()), None),
    };
    let daemon = builder.data_dir(&data).start().await;
    let lane = Lane::settle(daemon, database).await;
    lane.end_with("first", Deed::FirstStart).await;
    model.assert_clean();
}

/// A copy that dies at each point beside a server is whole or not there, and the next one is.
pub(crate) async fn backup(points: &[(&Point, u32)]) {
    let model = model::start().await;
    let (builder, _) = builder(Store::Sqlite, &model.url()).await;
    let lane = Lane::settle(builder.start().await, None).await;
    let folder = tempfile::tempdir().expect("a folder");
    let data = lane.daemon.data_dir().to_str().expect("a path").to_owned();
    for (point, nth) in points {
        let file = folder.path().join(point.name.replace("::", "-"));
        let file = file.to_str().expect("a path");
        let words = ["backup", file, "--data-dir", &data];
        let armed = format!("{}={nth}", point.name);
        assert!(
            killed(command(&words, Some(&armed)).await),
            "{} is not reached",
            point.name
        );
        if !std::path::Path::new(file).exists() {
            assert!(command(&words, None).await.success(), "{}", point.name);
        }
        assert!(
            command(&["verify", file], None).await.success(),
            "{}",
            point.name
        );
    }
    lane.end_with("beside", Deed::Backup).await;
}

impl Lane {
    /// A server with what all stories share.
    async fn settle(daemon: Daemon, database: Option<postgres::Database>) -> Self {
        Self {
            place: furnish(&daemon).await,
            daemon,
            stories: Vec::new(),
            database,
        }
    }

    /// One more story, and the end of all.
    async fn end_with(mut self, name: &str, deed: Deed) {
        self.stories.push(Story::new(name.to_owned(), deed));
        self.end().await;
    }

    /// Starts a server that dies at this point, and goes on with all stories until it does.
    async fn die_at(&mut self, name: &str, nth: u32) {
        let status = match self.start(name, nth).await {
            Some(status) => status,
            None => self.live_until_dead(name, nth).await,
        };
        assert!(killed(status), "{name}: {status}");
    }

    /// How the server ended, if it did before it was ready.
    async fn start(&mut self, name: &str, nth: u32) -> Option<ExitStatus> {
        let armed = format!("{name}={nth}");
        let started = self.daemon.try_restart(&[(DIES_AT, Some(&armed))]).await;
        self.move_in(started.is_ok());
        started.err().map(|failed| failed.status)
    }

    async fn live_until_dead(&mut self, name: &str, nth: u32) -> ExitStatus {
        for again in 1..=STORIES {
            let ends = self.go_on().await;
            let last = self.stories.last().expect("a story");
            let (last, deed) = (last.name.clone(), last.deed);
            let more = Story::new(format!("{last}-{again}"), deed);
            if ends {
                if deed == Deed::Takeover {
                    self.daemon.kill9().await;
                } else {
                    let status = self.daemon.terminate().await;
                    if killed(status) {
                        return status;
                    }
                    // A server on a slow machine ends before it has given its sessions back.
                    self.stories.push(more);
                }
                if let Some(status) = self.start(name, nth).await {
                    return status;
                }
                continue;
            }
            // What is passed behind the last answer, or by a timer. Behind the last story nothing else can bring it there.
            let time = if again < STORIES { SOON } else { PATIENCE };
            if let Some(status) = self.daemon.ended_within(time).await {
                return status;
            }
            self.stories.push(more);
        }
        panic!("{name} is not reached {nth} times");
    }

    /// All stories go on, until they are over or the server is gone; whether it is to be stopped.
    async fn go_on(&mut self) -> bool {
        let place = &self.place;
        let ends = self.stories.iter_mut().map(|story| story.go_on(place));
        let ends = join_all(ends).await;
        ends.iter().any(|end| matches!(end, Ok(End::Stop)))
    }

    /// The server has another address after each start.
    fn move_in(&mut self, is_up: bool) {
        if is_up {
            self.place.client = self.daemon.client();
        }
    }

    /// All stories come to their end; commands ran at most once, and nothing is damaged.
    async fn end(mut self) {
        self.move_in(true);
        while self.go_on().await {}
        for story in &self.stories {
            assert!(story.over, "{} is not over", story.name);
            self.check_marker(story).await;
        }
        assert!(self.daemon.terminate().await.success());
        let data = self.daemon.data_dir().to_str().expect("a path");
        let mut words = vec!["verify", "--data-dir", data];
        if let Some(database) = &self.database {
            words.extend(["--database-url", database.url()]);
        }
        assert!(
            command(&words, None).await.success(),
            "what is left is damaged"
        );
    }

    /// Each story has one command that leaves a line (security I4).
    async fn check_marker(&self, story: &Story) {
        let (false, Some(session)) = (story.deleted, &story.session) else {
            return;
        };
        let hands = Namespace::new(Config::new(self.daemon.data_dir()));
        let tree = hands.writable(session).await.expect("its files");
        let path = Path::new("workspace").join(MARKER);
        let ran = tree.map_or(Ok(String::new()), |tree| match tree.open_file(&path) {
            Ok((file, _)) => std::io::read_to_string(file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error),
        });
        let ran = ran.expect("the lines of its command");
        let times = ran.lines().count();
        assert!(
            times <= story.commands(),
            "{}: it ran {times} times",
            story.name
        );
        assert!(
            times >= story.successes,
            "{}: {times} commands ran",
            story.name
        );
    }
}

async fn builder(store: Store, model: &str) -> (Builder, Option<postgres::Database>) {
    match store {
        Store::Sqlite => (settled().model(model), None),
        Store::Postgres => {
            let database = postgres::Database::create().await;
            (on(database.url(), model), Some(database))
        }
    }
}

/// A server with the settings of the sweep.
fn settled() -> Builder {
    let settings = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/failpoints/manyhands.toml"
    );
    Daemon::builder().arg("--config").arg(settings)
}

fn on(database: &str, model: &str) -> Builder {
    settled().model(model).arg("--database-url").arg(database)
}

/// An agent and an environment for all stories.
async fn furnish(daemon: &Daemon) -> Place {
    let client = daemon.client();
    let lookup = json!({
        "type": "custom", "name": "lookup", "description": "Looks a word up.",
        "input_schema": {"type": "object", "properties": {"word": {"type": "string"}}},
    });
    let asks = json!([{"name": "write", "permission_policy": {"type": "always_ask"}}]);
    let agent = json!({
        "name": "survivor", "model": "claude-opus-4-8",
        "tools": [{"type": "agent_toolset_20260401", "configs": asks}, lookup],
    });
    let agent = expect(200, client.post("/v1/agents", &agent).await);
    let environment = json!({"name": "box"});
    let environment = expect(200, client.post("/v1/environments", &environment).await);
    let id = |made: &serde_json::Value| made["id"].as_str().expect("an id").to_owned();
    Place {
        agent: id(&agent),
        environment: id(&environment),
        client,
    }
}

async fn command(words: &[&str], dies_at: Option<&str>) -> ExitStatus {
    let mut command = Command::new(binary());
    command.args(words).kill_on_drop(true);
    command.stdout(std::process::Stdio::null());
    if let Some(point) = dies_at {
        command.env(DIES_AT, point);
    }
    command.status().await.expect("the program runs")
}

fn killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}
