//! What one message makes the model do, drawn before it is sent (pure).

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

/// Where sandboxes find the harness's program.
pub(crate) const DOOR: &str = "/opt/chaos";

/// The custom tool of all agents.
pub(crate) const CUSTOM_TOOL: &str = "ask_client";

/// The model's answers to one message, one a step; the last one calls nothing and ends the turn.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
}

/// One answer of the model.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) calls: Vec<Call>,
    /// What the first request for it meets instead.
    pub(crate) fault: Option<Fault>,
    /// The time before the first byte.
    pub(crate) think: Duration,
}

/// A failure of the model's endpoint that a retry helps against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// 529 before anything was said.
    Overloaded,
    /// The connection breaks in the middle of the answer.
    Cut,
}

/// A tool call, known by a key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// `bash`: a pause, a line in the ledger, a pause; both in milliseconds.
    Say { before: u32, after: u32 },
    /// `write` of a file.
    Write,
    /// `glob`, which may be repeated.
    Look,
    /// The custom tool.
    Ask,
}

impl Plan {
    /// Draws a plan.
    pub(crate) fn draw(dice: &mut StdRng) -> Self {
        let rounds = dice.random_range(0..=2);
        let mut steps: Vec<Step> = (0..rounds)
            .map(|_| {
                let many = if dice.random_bool(0.35) { 3 } else { 1 };
                let count = dice.random_range(1..=many);
                Step::draw(dice, count)
            })
            .collect();
        steps.push(Step::draw(dice, 0));
        Self { steps }
    }

    /// One call that waits for the ledger, and an answer: what sessions are held with.
    pub(crate) fn of_calls(calls: Vec<Call>) -> Self {
        let step = |calls| Step {
            calls,
            fault: None,
            think: Duration::ZERO,
        };
        let mut steps = vec![];
        if !calls.is_empty() {
            steps.push(step(calls));
        }
        steps.push(step(vec![]));
        Self { steps }
    }
}

impl Step {
    fn draw(dice: &mut StdRng, calls: usize) -> Self {
        let calls = (0..calls).map(|_| Call::draw(dice)).collect();
        let fault = match dice.random_range(0..60) {
            0 => Some(Fault::Overloaded),
            1 => Some(Fault::Cut),
            _ => None,
        };
        Self {
            calls,
            fault,
            think: Duration::from_millis(dice.random_range(0..80)),
        }
    }
}

impl Call {
    fn draw(dice: &mut StdRng) -> Self {
        match dice.random_range(0..10) {
            0 => Self::Write,
            1 => Self::Look,
            2 => Self::Ask,
            _ => Self::Say {
                before: dice.random_range(0..120),
                after: dice.random_range(0..120),
            },
        }
    }

    /// The tool's name and the input by which the call of this key is made.
    pub(crate) fn input(self, key: &str) -> (&'static str, Value) {
        match self {
            Self::Say { before, after } => {
                let (before, after) = (millis(before), millis(after));
                let command = format!(
                    "sleep {before} && {DOOR}/manyhands-chaos say {key} && sleep {after} && echo ran {key}"
                );
                ("bash", json!({"command": command}))
            }
            Self::Write => {
                let path = format!("/workspace/{key}");
                ("write", json!({"file_path": path, "content": key}))
            }
            Self::Look => (
                "glob",
                json!({"pattern": format!("*{key}*"), "path": "/workspace"}),
            ),
            Self::Ask => (CUSTOM_TOOL, json!({"question": key})),
        }
    }
}

fn millis(count: u32) -> String {
    format!("0.{count:03}")
}

/// The key of a call: message, step, place in the step.
pub(crate) fn key(message: u32, step: usize, index: usize) -> String {
    format!("c{message}-{step}-{index}")
}

/// The key of the `bash` call with this input; `None` for other inputs.
pub(crate) fn key_of(input: &Value) -> Option<&str> {
    let command = input["command"].as_str()?;
    Some(command.rsplit_once("echo ran ")?.1)
}

/// What the model says at this step of this message, and nowhere else.
pub(crate) fn said(message: u32, step: usize) -> String {
    format!("said {message}.{step}")
}

/// The text by which the model knows the message.
pub(crate) fn message_text(message: u32) -> String {
    format!("message {message} of the campaign")
}

/// The message that has this text.
pub(crate) fn message_of(text: &str) -> Option<u32> {
    let rest = text.strip_prefix("message ")?;
    rest.strip_suffix(" of the campaign")?.parse().ok()
}

/// The output tokens of an answer, by which it can be told from all others of its session.
pub(crate) fn tokens(message: u32, step: usize) -> u64 {
    u64::from(message) * 8 + step as u64 + 1
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_plan_is_the_same_for_the_same_seed_and_ends_with_an_answer() {
        let draw = |seed| {
            let mut dice = StdRng::seed_from_u64(seed);
            (0..200)
                .map(|_| Plan::draw(&mut dice))
                .collect::<Vec<Plan>>()
        };
        let plans = draw(1);
        assert_eq!(format!("{plans:?}"), format!("{:?}", draw(1)));
        assert_ne!(format!("{plans:?}"), format!("{:?}", draw(2)));
        for plan in plans {
            let (last, before) = plan.steps.split_last().unwrap();
            assert!(last.calls.is_empty());
            assert!(before.iter().all(|step| !step.calls.is_empty()));
        }
    }

    #[test]
    fn names_are_read_back() {
        let (name, input) = Call::Say {
            before: 7,
            after: 110,
        }
        .input("c1-2-3");
        assert_eq!((name, key_of(&input)), ("bash", Some("c1-2-3")));
        let command = input["command"].as_str().unwrap();
        assert!(
            command.starts_with("sleep 0.007 && ") && command.contains("sleep 0.110"),
            "{command}"
        );
        assert_eq!(key_of(&Call::Look.input("c1").1), None);
        assert_eq!(message_of(&message_text(12)), Some(12));
        assert_eq!(message_of("message of the campaign"), None);
        assert_ne!(tokens(1, 7), tokens(2, 0));
    }
}
