//! The store's contract: one suite, run on both databases.

mod bed;
