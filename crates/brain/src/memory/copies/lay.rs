//! What a store has, into the sandbox, and what no store takes, out of its folder: always kept where the agent finds it.

use manyhands_hands::memory::{Answer, Ask};
use manyhands_protocol::memory::{Memory, MemoryPath};
use manyhands_store::Error as StoreError;
use manyhands_store::memory::Which;

use super::{CHUNK, Clear, Copies, Known, Lay, Told, Trouble, Why, Work, nanoseconds};

impl Copies {
    /// Does what is to be done in a folder: what goes first, then what comes.
    pub(super) async fn apply(&mut self, index: usize, work: &mut Work) -> Result<(), Trouble> {
        let clears = std::mem::take(&mut work.clears);
        for chunk in clears.chunks(CHUNK) {
            self.clear(index, chunk, work).await?;
        }
        let takes = std::mem::take(&mut work.takes);
        for chunk in takes.chunks(CHUNK) {
            let folder = &self.stores[index].folder;
            let asks = chunk.iter().map(|(path, stamp)| Ask::Remove {
                folder: folder.clone(),
                path: path[1..].to_owned(),
                stamp: *stamp,
            });
            let answers = self.memories.ask(asks.collect()).await?;
            for ((path, _), answer) in chunk.iter().zip(answers) {
                match answer {
                    Answer::Done => self.unknow(index, path),
                    Answer::Aside { name, .. } => {
                        let file = self.shown(index, path);
                        self.tell(Told::conflict(&file, true, Some(&name)));
                        work.unsettled = true;
                    }
                    _ => work.unsettled = true,
                }
            }
        }
        let lays = std::mem::take(&mut work.lays);
        for chunk in lays.chunks(CHUNK) {
            self.lay(index, chunk, work).await?;
        }
        Ok(())
    }

    async fn clear(
        &mut self,
        index: usize,
        clears: &[Clear],
        work: &mut Work,
    ) -> Result<(), Trouble> {
        let folder = &self.stores[index].folder;
        let asks = clears.iter().map(|clear| Ask::Clear {
            folder: folder.clone(),
            path: clear.path.clone(),
        });
        let answers = self.memories.ask(asks.collect()).await?;
        for (clear, answer) in clears.iter().zip(answers) {
            let path = format!("/{}", String::from_utf8_lossy(&clear.path));
            let file = self.shown(index, &path);
            let kept = match answer {
                Answer::Aside { name, .. } => Some(name),
                Answer::Done => None,
                Answer::Failed { why, .. } => {
                    self.tell(Told::refused(
                        &file,
                        &format!("it cannot be moved: {why}"),
                        None,
                    ));
                    continue;
                }
                // It went, or is a folder by now.
                _ => {
                    work.unsettled = true;
                    continue;
                }
            };
            self.unknow(index, &path);
            self.say(&file, &clear.why, true, kept.as_deref());
        }
        Ok(())
    }

    async fn lay(&mut self, index: usize, lays: &[Lay], work: &mut Work) -> Result<(), Trouble> {
        let (mut asks, mut asked) = (Vec::new(), Vec::new());
        for lay in lays {
            let memory = match self.text(index, &lay.path).await {
                Ok(Some(memory)) => memory,
                Ok(None) => {
                    self.again(index, work);
                    continue;
                }
                // The others are laid (security STORE-3).
                Err(error @ StoreError::Damaged { .. }) => {
                    tracing::error!(session.id = %self.session, %error, "a memory is not laid into a sandbox");
                    self.unshown(index, &lay.path);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            asks.push(Ask::Put {
                folder: self.stores[index].folder.clone(),
                path: lay.path[1..].to_owned(),
                text: memory.content.unwrap_or_default(),
                over: lay.over,
            });
            asked.push((lay, memory.content_sha256));
        }
        let now = nanoseconds();
        let answers = self.memories.ask(asks).await?;
        for ((lay, hash), answer) in asked.into_iter().zip(answers) {
            let file = self.shown(index, &lay.path);
            let (stamp, kept) = match answer {
                Answer::Put { stamp } => (stamp, None),
                Answer::Aside { name, stamp } => (stamp, Some(name)),
                Answer::Failed { why, .. } => {
                    tracing::warn!(session.id = %self.session, why, "a memory cannot be shown");
                    self.unshown(index, &lay.path);
                    let text = format!("{file:?} cannot be shown as a file: {why}.");
                    self.tell(Told::plain(text));
                    continue;
                }
                _ => {
                    work.unsettled = true;
                    continue;
                }
            };
            self.know(index, &lay.path, Known::new(hash, stamp, now));
            match (&lay.why, &kept) {
                (Why::News, None) => {}
                // It was written at the same moment.
                (Why::News, Some(_)) => self.say(&file, &Why::Conflict, false, kept.as_deref()),
                (why, _) => self.say(&file, why, false, kept.as_deref()),
            }
        }
        Ok(())
    }

    /// There is no file for it until it is another text.
    fn unshown(&mut self, index: usize, path: &str) {
        let Some(hash) = self.stores[index].memories.get(path) else {
            return;
        };
        let known = Known {
            unshown: true,
            ..Known::new(hash.clone(), None, 0)
        };
        self.know(index, path, known);
    }

    /// A memory with its text; `None` when it is gone.
    async fn text(&self, index: usize, path: &str) -> Result<Option<Memory>, StoreError> {
        let Ok(place) = MemoryPath::parse(path) else {
            return Ok(None);
        };
        let id = &self.stores[index].id;
        self.shared.store.memory(id, &Which::Path(place)).await
    }

    fn say(&mut self, file: &str, why: &Why, gone: bool, kept: Option<&str>) {
        self.tell(match why {
            Why::Refused(why) => Told::refused(file, why, kept),
            Why::Conflict | Why::News => Told::conflict(file, gone, kept),
        });
    }
}
