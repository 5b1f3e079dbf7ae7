//! Named places at durable steps where tests can stop the process. Release builds have none.

/// Every failpoint of this room, in the order of a sandbox's life.
pub const FAILPOINTS: &[&str] = &[
    "hands::after_tree",
    "hands::after_folders",
    "hands::before_record",
    "hands::after_record",
    "hands::after_spawn",
    "hands::after_attach",
    "hands::pool_filled",
    "hands::pool_announced",
    "hands::pool_shared",
    "hands::pool_noted",
    "hands::pool_recorded",
    "hands::pool_taken",
    "hands::before_end",
    "hands::after_discard",
    "hands::before_pack",
];

/// Marks a failpoint.
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        fail::fail_point!($name);
    };
}
pub(crate) use failpoint;
