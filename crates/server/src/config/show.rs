//! The effective settings as `manyhands config` prints them: the form of the file, and no secret.

mod models;

use std::time::Duration;

use manyhands_brain::Provisioning;
use manyhands_egress::host::Pattern;
use manyhands_hands::provider::namespace::ReadOnly;
use manyhands_store::Database;
use secrecy::ExposeSecret;
use toml::{Table, Value};

use super::environments::urls;
use super::{BlobPlace, Config, Container, Egress, Environments, Limits, MasterKey, Sandbox, Web};

/// TOML text.
pub(crate) fn show(config: &Config) -> String {
    let mut all = Table::new();
    let mut set = |name: &str, value: Value| drop(all.insert(name.to_owned(), value));
    set("listen", config.listen.to_string().into());
    set("data_dir", config.data_dir.display().to_string().into());
    let server = [
        ("role", config.role.as_str().into()),
        ("drain_seconds", number(config.drain.as_secs())),
    ];
    let public = config.public_url.as_deref();
    let public = public.map(|url| ("public_url", url.into()));
    set("server", table(server.into_iter().chain(public)));
    set(
        "database",
        table([("url", database(&config.database).into())]),
    );
    set(
        "models",
        Value::Array(config.models.iter().map(models::shown).collect()),
    );
    set(
        "stream",
        table([("legacy_event_names", config.legacy_event_names.into())]),
    );
    set("sandbox", sandbox(&config.sandbox));
    set("environments", environments(&config.environments));
    set("egress", egress(&config.egress));
    set("web", web(&config.web));
    set("mcp", mcp(&config.mcp));
    set("vault", vault(&config.master_key));
    set("blobs", blobs(&config.blobs));
    if let Some(quota) = config.files.quota {
        set("files", table([("quota_bytes", number(quota))]));
    }
    set(
        "repositories",
        table([
            ("cache_megabytes", number(config.repositories.cache >> 20)),
            (
                "cache_days",
                number(config.repositories.age.as_secs() / super::DAY),
            ),
        ]),
    );
    set("limits", limits(&config.limits));
    if let Some(judge) = &config.judge {
        set("permissions", table([("judge", judge.as_str().into())]));
    }
    all.to_string()
}

/// The key itself is never shown, and neither is whether the environment has the right one.
fn vault(key: &MasterKey) -> Value {
    match key {
        MasterKey::Made(path) | MasterKey::File(path) => {
            table([("master_key_file", path.display().to_string().into())])
        }
        MasterKey::Environment(_) => table([]),
    }
}

fn web(web: &Web) -> Value {
    let mut shown = Table::new();
    shown.insert(
        "within_environment".to_owned(),
        web.within_environment.into(),
    );
    if let Some(search) = &web.search {
        let search = table([
            ("provider", search.name().into()),
            ("base_url", search.base_url().as_str().into()),
        ]);
        shown.insert("search".to_owned(), search);
    }
    Value::Table(shown)
}

fn mcp(settings: &manyhands_mcp::Settings) -> Value {
    let seconds = |time: Duration| number(time.as_secs());
    table([
        ("connect_seconds", seconds(settings.connect)),
        ("list_seconds", seconds(settings.list)),
        ("call_seconds", seconds(settings.call)),
        ("answer_bytes", number(settings.answer_bytes as u64)),
        ("tokens_in_plain_http", settings.tokens_in_plain_http.into()),
    ])
}

fn environments(environments: &Environments) -> Value {
    let mut shown = Table::new();
    if let Some(image) = &environments.image {
        let image = image.to_string_lossy().into_owned();
        shown.insert("image".to_owned(), image.into());
    }
    let provisioning = environments.provisioning;
    for (name, value) in [
        ("overlap", Provisioning::BesideFirstRequest),
        ("provision_first", Provisioning::BeforeFirstRequest),
    ] {
        shown.insert(name.to_owned(), (provisioning == value).into());
    }
    shown.insert("warm".to_owned(), number(u64::from(environments.warm)));
    let mut sources = Table::new();
    if let Some(lines) = &environments.sources.apt {
        sources.insert("apt".to_owned(), lines.clone().into());
    }
    for (name, value) in urls(&environments.sources) {
        if let Some(value) = value {
            sources.insert(name.to_owned(), value.as_str().into());
        }
    }
    if !sources.is_empty() {
        shown.insert("sources".to_owned(), Value::Table(sources));
    }
    Value::Table(shown)
}

fn sandbox(sandbox: &Sandbox) -> Value {
    let mut shown = Table::new();
    let mut set = |name: &str, value: Value| drop(shown.insert(name.to_owned(), value));
    let provider = if sandbox.container.is_some() {
        "container"
    } else {
        "namespace"
    };
    set("provider", provider.into());
    set("idle_seconds", number(sandbox.idle.as_secs()));
    set(
        "retention_days",
        number(sandbox.retention.as_secs() / super::DAY),
    );
    set("spare_megabytes", number(sandbox.spare >> 20));
    set("first_uid", number(u64::from(sandbox.first_uid)));
    set("uids", number(u64::from(sandbox.uids)));
    let read_only_entries = sandbox.read_only.iter().map(read_only);
    set("read_only", Value::Array(read_only_entries.collect()));
    if let Some(settings) = &sandbox.container {
        set("container", container(settings));
    }
    Value::Table(shown)
}

fn container(container: &Container) -> Value {
    let mut shown = Table::new();
    let mut set = |name: &str, value: Option<Value>| {
        shown.extend(value.map(|value| (name.to_owned(), value)));
    };
    let text = |text: &Option<String>| text.as_deref().map(Value::from);
    set("endpoint", text(&container.endpoint));
    set("image", Some(container.image.as_str().into()));
    set("runtime", text(&container.runtime));
    set("userns", text(&container.userns));
    set("cpus", container.cpus.map(Value::from));
    set("shared_folders", Some(container.shared_folders.into()));
    set("door", Some(container.door.name().into()));
    let sandboxd = container.sandboxd.as_ref();
    set(
        "sandboxd",
        sandboxd.map(|path| path.display().to_string().into()),
    );
    Value::Table(shown)
}

fn egress(egress: &Egress) -> Value {
    let mut shown = Table::new();
    let mut set = |name: &str, value: Value| drop(shown.insert(name.to_owned(), value));
    let texts = |texts: Vec<String>| Value::Array(texts.into_iter().map(Value::from).collect());
    let hosts = |hosts: &[Pattern]| texts(hosts.iter().map(ToString::to_string).collect());
    set("allow_addresses", texts(egress.allow_addresses.clone()));
    let ports = egress.ports.iter().map(|port| number(u64::from(*port)));
    set("ports", Value::Array(ports.collect()));
    set("tunnel_hosts", hosts(&egress.tunnel_hosts));
    set(
        "substitute_in_plain_http",
        egress.substitute_in_plain_http.into(),
    );
    if let Some(listed) = &egress.package_hosts {
        set("package_hosts", hosts(listed));
    }
    if let Some(file) = &egress.ca_file {
        set("ca_file", file.display().to_string().into());
    }
    Value::Table(shown)
}

fn blobs(place: &BlobPlace) -> Value {
    let text = |text: &str| Value::String(text.to_owned());
    match place {
        BlobPlace::Folder(folder) => table([("folder", text(&folder.display().to_string()))]),
        BlobPlace::S3(s3) => {
            let mut shown = Table::new();
            shown.insert("bucket".to_owned(), text(&s3.bucket));
            shown.insert("region".to_owned(), text(&s3.region));
            for (name, value) in [
                ("endpoint", &s3.endpoint),
                ("access_key_id", &s3.access_key_id),
            ] {
                if let Some(value) = value {
                    shown.insert(name.to_owned(), text(value));
                }
            }
            Value::Table(shown)
        }
    }
}

fn read_only(entry: &ReadOnly) -> Value {
    let from = entry.from.display().to_string();
    table([("from", from.into()), ("to", entry.to.as_str().into())])
}

fn limits(limits: &Limits) -> Value {
    let count = |count: usize| number(count as u64);
    let mut shown = Table::new();
    let mut set = |name: &str, value: Value| drop(shown.insert(name.to_owned(), value));
    if let Some(rates) = limits.rates {
        set("rates", true.into());
        set("creates_per_minute", number(u64::from(rates.creates.get())));
        set("reads_per_minute", number(u64::from(rates.reads.get())));
    }
    let quotas = &limits.quotas;
    let quotas = [
        ("bytes", quotas.bytes),
        ("agents", quotas.agents),
        ("environments", quotas.environments),
        ("sessions", quotas.sessions),
        ("files", quotas.files),
        ("vaults", quotas.vaults),
        ("skills", quotas.skills),
        ("memory_stores", quotas.memory_stores),
    ];
    let mut kept = Table::new();
    for (name, quota) in quotas {
        if let Some(quota) = quota {
            kept.insert(name.to_owned(), number(quota));
        }
    }
    if !kept.is_empty() {
        set("quotas", Value::Table(kept));
    }
    for (name, value) in [
        ("concurrent_sessions", count(limits.concurrent_sessions)),
        ("tool_rounds", number(u64::from(limits.tool_rounds))),
        ("calls_per_answer", count(limits.calls_per_answer)),
        ("parallel_calls", count(limits.parallel_calls)),
        ("retries", number(u64::from(limits.retries))),
        ("retry_seconds", number(limits.retry_time.as_secs())),
        ("compact_at", limits.compact_at.into()),
        (
            "compactions_in_a_row",
            number(u64::from(limits.compactions_in_a_row)),
        ),
    ] {
        set(name, value);
    }
    Value::Table(shown)
}

fn table<'n>(pairs: impl IntoIterator<Item = (&'n str, Value)>) -> Value {
    Value::Table(
        pairs
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

fn number(value: u64) -> Value {
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

/// The database, without the password of its URL.
pub(crate) fn database(database: &Database) -> String {
    match database {
        Database::Sqlite { directory } => format!("sqlite (in {})", directory.display()),
        Database::Memory(_) => "in memory".to_owned(),
        Database::Postgres { url } => match url::Url::parse(url.expose_secret()) {
            Ok(url) => format!(
                "postgres://{}{}{}{}",
                if url.password().is_some() {
                    "(password hidden)@"
                } else {
                    ""
                },
                url.host_str().unwrap_or_default(),
                url.port()
                    .map(|port| format!(":{port}"))
                    .unwrap_or_default(),
                url.path()
            ),
            Err(_) => "postgres://(hidden)".to_owned(),
        },
    }
}
