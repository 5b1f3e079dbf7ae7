//! Starting those that wait: one at a time, in a task of its own that no session waits for.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::super::chain;
use super::super::host::Host;
use super::super::live::Live;
use super::{Kind, Member, PREFIX};
use crate::Error;
use crate::failpoint::failpoint;
use crate::provider::{Call, Recipe, Sandbox as _};

/// The owner of what has none: every lease has a higher epoch (security LEASE-1).
const NOBODY: i64 = 0;

/// How long the session that took one has the processors to itself before the next one is started.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the shell may take to start.
const SHELL: Duration = Duration::from_secs(10);

/// How long a server that stops waits for a start that has begun.
const PATIENCE: Duration = Duration::from_secs(1);

impl Host {
    /// Sees to it that as many wait as should.
    pub(in super::super) fn refill(self: &Arc<Self>) {
        if !self.pool.table().begin() {
            return;
        }
        let host = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(PAUSE).await;
            loop {
                // The lock is not kept while one is started.
                let next = host.pool.table().next();
                let Some((environment, kind)) = next else {
                    break;
                };
                match host.start_waiting(&kind).await {
                    Ok(member) => {
                        let back = host.pool.table().put(&environment, &kind, member);
                        if let Some(back) = back {
                            host.remove_member(back).await;
                        }
                    }
                    Err(error) => {
                        host.pool.table().fail(&environment, &kind);
                        tracing::warn!(
                            environment,
                            error = chain(&error),
                            "no sandbox waits for the next session"
                        );
                    }
                }
                host.pool.count();
            }
            host.pool.rested.notify_waiters();
        });
    }

    /// Starts one for nobody, with its shell.
    async fn start_waiting(self: &Arc<Self>, kind: &Kind) -> Result<Member, Error> {
        let name = format!("{PREFIX}{:032x}", rand::random::<u128>());
        let recipe = Recipe {
            limits: kind.limits.clone(),
            packages: kind.packages.clone(),
            ..Recipe::new(&name, NOBODY)
        };
        let held = self.hold_or_make(&name).await?;
        match self.warm_up(&recipe, &held.0).await {
            Ok(live) => {
                failpoint!("hands::pool_filled");
                Ok(Member { name, held, live })
            }
            Err(error) => {
                self.discard(&name, &held, None).await;
                Err(error)
            }
        }
    }

    async fn warm_up(
        self: &Arc<Self>,
        recipe: &Recipe,
        folder: &std::os::fd::OwnedFd,
    ) -> Result<Live, Error> {
        let unusable = |why: &str| Error::Lost {
            session: recipe.session.clone(),
            why: why.to_owned(),
        };
        let Some(furniture) = self.furniture(recipe).await? else {
            return Err(unusable("the packages of its environment are gone"));
        };
        let live = self.start(recipe, folder, &furniture, None).await?;
        let first = Call {
            // An id that no call of a session has: those that were used once are refused.
            call_id: recipe.session.clone(),
            epoch: NOBODY,
            name: "bash".to_owned(),
            input: json!({"command": "true"}),
            deadline: SHELL,
        };
        let said = live.execute(&first).await?;
        if said.is_error {
            return Err(unusable("its shell does not run"));
        }
        live.forget(&[first.call_id], NOBODY).await?;
        Arc::into_inner(live).ok_or_else(|| unusable("somebody uses it already"))
    }

    /// Returns once none is being started.
    pub(in super::super) async fn refilled(&self) {
        loop {
            let rested = self.pool.rested.notified();
            if !self.pool.table().is_filling() {
                return;
            }
            rested.await;
        }
    }

    /// Removes those that wait, and starts no more.
    pub(in super::super) async fn close_pool(&self) {
        let members = self.pool.table().close();
        let removed = members.into_iter().map(|member| self.remove_member(member));
        futures::future::join_all(removed).await;
        if tokio::time::timeout(PATIENCE, self.refilled())
            .await
            .is_err()
        {
            tracing::warn!("a sandbox was still being started; the next server removes it");
        }
        self.pool.count();
    }
}
