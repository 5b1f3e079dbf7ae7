//! Removing those that wait: nobody can want them any more, or the server that started them has ended (security SBX-8).

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use super::super::chain;
use super::super::files;
use super::super::host::{Held, Host};
use super::super::live::Live;
use super::super::record;
use super::{Member, PREFIX};
use crate::Error;
use crate::provider::hold::Hold;

impl Host {
    /// Removes these in a task of its own.
    pub(super) fn discard_all(self: &Arc<Self>, members: Vec<Member>) {
        if members.is_empty() {
            return;
        }
        let host = Arc::clone(self);
        tokio::spawn(async move {
            for member in members {
                host.remove_member(member).await;
            }
        });
    }

    pub(super) async fn remove_member(&self, member: Member) {
        let Member { name, held, live } = member;
        self.discard(&name, &held, Some(Arc::new(live))).await;
    }

    /// Ends and removes what waits under this name. What is left of it is removed by the next sweep.
    pub(super) async fn discard(&self, name: &str, held: &Held, live: Option<Arc<Live>>) {
        let removed = async {
            self.end(name, held, live).await?;
            self.remove(name, held).await
        };
        if let Err(error) = removed.await {
            let error = chain(&error);
            tracing::warn!(name, error, "a sandbox that waited could not be removed");
        }
    }

    /// Removes what waits for environments that are not used any more, and what servers have left that ended.
    pub(in super::super) async fn sweep_waiting(self: &Arc<Self>) -> Result<(), Error> {
        self.discard_all(self.pool.unwanted());
        self.pool.count();
        let fail = |error| Error::io("look for sandboxes that wait", error);
        for name in self.names().map_err(fail)? {
            if !name.starts_with(PREFIX) {
                continue;
            }
            // Whoever keeps one for its sessions has it locked, as has whoever gives it to one just now.
            if let Some(held) = Hold::take_free(&self.folder(&name)).map_err(fail)? {
                tracing::info!(
                    name,
                    "removing a sandbox that waited for a server that ended"
                );
                self.discard(&name, &held, None).await;
            }
        }
        self.sweep_groups().await.map_err(fail)
    }

    /// Removes control groups of sandboxes that waited, which no sandbox has any more.
    async fn sweep_groups(&self) -> io::Result<()> {
        let prefix = self.groups();
        let groups = self.cgroups().await.named(&format!("{prefix}{PREFIX}"));
        if groups.is_empty() {
            return Ok(());
        }
        // A folder that gets its session's name during the one look is seen by the other.
        let mut used = self.group_names()?;
        used.extend(self.group_names()?);
        let names = groups
            .iter()
            .filter_map(|group| group.strip_prefix(&prefix));
        for name in names.filter(|name| !used.contains(*name)) {
            self.remove_group(name).await;
        }
        Ok(())
    }

    /// The names that sandboxes wait under, or have waited under.
    fn group_names(&self) -> io::Result<HashSet<String>> {
        use io::ErrorKind as Kind;
        let mut used = HashSet::new();
        for name in self.names()? {
            let record =
                files::open_directory(&self.folder(&name)).and_then(|folder| record::read(&folder));
            match record {
                Ok(record) => used.extend(record.and_then(|record| record.waited_as)),
                // Removed, or given to a session meanwhile; or no folder of a sandbox.
                Err(error) if matches!(error.kind(), Kind::NotFound | Kind::NotADirectory) => {}
                Err(error) => return Err(error),
            }
            used.insert(name);
        }
        Ok(used)
    }

    /// What is in the folder of all sandboxes.
    fn names(&self) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(self.sandboxes()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }
}
