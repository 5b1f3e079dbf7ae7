//! The store's contract: one suite, run on both databases.

/// Runs the named checks on a fresh database of each kind.
macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::bed::Bed::sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::bed::Bed::postgres().await).await;
            })*
        }
    };
}

mod backup;
mod bed;
mod crash;
mod full_disk;
mod lease;
mod list;
mod log;
mod model;
mod opening;
mod remains;
mod resources;
mod session;
mod strays;
mod tail;
mod verify;
