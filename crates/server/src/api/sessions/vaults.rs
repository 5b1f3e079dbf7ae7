//! The vaults that a session is given (api §7.1, runtime LC-13, VA-8). Pure.

use manyhands_protocol::VaultId;

use crate::api::error::ApiError;

/// Vaults of a session: as many as of a deployment (api §29).
const VAULTS: usize = 50;

/// The vaults of a session, in the order in which credentials are looked for (runtime VA-8).
pub(super) fn read(given: Vec<String>) -> Result<Vec<VaultId>, ApiError> {
    if given.len() > VAULTS {
        let problem = format!("has {} entries; at most {VAULTS} are allowed", given.len());
        return Err(ApiError::field("vault_ids", problem));
    }
    let mut vaults = Vec::with_capacity(given.len());
    for (index, text) in given.iter().enumerate() {
        let at = || format!("vault_ids[{index}]");
        let vault =
            VaultId::parse(text).map_err(|problem| ApiError::field(at(), problem.to_string()))?;
        if vaults.contains(&vault) {
            return Err(ApiError::field(at(), "is listed twice"));
        }
        vaults.push(vault);
    }
    Ok(vaults)
}

/// Names an archived vault.
pub(super) fn archived(index: usize) -> ApiError {
    let problem = "the vault is archived and cannot be given to new sessions";
    ApiError::field(format!("vault_ids[{index}]"), problem).with_code("vault_archived")
}
