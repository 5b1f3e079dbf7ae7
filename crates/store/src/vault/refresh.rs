//! Who may refresh a credential: one at a time among all servers, for a while (runtime VA-6).

use std::time::Duration;

use manyhands_protocol::{CredentialId, Timestamp, WorkspaceId};

use super::{CredentialRecord, credential_columns, credential_of};
use crate::db::{Scope, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::reserve::Purpose;
use crate::store::Store;

/// Whether one may refresh a credential.
#[derive(Clone, Debug, PartialEq)]
pub enum Claim {
    /// Yes, and nobody else until then. To be told when it is given back.
    Won {
        /// Until when, by the database's clock.
        until: Timestamp,
    },
    /// No: somebody else does.
    Held {
        /// For so long yet.
        remaining: Duration,
    },
    /// It has changed since it was read: this is what it is now.
    Changed(Box<CredentialRecord>),
    /// It is archived, or there is no such credential.
    Gone,
}

impl Store {
    /// Claims to refresh a credential, as it was when it had this generation, for so long. Whoever wins replaces its tokens
    /// ([`update_credential`](Self::update_credential), after looking at the generation) or gives the claim back; when it
    /// does neither, the claim ends with its time.
    pub async fn claim_refresh(
        &self,
        workspace: &WorkspaceId,
        id: &CredentialId,
        generation: i64,
        time: Duration,
    ) -> Result<Claim, Error> {
        let now = match self.inner.db.is_shared() {
            true => self.inner.db.clock_sql().to_owned(),
            // Of the only process.
            false => self.inner.services.clock.now().as_micros().to_string(),
        };
        let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let (workspace, id) = (workspace.clone(), id.clone());
        let scope = Scope::of(id.as_str()).with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    let won = tx
                        .one(
                            format!(
                                "UPDATE credentials SET refreshing_until = {now} + $4
                                 WHERE id = $1 AND workspace = $2 AND generation = $3 AND archived_at IS NULL
                                     AND (refreshing_until IS NULL OR refreshing_until <= {now})
                                 RETURNING refreshing_until"
                            ),
                            values![id.as_str(), workspace.as_str(), generation, micros],
                        )
                        .await?;
                    if let Some(row) = won {
                        failpoint!("store::credential::claimed");
                        return Ok(Claim::Won { until: row.time(0)? });
                    }
                    let sql = format!(
                        concat!(
                            "SELECT ",
                            credential_columns!(),
                            ", {now} FROM credentials c WHERE c.id = $1 AND c.workspace = $2 AND c.archived_at IS NULL"
                        ),
                        now = now
                    );
                    let values = values![id.as_str(), workspace.as_str()];
                    let Some(row) = tx.one(sql, values).await? else {
                        return Ok(Claim::Gone);
                    };
                    let record = credential_of(&row)?;
                    let left = record
                        .refreshing_until
                        .map_or(0, |until| until.as_micros().saturating_sub(row.int(7).unwrap_or(0)));
                    Ok(match record.generation == generation {
                        // At least a little: the claim may have ended between the two statements.
                        true => Claim::Held {
                            remaining: Duration::from_micros(u64::try_from(left).unwrap_or(0).max(1)),
                        },
                        false => Claim::Changed(Box::new(record)),
                    })
                })
            })
            .await
    }

    /// Gives a claim back without a change.
    pub async fn release_refresh(&self, id: &CredentialId, until: Timestamp) -> Result<(), Error> {
        let id = id.clone();
        let scope = Scope::of(id.as_str()).with_purpose(Purpose::Ends);
        self.inner
            .db
            .write(scope, move |tx| {
                Box::pin(async move {
                    let sql = "UPDATE credentials SET refreshing_until = NULL
                               WHERE id = $1 AND refreshing_until = $2";
                    tx.run(sql, values![id.as_str(), until]).await
                })
            })
            .await
    }
}
