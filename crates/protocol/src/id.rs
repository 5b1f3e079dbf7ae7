//! Typed ids and their prefixes (runtime ID-1): `sesn_01` and 22 base58 characters of a UUIDv7.
//!
//! The width is fixed and the base58 alphabet is in ASCII order, so ids of one kind sort by creation time.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use uuid::Uuid;

#[cfg(feature = "testing")]
pub mod seeded;

const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const DIGITS: usize = 22;
const MAX_LENGTH: usize = 128;

/// Why a text is not an id of the wanted kind (runtime ID-4: answered with 400, never looked up).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an id that starts with \"{prefix}\"")]
pub struct IdError {
    /// The prefix that was wanted.
    pub prefix: &'static str,
}

fn base58(value: u128) -> String {
    let mut digits = [ALPHABET[0]; DIGITS];
    let mut rest = value;
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(rest % 58) as usize];
        rest /= 58;
    }
    digits.iter().map(|&byte| char::from(byte)).collect()
}

/// A new opaque id: `prefix`, the format mark `01`, 22 base58 characters of a UUIDv7.
pub fn generate(prefix: &str) -> String {
    #[cfg(feature = "testing")]
    if let Some(value) = seeded::next() {
        return format!("{prefix}01{}", base58(value));
    }
    format!("{prefix}01{}", base58(Uuid::now_v7().as_u128()))
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// What every id of this kind starts with.
            pub const PREFIX: &'static str = $prefix;

            /// A new, time-ordered id.
            pub fn generate() -> Self {
                Self(generate($prefix))
            }

            /// Checks the prefix and the characters; does not ask whether the thing exists.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let tail = text.strip_prefix($prefix).unwrap_or_default();
                let legal = !tail.is_empty()
                    && text.len() <= MAX_LENGTH
                    && tail.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
                if legal { Ok(Self(text.to_owned())) } else { Err(IdError { prefix: $prefix }) }
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "pattern": concat!("^", $prefix, "[A-Za-z0-9_-]+$"),
                    "maxLength": MAX_LENGTH,
                })
            }
        }
    )*};
}

ids! {
    /// An agent.
    AgentId "agent_";
    /// An environment.
    EnvironmentId "env_";
    /// A session.
    SessionId "sesn_";
    /// A session's thread.
    ThreadId "sthr_";
    /// An event; of a tool-use event it is also the call's id towards clients (runtime ID-2).
    EventId "sevt_";
    /// A workspace.
    WorkspaceId "wrkspc_";
    /// A file.
    FileId "file_";
    /// A resource of a session.
    ResourceId "sesrsc_";
    /// A vault.
    VaultId "vlt_";
    /// A credential in a vault.
    CredentialId "vcrd_";
    /// A memory store.
    MemoryStoreId "memstore_";
    /// A memory in a store.
    MemoryId "mem_";
    /// One change of a memory.
    MemoryVersionId "memver_";
    /// An API key's record (not the secret).
    ApiKeyId "apikey_";
    /// One HTTP request.
    RequestId "req_";
    /// The key that seals a workspace's secrets (not the key itself).
    DataKeyId "dkey_";
    /// A user profile.
    UserProfileId "uprof_";
    /// A version of a skill.
    SkillVersionId "skver_";
    /// A row of the audit log.
    AuditId "audit_";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_1_ids_carry_their_prefix_and_sort_by_creation() {
        let ids: Vec<SessionId> = (0..1000).map(|_| SessionId::generate()).collect();
        assert!(ids.is_sorted());
        assert!(
            ids.iter()
                .all(|id| id.as_str().starts_with("sesn_01") && id.as_str().len() == 29)
        );
    }

    #[test]
    fn base58_has_a_fixed_width() {
        assert_eq!(base58(0), "1".repeat(22));
        assert_eq!(base58(u128::MAX), "YcVfxkQb6JRzqk5kF2tNLv");
        assert_eq!(base58(57), format!("{}z", "1".repeat(21)));
    }

    #[test]
    fn id_4_a_wrong_prefix_is_refused() {
        for text in ["agent_01abc", "sesn_", "sesn", "", "sesn_a b", "sesn_../x"] {
            assert_eq!(
                SessionId::parse(text),
                Err(IdError { prefix: "sesn_" }),
                "{text}"
            );
        }
        assert!(SessionId::parse("sesn_011CZkZAtmR3yMPDzynEDxu7").is_ok());
    }
}
