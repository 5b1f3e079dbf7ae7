//! What the sandbox has written, into the store: with the session as its actor, and never over what it has not seen (runtime ME-8,
//! ME-15, ME-17).

use manyhands_protocol::memory::{Actor, MEMORIES, MemoryPath};
use manyhands_store::memory::{Changed, Mutation, Which};

use super::{Copies, Known, Trouble, Work};

impl Copies {
    /// Writes a text whose store had the memory as `expected`, or had none.
    pub(super) async fn push(
        &mut self,
        index: usize,
        path: &str,
        text: String,
        known: Known,
        expected: Option<String>,
        work: &mut Work,
    ) -> Result<(), Trouble> {
        let Ok(place) = MemoryPath::parse(path) else {
            return Ok(());
        };
        let mutation = match expected {
            None => Mutation::Create {
                path: place,
                content: text,
            },
            Some(expected) => Mutation::Update {
                memory: Which::Path(place),
                content: Some(text),
                path: None,
                expected: Some(expected),
            },
        };
        let refused = match self.change(index, mutation).await? {
            Changed::Done(_) | Changed::Same(_) => {
                let hash = known.sha256.clone();
                self.stores[index].memories.insert(path.to_owned(), hash);
                self.know(index, path, known);
                return Ok(());
            }
            // It was changed since it was listed.
            Changed::NoMemory | Changed::Unexpected(_) => {
                self.again(index, work);
                return Ok(());
            }
            Changed::Occupied { path: other, .. } if other.as_str() == path => {
                self.again(index, work);
                return Ok(());
            }
            Changed::Occupied { path: other, .. } => {
                self.stores[index].listed = None;
                format!(
                    "the memory {:?} is in its way",
                    self.shown(index, other.as_str())
                )
            }
            Changed::Archived => "the store is archived".to_owned(),
            Changed::ReadOnly => "the store may only be read".to_owned(),
            Changed::NoStore => "the store is gone".to_owned(),
            Changed::Full => format!("the store is full, with {MEMORIES} memories"),
        };
        let has = self.stores[index].memories.contains_key(path);
        work.refuse(path, refused, has);
        Ok(())
    }

    /// Deletes a memory whose file is gone, as it was when there was one.
    pub(super) async fn drop_memory(
        &mut self,
        index: usize,
        path: &str,
        work: &mut Work,
    ) -> Result<(), Trouble> {
        let expected = self.known(index, path).map(|known| known.sha256.clone());
        let Ok(place) = MemoryPath::parse(path) else {
            return Ok(());
        };
        let mutation = Mutation::Delete {
            memory: Which::Path(place),
            expected,
        };
        match self.change(index, mutation).await? {
            Changed::Done(_) | Changed::Same(_) | Changed::NoMemory => {
                self.stores[index].memories.remove(path);
                self.unknow(index, path);
            }
            // What it is now is laid again.
            Changed::NoStore
            | Changed::Archived
            | Changed::ReadOnly
            | Changed::Occupied { .. }
            | Changed::Unexpected(_)
            | Changed::Full => self.again(index, work),
        }
        Ok(())
    }

    /// Lists the store anew, and looks again.
    pub(super) fn again(&mut self, index: usize, work: &mut Work) {
        self.stores[index].listed = None;
        work.unsettled = true;
    }

    async fn change(&self, index: usize, mutation: Mutation) -> Result<Changed, Trouble> {
        let actor = Actor::SessionActor {
            session_id: self.session.clone(),
        };
        self.pass("brain::memory_change").await;
        let store = &self.shared.store;
        let changed = store.change_memory(&self.workspace, &self.stores[index].id, actor, mutation);
        let changed = changed.await?;
        let outcome = match &changed {
            Changed::Done(_) => "saved",
            Changed::Same(_) | Changed::NoMemory => "same",
            Changed::Unexpected(_) | Changed::Occupied { .. } => "conflict",
            Changed::NoStore | Changed::Archived | Changed::ReadOnly | Changed::Full => "refused",
        };
        metrics::counter!("manyhands_memory_writes_total", "outcome" => outcome).increment(1);
        self.pass("brain::memory_changed").await;
        Ok(changed)
    }
}
