//! `manyhands doctor`: what works here, what does not, and what to do about it.

mod models;
mod sandbox;

use std::sync::Arc;

use anyhow::bail;
use manyhands_protocol::time::{SharedClock, SystemClock};
use manyhands_store::{Database, Error, Replica, Role, Store};
use manyhands_vault::{Source, master};
use secrecy::ExposeSecret;
use serde::Serialize;

use super::keeper::Remote;
use super::out::Out;
use crate::api::health::GIVE_KEY;
use crate::config::{Config, Flags};
use crate::failure::Failure;
use crate::keys;

/// The check of the key that opens all secrets.
const MASTER_KEY: &str = "master key";
/// What its absence means.
const WITHOUT_KEY: &str = "without it the vaults are sealed";

/// What `manyhands doctor` is told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// The same flags as `serve`.
    #[command(flatten)]
    pub flags: Flags,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// It works, with something to know.
    Note,
    /// It does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Check {
    name: String,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

fn ok(name: &str, found: impl Into<String>) -> Check {
    Check {
        name: name.to_owned(),
        verdict: Verdict::Ok,
        found: found.into(),
        advice: None,
    }
}

fn note(name: &str, found: impl Into<String>, advice: impl Into<String>) -> Check {
    Check {
        verdict: Verdict::Note,
        advice: Some(advice.into()),
        ..ok(name, found)
    }
}

fn fail(name: &str, found: impl Into<String>, advice: impl Into<String>) -> Check {
    Check {
        verdict: Verdict::Fail,
        advice: Some(advice.into()),
        ..ok(name, found)
    }
}

/// Looks at everything and prints it.
///
/// # Errors
/// When something does not work; all checks are printed first.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let mut checks = vec![ok("version", env!("CARGO_PKG_VERSION"))];
    match Config::load(args.flags) {
        Ok(config) => {
            checks.push(ok("configuration", "is complete"));
            checks.extend(data_dir(&config));
            checks.extend(store(&config).await);
            checks.extend(sandbox::checks(&config).await);
            for spec in &config.models {
                checks.push(models::check(spec).await);
            }
        }
        Err(error) => checks.push(fail(
            "configuration",
            error.to_string(),
            "correct it; the documentation's page Configuration (docs/src/configuration.md) has all settings",
        )),
    }
    let failed = checks
        .iter()
        .filter(|check| check.verdict == Verdict::Fail)
        .count();
    let mut out = Out::standard();
    if args.json {
        let report = serde_json::json!({"ok": failed == 0, "checks": checks});
        out.line(serde_json::to_string_pretty(&report)?);
    } else {
        for check in &checks {
            print_one(check, &mut out);
        }
    }
    out.finish()?;
    if failed > 0 {
        bail!("{failed} of {} checks failed", checks.len());
    }
    Ok(())
}

fn print_one(check: &Check, out: &mut Out) {
    let mark = match check.verdict {
        Verdict::Ok => "ok  ",
        Verdict::Note => "note",
        Verdict::Fail => "FAIL",
    };
    out.line(format_args!("{mark}  {}: {}", check.name, check.found));
    if let Some(advice) = &check.advice {
        out.line(format_args!("      {advice}"));
    }
}

/// Whether others look into the data directory, which says how large it is and what it has.
fn data_dir(config: &Config) -> Option<Check> {
    let problem = keys::open_directory(&config.data_dir)?;
    let advice = format!("chmod 700 {}", config.data_dir.display());
    Some(note("data directory", problem, advice))
}

/// Store and key: asked of the server that runs, or looked at directly when none does.
async fn store(config: &Config) -> Vec<Check> {
    let shown = crate::config::show::database(&config.database);
    let directory = config.data_dir.display();
    // Opening a store makes one, which is not for a look to do.
    let unused = std::fs::read_dir(&config.data_dir).map_or_else(
        |_| !config.data_dir.exists(),
        |mut entries| entries.next().is_none(),
    );
    if unused && matches!(config.database, Database::Sqlite { .. }) {
        return vec![note(
            "store",
            format!("there is none in {directory} yet"),
            "`manyhands serve` makes it at its first start",
        )];
    }
    let clock: SharedClock = Arc::new(SystemClock);
    let opened = Store::open(manyhands_store::Config {
        database: config.database.clone(),
        clock,
        replica: Replica {
            role: Role::Api,
            ..Replica::default()
        },
    })
    .await;
    let store = match opened {
        Ok(store) => store,
        Err(error @ Error::InUse { .. }) => return running(config, &error).await,
        Err(error) => {
            let advice = match error {
                Error::Unavailable { .. } => "check that the database is up and reachable",
                _ => "the message says what to change",
            };
            let failure = Failure::of_store(&error, advice);
            let found = format!("{shown}: {failure}");
            return vec![fail("store", found, failure.hint())];
        }
    };
    let mut checks = vec![match store.ping().await {
        Ok(()) => ok(
            "store",
            format!("{shown} answers; what is acknowledged is on disk"),
        ),
        Err(error) => fail(
            "store",
            error.to_string(),
            "check that the database is up and reachable",
        ),
    }];
    checks.push(key(config, &store).await);
    checks.push(master_key(config, &store).await);
    store.close().await;
    checks
}

async fn running(config: &Config, in_use: &Error) -> Vec<Check> {
    let ready = async { Remote::of(config)?.ready().await };
    match ready.await {
        Ok((true, said)) => {
            let ready = ok("server", format!("{in_use}, and it is ready"));
            std::iter::once(ready).chain(sealed(&said)).collect()
        }
        Ok((false, said)) => {
            let found = format!("{in_use}, and it is not ready: {said}");
            let not_ready = fail("server", found, "see its log");
            std::iter::once(not_ready).chain(sealed(&said)).collect()
        }
        Err(error) => vec![fail(
            "server",
            format!("{in_use}, and it does not answer: {error:#}"),
            "see its log, or stop it",
        )],
    }
}

/// What the server says of its vaults when they are not open.
fn sealed(said: &serde_json::Value) -> Option<Check> {
    let vaults = said["checks"]["vaults"].as_str()?;
    (vaults != "ok").then(|| fail(MASTER_KEY, vaults, WITHOUT_KEY))
}

async fn key(config: &Config, store: &Store) -> Check {
    let path = keys::path(&config.data_dir);
    let shown = path.display();
    let advice = "make one with `manyhands keys create`";
    match keys::read(&config.data_dir) {
        Err(error) => note("key", format!("{shown} cannot be read: {error}"), advice),
        Ok(key) => match store
            .key_by_hash(&crate::api::auth::hash(key.expose_secret()))
            .await
        {
            Err(error) => fail("key", error.to_string(), "check the database"),
            Ok(None) => fail(
                "key",
                format!("the key in {shown} is unknown or revoked"),
                advice,
            ),
            Ok(Some(_)) if keys::is_exposed(&config.data_dir).unwrap_or(false) => note(
                "key",
                format!("other users of this machine can read {shown}"),
                format!("chmod 600 {shown}"),
            ),
            Ok(Some(_)) => ok("key", format!("the key in {shown} is valid")),
        },
    }
}

/// Looks for the key that opens all secrets, and makes none.
async fn master_key(config: &Config, store: &Store) -> Check {
    let name = MASTER_KEY;
    let in_use = match store.master_key().await {
        Ok(in_use) => in_use,
        Err(error) => return fail(name, error.to_string(), "check the database"),
    };
    let source = match config.master_key.source() {
        Source::File { path, make } => {
            if make && in_use.is_none() && !path.exists() {
                return note(
                    name,
                    format!("{} does not exist yet", path.display()),
                    "`manyhands serve` makes it at its first start",
                );
            }
            Source::File { path, make: false }
        }
        source => source,
    };
    match master::find(&source, in_use.as_deref()) {
        Ok(found) => ok(name, format!("{} opens the vaults", found.fingerprint())),
        Err(why) => fail(name, why, format!("{GIVE_KEY}: {WITHOUT_KEY}")),
    }
}
