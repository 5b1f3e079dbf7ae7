//! What can go wrong, sorted by what is to be done about it.

use std::io;

/// Why a blob could not be written, read or removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The disk is full, or nearly: refuse the new, what is stored can be read (security STORE-4).
    #[error("{operation}: no space left for blobs")]
    NoSpace {
        /// What was attempted.
        operation: &'static str,
    },
    /// There is more of it than may be: tell whoever sent it.
    #[error("it has more than {cap} bytes")]
    TooLarge {
        /// How many bytes may be.
        cap: u64,
    },
    /// There is no such blob.
    #[error("the blob {name} is missing")]
    Missing {
        /// Its name.
        name: String,
    },
    /// What is stored is not what was written: only this blob is affected (security STORE-3).
    #[error("the blob {name} is damaged: {reason}")]
    Damaged {
        /// Its name.
        name: String,
        /// How.
        reason: String,
    },
    /// What was to be written could not be read.
    #[error("what is to be stored cannot be read: {reason}")]
    Source {
        /// The reader's words.
        reason: String,
    },
    /// The folder or the object store did not do it; a retry may help.
    #[error("{operation}: {reason}")]
    Unavailable {
        /// What was attempted.
        operation: &'static str,
        /// Its words.
        reason: String,
    },
    /// The settings make no sense, or a name is none: stop, and tell the operator.
    #[error("{operation}: {reason}")]
    Invalid {
        /// What was attempted.
        operation: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    /// Sorts what the object store says about the blob `name`.
    pub(crate) fn sort(operation: &'static str, name: &str, error: &object_store::Error) -> Self {
        if let object_store::Error::NotFound { .. } = error {
            return Self::Missing {
                name: name.to_owned(),
            };
        }
        if is_full(error) {
            return Self::NoSpace { operation };
        }
        Self::Unavailable {
            operation,
            reason: error.to_string(),
        }
    }
}

/// Whether the end of a disk or of a quota is somewhere among the causes.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: io::ErrorKind, full: bool) {
        let error = object_store::Error::Generic {
            store: "test",
            source: Box::new(io::Error::from(source)),
        };
        let sorted = Error::sort("writing a blob", "files/x", &error);
        let expected = matches!(sorted, Error::NoSpace { .. });
        assert_eq!(expected, full, "{source:?}: {sorted:?}");
    }

    #[test]
    fn store_4_a_full_disk_is_told_apart_from_a_failing_one() {
        check(io::ErrorKind::StorageFull, true);
        check(io::ErrorKind::QuotaExceeded, true);
        check(io::ErrorKind::PermissionDenied, false);
        check(io::ErrorKind::Other, false);
    }
}
