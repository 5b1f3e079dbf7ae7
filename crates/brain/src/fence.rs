//! Hands that obey only while this server's word counts: a server that was stopped, cut off or swapped out for longer than
//! the others believe in it has perhaps been replaced, at a place whose sandboxes this one's cannot hear of. It looks at
//! its own clock before each thing it does to a sandbox (security LEASE-1, I5).

use std::sync::Arc;

use async_trait::async_trait;
use manyhands_hands::{Call, Error, Output, Probe, Provider, Recipe, Sandbox};
use manyhands_store::Store;

/// The hands behind the fence.
pub(crate) struct Fenced<T: ?Sized> {
    store: Store,
    inner: Arc<T>,
}

impl<T: ?Sized> Fenced<T> {
    /// Puts the fence before these hands.
    pub(crate) fn new(store: Store, inner: Arc<T>) -> Self {
        Self { store, inner }
    }

    fn pass(&self, doing: &'static str) -> Result<(), Error> {
        if self.store.fresh() {
            return Ok(());
        }
        metrics::counter!("manyhands_fenced_total", "doing" => doing).increment(1);
        tracing::warn!(
            doing,
            "this server may have been replaced: it leaves sandboxes alone"
        );
        Err(Error::Fenced)
    }

    fn guard(&self, sandbox: Arc<dyn Sandbox>) -> Arc<dyn Sandbox> {
        Arc::new(Fenced::new(self.store.clone(), sandbox))
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
}

#[async_trait]
impl Sandbox for Fenced<dyn Sandbox> {
    fn instance(&self) -> &str {
        self.inner.instance()
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
