//! Why a command cannot do its work, in one line, and what to do about it in another.

use std::fmt;

use manyhands_store::Error;

/// An error for the operator of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    message: String,
    hint: String,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// What the store says, with what helps against exactly that; `otherwise` where only the command knows what does.
    pub(crate) fn of_store(error: &Error, otherwise: impl Into<String>) -> Self {
        let hint = match error {
            Error::Schema { found, known } => other_schema(*found, *known).to_owned(),
            Error::NotEmpty { .. } => {
                "name a new or empty directory with --data-dir, or move this one away first"
                    .to_owned()
            }
            Error::NoSpace { .. } => "free some disk space".to_owned(),
            _ => otherwise.into(),
        };
        Self::new(error.to_string(), hint)
    }

    /// What to do about it.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

/// What to do about a database of another version (security STORE-5).
fn other_schema(found: i64, known: i64) -> &'static str {
    if found > known {
        "a newer manyhands wrote it: use that one, or a newer one still"
    } else {
        "use the manyhands that wrote it; `serve` or `restore` of this one brings the schema up to date"
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    /// security STORE-5: what helps is said, and nothing that does not.
    #[test]
    fn store_5_a_hint_fits_the_error() {
        #[track_caller]
        fn check(error: Error, hint: &str) {
            let failure = Failure::of_store(&error, "name it with --data-dir");
            assert!(failure.hint().starts_with(hint), "{}", failure.hint());
            assert_eq!(failure.to_string(), error.to_string());
        }
        let schema = |found| Error::Schema { found, known: 15 };
        check(schema(16), "a newer manyhands wrote it: use that one");
        check(schema(14), "use the manyhands that wrote it");
        let directory = "/data".to_owned();
        check(
            Error::NotEmpty { directory },
            "name a new or empty directory",
        );
        let operation = "writing";
        check(Error::NoSpace { operation }, "free some disk space");
        let reason = "it is absent".to_owned();
        check(
            Error::Setup { operation, reason },
            "name it with --data-dir",
        );
    }
}
