//! What `doctor` says of containers, as far as it needs no engine.

use crate::Error;
use crate::provider::namespace::chain;
use crate::provider::{Holds, Limit, Missing, Strength};

/// What an error of the parts of a sandbox says is missing.
pub(super) fn lacking(error: Error) -> Missing {
    match error {
        Error::Unavailable { what, why, install } => Missing { what, why, install },
        error => Missing {
            what: "the parts of a sandbox cannot be made".to_owned(),
            why: chain(&error),
            install: "look at the container engine's own log".to_owned(),
        },
    }
}

/// Run times that bring a kernel of their own.
pub(super) fn strength(runtime: Option<&str>) -> Strength {
    let own_kernel = |name: &str| name.starts_with("runsc") || name.starts_with("kata");
    match runtime {
        Some(name) if own_kernel(name) => Strength::Kernel,
        _ => Strength::Namespace,
    }
}

/// What holds a sandbox's limits, where its disk is bounded or why it is not.
pub(super) fn limits(bounded: Result<(), String>) -> Vec<Limit> {
    let engine = "the container engine";
    let (disk, by) = match bounded {
        Ok(()) => {
            let by = "a file system of the sandbox's own, of bytes and files".to_owned();
            (Holds::Hard, by)
        }
        Err(why) => (
            Holds::Soft,
            format!("the size limit of each file, as {why}"),
        ),
    };
    [
        ("memory", Holds::Hard, engine),
        ("processes", Holds::Hard, engine),
        ("processor", Holds::Hard, engine),
        ("open files", Holds::Soft, "the limit of each process"),
        ("disk", disk, &by),
    ]
    .map(|(name, holds, by)| Limit {
        name,
        holds,
        by: by.to_owned(),
    })
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sbx_2_a_run_time_with_its_own_kernel_is_said_to_be_stronger() {
        let check = |runtime, expected| assert_eq!(strength(runtime), expected);
        check(None, Strength::Namespace);
        check(Some("crun"), Strength::Namespace);
        check(Some("runsc"), Strength::Kernel);
        check(Some("kata-qemu"), Strength::Kernel);
        assert!(Strength::Kernel > Strength::Namespace);
    }
}
