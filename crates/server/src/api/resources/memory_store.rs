//! Memory stores that a session is to have (runtime ME-12). Pure.

use manyhands_protocol::MemoryStoreId;
use manyhands_protocol::memory::{MemoryStoreResourceParams, STORES};
use manyhands_store::memory::Attach;
use serde_json::Value;

use crate::api::agents::definition;
use crate::api::error::ApiError;
use crate::api::json;

const INSTRUCTIONS: usize = 4096;

/// A store; `at` names the entry in errors.
pub(super) fn read(entry: &Value, at: &str) -> Result<Attach, ApiError> {
    let within = |name: &str| format!("{at}.{name}");
    let params: MemoryStoreResourceParams = json::entry_quietly(entry, at)?;
    let store = MemoryStoreId::parse(&params.memory_store_id)
        .map_err(|problem| ApiError::field(within("memory_store_id"), problem.to_string()))?;
    if let Some(instructions) = &params.instructions {
        definition::text(&within("instructions"), instructions, 0, INSTRUCTIONS)?;
    }
    Ok(Attach {
        store,
        access: params.access.unwrap_or_default(),
        instructions: params.instructions,
    })
}

/// What stores in one session must be beside each other; each with its place in the list.
pub(super) fn together(stores: &[(usize, Attach)]) -> Result<(), ApiError> {
    if stores.len() > STORES {
        let problem = format!("a session has at most {STORES} memory stores");
        return Err(ApiError::field("resources", problem));
    }
    for (index, (place, attach)) in stores.iter().enumerate() {
        let before = stores.iter().take(index);
        if before
            .into_iter()
            .any(|(_, other)| other.store == attach.store)
        {
            let field = format!("resources[{place}].memory_store_id");
            return Err(ApiError::field(field, "the store is given twice"));
        }
    }
    Ok(())
}

/// Names an archived store.
pub(super) fn archived(place: usize) -> ApiError {
    let field = format!("resources[{place}].memory_store_id");
    let problem = "the memory store is archived and cannot be given to new sessions";
    ApiError::field(field, problem).with_code("memory_store_archived")
}
