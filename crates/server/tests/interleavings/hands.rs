//! Those who run tools and those who judge calls, as the cases script them.

use async_trait::async_trait;
use manyhands_brain::{Judge, JudgeError, Judged};
use manyhands_hands::provider::fake::Fake;
use manyhands_hands::{Call, Output};
use manyhands_protocol::event::Judgement;
use serde_json::Value;

use crate::model::{Scripts, lock};

/// Judges calls by what the cases wrote into them.
#[derive(Debug)]
pub(crate) struct Umpire;

#[async_trait]
impl Judge for Umpire {
    async fn judge(&self, call: &Judged) -> Result<Judgement, JudgeError> {
        let path = call.input.get("file_path").and_then(Value::as_str);
        let (verdict, _) = path
            .and_then(|path| path.split_once(' '))
            .unwrap_or_default();
        let reason_code = "high_risk".to_owned();
        match verdict {
            "denied" => Ok(Judgement::Deny { reason_code }),
            "doubtful" => Ok(Judgement::Ask { reason_code }),
            "faulty" => Err("the judge is out".into()),
            _ => Ok(Judgement::Allow {}),
        }
    }
}

/// Hands whose tools do what the cases say.
pub(crate) fn hands(scripts: &Scripts) -> Fake {
    let mut hands = Fake::new();
    let sandboxes = hands.clone();
    for name in ["bash", "read", "write", "edit", "glob"] {
        let (scripts, sandboxes) = (scripts.clone(), sandboxes.clone());
        hands = hands.with_tool(name, move |call| {
            run(scripts.clone(), sandboxes.clone(), call)
        });
    }
    hands
}

async fn run(scripts: Scripts, sandboxes: Fake, call: Call) -> Output {
    let text = ["command", "file_path"];
    let text = text.iter().find_map(|name| call.input[name].as_str());
    let (what, case) = text
        .and_then(|text| text.split_once(' '))
        .unwrap_or_default();
    let Some(script) = case.parse().ok().and_then(|case| scripts.of(case)) else {
        return Output::error("no such case");
    };
    *lock(&script.starts)
        .entry(call.call_id.clone())
        .or_default() += 1;
    match what {
        "fail" => Output::error("it failed"),
        "empty" => Output::text(""),
        "hang" => {
            script.stick().await;
            Output::text("at last")
        }
        "lose" => {
            sandboxes.lose(&script.session().await);
            // Nobody hears of this end.
            std::future::pending().await
        }
        _ => Output::text(format!("{} ran", call.name)),
    }
}
