//! What one request came to, before it is known what for it was made.

use manyhands_egress::outbound::Refusal;

use crate::Failure;
use crate::wire::RpcError;

/// Why a request has no result.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fault {
    /// The rules of this house forbid it. Nothing was sent, and never will be.
    Barred(String),
    /// Nobody took it. It was not sent; a retry may help.
    Unsent(String),
    /// The server refused it before doing anything, by this HTTP status.
    Refused { status: u16, reason: String },
    /// The server no longer knows the conversation, or it was another credential's. It did nothing.
    Forgotten,
    /// The server wants another credential. It did nothing.
    Unauthorized(String),
    /// It may have been done; there is no usable answer.
    Lost(String),
    /// The answer is longer than this many bytes.
    TooLarge(usize),
    /// The server's error in the protocol's own form.
    Rpc(RpcError),
}

impl Fault {
    pub(crate) fn unsent(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Unreachable { .. } | Refusal::Time => Self::Unsent(refusal.to_string()),
            _ => Self::Barred(refusal.to_string()),
        }
    }

    /// Whether the same request, where it may be made twice, may fare better in a moment.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Unsent(_) | Self::Lost(_) | Self::Forgotten | Self::Refused { status: 429, .. }
        )
    }

    /// After all attempts: asking again right now does not help.
    pub(crate) fn settled(self) -> Self {
        match self {
            Self::Unauthorized(reason) => Self::Unauthorized(reason),
            other => Self::Barred(other.of_greeting().to_string()),
        }
    }

    /// For a handshake: nothing that was asked for has happened.
    pub(crate) fn of_greeting(self) -> Failure {
        match self.of_asking() {
            Failure::TooLarge { most } => Failure::Connection {
                reason: format!("the server's greeting is longer than {most} bytes"),
            },
            failure => failure,
        }
    }

    /// For a request that may be made twice: a handshake, a list.
    pub(crate) fn of_asking(self) -> Failure {
        match self {
            Self::TooLarge(most) => Failure::TooLarge { most },
            Self::Lost(reason) => Failure::Connection { reason },
            other => other.of_calling(),
        }
    }

    /// For a request that may have had effects. [`Self::Rpc`] is an answer and no failure there; here it is one.
    pub(crate) fn of_calling(self) -> Failure {
        let connection = |reason| Failure::Connection { reason };
        match self {
            Self::Barred(reason) | Self::Unsent(reason) | Self::Refused { reason, .. } => {
                connection(reason)
            }
            Self::Forgotten => {
                connection("the server forgets the conversation again and again".to_owned())
            }
            Self::Unauthorized(reason) => Failure::Authentication { reason },
            Self::Lost(reason) => Failure::Unknown { reason },
            Self::TooLarge(most) => Failure::TooLarge { most },
            Self::Rpc(error) => connection(format!(
                "the server answers with error {}: {}",
                error.code, error.message
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// runtime MC-7, security TOOL-2
    #[test]
    fn mc_7_faults_are_sorted_by_what_the_request_was_for() {
        #[track_caller]
        fn check(fault: Fault, asking: &str, calling: &str) {
            let kind = |failure: Failure| match failure {
                Failure::Connection { .. } => "connection",
                Failure::Authentication { .. } => "authentication",
                Failure::Unknown { .. } => "unknown",
                Failure::TooLarge { .. } => "too large",
            };
            assert_eq!(kind(fault.clone().of_asking()), asking, "{fault:?}");
            assert_eq!(kind(fault.clone().of_calling()), calling, "{fault:?}");
            let greeting = kind(fault.clone().of_greeting());
            assert_eq!(
                greeting,
                asking.replace("too large", "connection"),
                "{fault:?}"
            );
            let settled = fault.clone().settled();
            assert!(!settled.may_pass(), "{fault:?}");
            assert_eq!(kind(settled.of_calling()), greeting, "{fault:?}");
        }
        let text = String::new;
        check(Fault::Barred(text()), "connection", "connection");
        check(Fault::Unsent(text()), "connection", "connection");
        check(
            Fault::Refused {
                status: 400,
                reason: text(),
            },
            "connection",
            "connection",
        );
        check(Fault::Forgotten, "connection", "connection");
        check(
            Fault::Unauthorized(text()),
            "authentication",
            "authentication",
        );
        check(Fault::Lost(text()), "connection", "unknown");
        check(Fault::TooLarge(1), "too large", "too large");
        let error = RpcError {
            code: -1,
            message: text(),
            data: Value::Null,
        };
        check(Fault::Rpc(error), "connection", "connection");
    }
}
