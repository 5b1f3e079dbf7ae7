//! Sandboxes without a server: how long a start and a call take, how many fit, and how long it takes to keep one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use futures::stream;
use manyhands_blobs::Blobs;
use manyhands_hands::provider::namespace::{Config, Namespace};
use manyhands_hands::provider::{Checkpoint, Checkpoints};
use manyhands_hands::{Block, Call, Provider, Recipe, Sandbox};
use serde_json::json;

use crate::floors;
use crate::report::Row;
use crate::sample::{Samples, millis};
use crate::subject::Setup;

/// Calls in one sandbox.
const CALLS: usize = 500;
/// Starts at once while many are started.
const BESIDE: usize = 4;
/// How often a sandbox is kept and restored.
const KEPT: usize = 5;
/// Megabytes that a kept sandbox holds.
const MEGABYTES: usize = 100;

/// Starts `starts` sandboxes one after the other, then `alive` that live at once, and keeps one.
pub(crate) async fn run(setup: &Setup, starts: usize, alive: usize) -> Result<Vec<Row>> {
    let folder = tempfile::Builder::new()
        .prefix("manyhands-bench-")
        .tempdir_in(&setup.folder)?;
    let blobs = Blobs::folder(&folder.path().join("blobs"))?;
    let host = |name: &str| {
        Namespace::new(Config {
            blobs: Some(blobs.clone()),
            ..Config::new(folder.path().join(name))
        })
    };
    let (one, two) = (host("one"), host("two"));
    let three = Namespace::new(Config {
        warm: 1,
        ..Config::new(folder.path().join("three"))
    });
    for host in [&one, &two, &three] {
        host.prepare().await?;
    }
    let mut rows = vec![cold(&one, starts).await?, waiting(&three, starts).await?];
    rows.push(warm(&one).await?);
    rows.push(many(&one, alive).await?);
    rows.extend(kept(setup, &one, &two).await?);
    Ok(rows)
}

/// Runs a command; what it said.
async fn sh(sandbox: &Arc<dyn Sandbox>, id: &str, epoch: i64, command: &str) -> Result<String> {
    let call = Call {
        call_id: id.to_owned(),
        epoch,
        name: "bash".to_owned(),
        input: json!({"command": command}),
        deadline: Duration::from_secs(60),
    };
    let output = sandbox.execute(&call).await?;
    match &output.content[..] {
        [Block::Text { text }] if !output.is_error => Ok(text.clone()),
        other => anyhow::bail!("{command}: {other:?}"),
    }
}

async fn cold(host: &Namespace, count: usize) -> Result<Row> {
    let mut samples = vec![];
    for number in 0..=count {
        let session = format!("cold-{number}");
        let started = Instant::now();
        let sandbox = host.provision(&Recipe::new(&session, 1)).await?;
        let said = sh(&sandbox, "first", 1, "echo hello").await?;
        // The first one makes what all others use.
        if number > 0 {
            samples.push(started.elapsed());
        }
        ensure!(said == "hello", "{said}");
        host.destroy(&session).await?;
    }
    let samples = Samples::new(samples);
    let floor = floors::bubblewrap(count)?;
    let row = Row::new(
        "provision to first output, cold p50",
        samples.median(),
        "ms",
        samples.count(),
    );
    Ok(row
        .below(80.0)
        .floor("spawning bubblewrap alone", floor.median())
        .note(format!("p95 {:.1} ms", samples.percentile(95))))
}

/// From sandboxes that wait; the next one is started beside.
async fn waiting(host: &Namespace, count: usize) -> Result<Row> {
    let mut samples = vec![];
    for number in 0..=count {
        let session = format!("waiting-{number}");
        let recipe = Recipe {
            environment_id: Some("env_bench".to_owned()),
            ..Recipe::new(&session, 1)
        };
        let started = Instant::now();
        let sandbox = host.provision(&recipe).await?;
        let said = sh(&sandbox, "first", 1, "echo hello").await?;
        // An environment's first session has its own.
        if number > 0 {
            samples.push(started.elapsed());
        }
        ensure!(said == "hello", "{said}");
        host.refilled().await;
        host.destroy(&session).await?;
    }
    host.close().await;
    let samples = Samples::new(samples);
    let floor = floors::bubblewrap(count)?;
    let row = Row::new(
        "provision to first output, warm p50",
        samples.median(),
        "ms",
        samples.count(),
    );
    Ok(row
        .below(5.0)
        .floor("spawning bubblewrap alone", floor.median())
        .note(format!("p95 {:.1} ms", samples.percentile(95))))
}

async fn warm(host: &Namespace) -> Result<Row> {
    let sandbox = host.provision(&Recipe::new("warm", 1)).await?;
    sh(&sandbox, "first", 1, "echo hello").await?;
    let mut samples = vec![];
    for number in 0..CALLS {
        let started = Instant::now();
        sh(&sandbox, &format!("call-{number}"), 1, "/bin/true").await?;
        samples.push(started.elapsed());
    }
    host.destroy("warm").await?;
    let alone = (0..CALLS).map(|_| {
        let started = Instant::now();
        let ended = std::process::Command::new("/bin/true").status()?;
        ensure!(ended.success(), "{ended}");
        Ok(started.elapsed())
    });
    let alone = Samples::new(alone.collect::<Result<_>>()?);
    let samples = Samples::new(samples);
    let added = samples.median() - alone.median();
    Ok(Row::new(
        "one more call, over the command itself, p50",
        added,
        "ms",
        samples.count(),
    )
    .below(5.0)
    .floor("the command on the host", alone.median())
    .note(format!(
        "whole call p50 {:.2} ms, p99 {:.2} ms",
        samples.median(),
        samples.percentile(99)
    )))
}

async fn many(host: &Namespace, count: usize) -> Result<Row> {
    let before = available()?;
    let sandboxes = stream::iter(0..count).map(|number| async move {
        let session = format!("many-{number}");
        let sandbox = host.provision(&Recipe::new(&session, 1)).await?;
        sh(&sandbox, "first", 1, "echo hello").await?;
        Ok::<_, anyhow::Error>((session, sandbox))
    });
    let sandboxes: Vec<_> = sandboxes.buffer_unordered(BESIDE).collect().await;
    let sandboxes = sandboxes.into_iter().collect::<Result<Vec<_>>>()?;
    let used = before.saturating_sub(available()?);
    for (session, sandbox) in &sandboxes {
        let said = sh(sandbox, "last", 1, "echo alive").await?;
        ensure!(said == "alive", "{session}: {said}");
    }
    for (session, _) in &sandboxes {
        host.destroy(session).await?;
    }
    let each = used as f64 / count.max(1) as f64 / f64::from(1 << 20);
    Ok(Row::new(
        format!("memory of a sandbox, {count} alive"),
        each,
        "MB",
        count,
    )
    .below(24.0 * 1024.0 / 200.0)
    .note("each with its shell; what the whole machine has less available, caches counted as free"))
}

async fn kept(setup: &Setup, one: &Namespace, two: &Namespace) -> Result<Vec<Row>> {
    let (mut saves, mut restores) = (vec![], vec![]);
    for round in 0..KEPT {
        let session = format!("kept-{round}");
        let sandbox = one.provision(&Recipe::new(&session, 1)).await?;
        let fill = format!(
            "for i in $(seq {MEGABYTES}); do head -c 1M /dev/urandom > f$i; done; echo filled"
        );
        sh(&sandbox, "fill", 1, &fill).await?;
        one.release(&session).await?;
        let unsaved = one.unsaved().await?;
        let unsaved = unsaved
            .into_iter()
            .find(|unsaved| unsaved.session == session);
        let unsaved = unsaved.context("it is not at rest")?;
        let blob = manyhands_blobs::fresh("checkpoints");
        let started = Instant::now();
        let saved = one.save(&unsaved, &blob).await?.context("it is in use")?;
        saves.push(started.elapsed());
        one.destroy(&session).await?;
        let checkpoint = Checkpoint {
            blob,
            size: saved.size,
            sha256: saved.sha256,
            epoch: 1,
            sandbox_created_at: saved.sandbox_created_at,
        };
        let recipe = Recipe {
            checkpoint: Some(checkpoint),
            ..Recipe::new(&session, 2)
        };
        let started = Instant::now();
        let sandbox = two.provision(&recipe).await?;
        restores.push(started.elapsed());
        let bytes = sh(&sandbox, "count", 2, "cat f* | wc -c").await?;
        ensure!(bytes.trim() == (MEGABYTES << 20).to_string(), "{bytes}");
        two.destroy(&session).await?;
    }
    let written = write_alone(setup)?;
    let row = |name: &str, samples: Vec<Duration>| {
        let samples = Samples::new(samples);
        Row::new(name, samples.median(), "ms", samples.count())
            .below(1000.0)
            .floor("writing as much and forcing it out", millis(written))
            .note("100 files of random bytes, which do not compress")
    };
    Ok(vec![
        row("checkpoint of 100 MB p50", saves),
        row("restore of 100 MB, with the start, p50", restores),
    ])
}

/// Writing as much to one file on the same disk.
fn write_alone(setup: &Setup) -> Result<Duration> {
    use std::io::Write as _;
    let mut file = tempfile::tempfile_in(&setup.folder)?;
    let block = vec![b'x'; 1 << 20];
    let started = Instant::now();
    for _ in 0..MEGABYTES {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    Ok(started.elapsed())
}

/// Bytes of memory that programs could still have.
fn available() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kilobytes: u64 = kilobytes.context("no figure of the memory")?.parse()?;
    Ok(kilobytes << 10)
}
