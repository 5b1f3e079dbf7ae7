//! Who is asking: credentials are classified by their value, whichever header they came in (runtime HT-9).

pub(crate) mod betas;
pub(crate) mod permits;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use manyhands_protocol::id::ApiKeyId;
use manyhands_protocol::{EnvironmentId, WorkspaceId};
use manyhands_store::Store;
use manyhands_store::key::{ApiKey, KeyHash, KeyRole, Opens};

use crate::api::error::ApiError;

/// What every API key of this server starts with.
pub(crate) const KEY_PREFIX: &str = "mh_key_";
/// What every key of an environment starts with.
pub(crate) const ENVIRONMENT_KEY_PREFIX: &str = "mh_env_";

/// Who is asking, and in which workspace everything is looked up (security API-2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Principal {
    /// The workspace of the key.
    pub(crate) workspace: WorkspaceId,
    /// The key's record, for the audit log.
    pub(crate) key: ApiKeyId,
    /// What it may do.
    pub(crate) role: KeyRole,
    /// The only environment whose things it reaches; `None` for the whole workspace.
    pub(crate) environment: Option<EnvironmentId>,
}

impl Principal {
    fn of(key: ApiKey) -> Self {
        // Within its environment a worker does what a developer may.
        let (role, environment) = match key.opens {
            Opens::Workspace(role) => (role, None),
            Opens::Environment(environment) => (KeyRole::Developer, Some(environment)),
        };
        Self {
            workspace: key.workspace,
            key: key.id,
            role,
            environment,
        }
    }

    /// Who two keys of one request are: nobody when they are of different workspaces or environments, else whoever may do what
    /// both of them may (security API-3).
    fn meet(self, other: Self) -> Option<Self> {
        if self.workspace != other.workspace {
            return None;
        }
        let environment = match (&self.environment, &other.environment) {
            (Some(one), Some(two)) if one != two => return None,
            (one, two) => one.clone().or_else(|| two.clone()),
        };
        let narrower =
            (&other.environment.is_none(), other.role) < (&self.environment.is_none(), self.role);
        Some(Self {
            workspace: self.workspace,
            role: self.role.min(other.role),
            environment,
            key: if narrower { other.key } else { self.key },
        })
    }
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
        let principal = key.map(Principal::of);
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
        let is_ours = [KEY_PREFIX, ENVIRONMENT_KEY_PREFIX]
            .iter()
            .any(|prefix| credential.starts_with(prefix));
        if !is_ours {
            return Err(ApiError::unauthenticated(
                "the credential is not an API key of this server",
            ));
        }
        let principal = keys.find(store, &hash(credential)).await?;
        let principal = principal
            .ok_or_else(|| ApiError::unauthenticated("the API key is unknown or revoked"))?;
        found = match found {
            None => Some(principal),
            Some(other) => Some(other.meet(principal).ok_or_else(|| {
                ApiError::unauthenticated(
                    "the request carries keys of different workspaces or environments",
                )
            })?),
        };
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

    fn principal(workspace: &WorkspaceId, opens: Opens) -> Principal {
        Principal::of(ApiKey {
            id: ApiKeyId::generate(),
            workspace: workspace.clone(),
            opens,
            name: String::new(),
            hint: String::new(),
            created_at: manyhands_protocol::Timestamp::from_micros(0),
            revoked_at: None,
        })
    }

    /// security API-3
    #[test]
    fn api_3_of_two_keys_the_narrower_one_counts_in_either_order() {
        let (here, there) = (WorkspaceId::generate(), WorkspaceId::generate());
        let (one, two) = (EnvironmentId::generate(), EnvironmentId::generate());
        let role = |workspace, role| principal(workspace, Opens::Workspace(role));
        let worker =
            |environment: &EnvironmentId| principal(&here, Opens::Environment(environment.clone()));
        #[track_caller]
        fn check(one: &Principal, two: &Principal, expected: Option<&Principal>) {
            for (first, second) in [(one, two), (two, one)] {
                let met = first.clone().meet(second.clone());
                assert_eq!(met.as_ref(), expected);
            }
        }
        let (admin, reader) = (role(&here, KeyRole::Admin), role(&here, KeyRole::ReadOnly));
        check(&admin, &reader, Some(&reader));
        let bound = worker(&one);
        check(&admin, &bound, Some(&bound));
        let quiet = Principal {
            role: KeyRole::ReadOnly,
            ..bound.clone()
        };
        check(&reader, &bound, Some(&quiet));
        check(&admin, &role(&there, KeyRole::ReadOnly), None);
        check(&worker(&one), &worker(&two), None);
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
