//! Sessions: what a client's write does to the row, and how they are found.

use std::time::Duration;

use manyhands_protocol::page::Order;
use manyhands_protocol::session::{SessionFilter, SessionStatus};
use manyhands_protocol::time::Clock as _;
use manyhands_protocol::{EventId, SessionId, WorkspaceId};
use manyhands_store::listing::{Key, Range};
use manyhands_store::{Append, Change, UsageTotals};

use crate::bed::*;

contract!(
    a_session_comes_back_as_it_was_made,
    lc_6_a_session_and_its_first_events_are_one_write,
    an_archived_agent_or_environment_takes_no_session,
    us_4_only_running_counts_to_the_millisecond,
    us_1_usage_is_replaced_with_the_append,
    a_refused_change_writes_nothing,
    an_empty_change_changes_nothing,
    the_profile_changes_in_part,
    calls_open_and_take_their_first_answer,
    lease_3_of_many_answers_one_is_first,
    deleting_takes_all_that_belongs_to_the_session,
    api_2_a_foreign_workspace_sees_nothing,
    li_2_sessions_page_both_ways,
    li_3_session_filters,
);

async fn a_session_comes_back_as_it_was_made(bed: Bed) {
    let world = World::new(bed).await;
    let new = world.new_session(Change::default());
    assert!(world.store.create_session(new.clone()).await.unwrap());
    let record = world.record(&new.id).await;
    assert_eq!(record.agent, new.agent);
    assert_eq!(record.title, new.title);
    assert_eq!(record.metadata, new.metadata);
    assert_eq!(record.thread_id, new.thread_id);
    assert_eq!(record.environment_id, new.environment_id);
    assert_eq!(record.status, SessionStatus::Idle);
    assert_eq!(record.created_at, world.bed.clock.now());
    assert_eq!((record.last_position, record.input_position), (0, 0));
}

async fn lc_6_a_session_and_its_first_events_are_one_write(bed: Bed) {
    let world = World::new(bed).await;
    let id = world
        .session_with(work(vec![queued("one"), queued("two")]))
        .await;
    let record = world.record(&id).await;
    assert_eq!(record.status, SessionStatus::Running);
    assert_eq!((record.last_position, record.input_position), (2, 2));
    let new = world.new_session(work(vec![queued("one")]));
    let twice = world.store.create_session(new.clone()).await;
    assert_eq!(twice, Ok(true));
    assert!(world.store.create_session(new.clone()).await.is_err());
    assert_eq!(world.log(&new.id).await.len(), 1, "nothing half-written");
}

async fn an_archived_agent_or_environment_takes_no_session(bed: Bed) {
    let world = World::new(bed).await;
    let new = world.new_session(work(vec![queued("go")]));
    let archived = Some(world.bed.clock.now());
    for part in ["agent", "environment"] {
        set_archived(&world, part, archived).await;
        assert_eq!(world.store.create_session(new.clone()).await, Ok(false));
        assert_eq!(
            world.store.session(&world.workspace, &new.id).await,
            Ok(None)
        );
        assert_eq!(world.log(&new.id).await, []);
        set_archived(&world, part, None).await;
    }
    assert_eq!(world.store.create_session(new).await, Ok(true));
}

async fn set_archived(world: &World, part: &str, at: Option<manyhands_protocol::Timestamp>) {
    let (workspace, store) = (&world.workspace, &world.store);
    if part == "agent" {
        store
            .update_agent(workspace, &world.agent.id, move |agent| {
                let mut agent = agent.clone();
                agent.archived_at = at;
                Ok::<_, ()>(Some(agent))
            })
            .await
            .unwrap();
    } else {
        store
            .update_environment(workspace, &world.environment.id, move |environment| {
                let mut environment = environment.clone();
                environment.archived_at = at;
                Ok::<_, ()>(Some(environment))
            })
            .await
            .unwrap();
    }
}

fn status(status: SessionStatus) -> Change {
    Change {
        append: Append {
            status: Some(status),
            ..Append::default()
        },
        ..Change::default()
    }
}

async fn us_4_only_running_counts_to_the_millisecond(bed: Bed) {
    use SessionStatus::{Idle, Rescheduling, Running, Terminated};
    let world = World::new(bed).await;
    let id = world.session().await;
    let start = world.bed.clock.now();
    // (after so many microseconds, to this status, millis then counted, whether it runs, whether it ended)
    let steps = [
        (5_000_000, Running, 0, true, false),
        (1_234_000, Running, 1_234, true, false),
        (1_000, Idle, 1_235, false, false),
        (9_000_000, Rescheduling, 1_235, false, false),
        (9_000_000, Running, 1_235, true, false),
        (2_999, Rescheduling, 1_237, false, false),
        (7_000, Running, 1_237, true, false),
        (3_000, Terminated, 1_240, false, true),
    ];
    for (n, (micros, to, millis, runs, ended)) in steps.into_iter().enumerate() {
        world.bed.clock.advance(Duration::from_micros(micros));
        world.change(&id, status(to)).await;
        let record = world.record(&id).await;
        assert_eq!(record.status, to, "step {n}");
        assert_eq!(record.active_millis, millis, "step {n}");
        assert_eq!(record.running_since.is_some(), runs, "step {n}");
        assert_eq!(record.terminated_at.is_some(), ended, "step {n}");
    }
    let record = world.record(&id).await;
    assert_eq!(record.terminated_at, Some(world.bed.clock.now()));
    assert_eq!(record.created_at, start);

    let (id, lease) = world.leased().await;
    world.bed.clock.advance(Duration::from_millis(7));
    assert_eq!(
        world
            .record(&id)
            .await
            .active_millis_at(world.bed.clock.now()),
        7
    );
    let rest = status(Idle).append;
    world.store.append_and_rest(&lease, rest, 1).await.unwrap();
    assert_eq!(world.record(&id).await.active_millis, 7);

    world.change(&id, status(Running)).await;
    world.bed.clock.set_back(Duration::from_secs(60));
    world.change(&id, status(Idle)).await;
    assert_eq!(
        world.record(&id).await.active_millis,
        7,
        "a clock that is set back takes nothing away"
    );

    world.change(&id, status(Running)).await;
    world.bed.clock.advance(Duration::from_secs(365 * 86_400));
    let hour = 3_600_000;
    let record = world.record(&id).await;
    assert_eq!(record.active_millis_at(world.bed.clock.now()), 7 + hour);
    let title = Some(Some("a year on".to_owned()));
    world
        .change(
            &id,
            Change {
                title,
                ..Change::default()
            },
        )
        .await;
    world.bed.clock.advance(Duration::from_secs(1));
    world.change(&id, status(Idle)).await;
    assert_eq!(
        world.record(&id).await.active_millis,
        7 + hour + 1_000,
        "a clock that is set forward adds an hour at most, and the time after it counts"
    );
}

async fn us_1_usage_is_replaced_with_the_append(bed: Bed) {
    let world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    let usage = UsageTotals {
        input_tokens: 1,
        output_tokens: 2,
        cache_read_input_tokens: 3,
        cache_creation_5m_input_tokens: 4,
        cache_creation_1h_input_tokens: 5,
        token_cost: 6,
        unpriced_requests: 7,
        web_search_requests: 8,
    };
    let append = Append {
        usage: Some(usage),
        ..Append::default()
    };
    world.store.append(&lease, append).await.unwrap();
    assert_eq!(world.record(&id).await.usage, usage);
    world.store.append(&lease, Append::default()).await.unwrap();
    assert_eq!(world.record(&id).await.usage, usage, "absent keeps");
}

async fn a_refused_change_writes_nothing(bed: Bed) {
    let world = World::new(bed).await;
    let id = world.session().await;
    let before = world.record(&id).await;
    world.bed.clock.advance(Duration::from_secs(1));
    let now = world.bed.clock.now();
    let refused = world
        .store
        .change(&world.workspace, &id, &[], move |state| {
            assert_eq!(state.now, now);
            Err::<(Change, ()), String>(format!("it is {}", state.record.status.as_str()))
        })
        .await;
    assert_eq!(refused, Ok(Some(Err("it is idle".to_owned()))));
    assert_eq!(world.record(&id).await, before);
    let gone = SessionId::generate();
    let missing = world
        .store
        .change(&world.workspace, &gone, &[], |_| {
            Ok::<_, ()>((Change::default(), ()))
        })
        .await;
    assert_eq!(missing, Ok(None));
}

async fn an_empty_change_changes_nothing(bed: Bed) {
    let world = World::new(bed).await;
    let id = world.session().await;
    let before = world.record(&id).await;
    world.bed.clock.advance(Duration::from_secs(1));
    assert_eq!(world.change(&id, Change::default()).await, []);
    assert_eq!(world.record(&id).await, before);
}

async fn the_profile_changes_in_part(bed: Bed) {
    let world = World::new(bed).await;
    let id = world.session().await;
    let made = world.record(&id).await;
    world.bed.clock.advance(Duration::from_secs(1));
    let title = Change {
        title: Some(Some("new".to_owned())),
        ..Change::default()
    };
    world.change(&id, title).await;
    let titled = world.record(&id).await;
    assert_eq!(titled.title.as_deref(), Some("new"));
    assert_eq!(titled.metadata, made.metadata);
    assert_eq!(titled.updated_at, world.bed.clock.now());

    let mut agent = made.agent.clone();
    agent.version = 7;
    agent.definition.system = None;
    let rest = Change {
        title: Some(None),
        metadata: Some([("a".to_owned(), "b".to_owned())].into()),
        agent: Some(agent.clone()),
        ..Change::default()
    };
    world.change(&id, rest).await;
    let changed = world.record(&id).await;
    assert_eq!(changed.title, None);
    assert_eq!(changed.metadata["a"], "b");
    assert_eq!(changed.agent, agent);
}

fn opening(ids: &[EventId]) -> Append {
    Append {
        opened: ids
            .iter()
            .map(|id| (id.clone(), "agent.custom_tool_use"))
            .collect(),
        ..Append::default()
    }
}

/// The calls a client's write would see: (event, answer).
async fn calls(
    world: &World,
    id: &SessionId,
    referenced: &[EventId],
) -> Vec<(EventId, Option<EventId>)> {
    let seen = world
        .store
        .change(&world.workspace, id, referenced, |state| {
            Err::<(Change, ()), _>(state.calls.clone())
        })
        .await;
    seen.unwrap()
        .unwrap()
        .unwrap_err()
        .into_iter()
        .map(|call| {
            assert_eq!(call.type_name, "agent.custom_tool_use");
            (call.event_id, call.answer)
        })
        .collect()
}

async fn calls_open_and_take_their_first_answer(bed: Bed) {
    let world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    let uses: Vec<EventId> = (0..3).map(|_| EventId::generate()).collect();
    world.store.append(&lease, opening(&uses)).await.unwrap();
    let open = |n: usize| (uses[n].clone(), None);
    assert_eq!(calls(&world, &id, &[]).await, [open(0), open(1), open(2)]);

    let (first, second) = (EventId::generate(), EventId::generate());
    for answer in [&first, &second] {
        let answered = Change {
            append: Append {
                answered: vec![(uses[1].clone(), answer.clone())],
                ..Append::default()
            },
            ..Change::default()
        };
        world.change(&id, answered).await;
    }
    assert_eq!(calls(&world, &id, &[]).await, [open(0), open(2)]);
    assert_eq!(
        calls(&world, &id, &uses[1..2]).await,
        [open(0), (uses[1].clone(), Some(first)), open(2)]
    );
    let never_asked = EventId::generate();
    assert_eq!(calls(&world, &id, &[never_asked]).await.len(), 2);
}

async fn lease_3_of_many_answers_one_is_first(bed: Bed) {
    let world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    let asked = EventId::generate();
    world
        .store
        .append(&lease, opening(std::slice::from_ref(&asked)))
        .await
        .unwrap();
    let answers = (0..32).map(|_| {
        let (asked, answer) = (asked.clone(), EventId::generate());
        world
            .store
            .change(&world.workspace, &id, &[], move |state| {
                if state.calls.is_empty() {
                    return Err("answered");
                }
                let append = Append {
                    answered: vec![(asked, answer)],
                    ..Append::default()
                };
                let change = Change {
                    append,
                    ..Change::default()
                };
                Ok((change, ()))
            })
    });
    let results = futures::future::join_all(answers).await;
    let accepted = results
        .into_iter()
        .filter(|result| matches!(result, Ok(Some(Ok(_)))));
    assert_eq!(accepted.count(), 1);
}

async fn deleting_takes_all_that_belongs_to_the_session(bed: Bed) {
    let world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    let asked = [EventId::generate()];
    world.store.append(&lease, opening(&asked)).await.unwrap();
    let other = world.session_with(notes(&["stays"])).await;
    let delete = Change {
        delete: true,
        ..notes(&["not written"])
    };
    world.change(&id, delete).await;
    assert_eq!(world.store.session(&world.workspace, &id).await, Ok(None));
    assert_eq!(world.log(&id).await, []);
    let list = world.store.list_events(&id, &crate::list::page(9)).await;
    assert_eq!(list, Ok(vec![]));
    assert_eq!(world.store.wanting(9).await, Ok(vec![]));
    assert_eq!(world.log(&other).await.len(), 1);
}

async fn api_2_a_foreign_workspace_sees_nothing(bed: Bed) {
    let world = World::new(bed).await;
    let id = world.session().await;
    let foreign = WorkspaceId::generate();
    let store = &world.store;
    assert_eq!(store.session(&foreign, &id).await, Ok(None));
    let changed = store
        .change(&foreign, &id, &[], |_| Ok::<_, ()>((Change::default(), ())))
        .await;
    assert_eq!(changed, Ok(None));
    let all = Range {
        after: None,
        order: Order::Asc,
        limit: 9,
    };
    let listed = store
        .list_sessions(&foreign, &SessionFilter::default(), &all)
        .await;
    assert_eq!(listed, Ok(vec![]));
    let mut new = world.new_session(Change::default());
    new.workspace = foreign;
    assert_eq!(
        store.create_session(new).await,
        Ok(false),
        "the agent is not of that workspace"
    );
}

async fn li_2_sessions_page_both_ways(bed: Bed) {
    let world = World::new(bed).await;
    let mut made = Vec::new();
    for n in 0..7 {
        made.push(world.session().await);
        // Two of them share an instant: the id decides.
        if n != 3 {
            world.bed.clock.advance(Duration::from_millis(1));
        }
    }
    for order in [Order::Asc, Order::Desc] {
        let mut after = None;
        let mut found = Vec::new();
        loop {
            let range = Range {
                after: after.take(),
                order,
                limit: 2,
            };
            let page = world
                .store
                .list_sessions(&world.workspace, &SessionFilter::default(), &range)
                .await
                .unwrap();
            let Some(last) = page.last() else { break };
            after = Some(Key {
                created_at: last.created_at,
                id: last.id.to_string(),
            });
            found.extend(page.into_iter().map(|record| record.id));
        }
        if order == Order::Desc {
            found.reverse();
        }
        assert_eq!(found, made, "{order:?}");
    }
}

async fn li_3_session_filters(bed: Bed) {
    let world = World::new(bed).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(world.session().await);
        world.bed.clock.advance(Duration::from_secs(1));
    }
    world.change(&ids[1], status(SessionStatus::Running)).await;
    let archive = Change {
        archive: true,
        ..status(SessionStatus::Terminated)
    };
    world.change(&ids[2], archive).await;
    let at = |n: usize| {
        let world = &world;
        let id = ids[n].clone();
        async move { world.record(&id).await.created_at }
    };
    let (second, third) = (at(1).await, at(2).await);
    let all = SessionFilter {
        include_archived: true,
        ..SessionFilter::default()
    };
    let cases: [(&str, SessionFilter, &[usize]); 9] = [
        ("archived are hidden", SessionFilter::default(), &[0, 1, 3]),
        ("or shown", all.clone(), &[0, 1, 2, 3]),
        (
            "statuses",
            SessionFilter {
                statuses: vec![SessionStatus::Running, SessionStatus::Terminated],
                ..all.clone()
            },
            &[1, 2],
        ),
        (
            "agent and version",
            SessionFilter {
                agent_id: Some(world.agent.id.clone()),
                agent_version: Some(1),
                ..all.clone()
            },
            &[0, 1, 2, 3],
        ),
        (
            "another version",
            SessionFilter {
                agent_id: Some(world.agent.id.clone()),
                agent_version: Some(2),
                ..all.clone()
            },
            &[],
        ),
        (
            "after",
            SessionFilter {
                created_after: Some(second),
                ..all.clone()
            },
            &[2, 3],
        ),
        (
            "from",
            SessionFilter {
                created_from: Some(second),
                ..all.clone()
            },
            &[1, 2, 3],
        ),
        (
            "before",
            SessionFilter {
                created_before: Some(third),
                ..all.clone()
            },
            &[0, 1],
        ),
        (
            "until",
            SessionFilter {
                created_to: Some(third),
                ..all.clone()
            },
            &[0, 1, 2],
        ),
    ];
    for (name, filter, wanted) in cases {
        let range = Range {
            after: None,
            order: Order::Asc,
            limit: 100,
        };
        let found: Vec<SessionId> = world
            .store
            .list_sessions(&world.workspace, &filter, &range)
            .await
            .unwrap()
            .into_iter()
            .map(|record| record.id)
            .collect();
        let wanted: Vec<SessionId> = wanted.iter().map(|n| ids[*n].clone()).collect();
        assert_eq!(found, wanted, "{name}");
    }
}
