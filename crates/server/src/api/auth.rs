//! Who is asking: credentials are classified by their value, whichever header they came in (runtime HT-9).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use manyhands_protocol::WorkspaceId;
use manyhands_protocol::id::ApiKeyId;
use manyhands_store::Store;
use manyhands_store::key::KeyHash;

use crate::api::error::ApiError;

/// What every API key of this server starts with.
pub(crate) const KEY_PREFIX: &str = "mh_key_";

/// The beta value that opens the managed-agents routes (runtime HT-1).
const BETA: &str = "managed-agents-2026-04-01";

/// Who is asking, and in which workspace everything is looked up (security API-2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Principal {
    /// The workspace of the key.
    pub(crate) workspace: WorkspaceId,
    /// The key's record, for the audit log.
    pub(crate) key: ApiKeyId,
}

/// The stored form of a key: keys are compared by their SHA-256 only, which says nothing about the key to a clock.
pub(crate) fn hash(key: &str) -> KeyHash {
    let mut hash = KeyHash::default();
    hash.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
    hash
}

/// The keys that were looked up, so that a request costs no read of the database for its key.
///
/// Only for a store that belongs to this process: then every revocation passes through here and holds from the next
/// request on (runtime SC-5).
#[derive(Debug, Default)]
pub(crate) struct KnownKeys {
    known: Mutex<HashMap<KeyHash, Principal>>,
    /// How often something was revoked: what was looked up before a revocation is not kept after it.
    revocations: AtomicU64,
    enabled: bool,
}

impl KnownKeys {
    /// Remembers nothing unless the store is this process's own.
    pub(crate) fn new(own_store: bool) -> Self {
        Self {
            enabled: own_store,
            ..Self::default()
        }
    }

    async fn find(&self, store: &Store, hash: &KeyHash) -> Result<Option<Principal>, ApiError> {
        if let Some(principal) = self.lock().get(hash) {
            return Ok(Some(principal.clone()));
        }
        let seen = self.revocations.load(Ordering::SeqCst);
        let key = store.key_by_hash(hash).await?;
        let principal = key.map(|key| Principal {
            workspace: key.workspace,
            key: key.id,
        });
        if let Some(principal) = principal.as_ref().filter(|_| self.enabled) {
            let mut known = self.lock();
            if self.revocations.load(Ordering::SeqCst) == seen {
                known.insert(*hash, principal.clone());
            }
        }
        Ok(principal)
    }

    /// To be called when a key was revoked, before the caller is told.
    pub(crate) fn forget(&self) {
        let mut known = self.lock();
        self.revocations.fetch_add(1, Ordering::SeqCst);
        known.clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<KeyHash, Principal>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The caller, or 401 when it is nobody or unclear who it is (security API-3).
pub(crate) async fn authenticate(
    store: &Store,
    keys: &KnownKeys,
    headers: &HeaderMap,
) -> Result<Principal, ApiError> {
    let credentials = credentials(headers)?;
    let mut found: Option<Principal> = None;
    for credential in &credentials {
        if !credential.starts_with(KEY_PREFIX) {
            return Err(ApiError::unauthenticated(
                "the credential is not an API key of this server",
            ));
        }
        let principal = keys.find(store, &hash(credential)).await?;
        let principal = principal
            .ok_or_else(|| ApiError::unauthenticated("the API key is unknown or revoked"))?;
        match &found {
            Some(other) if other.workspace != principal.workspace => {
                return Err(ApiError::unauthenticated(
                    "the request carries keys of different workspaces",
                ));
            }
            Some(_) => {}
            None => found = Some(principal),
        }
    }
    let principal = found.ok_or_else(|| {
        ApiError::unauthenticated(
            "an API key is required: send it as \"x-api-key\" or as \"authorization: Bearer\"; \
             the server's first key is in the file api-key of its data directory",
        )
    })?;
    match headers.get("anthropic-workspace-id") {
        Some(sent) if sent.as_bytes() != principal.workspace.as_str().as_bytes() => {
            Err(ApiError::unauthenticated(
                "the key does not belong to the workspace that anthropic-workspace-id names",
            ))
        }
        _ => Ok(principal),
    }
}

/// All credentials of the request, each once.
fn credentials(headers: &HeaderMap) -> Result<Vec<&str>, ApiError> {
    let unclear = || ApiError::unauthenticated("the credential cannot be read");
    let mut all = Vec::new();
    for value in headers.get_all("x-api-key") {
        all.push(value.to_str().map_err(|_| unclear())?.trim());
    }
    for value in headers.get_all(AUTHORIZATION) {
        let text = value.to_str().map_err(|_| unclear())?.trim();
        let (scheme, credential) = text.split_once(' ').ok_or_else(unclear)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(ApiError::unauthenticated(
                "of the authorization schemes only Bearer is known",
            ));
        }
        all.push(credential.trim());
    }
    all.retain(|credential| !credential.is_empty());
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// Without the beta value the routes behave as if they did not exist (runtime HT-1). Other values are tolerated.
pub(crate) fn require_beta(headers: &HeaderMap) -> Result<(), ApiError> {
    let values = headers.get_all("anthropic-beta");
    let sent = values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(','));
    if sent.into_iter().any(|value| value.trim() == BETA) {
        return Ok(());
    }
    Err(ApiError::no_route(format!(
        "not found; this path needs the header \"anthropic-beta: {BETA}\""
    )))
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::try_from(*name).expect("a name");
            map.append(name, value.parse().expect("a value"));
        }
        map
    }

    #[test]
    fn ht_1_the_beta_header_may_be_a_list_or_several_lines() {
        #[track_caller]
        fn check(lines: &[&str], open: bool) {
            let lines: Vec<(&str, &str)> =
                lines.iter().map(|line| ("anthropic-beta", *line)).collect();
            assert_eq!(require_beta(&headers(&lines)).is_ok(), open, "{lines:?}");
        }
        check(&[], false);
        check(&["managed-agents-2026-04-01"], true);
        check(&["something-else,managed-agents-2026-04-01"], true);
        check(&["something-else", " managed-agents-2026-04-01 , x"], true);
        check(&["managed-agents-2026-04-011", "managed-agents"], false);
    }

    #[test]
    fn ht_9_both_headers_are_read() {
        #[track_caller]
        fn check(lines: &[(&str, &str)], expected: Option<&[&str]>) {
            let map = headers(lines);
            assert_eq!(credentials(&map).ok().as_deref(), expected, "{lines:?}");
        }
        check(&[], Some(&[]));
        check(&[("x-api-key", "a")], Some(&["a"]));
        check(&[("authorization", "Bearer a")], Some(&["a"]));
        check(&[("authorization", "bearer  a ")], Some(&["a"]));
        check(
            &[("authorization", "Bearer a"), ("x-api-key", "a")],
            Some(&["a"]),
        );
        check(
            &[("authorization", "Bearer b"), ("x-api-key", "a")],
            Some(&["a", "b"]),
        );
        check(&[("authorization", "Basic a")], None);
        check(&[("authorization", "a")], None);
        check(&[("x-api-key", "")], Some(&[]));
    }

    #[test]
    fn keys_are_stored_as_sha_256() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let shown: String = hash("").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shown, empty);
    }
}
