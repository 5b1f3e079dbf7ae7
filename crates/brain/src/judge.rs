//! Who decides on a call under the policy `auto` (runtime TC-8): a judge of the operator's choice.

mod model;

use std::fmt::{Debug, Display};

use async_trait::async_trait;
use manyhands_protocol::SessionId;
use manyhands_protocol::event::Judgement;
use serde_json::{Map, Value};

pub use model::ModelJudge;

/// The reason code of a call that nobody can decide on.
pub const INDETERMINATE: &str = "indeterminate";

/// A call to be judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Whose call it is.
    pub session: SessionId,
    /// The tool.
    pub tool: String,
    /// What it is called with.
    pub input: Map<String, Value>,
    /// What the user said, oldest first: the texts of the session's latest `user.message` events. Results of tools
    /// and what the model said are no part of it: they must not be able to speak for the user (runtime TC-9).
    pub said: Vec<String>,
}

/// Why a judge came to no judgement. Only logged.
pub type JudgeError = Box<dyn std::error::Error + Send + Sync>;

/// Decides whether a call may run. A deny is final, an ask is passed on to the client.
#[async_trait]
pub trait Judge: Debug + Send + Sync + 'static {
    /// Judges one call.
    ///
    /// # Errors
    /// When no judgement can be reached; the client is asked then.
    async fn judge(&self, call: &Judged) -> Result<Judgement, JudgeError>;
}

/// What counts when nobody can tell: the client is asked.
pub(crate) fn indeterminate() -> Judgement {
    Judgement::Ask {
        reason_code: INDETERMINATE.to_owned(),
    }
}

/// The judgement of a call; after an error of the judge the client is asked.
pub(crate) async fn judgement(judge: &dyn Judge, call: &Judged) -> Judgement {
    match judge.judge(call).await {
        Ok(judgement) => judgement,
        Err(error) => {
            failed(&call.session, &*error);
            indeterminate()
        }
    }
}

/// Says that calls are left to the client.
pub(crate) fn failed(session: &SessionId, why: &dyn Display) {
    tracing::warn!(session.id = %session, %why, "the judge did not decide: the client is asked");
    metrics::counter!("manyhands_judge_failures_total").increment(1);
}
