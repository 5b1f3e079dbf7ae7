//! What a server is built from, made from its configuration.

use std::sync::Arc;

use manyhands_blobs::Blobs;
use manyhands_brain::models::Registry;
use manyhands_brain::{Clones, Judge, ModelJudge};
use manyhands_egress::Timeouts;
use manyhands_egress::outbound::Outbound;
use manyhands_hands::provider::container::{self, Container};
use manyhands_hands::provider::namespace::{self, Namespace};
use manyhands_hands::web::Web;
use manyhands_hands::{Gate, Provider};
use manyhands_mcp::Clients;
use manyhands_protocol::time::SharedClock;
use manyhands_store::{Place, Replica, Store};
use manyhands_vault::oauth::{self, Refresher};
use manyhands_vault::{McpTokens, Uses, Vaults};
use tokio::sync::Semaphore;

use crate::config::{self, BlobPlace, Config, Egress, show};
use crate::failure::Failure;
use crate::secrets::{Asker, Holder};

/// Opens the store, with a hint for each way it may not open.
pub(crate) async fn open_store(config: &Config, clock: &SharedClock) -> anyhow::Result<Store> {
    let opened = Store::open(manyhands_store::Config {
        database: config.database.clone(),
        clock: Arc::clone(clock),
        replica: Replica {
            place: Place::Directory(config.data_dir.clone()),
            role: config.role,
            ..Replica::default()
        },
    })
    .await;
    opened.map_err(|error| {
        use manyhands_store::Error;
        let hint = match &error {
            Error::InUse { .. } => {
                "stop that server, or give this one another --data-dir".to_owned()
            }
            Error::Unavailable { .. } | Error::Unknown { .. } => {
                format!(
                    "check that {} is up and reachable, then start again",
                    show::database(&config.database)
                )
            }
            _ => {
                format!(
                    "the database is {}; see the message for what to change",
                    show::database(&config.database)
                )
            }
        };
        Failure::of_store(&error, hint).into()
    })
}

/// The judge that asks this model.
pub(crate) fn judge_of(models: &Arc<Registry>, id: &str) -> anyhow::Result<Arc<dyn Judge>> {
    anyhow::ensure!(
        models.resolve(id).is_some(),
        "permissions.judge: no model is configured for the id {id:?}"
    );
    Ok(Arc::new(ModelJudge::new(Arc::clone(models), id)))
}

/// The models of the configuration.
pub(crate) fn registry(config: &Config, clock: &SharedClock) -> anyhow::Result<Registry> {
    let client = manyhands_egress::client(Timeouts::default())?;
    Registry::new(config.models.clone(), &client, clock).map_err(|error| {
        let message = format!("{:#}", anyhow::Error::new(error));
        Failure::new(
            message,
            "correct the model's entry in the configuration, or the script",
        )
        .into()
    })
}

/// The sandbox provider of the configuration. Nothing is looked at before it is needed.
pub(crate) fn provider(
    config: &Config,
    blobs: Option<&Blobs>,
    gate: Option<Arc<dyn Gate>>,
) -> Arc<dyn Provider> {
    match &config.sandbox.container {
        Some(settings) => Arc::new(containers(config, settings, blobs, gate)),
        None => Arc::new(namespace(config, blobs, gate)),
    }
}

fn namespace(config: &Config, blobs: Option<&Blobs>, gate: Option<Arc<dyn Gate>>) -> Namespace {
    Namespace::new(namespace::Config {
        first_uid: config.sandbox.first_uid,
        uids: config.sandbox.uids,
        idle: config.sandbox.idle,
        read_only: config.sandbox.read_only.clone(),
        image: config.environments.image.clone(),
        sources: config.environments.sources.clone(),
        blobs: blobs.cloned(),
        gate,
        retention: config.sandbox.retention,
        warm: config.environments.warm as usize,
        ..namespace::Config::new(&config.data_dir)
    })
}

fn containers(
    config: &Config,
    settings: &config::Container,
    blobs: Option<&Blobs>,
    gate: Option<Arc<dyn Gate>>,
) -> Container {
    Container::new(container::Config {
        endpoint: settings.endpoint.clone(),
        image: Some(settings.image.clone()),
        runtime: settings.runtime.clone(),
        userns: settings.userns.clone(),
        cpus: settings.cpus,
        shared_folders: settings.shared_folders,
        door: settings.door,
        sandboxd: settings.sandboxd.clone(),
        blobs: blobs.cloned(),
        gate,
        idle: config.sandbox.idle,
        sources: config.environments.sources.clone(),
        retention: config.sandbox.retention,
        ..container::Config::new(&config.data_dir)
    })
}

/// The guarded client of the server itself (security NET-9).
pub(crate) fn outbound(egress: &Egress) -> anyhow::Result<Outbound> {
    let dialler = manyhands_egress::dial::Dialler::system(egress.allowed()?)?;
    let authorities = crate::authorities::of(egress)?;
    Ok(Outbound::trusting(dialler, &egress.ports, &authorities)?)
}

/// The web tools of the configuration.
pub(crate) fn web(config: &Config, outbound: Outbound) -> anyhow::Result<Web> {
    use crate::config::Search;
    use manyhands_hands::web::search;
    // A service is the operator's own choice, as a model endpoint is, and may be in a private network.
    let client = manyhands_egress::client(Timeouts::default())?;
    let keyed = |client, endpoint, key| search::Keyed {
        client,
        endpoint,
        key,
    };
    let search = config.web.search.clone().map(|service| match service {
        Search::Searxng { base_url } => {
            Arc::new(search::Searxng::new(client, base_url)) as Arc<dyn search::Search>
        }
        Search::Brave { base_url, key } => Arc::new(search::Brave(keyed(client, base_url, key))),
        Search::Tavily { base_url, key } => Arc::new(search::Tavily(keyed(client, base_url, key))),
    });
    Ok(Web::new(outbound, search))
}

/// What is kept of repositories, where the configuration does not switch that off.
pub(crate) fn clones(
    settings: &config::Repositories,
    vaults: &Vaults,
    outbound: Outbound,
) -> Option<Clones> {
    /// Below, showing what was kept takes longer than the host does.
    const LEAST: u64 = 1 << 20;
    /// Each is a copy of a whole repository.
    const BESIDE: usize = 2;
    let secrets = Holder::new(vaults.clone(), Uses::new(vaults.store().clone()));
    (settings.cache >= LEAST).then(|| Clones {
        hosts: Arc::new(Asker::new(Arc::new(secrets), outbound)),
        most: settings.cache,
        least: LEAST,
        age: settings.age,
        permits: Arc::new(Semaphore::new(BESIDE)),
    })
}

/// What refreshes OAuth tokens.
pub(crate) fn refresher(
    config: &Config,
    outbound: Outbound,
    vaults: &Vaults,
    clock: &SharedClock,
) -> Refresher {
    let settings = oauth::Settings {
        plain_http: config.mcp.tokens_in_plain_http,
        ..oauth::Settings::default()
    };
    Refresher::new(vaults.clone(), outbound, Arc::clone(clock), settings)
}

/// The client of MCP servers, with the tokens of the vaults.
pub(crate) fn mcp_servers(
    config: &Config,
    outbound: Outbound,
    vaults: &Vaults,
    refresher: Refresher,
) -> Clients {
    let uses = Uses::new(vaults.store().clone());
    let tokens = McpTokens::new(vaults.clone(), refresher, uses);
    Clients::new(outbound, Arc::new(tokens), config.mcp)
}

/// The bytes of files, where the configuration has them.
pub(crate) fn blobs(config: &Config) -> anyhow::Result<Blobs> {
    let (blobs, setting) = match &config.blobs {
        BlobPlace::Folder(folder) => (Blobs::folder(folder), "blobs.folder"),
        BlobPlace::S3(s3) => (Blobs::s3(s3), "blobs.bucket"),
    };
    blobs.map_err(|error| {
        let hint = format!("make it usable, or change {setting} in the configuration");
        Failure::new(error.to_string(), hint).into()
    })
}
