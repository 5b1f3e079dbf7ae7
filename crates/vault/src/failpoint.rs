//! Named places where tests make the process fail (security §4). Nothing of it is in a build without the feature.

/// A place where a test can panic, exit or hold the process.
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        fail::fail_point!($name);
    };
}
pub(crate) use failpoint;
