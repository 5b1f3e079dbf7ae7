//! Random histories: the store against a model of it that is a few lists.

use std::time::Duration;

use manyhands_protocol::session::SessionStatus;
use manyhands_protocol::time::Clock as _;
use manyhands_protocol::{EventId, SessionId};
use manyhands_store::listing::{EventKey, EventRange};
use manyhands_store::{
    Append, AppendError, Change, Entry, EntryKind, Lease, NewEntry, UsageTotals,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::bed::*;

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    /// A client writes so many queued events, and so many that are not.
    Write {
        queued: usize,
        notes: usize,
        wants: bool,
    },
    Claim,
    Release,
    /// The brain processes some queued events (by their place in the queue) and adds entries.
    Append {
        process: Vec<usize>,
        events: usize,
        private: usize,
        status: Option<SessionStatus>,
    },
    /// The brain rests, having read all, or only what came before the last input.
    Rest {
        all: bool,
    },
    /// Somebody with an old lease writes.
    Stale,
    Wait {
        micros: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let status = prop::option::of(prop::sample::select(vec![
        SessionStatus::Idle,
        SessionStatus::Running,
        SessionStatus::Rescheduling,
    ]));
    let step = prop_oneof![
        4 => (0..3usize, 0..3usize, any::<bool>())
            .prop_map(|(queued, notes, wants)| Step::Write { queued, notes, wants }),
        3 => Just(Step::Claim),
        1 => Just(Step::Release),
        6 => (prop::collection::vec(0..8usize, 0..4), 0..20usize, 0..3usize, status).prop_map(
            |(process, events, private, status)| Step::Append { process, events, private, status }
        ),
        2 => any::<bool>().prop_map(|all| Step::Rest { all }),
        1 => Just(Step::Stale),
        2 => (0..5_000_000u64).prop_map(|micros| Step::Wait { micros }),
    ];
    prop::collection::vec(step, 1..40)
}

/// What the store should say.
#[derive(Default)]
struct Model {
    /// (kind, event, body) by position.
    log: Vec<(EntryKind, EventId, String)>,
    /// Queued events and their positions.
    queue: Vec<(i64, EventId)>,
    input: i64,
    wants: bool,
    leases: Vec<Lease>,
    held: bool,
    running_micros: Option<u64>,
    active_millis: i64,
    status: Option<SessionStatus>,
    outputs: u64,
}

impl Model {
    /// Adds stored entries, after checking that they are the next ones.
    fn take(&mut self, stored: &[Entry]) {
        for entry in stored {
            let position = i64::try_from(self.log.len()).unwrap() + 1;
            assert_eq!(entry.position, position);
            match (entry.kind, entry.processed_at) {
                (EntryKind::Event, None) => self.queue.push((position, entry.event_id.clone())),
                (EntryKind::Processed, _) => {
                    self.queue.retain(|(_, event)| *event != entry.event_id);
                }
                _ => {}
            }
            let body = entry.body.to_string();
            self.log.push((entry.kind, entry.event_id.clone(), body));
        }
    }

    fn turn(&mut self, status: Option<SessionStatus>) {
        let Some(status) = status else { return };
        if status == SessionStatus::Running {
            self.running_micros.get_or_insert(0);
        } else if let Some(micros) = self.running_micros.take() {
            self.active_millis += i64::try_from(micros / 1000).unwrap();
        }
        self.status = Some(status);
    }

    /// The list by its definition.
    fn list(&self) -> Vec<EventKey> {
        let queued = |position: i64| self.queue.iter().any(|(at, _)| *at == position);
        let mut keys = Vec::new();
        for (index, (kind, event, _)) in self.log.iter().enumerate() {
            let position = i64::try_from(index).unwrap() + 1;
            let processed_later = self.log[index + 1..]
                .iter()
                .any(|(kind, later, _)| *kind == EntryKind::Processed && later == event);
            match kind {
                EntryKind::Private => {}
                EntryKind::Event if processed_later || queued(position) => {}
                EntryKind::Event | EntryKind::Processed => keys.push(EventKey::Processed(position)),
            }
        }
        keys.extend(self.queue.iter().map(|(at, _)| EventKey::Queued(*at)));
        keys
    }
}

async fn apply(world: &World, id: &SessionId, model: &mut Model, step: Step) {
    let epoch = |lease: &Lease| lease.epoch;
    match step {
        Step::Write {
            queued: waiting,
            notes: direct,
            wants,
        } => {
            let mut new: Vec<NewEntry> = (0..waiting).map(|n| queued(&format!("q{n}"))).collect();
            new.extend((0..direct).map(|n| NewEntry::event(said(&format!("n{n}")))));
            let change = Change {
                append: entries(new),
                wants_brain: wants,
                ..Change::default()
            };
            let stored = world.change(id, change).await;
            model.take(&stored);
            if wants {
                model.wants = true;
                model.input = stored.last().map_or(model.input, |last| last.position);
            }
        }
        Step::Claim => {
            let lease = world.claim(id).await;
            assert_eq!(lease.is_some(), model.wants && !model.held);
            if let Some(lease) = lease {
                let last = model.leases.last().map_or(0, epoch);
                assert_eq!(lease.epoch, last + 1);
                model.leases.push(lease);
                model.held = true;
            }
        }
        Step::Release => {
            if let Some(lease) = model.leases.last() {
                world.store.release(lease).await.unwrap();
                model.held = false;
            }
        }
        Step::Append {
            process,
            events,
            private,
            status,
        } => {
            let mut taken: Vec<EventId> = Vec::new();
            for place in process {
                if let Some((_, event)) = model.queue.get(place)
                    && !taken.contains(event)
                {
                    taken.push(event.clone());
                }
            }
            let mut new: Vec<NewEntry> = taken
                .into_iter()
                .map(|event_id| NewEntry::Processed { event_id })
                .collect();
            new.extend((0..events).map(|n| NewEntry::event(answered(&format!("a{n}")))));
            new.extend((0..private).map(|n| NewEntry::Private {
                type_name: "response",
                body: format!("{{\"n\":{n}}}"),
            }));
            let usage = UsageTotals {
                output_tokens: model.outputs + 1,
                ..UsageTotals::default()
            };
            let append = Append {
                status,
                usage: Some(usage),
                ..entries(new)
            };
            let Some(lease) = model.leases.last() else {
                return;
            };
            let result = world.store.append(lease, append).await;
            if model.held {
                model.take(&result.unwrap());
                model.turn(status);
                model.outputs += 1;
            } else {
                let epoch = lease.epoch;
                assert_eq!(result, Err(AppendError::StaleEpoch { epoch }));
            }
        }
        Step::Rest { all } => {
            let Some(lease) = model.leases.last() else {
                return;
            };
            let read_to = if all { model.input } else { model.input - 1 };
            let rest = entries(vec![NewEntry::event(answered("rest"))]);
            let result = world.store.append_and_rest(lease, rest, read_to).await;
            match (model.held, all) {
                (true, true) => {
                    model.take(&result.unwrap());
                    model.held = false;
                    model.wants = false;
                }
                (true, false) => assert_eq!(result, Err(AppendError::UnreadInput)),
                (false, _) => {
                    let epoch = lease.epoch;
                    assert_eq!(result, Err(AppendError::StaleEpoch { epoch }));
                }
            }
        }
        Step::Stale => {
            if let [.., old, _] = &model.leases[..] {
                let append = entries(vec![NewEntry::event(answered("too late"))]);
                let epoch = old.epoch;
                assert_eq!(
                    world.store.append(old, append).await,
                    Err(AppendError::StaleEpoch { epoch })
                );
            }
        }
        Step::Wait { micros } => {
            world.bed.clock.advance(Duration::from_micros(micros));
            if let Some(running) = &mut model.running_micros {
                *running += micros;
            }
        }
    }
}

async fn compare(world: &World, id: &SessionId, model: &Model) {
    let log = world.log(id).await;
    let found: Vec<(EntryKind, EventId, String)> = log
        .iter()
        .map(|entry| (entry.kind, entry.event_id.clone(), entry.body.to_string()))
        .collect();
    assert_eq!(found, model.log);
    let record = world.record(id).await;
    assert_eq!(record.last_position, log.len() as i64);
    assert_eq!(record.input_position, model.input);
    let running = i64::try_from(model.running_micros.unwrap_or(0) / 1000).unwrap();
    let found = record.active_millis_at(world.bed.clock.now());
    assert_eq!(found, model.active_millis + running);
    assert_eq!(record.usage.output_tokens, model.outputs);
    assert_eq!(record.status, model.status.unwrap_or(SessionStatus::Idle));

    for descending in [false, true] {
        let mut wanted = model.list();
        if descending {
            wanted.reverse();
        }
        let mut keys: Vec<EventKey> = Vec::new();
        loop {
            let range = EventRange {
                after: keys.last().copied(),
                descending,
                limit: 7,
                ..EventRange::default()
            };
            let page = world.store.list_events(id, &range).await.unwrap();
            if page.is_empty() {
                break;
            }
            keys.extend(page.into_iter().map(|(key, _)| key));
        }
        assert_eq!(keys, wanted, "descending {descending}");
    }
}

/// Every history leaves log, list and row as the model says (security I2, I5; runtime LI-4, US-4).
fn i_2_random_histories_match_the_model(runtime: &tokio::runtime::Runtime, world: &World) {
    let config = Config {
        cases: 48,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&steps(), |steps| {
        runtime.block_on(async {
            let id = world.session().await;
            let mut model = Model::default();
            for step in steps {
                apply(world, &id, &mut model, step).await;
            }
            compare(world, &id, &model).await;
        });
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[test]
fn i_2_random_histories_match_the_model_on_sqlite() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(async { World::new(Bed::sqlite().await).await });
    i_2_random_histories_match_the_model(&runtime, &world);
}

#[test]
fn i_2_random_histories_match_the_model_on_postgres() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(async { World::new(Bed::postgres().await).await });
    i_2_random_histories_match_the_model(&runtime, &world);
}

#[test]
fn i_2_random_histories_match_the_model_in_memory() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(async { World::new(Bed::memory().await).await });
    i_2_random_histories_match_the_model(&runtime, &world);
}
