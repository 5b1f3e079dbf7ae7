//! What can go wrong with a hand, sorted by what is to be done about it.

use std::io;

/// Why a sandbox did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This host cannot give a sandbox; nothing was started, and nothing runs outside of one (security SBX-2).
    #[error("{what}: {why}; {install}")]
    Unavailable {
        /// What is missing, for example `bubblewrap is missing`.
        what: String,
        /// What was seen.
        why: String,
        /// What the operator should do, as a sentence without a full stop.
        install: String,
    },
    /// The sandbox or the way to it is gone: whether the call took effect is unknown (security LOG-2, runtime EN-19).
    #[error("the sandbox of {session} is gone: {why}")]
    Lost {
        /// The session.
        session: String,
        /// What was seen.
        why: String,
    },
    /// A newer owner of the session has spoken to the sandbox: this one must stop (security LEASE-1).
    #[error("epoch {epoch} is older than epoch {seen}, which the sandbox has seen")]
    StaleEpoch {
        /// The epoch that was sent.
        epoch: i64,
        /// The highest epoch the sandbox has seen.
        seen: i64,
    },
    /// This server could not say for a while that it lives, so that another may own the session by now: it must stop
    /// (security LEASE-1).
    #[error("this server may not own its sessions any more")]
    Fenced,
    /// The request makes no sense, and will not when repeated.
    #[error("the sandbox refused: {0}")]
    Refused(String),
    /// The disk is full; nothing is half-written.
    #[error("no space left {what}")]
    NoSpace {
        /// Where, for example `for the sandbox of sesn_1`.
        what: String,
    },
    /// An environment's packages cannot be installed; a sandbox without them can be had (runtime EN-9).
    #[error("{manager} could not install the environment's packages: {why}")]
    Packages {
        /// The package manager.
        manager: &'static str,
        /// Its last words, bounded, in one or several lines. They come from outside.
        why: String,
    },
    /// The host failed at something that may work the next time.
    #[error("could not {doing}")]
    Io {
        /// The operation and its thing, for example `make the workspace of sesn_1`.
        doing: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// What the owner of a call should do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Try again a few times; then tell the model.
    Retry,
    /// Make it the error result of the call: [`Error::for_model`]. The session goes on.
    TellModel,
    /// Stop working on the session at once: somebody else does.
    Stop,
}

impl Error {
    /// What is to be done.
    pub fn advice(&self) -> Advice {
        match self {
            Self::Io { .. } => Advice::Retry,
            Self::Unavailable { .. }
            | Self::Lost { .. }
            | Self::Refused(_)
            | Self::Packages { .. }
            | Self::NoSpace { .. } => Advice::TellModel,
            Self::StaleEpoch { .. } | Self::Fenced => Advice::Stop,
        }
    }

    /// Whether the call may have taken effect although there is no result: it must not be repeated (invariant I4).
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }

    /// The text of the call's error result. It names no path of the host and no session.
    pub fn for_model(&self) -> String {
        match self {
            Self::Unavailable { what, install, .. } => {
                format!("No sandbox is available on this server ({what}), so the tool did not run. Operator: {install}.")
            }
            Self::Lost { .. } => "The sandbox was lost while the tool ran: whether it took effect is unknown. \
                 Processes are gone; the next call gets a working sandbox. Check the state before you repeat the call."
                .to_owned(),
            Self::StaleEpoch { .. } | Self::Fenced => "The call was handed to another worker.".to_owned(),
            Self::Refused(reason) => format!("The sandbox refused the call: {reason}."),
            Self::Packages { manager, why } => {
                format!("The packages of the environment are not installed: {manager} failed. It said:\n{why}")
            }
            Self::NoSpace { .. } => "No disk space is left for the sandbox, so the tool did not run.".to_owned(),
            Self::Io { .. } => "The sandbox could not be reached, so the tool did not run.".to_owned(),
        }
    }

    /// Wraps an error of the operating system; a full disk becomes [`Error::NoSpace`].
    pub(crate) fn io(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let (doing, source) = (doing.into(), source.into());
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace {
                what: format!("to {doing}"),
            },
            _ => Self::Io { doing, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_sorted_by_what_is_to_be_done() {
        #[track_caller]
        fn check(error: Error, advice: Advice, unknown: bool, text: &str) {
            assert_eq!(error.advice(), advice);
            assert_eq!(error.outcome_unknown(), unknown);
            assert!(error.for_model().contains(text), "{}", error.for_model());
        }
        let full = io::Error::from_raw_os_error(28);
        check(
            Error::io("write a thing", full),
            Advice::TellModel,
            false,
            "No disk space",
        );
        check(
            Error::io("fork", io::Error::from_raw_os_error(11)),
            Advice::Retry,
            false,
            "did not run",
        );
        check(
            Error::StaleEpoch { epoch: 1, seen: 2 },
            Advice::Stop,
            false,
            "another worker",
        );
        check(Error::Fenced, Advice::Stop, false, "another worker");
        let lost = Error::Lost {
            session: "sesn_1".into(),
            why: "it ended".into(),
        };
        check(
            lost,
            Advice::TellModel,
            true,
            "whether it took effect is unknown",
        );
    }
}
