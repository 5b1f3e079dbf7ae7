//! Hands that obey a wake only while its server's word counts: a server that was stopped, cut off or swapped out for longer
//! than the others believe in it has perhaps been replaced, at a place whose sandboxes this one's cannot hear of. It looks
//! at its own clock before each thing it does to a sandbox, and does not trust it again for a lease that is older than such a
//! pause (security LEASE-1, I5).

use std::sync::Arc;

use async_trait::async_trait;
use manyhands_hands::memory::{Answer, Ask, Memories, Note};
use manyhands_hands::packages::Manager;
use manyhands_hands::provider::{Capture, Join, Joined, Missing, Origin, Seen, Told, Upload};
use manyhands_hands::{Call, Error, Output, Probe, Provider, Recipe, Sandbox};
use manyhands_protocol::environment::Packages;
use manyhands_store::Store;

/// What a lease is worth to those who cannot ask the store each time.
#[derive(Clone)]
pub(crate) struct Fence {
    store: Store,
    /// The store's count when the lease was known to be good.
    lapses: u64,
}

impl Fence {
    /// For a lease that is checked after this.
    pub(crate) fn new(store: Store) -> Self {
        let lapses = store.lapses();
        Self { store, lapses }
    }

    /// Whether this may be done.
    pub(crate) fn holds(&self, doing: &'static str) -> bool {
        if self.store.fresh() && self.store.lapses() == self.lapses {
            return true;
        }
        metrics::counter!("manyhands_fenced_total", "doing" => doing).increment(1);
        tracing::warn!(
            doing,
            "this server may have been replaced: it leaves sandboxes and MCP servers alone"
        );
        false
    }
}

/// The hands behind the fence.
pub(crate) struct Fenced<T: ?Sized> {
    fence: Fence,
    inner: Arc<T>,
}

impl<T: ?Sized> Fenced<T> {
    /// Puts the fence before these hands.
    pub(crate) fn new(fence: Fence, inner: Arc<T>) -> Self {
        Self { fence, inner }
    }

    fn pass(&self, doing: &'static str) -> Result<(), Error> {
        match self.fence.holds(doing) {
            true => Ok(()),
            false => Err(Error::Fenced),
        }
    }

    fn guard(&self, sandbox: Arc<dyn Sandbox>) -> Arc<dyn Sandbox> {
        Arc::new(Fenced {
            fence: self.fence.clone(),
            inner: sandbox,
        })
    }
}

#[async_trait]
impl Provider for Fenced<dyn Provider> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn probe(&self) -> Probe {
        self.inner.probe().await
    }

    async fn installs(&self, manager: Manager) -> Result<(), Missing> {
        self.inner.installs(manager).await
    }

    async fn furnish(&self, recipe: &Recipe, told: &Told) -> Result<(), Error> {
        self.inner.furnish(recipe, told).await
    }

    async fn unfurnish(&self, wanted: &[Packages]) -> Result<(), Error> {
        self.inner.unfurnish(wanted).await
    }

    async fn lay(&self, session: &str, uploads: &[Upload]) -> Result<(), Error> {
        self.pass("lay")?;
        self.inner.lay(session, uploads).await
    }

    async fn memories(&self, session: &str) -> Result<Option<Arc<dyn Memories>>, Error> {
        self.pass("memories")?;
        let found = self.inner.memories(session).await?;
        Ok(found.map(|found| {
            let fence = self.fence.clone();
            let inner = found;
            Arc::new(Fenced { fence, inner }) as Arc<dyn Memories>
        }))
    }

    async fn capture(&self, session: &str, seen: &[Seen]) -> Result<Capture, Error> {
        self.pass("capture")?;
        self.inner.capture(session, seen).await
    }

    async fn join(&self, session: &str, files: &Join<'_>) -> Result<Option<Joined>, Error> {
        self.pass("join")?;
        self.inner.join(session, files).await
    }

    async fn provision(&self, recipe: &Recipe) -> Result<Arc<dyn Sandbox>, Error> {
        self.pass("provision")?;
        let made = self.inner.provision(recipe).await?;
        Ok(self.guard(made))
    }

    async fn find(&self, session: &str, epoch: i64) -> Result<Option<Arc<dyn Sandbox>>, Error> {
        self.pass("find")?;
        let found = self.inner.find(session, epoch).await?;
        Ok(found.map(|found| self.guard(found)))
    }

    async fn release(&self, session: &str) -> Result<(), Error> {
        self.pass("release")?;
        self.inner.release(session).await
    }

    async fn destroy(&self, session: &str) -> Result<(), Error> {
        self.pass("destroy")?;
        self.inner.destroy(session).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[async_trait]
impl Sandbox for Fenced<dyn Sandbox> {
    fn instance(&self) -> &str {
        self.inner.instance()
    }

    fn origin(&self) -> Option<Origin> {
        self.inner.origin()
    }

    async fn execute(&self, call: &Call) -> Result<Output, Error> {
        self.pass("execute")?;
        self.inner.execute(call).await
    }

    async fn kill(&self, call_id: &str, epoch: i64) -> Result<(), Error> {
        self.pass("kill")?;
        self.inner.kill(call_id, epoch).await
    }

    async fn forget(&self, call_ids: &[String], epoch: i64) -> Result<(), Error> {
        self.pass("forget")?;
        self.inner.forget(call_ids, epoch).await
    }
}

#[async_trait]
impl Memories for Fenced<dyn Memories> {
    async fn ask(&self, asks: Vec<Ask>) -> Result<Vec<Answer>, Error> {
        self.pass("ask")?;
        self.inner.ask(asks).await
    }

    async fn stirred(&self) {
        self.inner.stirred().await;
    }

    async fn noted(&self) -> Result<Option<Note>, Error> {
        self.pass("noted")?;
        self.inner.noted().await
    }

    async fn note(&self, bytes: Vec<u8>) -> Result<(), Error> {
        self.pass("note")?;
        self.inner.note(bytes).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use manyhands_hands::provider::fake::Fake;

    use super::*;
    use crate::testing::store_up_for;

    fn call(id: &str) -> Call {
        Call {
            call_id: id.to_owned(),
            epoch: 1,
            name: "bash".to_owned(),
            input: serde_json::json!({}),
            deadline: Duration::from_secs(60),
        }
    }

    /// security I5 as well: what was begun before the pause is the sandbox's; nothing more is asked of it.
    #[tokio::test]
    async fn lease_1_a_server_that_was_away_for_long_touches_no_sandbox() {
        let seconds = Arc::new(AtomicU64::new(1000));
        let store = store_up_for(&seconds).await;
        let fake = Fake::new().with_tool("bash", async |_| Output::text("ran"));
        let inner: Arc<dyn Provider> = Arc::new(fake.clone());
        let hands = Fenced::new(Fence::new(store), inner);
        let sandbox = hands.provision(&Recipe::new("sesn_a", 1)).await.unwrap();
        assert_eq!(
            sandbox.execute(&call("first")).await.unwrap(),
            Output::text("ran")
        );

        seconds.fetch_add(11, Ordering::Relaxed);
        let ids = ["first".to_owned()];
        let refused = [
            sandbox.execute(&call("second")).await.err(),
            sandbox.kill("first", 1).await.err(),
            sandbox.forget(&ids, 1).await.err(),
            hands.find("sesn_a", 1).await.err(),
            hands.provision(&Recipe::new("sesn_b", 1)).await.err(),
            hands.release("sesn_a").await.err(),
            hands.destroy("sesn_a").await.err(),
        ];
        for refused in refused {
            assert!(matches!(refused, Some(Error::Fenced)), "{refused:?}");
        }
        assert_eq!(fake.starts().len(), 1);
        assert_eq!(fake.provisions(), 1);
        assert!(fake.find("sesn_a", 1).await.unwrap().is_some(), "untouched");
    }
}
