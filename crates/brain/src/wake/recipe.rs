//! What a session's sandbox is made from, read when one is needed: an environment that changes is seen by sandboxes
//! made later (runtime EN-3).

use std::sync::Arc;
use std::time::Duration;

use manyhands_hands::provider::{Checkpoint, Network, Told, Upload, Variables};
use manyhands_hands::skills::Skill;
use manyhands_hands::{Advice, Provider, Recipe};
use manyhands_protocol::agent::{Definition, McpServer, Tool};
use manyhands_protocol::environment::{EnvironmentConfig, Networking};
use manyhands_protocol::file::UPLOADS;
use manyhands_store::files::MountedFile;
use manyhands_store::skills::VersionRecord;
use manyhands_store::vault::Placeholder;
use manyhands_store::{Lease, SessionRecord, Store};
use url::Url;

use super::{Stop, Wake};
use crate::config::Provisioning;
use crate::tools;

/// How long files may take to be laid into a living sandbox before its calls run without them.
const LAY: Duration = Duration::from_secs(10);

impl Wake {
    /// The recipe of this session's sandbox, now.
    pub(super) async fn recipe(&self) -> Result<Recipe, Stop> {
        let agent = &self.agent().definition;
        let recipe = recipe(&self.shared.store, &self.record, agent, &self.lease).await?;
        Ok(Recipe {
            memory: self.memory_folders(),
            ..recipe
        })
    }

    /// What the session's environment lets out, now.
    pub(super) async fn networking(&self) -> Result<Networking, Stop> {
        let environment = self
            .shared
            .store
            .environment(&self.record.workspace, &self.record.environment_id);
        Ok(match environment.await?.map(|found| found.config) {
            Some(EnvironmentConfig::Cloud { networking, .. }) => networking,
            Some(EnvironmentConfig::SelfHosted {}) | None => Network::default().networking,
        })
    }

    /// Brings what the living sandbox reads in line with the session's files, which may have been added or removed at a server
    /// that it is not at (runtime FI-4). It need not be the newest for a call to run.
    pub(super) async fn lay_files(&self) -> Result<(), Stop> {
        let session = self.lease.session.as_str();
        let files = uploads(self.shared.store.mounted_files(&self.record.id).await?);
        match tokio::time::timeout(LAY, self.hands.lay(session, &files)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if error.advice() == Advice::Stop => Err(Stop::Lost),
            Ok(Err(error)) => {
                tracing::warn!(session.id = session, %error, "a sandbox shows a change of its files later");
                Ok(())
            }
            Err(_) => {
                tracing::warn!(
                    session.id = session,
                    "a sandbox takes long to show a change of its files"
                );
                Ok(())
            }
        }
    }

    /// Begins to make the sandbox of a session that has had no answer yet, as the settings say: beside its first request or
    /// before it. `None` when the client interrupted meanwhile.
    pub(super) async fn provision_ahead(&mut self) -> Result<Option<()>, Stop> {
        let uses = |tool: &Tool| matches!(tool, Tool::AgentToolset { .. });
        let is_first = self.transcript.turns.is_empty() && self.transcript.summary.is_none();
        if !is_first || !self.agent().definition.tools.iter().any(uses) {
            return Ok(Some(()));
        }
        match self.shared.config.provisioning {
            Provisioning::AtFirstCall => {}
            Provisioning::BesideFirstRequest => self.provision_beside(),
            Provisioning::BeforeFirstRequest => match self.provision().await? {
                None => return Ok(None),
                // The first call tries again, and tells the model why not.
                Some(Err(why)) => tracing::debug!(why, "no sandbox ahead of the first request"),
                Some(Ok(_)) => {}
            },
        }
        Ok(Some(()))
    }

    /// In a task of its own, which nobody waits for: the first call finds the sandbox, or waits for the same start.
    fn provision_beside(&self) {
        let (store, hands) = (self.shared.store.clone(), Arc::clone(&self.hands));
        let (record, lease) = (self.record.clone(), self.lease.clone());
        let agent = self.agent().definition.clone();
        let memory = self.memory_folders();
        tokio::spawn(async move {
            let recipe = match recipe(&store, &record, &agent, &lease).await {
                Ok(recipe) => Recipe { memory, ..recipe },
                Err(error) => {
                    tracing::debug!(%error, "no sandbox beside the first request");
                    return;
                }
            };
            let told: Told = Arc::new(|_: &str| {});
            if let Err(error) = tools::furnish(&*hands, recipe, &told).await {
                tracing::debug!(session.id = %lease.session, %error, "no sandbox beside the first request");
            }
        });
    }
}

/// The recipe of a session's sandbox for the holder of this lease.
async fn recipe(
    store: &Store,
    record: &SessionRecord,
    agent: &Definition,
    lease: &Lease,
) -> Result<Recipe, manyhands_store::Error> {
    let environment = store
        .environment(&record.workspace, &record.environment_id)
        .await?;
    let mut recipe = Recipe::new(lease.session.as_str(), lease.epoch);
    recipe.environment_id = Some(record.environment_id.to_string());
    // Environments of workers have no sandbox here; the API refuses them for sessions.
    if let Some(EnvironmentConfig::Cloud {
        networking,
        packages,
    }) = environment.map(|environment| environment.config)
    {
        recipe.network = Network {
            networking,
            mcp_hosts: mcp_hosts(agent),
        };
        recipe.packages = packages;
    }
    let checkpoint = store.checkpoint(&record.id).await?;
    recipe.checkpoint = checkpoint.map(|newest| Checkpoint {
        blob: newest.blob,
        size: newest.size,
        sha256: newest.sha256,
        epoch: newest.epoch,
        sandbox_created_at: newest.sandbox_created_at,
    });
    recipe.uploads = uploads(store.mounted_files(&record.id).await?);
    if !record.agent.definition.skills.is_empty() {
        let versions = store.session_skills(&record.id).await?.into_iter();
        recipe.skills = versions.map(skill).collect();
    }
    if !record.vault_ids.is_empty() {
        // Under their names the sandbox has what stands for the secrets (runtime VA-9).
        let placeholders = store.placeholders(&record.workspace, &record.id).await?;
        let variable = |it: Placeholder| (it.secret_name, it.placeholder);
        recipe.variables = Variables(placeholders.into_iter().map(variable).collect());
    }
    Ok(recipe)
}

/// A version that a session has, as its sandbox reads it.
fn skill(record: VersionRecord) -> Skill {
    Skill {
        name: record.version.name,
        blob: record.blob,
        size: record.size,
        sha256: record.sha256,
    }
}

/// The hosts of an agent's MCP servers, which are open where the environment says so (runtime EN-10).
pub(super) fn mcp_hosts(agent: &Definition) -> Vec<String> {
    let hosts = agent.mcp_servers.iter().filter_map(|server| {
        let McpServer::Url { url, .. } = server;
        Some(Url::parse(url).ok()?.host_str()?.to_owned())
    });
    hosts.collect()
}

/// Files that a session's sandbox reads, as its recipe names them.
pub fn uploads(files: Vec<MountedFile>) -> Vec<Upload> {
    let upload = |MountedFile { mount_path, record }: MountedFile| {
        let path = mount_path.strip_prefix(UPLOADS)?.strip_prefix('/')?;
        Some(Upload {
            path: path.to_owned(),
            blob: record.blob,
            size: record.file.size_bytes,
            sha256: record.sha256,
        })
    };
    files.into_iter().filter_map(upload).collect()
}
