//! Named points at every durable step, for crash tests. Without the feature `failpoints` they are nothing.

use manyhands_protocol::SessionId;

use crate::config::Config;

/// What a [`Probe`] does at a point.
#[cfg(feature = "failpoints")]
type Hook =
    dyn Fn(&'static str, &SessionId) -> futures::future::BoxFuture<'static, ()> + Send + Sync;

/// A test's hook: what it returns is awaited at each point, so that a wake can be held there and dropped.
#[cfg(feature = "failpoints")]
#[derive(Clone)]
pub struct Probe(pub std::sync::Arc<Hook>);

#[cfg(feature = "failpoints")]
impl std::fmt::Debug for Probe {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Probe")
    }
}

/// Passes a point. What is registered under the name with the `fail` crate happens here, then the probe.
#[cfg(feature = "failpoints")]
pub(crate) async fn pass(config: &Config, name: &'static str, session: &SessionId) {
    fail::fail_point!(name);
    if let Some(Probe(probe)) = &config.probe {
        probe(name, session).await;
    }
}

/// Passes a point: nothing.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub(crate) async fn pass(_: &Config, _: &'static str, _: &SessionId) {}
