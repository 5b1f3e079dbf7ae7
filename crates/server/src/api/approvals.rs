//! Who allows or denies which tool calls, for the audit log (security OPS-3). Pure.

use manyhands_protocol::SessionId;
use manyhands_protocol::event::{Confirmation, EventBody};
use manyhands_store::audit::{Act, Action, Actor, Outcome};
use manyhands_store::{Append, NewEntry};

use crate::api::auth::Principal;

/// The rows for the confirmations that are about to be stored: allowed is done, denied is refused.
pub(crate) fn of(principal: &Principal, session: &SessionId, append: &Append) -> Vec<Act> {
    let approval = |entry: &NewEntry| {
        let NewEntry::Event { body, .. } = entry else {
            return None;
        };
        let EventBody::UserToolConfirmation {
            tool_use_id,
            result,
            ..
        } = body
        else {
            return None;
        };
        let outcome = match result {
            Confirmation::Allow => Outcome::Done,
            Confirmation::Deny => Outcome::Refused,
        };
        let actor = Actor::Key(principal.key.clone());
        let act = Act::new(&principal.workspace, actor, Action::Approval);
        let act = act.to(tool_use_id.as_str()).ending(outcome);
        Some(Act {
            session: Some(session.clone()),
            ..act
        })
    };
    append.entries.iter().filter_map(approval).collect()
}
