//! Events as clients send them.

use manyhands_protocol::EventId;
use manyhands_protocol::content::ContentBlock;
use manyhands_protocol::event::{Confirmation, EventBody};

pub(crate) fn message(text: &str) -> EventBody {
    EventBody::UserMessage {
        content: vec![ContentBlock::text(text)],
    }
}

pub(crate) fn system(text: &str) -> EventBody {
    EventBody::SystemMessage {
        content: vec![ContentBlock::text(text)],
    }
}

pub(crate) fn interrupt() -> EventBody {
    EventBody::UserInterrupt {
        session_thread_id: None,
    }
}

/// An answer to a call that asked.
pub(crate) fn confirmation(
    call: &str,
    result: Confirmation,
    deny_message: Option<&str>,
) -> EventBody {
    EventBody::UserToolConfirmation {
        tool_use_id: EventId::parse(call).unwrap(),
        result,
        deny_message: deny_message.map(str::to_owned),
        session_thread_id: None,
    }
}

pub(crate) fn custom_result(call: &str, text: &str) -> EventBody {
    EventBody::UserCustomToolResult {
        custom_tool_use_id: EventId::parse(call).unwrap(),
        content: Some(vec![ContentBlock::text(text)]),
        is_error: None,
        session_thread_id: None,
    }
}
