//! Named places at durable steps where tests can stop the process (security §4). Release builds have none.

/// Marks a failpoint.
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        fail::fail_point!($name);
    };
}
pub(crate) use failpoint;
