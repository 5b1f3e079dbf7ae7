//! Named places at durable steps where tests can stop the process (security §4). Release builds have none.

/// Marks a failpoint.
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        fail::fail_point!($name);
    };
}
pub(crate) use failpoint;

/// The variable that says where this process dies: `NAME`, or `NAME=N` for the N-th time that it comes there.
#[cfg(feature = "failpoints")]
const DIES_AT: &str = "MANYHANDS_DIES_AT";

/// Arms the failpoints for as long as the answer lives: the one that [`DIES_AT`] names ends the process as `kill -9`
/// does, and those that `FAILPOINTS` names do what it says of them.
#[cfg(feature = "failpoints")]
pub(crate) fn arm() -> anyhow::Result<fail::FailScenario<'static>> {
    use std::sync::atomic::{AtomicU32, Ordering};

    let scenario = fail::FailScenario::setup();
    let Ok(text) = std::env::var(DIES_AT) else {
        return Ok(scenario);
    };
    let (name, nth) = text.split_once('=').unwrap_or((&text, "1"));
    let nth: u32 = nth.parse()?;
    let passed = AtomicU32::new(0);
    let die = move || {
        if passed.fetch_add(1, Ordering::SeqCst) + 1 == nth {
            let killed = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            );
            // Nobody comes here: the signal is handled before the call returns.
            killed.expect("a process may end itself");
        }
    };
    fail::cfg_callback(name, die).map_err(anyhow::Error::msg)?;
    Ok(scenario)
}
