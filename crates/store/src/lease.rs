//! Who may wake a session now, proved by a fencing epoch (security LEASE-1).

use manyhands_protocol::{SessionId, WorkspaceId};

/// The right to write to a session as its brain. Every append carries the epoch; an older one is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Whose session it is.
    pub workspace: WorkspaceId,
    /// Which session.
    pub session: SessionId,
    /// Grows with every grant.
    pub epoch: i64,
}

/// "This session wants a brain." Carries no data that a wake depends on: losing one costs only time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nudge {
    /// Whose session it is.
    pub workspace: WorkspaceId,
    /// Which session.
    pub session: SessionId,
    /// A lease that was granted together with the write that caused the nudge, to save a transaction.
    pub lease: Option<Lease>,
}
