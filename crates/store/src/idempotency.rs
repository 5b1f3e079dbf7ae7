//! Requests that a client may repeat without repeating what they do (security API-6).
//!
//! A request is claimed before it runs. While it runs, every write of it carries a mark to the claim's row, in the write's own
//! transaction: the row says for certain whether the request has had an effect, whatever dies when. A claim whose process has died
//! is taken over when there was no effect; when there was one, it is told as such and never run again. A claim that was taken over
//! writes nothing any more. What is kept of a request are hashes, and of its answer the answer.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use manyhands_protocol::WorkspaceId;

use crate::db::{Lock, Row, Scope, Tx, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::reserve::Purpose;
use crate::store::{Services, Store};

/// For how long an answer is kept.
pub const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// How many outdated rows a claim removes: more than it adds.
const REMOVED: u32 = 16;

/// SHA-256 of what a client said.
pub type RequestHash = [u8; 32];

/// The right to run a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    workspace: WorkspaceId,
    name: RequestHash,
    run: String,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// It is the caller's to run.
    Granted(Claim),
    /// It ran before, and this was its answer.
    Answered {
        /// The status code.
        status: u16,
        /// The body.
        body: String,
    },
    /// It runs now.
    Running,
    /// It had an effect, and whoever ran it died before the answer was kept.
    Lost,
    /// Under this name another request was made.
    Different,
}

tokio::task_local! {
    /// The claim that the present task runs under.
    static CLAIM: Claim;
}

/// Runs that are alive in this process.
#[derive(Debug, Default)]
pub(crate) struct Runs(Mutex<HashSet<String>>);

impl Runs {
    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Does something whose writes belong to the claim. What it spawns is not part of it.
    pub async fn cover<F: Future>(&self, future: F) -> F::Output {
        CLAIM.scope(self.clone(), future).await
    }
}

/// The claim that the present task runs under, if it does.
pub(crate) fn current() -> Option<Claim> {
    CLAIM.try_with(Claim::clone).ok()
}

/// Says in a write's transaction that its request has had an effect; an error, and nothing is written, when the request is another
/// process's by now.
pub(crate) async fn mark(tx: &mut Tx, claim: &Claim) -> Result<(), Error> {
    let marked = tx
        .one(
            "UPDATE idempotent_requests SET effect = 1 WHERE workspace = $1 AND name = $2 AND run = $3
             RETURNING effect",
            values![
                claim.workspace.as_str(),
                claim.name.as_slice(),
                claim.run.as_str()
            ],
        )
        .await?;
    if marked.is_none() {
        return Err(Error::Unavailable {
            operation: "writing for a request that may be repeated",
            reason: "another server runs it by now".to_owned(),
        });
    }
    failpoint!("store::idempotency::marked");
    Ok(())
}

impl Store {
    /// Claims the request of this name. `name` is a hash of the client's key and the route, `request` one of all that was asked.
    pub async fn claim_request(
        &self,
        workspace: &WorkspaceId,
        name: RequestHash,
        request: RequestHash,
    ) -> Result<Claimed, Error> {
        let services = self.inner.services.clone();
        let claim = Claim {
            workspace: workspace.clone(),
            name,
            run: format!("{:032x}", rand::random::<u128>()),
        };
        let run = claim.run.clone();
        let claimed = self
            .inner
            .db
            .write(Scope::of(claim.workspace.as_str()), move |tx| {
                Box::pin(async move {
                    remove_outdated(tx, &services).await?;
                    let claimed = claimed(tx, &services, claim, request).await?;
                    if let Claimed::Granted(claim) = &claimed {
                        services.runs.lock().insert(claim.run.clone());
                    }
                    failpoint!("store::idempotency::claimed");
                    Ok(claimed)
                })
            })
            .await;
        if claimed.is_err() {
            // It may be in the store all the same, and nobody runs it.
            self.inner.services.runs.lock().remove(&run);
        }
        claimed
    }

    /// Keeps the answer of a request that has run.
    pub async fn answer_request(
        &self,
        claim: &Claim,
        status: u16,
        body: &str,
    ) -> Result<(), Error> {
        let sql = "UPDATE idempotent_requests SET status = $4, answer = $5, effect = 1
             WHERE workspace = $1 AND name = $2 AND run = $3";
        let values = values![
            claim.workspace.as_str(),
            claim.name.as_slice(),
            claim.run.as_str(),
            i64::from(status),
            body
        ];
        self.end_run(claim, sql, values).await
    }

    /// Gives a claim back whose request was refused, unless it had an effect all the same: then its answer is kept.
    pub async fn release_request(
        &self,
        claim: &Claim,
        status: u16,
        body: &str,
    ) -> Result<(), Error> {
        let (claimed, status, body) = (claim.clone(), i64::from(status), body.to_owned());
        let scope = Scope::of(claim.workspace.as_str()).with_purpose(Purpose::Ends);
        let released = self.inner.db.write(scope, move |tx| {
            Box::pin(async move {
                let own = || {
                    values![
                        claimed.workspace.as_str(),
                        claimed.name.as_slice(),
                        claimed.run.as_str()
                    ]
                };
                let sql = "DELETE FROM idempotent_requests
                     WHERE workspace = $1 AND name = $2 AND run = $3 AND effect = 0";
                tx.run(sql, own()).await?;
                let sql = "UPDATE idempotent_requests SET status = $4, answer = $5
                     WHERE workspace = $1 AND name = $2 AND run = $3";
                let mut all = own();
                all.extend(values![status, body]);
                tx.run(sql, all).await
            })
        });
        let released: Result<(), Error> = released.await;
        self.inner.services.runs.lock().remove(&claim.run);
        released
    }

    async fn end_run(
        &self,
        claim: &Claim,
        sql: &'static str,
        values: Vec<crate::db::Value>,
    ) -> Result<(), Error> {
        let scope = Scope::of(claim.workspace.as_str()).with_purpose(Purpose::Ends);
        let ended = self.inner.db.write(scope, move |tx| {
            Box::pin(async move {
                tx.run(sql, values).await?;
                failpoint!("store::idempotency::answered");
                Ok(())
            })
        });
        let ended: Result<(), Error> = ended.await;
        // Whatever became of it, nobody runs it any more.
        self.inner.services.runs.lock().remove(&claim.run);
        ended
    }
}

/// Nobody polls for rows that are too old: those who add some remove some.
async fn remove_outdated(tx: &mut Tx, services: &Services) -> Result<(), Error> {
    let now = services.clock.now().as_micros();
    let kept = i64::try_from(KEPT.as_micros()).unwrap_or(i64::MAX);
    tx.run(
        "DELETE FROM idempotent_requests WHERE (workspace, name) IN (
             SELECT workspace, name FROM idempotent_requests WHERE created_at <= $1 ORDER BY created_at LIMIT $2)",
        values![now.saturating_sub(kept), REMOVED],
    )
    .await
}

async fn claimed(
    tx: &mut Tx,
    services: &Services,
    claim: Claim,
    request: RequestHash,
) -> Result<Claimed, Error> {
    let (workspace, name) = (claim.workspace.as_str(), claim.name.as_slice());
    let inserted = tx
        .one(
            "INSERT INTO idempotent_requests (workspace, name, request, holder, run, effect, status, answer, created_at)
             VALUES ($1, $2, $3, $4, $5, 0, NULL, NULL, $6) ON CONFLICT (workspace, name) DO NOTHING RETURNING effect",
            values![
                workspace,
                name,
                request.as_slice(),
                services.instance.as_str(),
                claim.run.as_str(),
                services.clock.now()
            ],
        )
        .await?;
    if inserted.is_some() {
        return Ok(Claimed::Granted(claim));
    }
    let sql = "SELECT holder, run, effect, status, answer,
         CAST(CASE WHEN request = $3 THEN 1 ELSE 0 END AS BIGINT), created_at
         FROM idempotent_requests WHERE workspace = $1 AND name = $2";
    let values = values![workspace, name, request.as_slice()];
    let rows = tx.locked(Lock::Update, sql, values).await?;
    let Some(row) = rows.first() else {
        // It was given back at this moment.
        return Ok(Claimed::Running);
    };
    if is_outdated(services, row)? {
        return take_over(tx, services, claim, request).await;
    }
    if row.int(5)? == 0 {
        return Ok(Claimed::Different);
    }
    if let Some(status) = row.optional_int(3)? {
        let body = row.optional_text(4)?.unwrap_or_default().to_owned();
        let status = u16::try_from(status).map_err(|_| Error::Damaged {
            item: "the answer of a repeated request".to_owned(),
            reason: format!("{status} is no status"),
        })?;
        return Ok(Claimed::Answered { status, body });
    }
    if lives(tx, services, row.text(0)?, row.text(1)?).await? {
        return Ok(Claimed::Running);
    }
    if row.int(2)? != 0 {
        return Ok(Claimed::Lost);
    }
    take_over(tx, services, claim, request).await
}

fn is_outdated(services: &Services, row: &Row) -> Result<bool, Error> {
    let age = services
        .clock
        .now()
        .as_micros()
        .saturating_sub(row.time(6)?.as_micros());
    Ok(u128::try_from(age).is_ok_and(|age| age >= KEPT.as_micros()))
}

/// Whether whoever runs it may still do something.
async fn lives(tx: &mut Tx, services: &Services, holder: &str, run: &str) -> Result<bool, Error> {
    if holder == services.instance.as_str() {
        return Ok(services.runs.lock().contains(run));
    }
    let sql = "SELECT id FROM living WHERE id = $1";
    Ok(tx.one(sql, values![holder]).await?.is_some())
}

async fn take_over(
    tx: &mut Tx,
    services: &Services,
    claim: Claim,
    request: RequestHash,
) -> Result<Claimed, Error> {
    tx.run(
        "UPDATE idempotent_requests
         SET holder = $3, run = $4, request = $5, effect = 0, status = NULL, answer = NULL, created_at = $6
         WHERE workspace = $1 AND name = $2",
        values![
            claim.workspace.as_str(),
            claim.name.as_slice(),
            services.instance.as_str(),
            claim.run.as_str(),
            request.as_slice(),
            services.clock.now()
        ],
    )
    .await?;
    Ok(Claimed::Granted(claim))
}
