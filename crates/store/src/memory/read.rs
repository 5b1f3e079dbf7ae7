//! Memories as they are (runtime ME-2, ME-7, LI-9).

use manyhands_protocol::memory::{Memory, MemoryListItem, MemoryPath, MemoryPrefix, View};
use manyhands_protocol::{MemoryId, MemoryStoreId};

use super::rows::memory_columns;
use super::{Which, memory_of, whole};
use crate::db::{Row, values};
use crate::error::Error;
use crate::listing::Query;
use crate::store::Store;

/// Whether memories in folders are listed one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// Each, wherever it is.
    #[default]
    All,
    /// Only those right below the prefix; a folder is one item.
    Children,
}

/// What part of a store's memories is wanted, sorted by the bytes of their paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// What the paths begin with; it ends in a slash.
    pub prefix: String,
    /// How deep.
    pub depth: Depth,
    /// Only items after the one with this path, in list order.
    pub after: Option<String>,
    /// How many items at most.
    pub limit: u32,
    /// With or without texts.
    pub view: View,
}

impl Store {
    /// A memory with its text.
    pub async fn memory(
        &self,
        store: &MemoryStoreId,
        memory: &Which,
    ) -> Result<Option<Memory>, Error> {
        let (sql, value) = match memory {
            Which::Id(id) => (SELECT_BY_ID, MemoryId::as_str(id)),
            Which::Path(path) => (SELECT_BY_PATH, MemoryPath::as_str(path)),
        };
        self.inner
            .db
            .find(sql, values![store.as_str(), value], full)
            .await
    }

    /// All memories of a store without their texts, sorted by the bytes of their paths. Empty as well when there is no such store.
    pub async fn memories(&self, store: &MemoryStoreId) -> Result<Vec<Memory>, Error> {
        self.inner
            .db
            .list(
                concat!(
                    "SELECT ",
                    memory_columns!(),
                    " FROM memories m WHERE m.store_id = $1 ORDER BY m.path"
                ),
                values![store.as_str()],
                memory_of,
            )
            .await
    }

    /// A page of a store's memories.
    pub async fn list_memories(
        &self,
        store: &MemoryStoreId,
        range: &MemoryRange,
    ) -> Result<Vec<MemoryListItem>, Error> {
        let mut items: Vec<MemoryListItem> = Vec::new();
        // Where the rows go on: what is at `from` itself has been shown, unless it is the beginning of the list.
        let mut from = match &range.after {
            Some(after) => beyond(after),
            None => range.prefix.clone(),
        };
        let end = below(&range.prefix);
        loop {
            let wanted = (range.limit as usize).saturating_sub(items.len());
            if wanted == 0 {
                return Ok(items);
            }
            let rows = self.rows(store, range.view, &from, &end, wanted).await?;
            let is_last = rows.len() < wanted;
            let mut folded = None;
            for row in &rows {
                let path = row.text(3)?;
                match range.folder_of(path) {
                    None => items.push(MemoryListItem::Memory(match range.view {
                        View::Basic => memory_of(row)?,
                        View::Full => full(row)?,
                    })),
                    Some(folder) => {
                        // Whatever else is in the folder is not looked at.
                        folded = Some(below(folder));
                        items.push(MemoryListItem::Prefix(MemoryPrefix {
                            kind: Default::default(),
                            path: folder.to_owned(),
                        }));
                        break;
                    }
                }
                from = beyond(path);
            }
            match folded {
                Some(next) => from = next,
                None if is_last => return Ok(items),
                None => {}
            }
        }
    }

    /// Rows of memories whose paths are from one text on and before another.
    async fn rows(
        &self,
        store: &MemoryStoreId,
        view: View,
        from: &str,
        before: &str,
        limit: usize,
    ) -> Result<Vec<Row>, Error> {
        let mut query = Query::new(match view {
            View::Basic => concat!("SELECT ", memory_columns!(), " FROM memories m"),
            View::Full => concat!("SELECT ", full_columns!(), " FROM ", full_tables!()),
        });
        query.push(" WHERE m.store_id = ");
        query.bind(store.as_str());
        query.and("m.path >= ", from);
        query.and("m.path < ", before);
        query.push(" ORDER BY m.path LIMIT ");
        query.bind(i64::try_from(limit).unwrap_or(i64::MAX));
        self.inner.db.read(query.sql, query.values).await
    }
}

impl MemoryRange {
    /// The folder that stands for a path in the list, up to and with its slash.
    fn folder_of<'p>(&self, path: &'p str) -> Option<&'p str> {
        if self.depth == Depth::All {
            return None;
        }
        let rest = path.get(self.prefix.len()..)?;
        let slash = rest.find('/')?;
        path.get(..self.prefix.len() + slash + 1)
    }
}

/// The first text that is sorted after all that begin with a text that ends in a slash.
fn below(folder: &str) -> String {
    let folder = folder.strip_suffix('/').unwrap_or(folder);
    // In ASCII the nought follows the slash.
    format!("{folder}0")
}

/// The first path that can follow an item of a list.
fn beyond(item: &str) -> String {
    if item.ends_with('/') {
        below(item)
    } else {
        // Sorted after the path itself, and before whatever else begins with it: no path has a control character.
        format!("{item}\u{1}")
    }
}

/// The columns of a memory with its text.
macro_rules! full_columns {
    () => {
        concat!(memory_columns!(), ", v.content")
    };
}
use full_columns;

/// Where they come from.
macro_rules! full_tables {
    () => {
        "memories m LEFT JOIN memory_versions v ON v.id = m.version_id"
    };
}
use full_tables;

const SELECT_BY_ID: &str = concat!(
    "SELECT ",
    full_columns!(),
    " FROM ",
    full_tables!(),
    " WHERE m.store_id = $1 AND m.id = $2"
);
const SELECT_BY_PATH: &str = concat!(
    "SELECT ",
    full_columns!(),
    " FROM ",
    full_tables!(),
    " WHERE m.store_id = $1 AND m.path = $2"
);

fn full(row: &Row) -> Result<Memory, Error> {
    let memory = memory_of(row)?;
    let version = memory.memory_version_id.as_str();
    let content = whole(version, row.bytes(5)?, &memory.content_sha256)?;
    Ok(Memory {
        content: Some(content),
        ..memory
    })
}
