//! The process's figures, collected for `/metrics` (security OPS-1), and its log.

mod line;

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use line::OneLine;

/// Bounds of latencies, in seconds.
const SECONDS: [f64; 14] = [
    0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];

/// The recorder of this process, installed when it is first asked for.
///
/// Where another recorder is installed already, the figures go there and this one stays empty.
pub(crate) fn recorder() -> &'static PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(|| {
        let builder = PrometheusBuilder::new();
        // The only refusal is an empty list of bounds.
        let builder = builder.set_buckets(&SECONDS).unwrap_or_default();
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is installed; /metrics stays empty");
        }
        handle
    })
}

/// Between two times that samples are folded into their figures.
const FOLD: Duration = Duration::from_secs(10);

/// Folds what was measured into the figures until `stop`: samples that nobody asks for would pile up for ever.
pub(crate) async fn fold_while_running(
    recorder: &'static PrometheusHandle,
    stop: CancellationToken,
) {
    let folding = async {
        loop {
            tokio::time::sleep(FOLD).await;
            recorder.run_upkeep();
        }
    };
    stop.run_until_cancelled(folding).await;
}

/// Sends the log to standard error, filtered by `MANYHANDS_LOG` (such as `debug`, or `manyhands_server=debug`).
pub(crate) fn log() {
    let filter = std::env::var("MANYHANDS_LOG").unwrap_or_default();
    let colours =
        io::IsTerminal::is_terminal(&io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let subscriber = subscriber(&filter, colours, io::stderr);
    if subscriber.try_init().is_err() {
        tracing::debug!("another log is installed");
    }
}

/// The log: one line an event, whatever is in it.
fn subscriber<W: io::Write + 'static>(
    filter: &str,
    colours: bool,
    to: impl Fn() -> W + Send + Sync + 'static,
) -> impl tracing::Subscriber + Send + Sync {
    let filter = Some(filter).filter(|filter| !filter.is_empty());
    let filter = filter.and_then(|filter| EnvFilter::try_new(filter).ok());
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|| EnvFilter::new("info")))
        .with_ansi(colours)
        .with_writer(move || OneLine::new(to(), colours))
        .finish()
}
