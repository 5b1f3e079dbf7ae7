//! Memory stores, their memories and versions, and what sessions have of them.

use super::resources::{Kind, reason, second_text_key, text_start};
use crate::db::values;
use crate::error::Error;
use crate::memory::{memory_of, memory_store_of, resource_of, version_of, whole};

/// The kinds. The second column of a row is its id.
pub(super) const KINDS: [Kind; 4] = [
    Kind {
        name: "memory stores",
        sql: "SELECT body, id, checksum FROM memory_stores WHERE id > $1 ORDER BY id LIMIT $2",
        start: text_start,
        key: second_text_key,
        item: |row| Ok(format!("memory store {}", row.text(1)?)),
        judge: |row| memory_store_of(row).map(drop).map_err(|error| reason(&error)),
    },
    Kind {
        name: "memories",
        sql: "SELECT m.body, m.id, m.checksum, m.path, m.version_id, v.memory_id, s.id, r.store_id FROM memories m
              LEFT JOIN memory_versions v ON v.id = m.version_id
              LEFT JOIN memory_stores s ON s.id = m.store_id
              LEFT JOIN memory_remains r ON r.store_id = m.store_id
              WHERE m.id > $1 ORDER BY m.id LIMIT $2",
        start: text_start,
        key: second_text_key,
        item: |row| Ok(format!("memory {}", row.text(1)?)),
        judge: |row| {
            let judge = || {
                let memory = memory_of(row)?;
                Ok(match (row.optional_text(6)?, row.optional_text(7)?) {
                    // It is being removed, and its version may have gone first.
                    (None, Some(_)) => None,
                    (None, None) => Some("its store is missing"),
                    (Some(_), _) if row.optional_text(5)? == Some(memory.id.as_str()) => None,
                    (Some(_), _) => Some("its version is missing"),
                })
            };
            told(judge())
        },
    },
    Kind {
        name: "versions of memories",
        sql: "SELECT v.body, v.id, v.checksum, v.content, s.id, r.store_id FROM memory_versions v
              LEFT JOIN memory_stores s ON s.id = v.store_id
              LEFT JOIN memory_remains r ON r.store_id = v.store_id
              WHERE v.id > $1 ORDER BY v.id LIMIT $2",
        start: text_start,
        key: second_text_key,
        item: |row| Ok(format!("memory version {}", row.text(1)?)),
        judge: |row| {
            let judge = || {
                let (version, content) = (version_of(row)?, row.bytes(3)?);
                match &version.content_sha256 {
                    Some(hash) => drop(whole(version.id.as_str(), content, hash)?),
                    None if content.is_empty() => {}
                    None => return Ok(Some("it has content that it must not have")),
                }
                Ok(match (row.optional_text(4)?, row.optional_text(5)?) {
                    (None, None) => Some("its store is missing"),
                    _ => None,
                })
            };
            told(judge())
        },
    },
    Kind {
        name: "memory stores of sessions",
        sql: "SELECT m.body, m.store_id, m.checksum, m.session_id, s.id FROM session_memory_stores m
              LEFT JOIN sessions s ON s.id = m.session_id
              WHERE (m.session_id, m.store_id) > ($1, $2) ORDER BY m.session_id, m.store_id LIMIT $3",
        start: || values!["", ""],
        key: |row| Ok(values![row.text(3)?, row.text(1)?]),
        item: |row| Ok(format!("memory store {} of {}", row.text(1)?, row.text(3)?)),
        judge: |row| {
            let judge = || {
                let resource = resource_of(row)?;
                Ok(match row.optional_text(4)? {
                    _ if resource.memory_store_id.as_str() != row.text(1)? => {
                        Some("its body is that of another store")
                    }
                    None => Some("its session is missing"),
                    Some(_) => None,
                })
            };
            told(judge())
        },
    },
];

/// What is wrong: damage that was met, or what was found.
fn told(judged: Result<Option<&'static str>, Error>) -> Result<(), String> {
    match judged {
        Ok(None) => Ok(()),
        Ok(Some(found)) => Err(found.to_owned()),
        Err(error) => Err(reason(&error)),
    }
}
