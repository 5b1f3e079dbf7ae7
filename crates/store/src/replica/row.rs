//! This instance's row, by which the others know that it lives (security LEASE-1).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::BELIEVED;
use crate::db::{Scope, values};
use crate::error::Error;
use crate::failpoint::failpoint;
use crate::reserve::Purpose;
use crate::store::{Inner, Store};

impl Store {
    /// Grants no leases any more and leaves this instance's sessions to whoever wants them, before its brain gives them
    /// back (architecture "Drain").
    pub async fn stop_waking(&self) -> Result<(), Error> {
        self.inner.taken.store(false, Ordering::Release);
        let instance = Arc::clone(&self.inner.services.instance);
        self.inner
            .db
            .write(Scope::default(), move |tx| {
                Box::pin(async move {
                    let sql = "UPDATE instances SET role = 'api' WHERE id = $1";
                    tx.run(sql, values![instance.as_str()]).await
                })
            })
            .await
    }
}

impl Inner {
    /// The data directory's lock says that no other process lives: whatever was leased, no brain holds it now.
    pub(crate) async fn void_older_leases(&self) -> Result<(), Error> {
        let instance = Arc::clone(&self.services.instance);
        let place = self.home.name().to_owned();
        self.db
            .write(Scope::default().with_purpose(Purpose::Ends), move |tx| {
                Box::pin(async move {
                    tx.run(
                        "UPDATE sessions SET epoch = epoch + 1, holder = NULL WHERE holder IS NOT NULL",
                        Vec::new(),
                    )
                    .await?;
                    tx.run("DELETE FROM instances", Vec::new()).await?;
                    tx.run(
                        "INSERT INTO instances (id, expires_at, place, role) VALUES ($1, $2, $3, 'all')",
                        values![instance.as_str(), i64::MAX, place.as_str()],
                    )
                    .await
                })
            })
            .await
    }

    /// Says to the other instances that this one lives, by the database's clock (security LEASE-1). Where there is a
    /// connection beside the pool, a busy pool does not hold it up.
    pub(crate) async fn renew(&self) -> Result<(), Error> {
        let now = self.db.clock_sql();
        let sql = format!(
            "INSERT INTO instances (id, expires_at, place, role) VALUES ($1, {now} + $2, $3, $4)
             ON CONFLICT (id) DO UPDATE SET expires_at = EXCLUDED.expires_at"
        );
        let role = self.role.as_str();
        let lives = i64::try_from(BELIEVED.as_micros()).unwrap_or(i64::MAX);
        let values = values![
            self.services.instance.as_str(),
            lives,
            self.home.name(),
            role,
        ];
        let begun = self.renewals.now();
        match self.db.line() {
            Some(line) => line.run(sql, values).await?,
            None => {
                self.db
                    .write(Scope::default(), move |tx| Box::pin(tx.run(sql, values)))
                    .await?;
            }
        }
        failpoint!("store::lease::renewed");
        self.renewals.succeeded(begun);
        Ok(())
    }

    /// Gives all leases of this instance back, and takes its row away.
    pub(crate) async fn release_all(&self) -> Result<(), Error> {
        let instance = Arc::clone(&self.services.instance);
        self.db
            .write(Scope::default().with_purpose(Purpose::Ends), move |tx| {
                Box::pin(async move {
                    tx.run(
                        "UPDATE sessions SET holder = NULL WHERE holder = $1",
                        values![instance.as_str()],
                    )
                    .await?;
                    tx.run(
                        "DELETE FROM instances WHERE id = $1",
                        values![instance.as_str()],
                    )
                    .await
                })
            })
            .await
    }
}
