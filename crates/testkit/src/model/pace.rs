//! When the bytes of a reply go out, and where they stop (pure but for the gates it names).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use crate::gate::Gate;

/// One thing to do while sending a body.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Send these bytes as one chunk.
    Send(Bytes),
    /// Let time pass.
    Delay(Duration),
    /// Wait for the test.
    Gate(Gate),
    /// Break the connection.
    Cut,
}

/// A reason to wait.
#[derive(Clone, Debug)]
pub(super) enum Hold {
    Delay(Duration),
    Gate(Gate),
}

impl From<&Hold> for Step {
    fn from(hold: &Hold) -> Self {
        match hold {
            Hold::Delay(delay) => Step::Delay(*delay),
            Hold::Gate(gate) => Step::Gate(gate.clone()),
        }
    }
}

/// The faults in time of one reply.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    pub(super) before_headers: Vec<Hold>,
    pub(super) first_token: Vec<Hold>,
    pub(super) before_frame: Vec<(usize, Hold)>,
    pub(super) at: Vec<(usize, Hold)>,
    pub(super) chunk: Option<usize>,
    pub(super) between_chunks: Option<Duration>,
    pub(super) cut: Option<usize>,
}

impl Pace {
    /// Lays the faults over the frames, of which one is the first with something the model says.
    pub(super) fn plan(
        &self,
        frames: &[Bytes],
        first_token: Option<usize>,
    ) -> Result<Vec<Step>, String> {
        let body = Bytes::from(frames.concat());
        let holds = self.holds(frames, first_token)?;
        let end = match self.cut {
            Some(cut) if cut > body.len() => {
                return Err(format!("cut at byte {cut} of a body of {}", body.len()));
            }
            Some(cut) => cut,
            None => body.len(),
        };
        let mut bounds: BTreeSet<usize> = match self.chunk {
            Some(size) => (0..body.len()).step_by(size).collect(),
            None => starts(frames).collect(),
        };
        bounds.extend(holds.keys());
        bounds.insert(end);

        let mut steps = vec![];
        let mut sent = 0;
        for bound in bounds.range(..=end) {
            if *bound > sent {
                if sent > 0
                    && let Some(delay) = self.between_chunks
                {
                    steps.push(Step::Delay(delay));
                }
                steps.push(Step::Send(body.slice(sent..*bound)));
                sent = *bound;
            }
            steps.extend(holds.get(bound).into_iter().flatten().cloned());
        }
        if self.cut.is_some() {
            steps.push(Step::Cut);
        }
        Ok(steps)
    }

    /// Every hold by the byte before which it stands.
    fn holds(
        &self,
        frames: &[Bytes],
        first_token: Option<usize>,
    ) -> Result<BTreeMap<usize, Vec<Step>>, String> {
        let starts: Vec<usize> = starts(frames).collect();
        let total: usize = frames.iter().map(Bytes::len).sum();
        let mut holds = BTreeMap::<usize, Vec<Step>>::new();
        if !self.first_token.is_empty() {
            let first = first_token.ok_or("a hold before the first token of a body without one")?;
            let steps = self.first_token.iter().map(Step::from);
            holds.entry(starts[first]).or_default().extend(steps);
        }
        for (frame, hold) in &self.before_frame {
            let start = starts
                .get(*frame)
                .ok_or_else(|| format!("hold before event {frame} of {}", frames.len()))?;
            holds.entry(*start).or_default().push(hold.into());
        }
        for (at, hold) in &self.at {
            if *at > total {
                return Err(format!("hold at byte {at} of a body of {total}"));
            }
            holds.entry(*at).or_default().push(hold.into());
        }
        Ok(holds)
    }
}

fn starts(frames: &[Bytes]) -> impl Iterator<Item = usize> {
    frames.iter().scan(0, |next, frame| {
        let start = *next;
        *next += frame.len();
        Some(start)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pace: Pace, expected: &str) {
        let frames = [
            Bytes::from("abc"),
            Bytes::from("event: content_block_delta"),
            Bytes::from("z"),
        ];
        let shown = match pace.plan(&frames, Some(1)) {
            Ok(steps) => steps.iter().map(show).collect::<Vec<_>>().join(" "),
            Err(error) => error,
        };
        assert_eq!(shown, expected);
    }

    fn show(step: &Step) -> String {
        match step {
            Step::Send(bytes) => String::from_utf8_lossy(bytes).replace(' ', ""),
            Step::Delay(delay) => format!("{}ms", delay.as_millis()),
            Step::Gate(_) => "gate".to_owned(),
            Step::Cut => "cut".to_owned(),
        }
    }

    fn gate() -> Hold {
        Hold::Gate(Gate::new())
    }

    #[test]
    fn a_chunk_an_event_unless_told_otherwise() {
        check(Pace::default(), "abc event:content_block_delta z");
    }

    #[test]
    fn holds_and_cuts_fall_on_their_byte() {
        let pace = Pace {
            cut: Some(2),
            ..Pace::default()
        };
        check(pace, "ab cut");
        let pace = Pace {
            cut: Some(0),
            ..Pace::default()
        };
        check(pace, "cut");
        let pace = Pace {
            at: vec![(1, gate()), (30, gate())],
            ..Pace::default()
        };
        check(pace, "a gate bc event:content_block_delta z gate");
        let pace = Pace {
            first_token: vec![gate()],
            before_frame: vec![(0, gate())],
            ..Pace::default()
        };
        check(pace, "gate abc gate event:content_block_delta z");
    }

    #[test]
    fn drips() {
        let pace = Pace {
            chunk: Some(2),
            between_chunks: Some(Duration::from_millis(7)),
            cut: Some(5),
            ..Pace::default()
        };
        check(pace, "ab 7ms ce 7ms v cut");
    }

    #[test]
    fn a_fault_beyond_the_end_is_a_mistake() {
        let pace = Pace {
            cut: Some(31),
            ..Pace::default()
        };
        check(pace, "cut at byte 31 of a body of 30");
        let pace = Pace {
            at: vec![(31, gate())],
            ..Pace::default()
        };
        check(pace, "hold at byte 31 of a body of 30");
        let pace = Pace {
            before_frame: vec![(3, gate())],
            ..Pace::default()
        };
        check(pace, "hold before event 3 of 3");
    }
}
