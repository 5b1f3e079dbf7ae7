//! What is kept of a repository for the workspace's next sessions, so that the host need not send it again (runtime GH-3).
//!
//! It is shown to a sandbox only after the host has, just now, let this session's own credential in (security CRED-9), and only
//! to one that is new. There git proves every object and asks the host what there is: what was kept decides nothing but where bytes
//! come from. Whatever fails here, the repository is cloned from its host as ever.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use manyhands_egress::repository::Repository as Address;
use manyhands_hands::Provider;
use manyhands_hands::provider::{Join, Upload};
use manyhands_hands::repositories::{Made, Repository, Shown, parts};
use manyhands_protocol::file::UPLOADS;
use manyhands_protocol::{SessionId, Timestamp, WorkspaceId};
use manyhands_store::repositories::KeptClone;

use crate::config::Clones;
use crate::failpoint;
use crate::wake::{Shared, Wake, uploads};

/// The folder of what is shown, beside the session's files.
const FOLDER: &str = ".repositories";
/// How long it may take to be laid there.
const LAY: Duration = Duration::from_secs(120);
/// How long what was cloned may take to be kept; nobody waits for it.
const KEEP: Duration = Duration::from_secs(15 * 60);

/// How one session's new sandbox comes to what its workspace keeps.
#[derive(Clone)]
pub(super) struct Keeping {
    clones: Clones,
    /// Among them hands that outlast the wake: to read what the sandbox has may take longer.
    shared: Arc<Shared>,
    /// As long as the lease can be trusted.
    hands: Arc<dyn Provider>,
    workspace: WorkspaceId,
    session: SessionId,
    now: Timestamp,
}

/// What is kept of a repository, and was shown to the sandbox if it is any use.
pub(super) struct Found {
    name: String,
    kept: Option<KeptClone>,
}

impl Found {
    /// What the sandbox can borrow from.
    pub(super) fn shown(&self, repository: &Repository) -> Option<Shown> {
        let kept = self.kept.as_ref()?;
        Some(Shown {
            path: format!("{UPLOADS}/{}", place(repository)),
            head: kept.head,
        })
    }
}

impl Keeping {
    /// `None` where nothing is kept.
    pub(super) fn of(wake: &Wake) -> Option<Self> {
        Some(Self {
            clones: wake.shared.config.clones.clone()?,
            shared: Arc::clone(&wake.shared),
            hands: Arc::clone(&wake.hands) as Arc<dyn Provider>,
            workspace: wake.record.workspace.clone(),
            session: wake.record.id.clone(),
            now: wake.shared.clock.now(),
        })
    }

    /// Looks for what is kept of a repository and shows it to the sandbox, if the host lets the session read it. `None` for what is
    /// no repository.
    pub(super) async fn show(&self, repository: &Repository) -> Option<Found> {
        let name = Address::parse(&repository.url).ok()?.key();
        let oldest = before(self.now, self.clones.age);
        let kept = self
            .shared
            .store
            .kept_clone(&self.workspace, &name, oldest)
            .await;
        let kept = kept.unwrap_or_else(|error| {
            self.missed(repository, &error);
            None
        });
        let mut found = Found { name, kept: None };
        if let Some(kept) = kept
            && self
                .clones
                .hosts
                .shows(&self.session, &repository.url)
                .await
        {
            match self.lay(Some((repository, &kept))).await {
                Ok(()) => found.kept = Some(kept),
                Err(error) => self.missed(repository, &error),
            }
        }
        Some(found)
    }

    /// Takes what was shown away again. What stays is taken by the next look at the session's files.
    pub(super) async fn hide(&self) {
        if let Err(why) = self.lay(None).await {
            tracing::warn!(session.id = %self.session, why, "what was kept of a repository is shown for longer");
        }
    }

    async fn lay(&self, shown: Option<(&Repository, &KeptClone)>) -> Result<(), String> {
        let mounted = self.shared.store.mounted_files(&self.session).await;
        let mut files = uploads(mounted.map_err(|error| error.to_string())?);
        files.extend(shown.map(|(repository, kept)| Upload {
            path: place(repository),
            blob: kept.blob.clone(),
            size: kept.size,
            sha256: kept.sha256.clone(),
        }));
        let laid = self.hands.lay(self.session.as_str(), &files);
        match tokio::time::timeout(LAY, laid).await {
            Ok(laid) => laid.map_err(|error| error.to_string()),
            Err(late) => Err(late.to_string()),
        }
    }

    /// Keeps what was cloned and lets go of what was no use, beside the turn.
    pub(super) fn learn(&self, repository: &Repository, found: Found, made: Made) {
        let outcome = match made {
            Made::New(_) => "cloned",
            Made::Borrowed => "borrowed",
            Made::Outgrown => "outgrown",
            Made::Unusable(_) => "unusable",
            Made::Other => "other",
        };
        metrics::counter!("manyhands_repository_clones_total", "made" => outcome).increment(1);
        let (stale, pack) = match made {
            Made::New(pack) => (None, Some(pack)),
            Made::Outgrown => (found.kept, None),
            Made::Unusable(pack) => (found.kept, pack),
            Made::Borrowed | Made::Other => return,
        };
        let (this, repository) = (self.clone(), repository.clone());
        tokio::spawn(async move {
            let work = async {
                if let Some(stale) = stale {
                    let dropped = this
                        .shared
                        .store
                        .drop_clone(&this.workspace, &stale.blob)
                        .await;
                    dropped.map_err(|error| error.to_string())?;
                }
                match pack {
                    Some(pack) => this.keep(&repository, &found.name, &pack).await,
                    None => Ok(()),
                }
            };
            match tokio::time::timeout(KEEP, work).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => this.missed(&repository, &why),
                Err(late) => this.missed(&repository, &late),
            }
        });
    }

    /// The blob first, the row last: what a server leaves that dies in between is swept.
    async fn keep(&self, repository: &Repository, name: &str, pack: &str) -> Result<(), String> {
        let text = |error: manyhands_store::Error| error.to_string();
        let oldest = before(self.now, self.clones.age);
        let there = self
            .shared
            .store
            .kept_clone(&self.workspace, name, oldest)
            .await;
        if there.map_err(text)?.is_some() {
            return Ok(());
        }
        // Two at a time: the disk is the sessions'. What is not kept now is kept by the next session.
        let Ok(_permit) = Arc::clone(&self.clones.permits).try_acquire_owned() else {
            return Ok(());
        };
        let (folder, files) = parts(repository, pack);
        let join = Join {
            folder: &folder,
            files: &files.each_ref().map(String::as_str),
            least: self.clones.least,
            cap: self.clones.most,
        };
        let joined = self.shared.hands.join(self.session.as_str(), &join).await;
        let Some(joined) = joined.map_err(|error| error.to_string())? else {
            return Ok(());
        };
        failpoint::pass(&self.shared.config, "brain::clone_joined", &self.session).await;
        let kept = KeptClone {
            blob: joined.blob,
            size: joined.size,
            head: joined.head,
            sha256: joined.sha256,
        };
        // A sandbox may say that it has cloned what it may not read, and so fill the place of what others may.
        let most = match self
            .clones
            .hosts
            .shows(&self.session, &repository.url)
            .await
        {
            true => self.clones.most,
            false => 0,
        };
        let is_kept = self
            .shared
            .store
            .keep_clone(&self.workspace, name, kept, most)
            .await;
        tracing::debug!(session.id = %self.session, is_kept = is_kept.map_err(text)?, "looked at a clone");
        Ok(())
    }

    fn missed(&self, repository: &Repository, why: &dyn Display) {
        let url = &repository.url;
        tracing::warn!(session.id = %self.session, url, %why, "nothing is kept of a repository for now");
    }
}

/// Where a repository is shown, among the session's files.
fn place(repository: &Repository) -> String {
    format!("{FOLDER}/{}", repository.id)
}

fn before(now: Timestamp, age: Duration) -> Timestamp {
    let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.as_micros().saturating_sub(micros))
}
