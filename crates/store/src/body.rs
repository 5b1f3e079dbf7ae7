//! Bodies of resources: JSON text beside its checksum (security STORE-3).

use serde::de::DeserializeOwned;

use crate::db::Row;
use crate::error::Error;

/// CRC-32 of a body and of what it belongs to, so that one in another's place is found as well.
pub(crate) fn checksum(owner: &str, body: &str) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(owner.as_bytes());
    hasher.update(&[0xff]);
    hasher.update(body.as_bytes());
    i64::from(hasher.finalize())
}

/// A body from its columns, verified. Rows that were written before there were checksums have none.
pub(crate) fn intact<'r>(
    row: &'r Row,
    owner: &str,
    body: usize,
    checksum_at: usize,
) -> Result<&'r str, String> {
    let words = |error: Error| error.to_string();
    let body = row.text(body).map_err(words)?;
    match row.optional_int(checksum_at).map_err(words)? {
        Some(stored) if stored != checksum(owner, body) => {
            Err("its checksum does not match".to_owned())
        }
        _ => Ok(body),
    }
}

/// What a body holds, from its columns; or what is wrong with it.
pub(crate) fn read<T: DeserializeOwned>(
    row: &Row,
    owner: &str,
    body: usize,
    checksum_at: usize,
) -> Result<T, String> {
    let text = intact(row, owner, body, checksum_at)?;
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// What the body of a row holds whose first columns are the body, the id of what it belongs to, and the checksum.
/// `kind` is what that is called.
pub(crate) fn parsed<T: DeserializeOwned>(row: &Row, kind: &str) -> Result<T, Error> {
    let id = row.text(1)?;
    read(row, id, 0, 2).map_err(|reason| Error::damaged(format!("{kind} {id}"), reason))
}

/// The owner of an agent's version.
pub(crate) fn version_of(agent: &str, version: i64) -> String {
    format!("{agent}/{version}")
}
