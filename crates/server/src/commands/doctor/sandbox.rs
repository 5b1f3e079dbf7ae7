//! Whether sandboxes can be made here, how much holds in them, and what the operator lets them reach.

use std::io;
use std::path::Path;
use std::sync::Arc;

use manyhands_egress::audit;
use manyhands_egress::host::Pattern;
use manyhands_egress::secrets::NoSecrets;
use manyhands_hands::Gate;
use manyhands_hands::provider::Holds;
use manyhands_protocol::time::{SharedClock, SystemClock};
use tempfile::TempDir;

use super::{Check, Verdict, fail, note, ok};
use crate::config::Config;
use crate::gate::{gate, operator};
use crate::parts;

/// Where the limits are described.
const LIMITS: &str = "see \"Limits\" on the documentation's page Sandboxes (docs/src/sandbox.md)";

/// Tries the way out and a sandbox.
pub(super) async fn checks(config: &Config) -> Vec<Check> {
    let (config, folder) = match place(config) {
        Ok(place) => place,
        Err(error) => {
            let advice = "make the folder above the data directory, or /tmp, writable";
            return vec![fail("sandbox", format!("cannot be tried: {error}"), advice)];
        }
    };
    let clock: SharedClock = Arc::new(SystemClock);
    let (gate, way_out) = match gate(&config, &clock, Arc::new(NoSecrets)) {
        Ok(gate) => (
            Some(gate),
            ok("way out", "sandboxes have one, through the egress proxy"),
        ),
        Err(error) => {
            let advice = "correct it: the server does not start like this";
            (None, fail("way out", format!("{error:#}"), advice))
        }
    };
    let mut checks = vec![way_out];
    checks.extend(policy(&config));
    checks.extend(strength(&config, gate).await);
    if let Some(folder) = folder {
        let path = folder.path().display().to_string();
        if let Err(error) = folder.close() {
            let found = format!("the trial's folder {path} is left behind: {error}");
            checks.push(note("sandbox", found, "remove it"));
        }
    }
    checks
}

/// The settings to try with, and the folder that is to be removed afterwards. A server's own directory is tried as it is; before
/// there is one, a look must not make it, so another on the same disk has to do.
fn place(config: &Config) -> io::Result<(Config, Option<TempDir>)> {
    let mut config = config.clone();
    if audit::exists(&config.data_dir) {
        return Ok((config, None));
    }
    let above = config.data_dir.ancestors().find(|folder| folder.is_dir());
    let folder = tempfile::Builder::new()
        .prefix(".manyhands-doctor-")
        .tempdir_in(above.unwrap_or(Path::new(".")))
        .or_else(|_| TempDir::new())?;
    config.data_dir = folder.path().to_owned();
    Ok((config, Some(folder)))
}

/// What the operator opens, or keeps closed, to all sandboxes, whatever their environments say (security NET-3, NET-4).
fn policy(config: &Config) -> Vec<Check> {
    fn list(entries: impl IntoIterator<Item = impl ToString>, none: &str) -> String {
        let entries: Vec<String> = entries.into_iter().map(|it| it.to_string()).collect();
        match entries.is_empty() {
            true => none.to_owned(),
            false => entries.join(", "),
        }
    }
    let operator = operator(config);
    let hosts = |hosts: &[Pattern]| list(hosts, "none");
    let addresses = list(
        &config.egress.allow_addresses,
        "none, so public addresses alone",
    );
    [
        ("egress.allow_addresses", addresses),
        ("egress.ports", list(&operator.ports, "none")),
        ("egress.tunnel_hosts", hosts(&operator.tunnel_hosts)),
        ("egress.package_hosts", hosts(&operator.package_hosts)),
    ]
    .into_iter()
    .map(|(name, found)| Check {
        verdict: Verdict::Note,
        ..ok(name, found)
    })
    .collect()
}

async fn strength(config: &Config, gate: Option<Arc<dyn Gate>>) -> Vec<Check> {
    let probe = parts::provider(config, None, gate).probe().await;
    let missing = probe.missing.iter().map(|missing| {
        fail(
            "sandbox",
            format!("{} ({})", missing.what, missing.why),
            missing.install.clone(),
        )
    });
    let mut checks: Vec<Check> = missing.collect();
    if probe.usable() {
        let helpers: Vec<String> = probe
            .helpers
            .iter()
            .map(|helper| format!("{} {} at {}", helper.name, helper.version, helper.path))
            .collect();
        let strength = "name spaces and a system-call filter on this machine's kernel; not for hostile tenants";
        checks.push(ok(
            "sandbox",
            format!("{}: {strength} ({})", probe.provider, helpers.join(", ")),
        ));
    }
    for limit in &probe.limits {
        let name = format!("limit on {}", limit.name);
        checks.push(match limit.holds {
            Holds::Hard => ok(
                &name,
                format!("holds for the whole sandbox, by {}", limit.by),
            ),
            Holds::Soft => note(
                &name,
                format!("holds for each process or file alone, by {}", limit.by),
                LIMITS,
            ),
            Holds::No => note(&name, format!("does not hold ({})", limit.by), LIMITS),
        });
    }
    checks.extend(probe.notes.iter().map(|text| Check {
        verdict: Verdict::Note,
        ..ok("sandbox", text.clone())
    }));
    checks
}
