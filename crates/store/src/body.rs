//! Bodies of resources: JSON text beside its checksum (security STORE-3).

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

/// The owner of an agent's version.
pub(crate) fn version_of(agent: &str, version: i64) -> String {
    format!("{agent}/{version}")
}
