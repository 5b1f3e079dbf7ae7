//! Brains that die, and what shows what they had done by then.

use std::sync::{Arc, Mutex};

use futures::FutureExt;
use manyhands_brain::Probe;
use manyhands_hands::Output;
use manyhands_testkit::gate::Gate;

use super::Bed;

/// Names or commands, as they came.
pub(crate) type Noted<T> = Arc<Mutex<Vec<T>>>;

impl Bed {
    /// Has `bash` wait at the gate, and say this then.
    pub(crate) fn hold_bash(&mut self, gate: &Gate, said: &'static str) {
        let gate = gate.clone();
        self.hands = self.hands.clone().with_tool("bash", move |_| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                Output::text(said)
            }
        });
    }

    /// Notes down each command that `bash` runs.
    pub(crate) fn note_commands(&mut self, ledger: &Noted<String>) {
        let ledger = Arc::clone(ledger);
        self.hands = self.hands.clone().with_tool("bash", move |call| {
            let ledger = Arc::clone(&ledger);
            async move {
                let command = call.input["command"].as_str().unwrap().to_owned();
                ledger.lock().unwrap().push(command.clone());
                Output::text(format!("did {command}"))
            }
        });
    }

    /// Notes down each failpoint that the next brain passes.
    pub(crate) fn note_points(&mut self) -> Noted<&'static str> {
        let passed = Noted::default();
        let seen = Arc::clone(&passed);
        self.config.probe = Some(Probe(Arc::new(move |name, _| {
            seen.lock().unwrap().push(name);
            async {}.boxed()
        })));
        passed
    }

    /// The brain works on this message until it comes to the gate of its probe, and dies there; the next one goes on.
    pub(crate) async fn die_on(&mut self, message: &str, gate: &Gate) {
        self.wake();
        self.say(message).await;
        gate.reached().await;
        self.crash().await;
        self.config.probe = None;
        self.wake();
    }
}
