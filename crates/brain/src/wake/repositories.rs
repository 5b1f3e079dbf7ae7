//! The session's repositories in its sandbox, before the first call there (runtime GH-3, GH-7).

mod kept;

use std::sync::Arc;

use manyhands_hands::provider::Origin;
use manyhands_hands::repositories::{Absent, Cause, LIMIT, Made, Repository, Shown, clone};
use manyhands_hands::{Advice, Error, Sandbox};
use manyhands_protocol::event::{EventBody, RetryStatus, SessionError, SessionErrorType};
use manyhands_store::NewEntry;
use manyhands_store::repositories::RepositoryRecord;

use super::{Stop, Wake, heard};
use crate::activity::Doing;

use kept::Keeping;

impl Wake {
    /// Clones the session's repositories into a sandbox that this wake has not used yet, or waits until that is done. One that
    /// cannot be cloned is told, and the session goes on without it. `None` when the client interrupted: what was begun goes on
    /// in the sandbox.
    pub(super) async fn clone_repositories(
        &mut self,
        sandbox: &Arc<dyn Sandbox>,
    ) -> Result<Option<()>, Stop> {
        let used = self.sandbox.as_deref().map(Sandbox::instance);
        if self.transcript.repositories.is_empty() || used == Some(sandbox.instance()) {
            return Ok(Some(()));
        }
        let session = &self.lease.session;
        let records = self.shared.store.repositories(session).await?;
        let (mut absent, mut there) = (Vec::new(), Vec::new());
        // In one that is not new they may be there, and others than git may have been at work.
        let is_new = matches!(sandbox.origin(), Some(Origin::New { .. }));
        let keeping = is_new.then(|| Keeping::of(self)).flatten();
        for record in records {
            let repository = of_record(record);
            let doing = Doing::Cloning(repository.url.clone());
            self.enter(doing, LIMIT + self.shared.config.watchdog.grace);
            let (sandbox, epoch) = (Arc::clone(sandbox), self.lease.epoch);
            let keeping = keeping.clone();
            let work = async move {
                let cloned = helped(&*sandbox, epoch, &repository, keeping).await;
                (cloned, repository)
            };
            tokio::pin!(work);
            let (cloned, repository) = loop {
                tokio::select! {
                    biased;
                    done = &mut work => break done,
                    () = heard(&mut self.signal, self.shared.config.tick) => {
                        self.catch_up().await?;
                        if self.transcript.is_interrupted() {
                            return Ok(None);
                        }
                    }
                }
            };
            match cloned {
                Ok(Ok(())) => there.push((repository.id, repository.mount_path)),
                Ok(Err(found)) => absent.push(found),
                Err(error) if error.advice() == Advice::Stop => return Err(Stop::Lost),
                // The call that follows finds out what has become of the sandbox.
                Err(error) => absent.push(Absent {
                    url: repository.url,
                    mount_path: repository.mount_path,
                    cause: Cause::Clone,
                    detail: error.to_string(),
                }),
            }
        }
        self.working();
        self.tell_absent(absent).await?;
        self.find_skills(sandbox, &there).await?;
        Ok(Some(()))
    }

    /// The client is told once of each, and the model with its next result.
    async fn tell_absent(&mut self, mut absent: Vec<Absent>) -> Result<(), Stop> {
        absent.retain(|absent| !self.transcript.absent.contains(&absent.to_string()));
        let mut entries = Vec::new();
        for absent in absent {
            let message = absent.to_string();
            self.note = Some(match self.note.take() {
                Some(other) => format!("{other}\n[{message}]"),
                None => format!("[{message}]"),
            });
            tracing::warn!(session.id = %self.lease.session, message, "a repository is absent");
            metrics::counter!("manyhands_repositories_absent_total").increment(1);
            let error = SessionError {
                repository_url: Some(absent.url),
                ..SessionError::new(kind(absent.cause), message, RetryStatus::Retrying)
            };
            entries.push(NewEntry::event(EventBody::SessionError { error }));
        }
        self.write(entries).await
    }
}

/// Clones, with the help of what is kept, and has what was cloned kept.
async fn helped(
    sandbox: &dyn Sandbox,
    epoch: i64,
    repository: &Repository,
    keeping: Option<Keeping>,
) -> Result<Result<(), Absent>, Error> {
    let found = match &keeping {
        Some(keeping) => keeping.show(repository).await,
        None => None,
    };
    let shown = found.as_ref().and_then(|found| found.shown(repository));
    let cloned = patiently(sandbox, epoch, repository, shown.as_ref()).await;
    if let Some(keeping) = &keeping {
        if shown.is_some() {
            keeping.hide().await;
        }
        if let (Some(found), Ok(Ok(made))) = (found, &cloned) {
            keeping.learn(repository, found, made.clone());
        }
    }
    cloned.map(|cloned| cloned.map(drop))
}

/// Clones, again when a hand fails for a moment: the sandbox knows what it has begun.
async fn patiently(
    sandbox: &dyn Sandbox,
    epoch: i64,
    repository: &Repository,
    shown: Option<&Shown>,
) -> Result<Result<Made, Absent>, Error> {
    const TRIES: u32 = 3;
    let mut tries = 1;
    loop {
        match clone(sandbox, epoch, repository, shown).await {
            Err(error) if error.advice() == Advice::Retry && tries < TRIES => tries += 1,
            other => return other,
        }
    }
}

fn of_record(record: RepositoryRecord) -> Repository {
    Repository {
        id: record.resource.id.to_string(),
        url: record.resource.url,
        mount_path: record.resource.mount_path,
        checkout: record.resource.checkout,
    }
}

/// The error that the contract has for it (runtime ER-3).
fn kind(cause: Cause) -> SessionErrorType {
    match cause {
        Cause::Authentication => SessionErrorType::RepositoryAuthenticationError,
        Cause::Forbidden => SessionErrorType::RepositoryForbiddenError,
        Cause::NotFound => SessionErrorType::RepositoryNotFoundError,
        Cause::Checkout => SessionErrorType::RepositoryCheckoutError,
        Cause::Clone => SessionErrorType::RepositoryCloneError,
    }
}
