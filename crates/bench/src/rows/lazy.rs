//! What it costs a first token to make the sandbox first: one server with the switch on, one without, the same environment
//! with a large package that is installed already (runtime AR-3).

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::expect_hits;
use crate::report::Row;
use crate::sample::Samples;
use crate::subject::{Setup, Subject};

/// Where sandboxes see the packages.
const INSIDE: &str = "/opt/repository";

/// How long installing the packages may take: one of the first turns waits for it.
const INSTALLED: Duration = Duration::from_secs(300);

/// Makes a repository with one package of `$1` megabytes.
const MAKE: &str = r#"
import os, sys, zipfile
os.makedirs("simple/bulky")
with zipfile.ZipFile("bulky-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("bulky/__init__.py", "")
    for number in range(int(sys.argv[1])):
        wheel.writestr(f"bulky/{number}.bin", os.urandom(1 << 20))
    wheel.writestr("bulky-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: bulky\nVersion: 1.0\n")
    wheel.writestr("bulky-1.0.dist-info/WHEEL",
                   "Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr("bulky-1.0.dist-info/RECORD", "")
with open("simple/bulky/index.html", "w") as index:
    index.write('<a href="../../bulky-1.0-py3-none-any.whl">bulky-1.0-py3-none-any.whl</a>')
"#;

/// Has the first turn of `count` sessions in each arm.
pub(crate) async fn run(setup: &Setup, count: usize, megabytes: usize) -> Result<Vec<Row>> {
    ensure!(count >= 20, "a p95 takes at least 20 samples");
    let repository = tempfile::Builder::new()
        .prefix("manyhands-bench-")
        .tempdir_in(&setup.folder)?;
    make(repository.path(), megabytes)?;
    let first = arm(setup, repository.path(), "provision_first = true", count).await?;
    let lazy = arm(setup, repository.path(), "", count).await?;
    let mut rows = vec![];
    for (percent, least) in [(50, 60.0), (95, 90.0)] {
        let (before, after) = (first.percentile(percent), lazy.percentile(percent));
        rows.push(
            Row::new(
                format!("less time to first token than provisioning first, p{percent}"),
                (1.0 - after / before) * 100.0,
                "%",
                lazy.count(),
            )
            .above(least)
            .note(format!(
                "{after:.1} ms instead of {before:.1} ms; {megabytes} MB of packages in a cached layer"
            )),
        );
    }
    Ok(rows)
}

fn make(folder: &Path, megabytes: usize) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let made = Command::new("python3")
        .args(["-c", MAKE, &megabytes.to_string()])
        .current_dir(folder)
        .status()
        .context("running python3")?;
    ensure!(made.success(), "python3: {made}");
    // Sandboxes are other users.
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

async fn arm(setup: &Setup, repository: &Path, switch: &str, count: usize) -> Result<Samples> {
    let from = repository.display();
    let settings = format!(
        "[environments]\n{switch}\n[environments.sources]\npip = \"file://{INSIDE}/simple/\"\n\
         [[sandbox.read_only]]\nfrom = \"{from}\"\nto = \"{INSIDE}\"\n"
    );
    let environment = json!({
        "name": "bench",
        "config": {"type": "cloud", "packages": {"type": "packages", "pip": ["bulky"]}},
    });
    let script = tempfile::NamedTempFile::new()?;
    let command = "python3 -c 'import bulky, os; print(len(os.listdir(bulky.__path__[0])) > 2)'";
    let call = json!({"type": "tool_use", "id": "toolu_look", "name": "bash", "input": {"command": command}});
    let text = json!({"type": "text", "text": "Hello."});
    let replies = [text.clone(), call, text].map(|block| json!({"content": [block]}));
    std::fs::write(script.path(), json!({"replies": replies}).to_string())?;
    let path = script.path().to_str().context("a path that is text")?;
    let subject = Subject::start_as(
        setup,
        &["--mode", "script", "--script", path],
        &settings,
        environment,
    )
    .await?;
    // In the first session's second turn a command needs the packages: from then on they are there.
    let mut chat = subject.open_chat().await?;
    chat.turn_within(INSTALLED, "Hello").await?;
    chat.turn_within(INSTALLED, "Look").await?;
    let events = subject.events(&chat).await?;
    let ran = |event: &Value| {
        event["type"] == "agent.tool_result"
            && event["content"][0]["text"].as_str().map(str::trim) == Some("True")
    };
    ensure!(
        events.iter().any(ran),
        "the packages are not there: {events:#?}"
    );
    let mut samples: Vec<Duration> = vec![];
    for _ in 0..count {
        let mut chat = subject.open_chat().await?;
        samples.push(chat.turn("Hello").await?.first_token);
        subject.delete(&chat).await?;
    }
    expect_hits(&subject.stub, count as u64 + 3).await?;
    Ok(Samples::new(samples))
}
