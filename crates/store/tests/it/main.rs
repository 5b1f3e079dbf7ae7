//! The store's contract: one suite, run on every kind of database.

/// Runs the named checks on a fresh database of each kind. In memory a write is over when its first poll is, so the
/// checks behind `on_disks` (of writes that wait, and of files) are not for it.
macro_rules! contract {
    ($($name:ident),* $(,)? $(; on_disks: $($on_disks:ident),* $(,)?)?) => {
        mod sqlite {
            contract!(each sqlite: $($name,)* $($($on_disks),*)?);
        }
        mod postgres {
            contract!(each postgres: $($name,)* $($($on_disks),*)?);
        }
        mod memory {
            contract!(each memory: $($name),*);
        }
    };
    (each $kind:ident: $($name:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            super::$name(crate::bed::Bed::$kind().await).await;
        })*
    };
}

mod backup;
mod bed;
mod checkpoints;
mod clocks;
mod clones;
mod crash;
mod files;
mod full_disk;
mod lease;
mod list;
mod log;
mod memory;
mod memory_stores;
mod model;
mod opening;
mod outages;
mod quotas;
mod remains;
mod replicas;
mod repositories;
mod resources;
mod session;
mod skills;
mod strays;
mod tail;
mod tenancy;
mod user_profiles;
mod vaults;
mod verify;
