//! What lies outside of an instance, as it sees it: the model and the sandboxes, behind its fate.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use manyhands_brain::models::{Error as ModelError, Model, Request, Response, Sink};
use manyhands_hands::{Call, Error, Output, Probe, Provider, Recipe, Sandbox};
use tokio::time::Instant;

use crate::fate::Fate;
use crate::model::{Scripts, lock};

/// When the model's endpoint is down.
#[derive(Clone, Default)]
pub(crate) struct Weather(Arc<Mutex<Option<Instant>>>);

impl Weather {
    /// It is down for a while.
    pub(crate) fn down(&self, time: Duration) {
        *lock(&self.0) = Some(Instant::now() + time);
    }

    /// It is up again.
    pub(crate) fn up(&self) {
        *lock(&self.0) = None;
    }

    fn is_down(&self) -> bool {
        lock(&self.0).is_some_and(|until| Instant::now() < until)
    }
}

/// The model, asked by one instance.
pub(crate) struct Asked {
    pub(crate) scripts: Scripts,
    pub(crate) fate: Fate,
    pub(crate) weather: Weather,
}

#[async_trait]
impl Model for Asked {
    async fn sample(&self, request: &Request, sink: &mut dyn Sink) -> Result<Response, ModelError> {
        self.fate.pass().await;
        if self.weather.is_down() {
            return Err(self.scripts.missed(request));
        }
        let answer = self.scripts.sample(request, sink).await;
        self.fate.pass().await;
        answer
    }
}

/// The sandboxes of a place, as one instance reaches them.
pub(crate) struct Reached {
    pub(crate) hands: Arc<dyn Provider>,
    pub(crate) fate: Fate,
}

impl Reached {
    fn guarded(&self, sandbox: Arc<dyn Sandbox>) -> Arc<dyn Sandbox> {
        let fate = self.fate.clone();
        Arc::new(Guarded { sandbox, fate })
    }
}

#[async_trait]
impl Provider for Reached {
    fn name(&self) -> &'static str {
        self.hands.name()
    }

    async fn probe(&self) -> Probe {
        self.hands.probe().await
    }

    async fn provision(&self, recipe: &Recipe) -> Result<Arc<dyn Sandbox>, Error> {
        alive(&self.fate).await;
        let made = self.hands.provision(recipe).await;
        made.map(|sandbox| self.guarded(sandbox))
    }

    async fn find(&self, session: &str, epoch: i64) -> Result<Option<Arc<dyn Sandbox>>, Error> {
        alive(&self.fate).await;
        let found = self.hands.find(session, epoch).await?;
        Ok(found.map(|sandbox| self.guarded(sandbox)))
    }

    async fn release(&self, session: &str) -> Result<(), Error> {
        alive(&self.fate).await;
        self.hands.release(session).await
    }

    async fn destroy(&self, session: &str) -> Result<(), Error> {
        alive(&self.fate).await;
        self.hands.destroy(session).await
    }
}

struct Guarded {
    sandbox: Arc<dyn Sandbox>,
    fate: Fate,
}

#[async_trait]
impl Sandbox for Guarded {
    fn instance(&self) -> &str {
        self.sandbox.instance()
    }

    async fn execute(&self, call: &Call) -> Result<Output, Error> {
        alive(&self.fate).await;
        let output = self.sandbox.execute(call).await;
        self.fate.pass().await;
        output
    }

    async fn kill(&self, call_id: &str, epoch: i64) -> Result<(), Error> {
        alive(&self.fate).await;
        self.sandbox.kill(call_id, epoch).await
    }

    async fn forget(&self, call_ids: &[String], epoch: i64) -> Result<(), Error> {
        alive(&self.fate).await;
        self.sandbox.forget(call_ids, epoch).await
    }
}

/// Frames of a dead instance do not come. One that stands still is not stopped here: between looking whether it may and
/// sending a frame lies no wait.
pub(crate) async fn alive(fate: &Fate) {
    if fate.is_dead() {
        std::future::pending::<()>().await;
    }
}
