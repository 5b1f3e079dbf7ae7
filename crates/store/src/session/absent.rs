//! Which sessions are gone, for whoever keeps something of theirs outside of the store.

use crate::db::Value;
use crate::error::Error;
use crate::store::Store;

/// Sessions asked for at once.
const ASKED: usize = 256;

impl Store {
    /// Those of these sessions' ids that no session has, in any workspace. What was never a session's id is one of them.
    pub async fn absent_sessions(&self, ids: &[String]) -> Result<Vec<String>, Error> {
        let mut absent = Vec::new();
        for asked in ids.chunks(ASKED) {
            let places: Vec<String> = (1..=asked.len()).map(|place| format!("${place}")).collect();
            let sql = format!(
                "SELECT id FROM sessions WHERE id IN ({})",
                places.join(", ")
            );
            let values = asked.iter().map(|id| Value::from(id.as_str())).collect();
            let rows = self.inner.db.read(sql, values).await?;
            let mut found = Vec::with_capacity(rows.len());
            for row in &rows {
                found.push(row.text(0)?);
            }
            let is_gone = |id: &&String| !found.contains(&id.as_str());
            absent.extend(asked.iter().filter(is_gone).cloned());
        }
        Ok(absent)
    }
}
