//! What a server is built from, made from its configuration.

use std::sync::Arc;

use manyhands_brain::models::Registry;
use manyhands_brain::{Judge, ModelJudge};
use manyhands_egress::Timeouts;
use manyhands_hands::provider::namespace::{self, Namespace};
use manyhands_protocol::time::SharedClock;
use manyhands_store::{Place, Replica, Store};

use crate::config::{Config, show};
use crate::failure::Failure;

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
            Error::NoSpace { .. } => "free some disk space".to_owned(),
            Error::Unavailable { .. } | Error::Unknown { .. } => {
                format!(
                    "check that {} is up and reachable, then start again",
                    show::database(&config.database)
                )
            }
            Error::Setup { .. } | Error::Damaged { .. } | Error::Invalid { .. } => {
                format!(
                    "the database is {}; see the message for what to change",
                    show::database(&config.database)
                )
            }
        };
        Failure::new(error.to_string(), hint).into()
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
pub(crate) fn namespace(config: &Config) -> Namespace {
    Namespace::new(namespace::Config {
        first_uid: config.sandbox.first_uid,
        uids: config.sandbox.uids,
        idle: config.sandbox.idle,
        read_only: config.sandbox.read_only.clone(),
        ..namespace::Config::new(&config.data_dir)
    })
}
