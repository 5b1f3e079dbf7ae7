//! Keeping the folders of a sandbox in line with the session's stores (runtime ME-15, ME-17): looks, decides for each memory, and
//! does it on the side that is behind. Can end anywhere: whoever comes next goes on from the base, and what is done twice is the
//! same (security LOG-3).

mod lay;
mod push;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use manyhands_hands::Error;
use manyhands_hands::memory::{Answer, Ask, Memories, Seen, Stamp};
use manyhands_protocol::memory::{Access, CONTENT, MOUNTS, MemoryPath, MemoryStoreResource};
use manyhands_protocol::{MemoryStoreId, SessionId, WorkspaceId};
use manyhands_store::memory::{StoreChange, sha256};

use super::base::{Base, Known};
use super::plan::{Step, step};
use super::told::Told;
use crate::failpoint;
use crate::wake::Shared;
use work::{Clear, File, Lay, Why, Work, file, nanoseconds, odd, read_only};

/// What was changed while it was reconciled is looked at again so often; then by the next call.
const ROUNDS: u32 = 4;

/// So many files are read, or laid, at once.
const CHUNK: usize = 32;

/// Why copies are not in line.
pub(crate) enum Trouble {
    /// The store failed.
    Store(manyhands_store::Error),
    /// The hands failed.
    Hands(Error),
}

impl From<manyhands_store::Error> for Trouble {
    fn from(error: manyhands_store::Error) -> Self {
        Self::Store(error)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Hands(error)
    }
}

/// The copies in one session's sandbox.
pub(crate) struct Copies {
    shared: Arc<Shared>,
    workspace: WorkspaceId,
    session: SessionId,
    memories: Arc<dyn Memories>,
    stores: Vec<Attached>,
    base: Base,
    /// Whether the base is not noted as it is.
    dirty: bool,
}

/// One of the session's stores.
struct Attached {
    id: MemoryStoreId,
    /// Its folder's name.
    folder: String,
    /// Its folder's path.
    path: String,
    writable: bool,
    /// How far it was written when it was listed; `None` when it has to be listed.
    listed: Option<StoreChange>,
    /// Hashes by path.
    memories: BTreeMap<String, String>,
    /// What the model has been told of what cannot be looked at.
    cut: Option<String>,
}

impl Copies {
    /// Those of this session, with what was noted about them last. What was noted before a break of the host's run is of no
    /// use: files may be older than it says.
    pub(crate) async fn open(
        shared: Arc<Shared>,
        workspace: WorkspaceId,
        session: SessionId,
        stores: &[MemoryStoreResource],
        memories: Arc<dyn Memories>,
    ) -> Result<Self, Error> {
        let note = memories.noted().await?.filter(|note| note.unbroken);
        let base = note.and_then(|note| serde_json::from_slice(&note.bytes).ok());
        let attached = stores.iter().map(|store| Attached {
            id: store.memory_store_id.clone(),
            folder: folder(store).to_owned(),
            path: store.mount_path.clone(),
            writable: store.access == Access::ReadWrite,
            listed: None,
            memories: BTreeMap::new(),
            cut: None,
        });
        Ok(Self {
            shared,
            workspace,
            session,
            memories,
            stores: attached.collect(),
            base: base.unwrap_or_default(),
            dirty: false,
        })
    }

    /// The folders themselves.
    pub(crate) fn folders(&self) -> Arc<dyn Memories> {
        Arc::clone(&self.memories)
    }

    /// What the model is to be told with its next result.
    pub(crate) fn told(&self) -> &[Told] {
        &self.base.told
    }

    /// The model has been told.
    pub(crate) async fn forget(&mut self) -> Result<(), Error> {
        self.base.told.clear();
        self.dirty = true;
        self.note().await
    }

    /// Whether a store was written since it was listed last.
    pub(crate) async fn is_behind(&self) -> Result<bool, manyhands_store::Error> {
        let ids: Vec<MemoryStoreId> = self.stores.iter().map(|it| it.id.clone()).collect();
        let store = &self.shared.store;
        let changes = store.memory_store_changes(&self.workspace, &ids).await?;
        Ok(changes.iter().any(|(id, change)| {
            let store = self.stores.iter().find(|it| it.id == *id);
            store.is_some_and(|it| it.listed.as_ref() != Some(change))
        }))
    }

    /// Brings both sides in line.
    pub(crate) async fn reconcile(&mut self) -> Result<(), Trouble> {
        for _ in 0..ROUNDS {
            if self.round().await? {
                break;
            }
        }
        Ok(self.note().await?)
    }

    async fn note(&mut self) -> Result<(), Error> {
        if self.dirty {
            // Plain maps of texts and numbers always serialise.
            let bytes = serde_json::to_vec(&self.base).unwrap_or_default();
            self.memories.note(bytes).await?;
            self.dirty = false;
        }
        Ok(())
    }

    /// One look and all that follows from it; whether it has found everything as it stays.
    async fn round(&mut self) -> Result<bool, Trouble> {
        let now = nanoseconds();
        let looks = self
            .stores
            .iter()
            .enumerate()
            .map(|(index, store)| Ask::Look {
                folder: store.folder.clone(),
                writable: store.writable,
                first: index == 0,
            });
        let answers = self.memories.ask(looks.collect()).await?;
        self.list().await?;
        let mut settled = true;
        for (index, answer) in answers.into_iter().enumerate() {
            match answer {
                Answer::Seen(seen) if index < self.stores.len() => {
                    settled &= self.align(index, seen, now).await?;
                }
                Answer::Failed { full: true, .. } => {
                    let what = "for the sandbox's memories".to_owned();
                    return Err(Error::NoSpace { what }.into());
                }
                other => return Err(Error::Refused(format!("no look: {other:?}")).into()),
            }
        }
        Ok(settled)
    }

    /// Lists the stores that were written since they were listed last. One that is gone has no memories.
    async fn list(&mut self) -> Result<(), manyhands_store::Error> {
        let ids: Vec<MemoryStoreId> = self.stores.iter().map(|it| it.id.clone()).collect();
        let store = &self.shared.store;
        let changes = store.memory_store_changes(&self.workspace, &ids).await?;
        for attached in &mut self.stores {
            let found = changes.iter().find(|(id, _)| *id == attached.id);
            let Some((id, change)) = found else {
                attached.listed = None;
                attached.memories.clear();
                continue;
            };
            if attached.listed.as_ref() != Some(change) {
                let memories = store.memories(id).await?.into_iter();
                attached.memories = memories
                    .map(|it| (it.path.as_str().to_owned(), it.content_sha256))
                    .collect();
                attached.listed = Some(*change);
            }
        }
        Ok(())
    }

    /// Brings one store and its folder in line; whether they are.
    async fn align(&mut self, index: usize, seen: Seen, now: i64) -> Result<bool, Trouble> {
        let mut work = Work::default();
        let (mut drops, mut reads) = (Vec::new(), Vec::new());
        let attached = &mut self.stores[index];
        if seen.cut.is_some() && attached.writable && attached.cut != seen.cut {
            let why = seen.cut.as_deref().unwrap_or_default();
            let text = format!("{:?} cannot be saved whole: {why}.", attached.path);
            self.base.told.push(Told {
                text,
                refused: true,
            });
            self.dirty = true;
        }
        attached.cut.clone_from(&seen.cut);
        let known = self.base.stores.entry(attached.id.as_str().to_owned());
        let known = known.or_default();
        let mut files = BTreeMap::new();
        for (path, stamp) in seen.files {
            let path = format!("/{path}");
            // What is known has been checked.
            let problem = match known.contains_key(&path) {
                true => None,
                false => MemoryPath::parse(&path).err(),
            };
            match problem {
                None => {
                    files.insert(path, stamp);
                }
                Some(problem) => work.clears.push(Clear {
                    path: path.as_bytes()[1..].to_owned(),
                    why: Why::Refused(problem.to_string()),
                }),
            }
        }
        work.clears.extend(seen.odd.into_iter().map(odd));
        let paths: BTreeSet<&String> = files
            .keys()
            .chain(known.keys())
            .chain(attached.memories.keys())
            .collect();
        let mut settle = Vec::new();
        for path in paths {
            let base = known.get(path);
            let store = attached.memories.get(path).map(String::as_str);
            let file = file(base, files.get(path), seen.cut.is_none());
            let base = base.map(|known| known.sha256.as_str());
            if !attached.writable {
                read_only(&mut work, path, base, store, &file, files.get(path));
                continue;
            }
            let sandbox = match file {
                File::Unread(stamp) => {
                    reads.push((path.clone(), stamp));
                    continue;
                }
                File::Missing => None,
                File::Same => base,
            };
            match step(base, sandbox, store) {
                Step::Nothing => {}
                Step::Agree => settle.push(path.clone()),
                Step::Drop => drops.push(path.clone()),
                other => work.plan(other, path, files.get(path).copied(), store.is_some()),
            }
        }
        for path in settle {
            // Without a file and without a memory.
            known.remove(&path);
            self.dirty = true;
        }
        for path in drops {
            self.drop_memory(index, &path, &mut work).await?;
        }
        for chunk in reads.chunks(CHUNK) {
            self.read(index, chunk, now, &mut work).await?;
        }
        self.apply(index, &mut work).await?;
        Ok(!work.unsettled)
    }

    /// Reads files and decides about them.
    async fn read(
        &mut self,
        index: usize,
        files: &[(String, Stamp)],
        now: i64,
        work: &mut Work,
    ) -> Result<(), Trouble> {
        let folder = &self.stores[index].folder;
        let asks = files.iter().map(|(path, _)| Ask::Read {
            folder: folder.clone(),
            path: path[1..].to_owned(),
            most: CONTENT as u64,
        });
        let answers = self.memories.ask(asks.collect()).await?;
        for ((path, _), answer) in files.iter().zip(answers) {
            let (text, stamp) = match answer {
                Answer::Text { text, stamp } if text.len() <= CONTENT => (text, stamp),
                Answer::NoText { large, .. } => {
                    let why = match large {
                        true => format!("a memory has at most {CONTENT} bytes"),
                        false => "it is no UTF-8 text".to_owned(),
                    };
                    work.refuse(path, why, self.stores[index].memories.contains_key(path));
                    continue;
                }
                Answer::Failed { why, .. } => {
                    tracing::warn!(session.id = %self.session, why, "a memory cannot be read");
                    let text = format!("{:?} could not be read: {why}.", self.shown(index, path));
                    self.tell(Told::plain(text));
                    continue;
                }
                _ => {
                    work.unsettled = true;
                    continue;
                }
            };
            let hash = sha256(text.as_bytes());
            let base = self.known(index, path).map(|known| known.sha256.clone());
            let store = self.stores[index].memories.get(path);
            match step(base.as_deref(), Some(&hash), store.map(String::as_str)) {
                Step::Nothing | Step::Agree => {
                    let known = Known::new(hash, Some(stamp), now);
                    if self.known(index, path) != Some(&known) {
                        self.know(index, path, known);
                    }
                }
                Step::Push => {
                    let known = Known::new(hash, Some(stamp), now);
                    self.push(index, path, text, known, base, work).await?;
                }
                other => {
                    let has = store.is_some();
                    work.plan(other, path, Some(stamp), has);
                }
            }
        }
        Ok(())
    }

    fn known(&self, index: usize, path: &str) -> Option<&Known> {
        let id = self.stores[index].id.as_str();
        self.base.stores.get(id)?.get(path)
    }

    fn know(&mut self, index: usize, path: &str, known: Known) {
        let id = self.stores[index].id.as_str().to_owned();
        let of_store = self.base.stores.entry(id).or_default();
        of_store.insert(path.to_owned(), known);
        self.dirty = true;
    }

    fn unknow(&mut self, index: usize, path: &str) {
        let id = self.stores[index].id.as_str();
        if let Some(of_store) = self.base.stores.get_mut(id) {
            self.dirty |= of_store.remove(path).is_some();
        }
    }

    fn tell(&mut self, told: Told) {
        if !self.base.told.contains(&told) {
            self.base.told.push(told);
            self.dirty = true;
        }
    }

    /// A memory's path as the model knows it.
    fn shown(&self, index: usize, path: &str) -> String {
        format!("{}{path}", self.stores[index].path)
    }

    async fn pass(&self, name: &'static str) {
        failpoint::pass(&self.shared.config, name, &self.session).await;
    }
}

/// The name of a store's folder.
pub(crate) fn folder(store: &MemoryStoreResource) -> &str {
    let below = store.mount_path.strip_prefix(MOUNTS);
    below.map_or("", |name| name.trim_start_matches('/'))
}
