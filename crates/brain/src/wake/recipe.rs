//! What a session's sandbox is made from, read when one is needed: an environment that changes is seen by sandboxes
//! made later (runtime EN-3).

use manyhands_hands::Recipe;
use manyhands_hands::provider::Network;
use manyhands_protocol::environment::EnvironmentConfig;

use super::{Stop, Wake};

impl Wake {
    /// The recipe of this session's sandbox, now.
    pub(super) async fn recipe(&self) -> Result<Recipe, Stop> {
        let record = &self.record;
        let environment = self
            .shared
            .store
            .environment(&record.workspace, &record.environment_id)
            .await?;
        let mut recipe = Recipe::new(self.lease.session.as_str(), self.lease.epoch);
        // Environments of workers have no sandbox here; the API refuses them for sessions.
        if let Some(EnvironmentConfig::Cloud {
            networking,
            packages,
        }) = environment.map(|environment| environment.config)
        {
            recipe.network = Network {
                networking,
                mcp_hosts: Vec::new(),
            };
            recipe.packages = packages;
        }
        Ok(recipe)
    }
}
