//! Connections that are cut around a commit, fall silent, or are refused, and statements that are.

use std::time::Instant;

use manyhands_protocol::SessionId;
use manyhands_store::{AppendError, Change, Database, Entry, Error, NewEntry, TailItem};
use manyhands_testkit::postgres::{self, Proxy, Side};
use secrecy::ExposeSecret as _;
use sqlx::Connection as _;

use super::{BOUND, answer, bed, claim_again, count, log_of, write_again};
use crate::bed::*;

/// A client's message whose commit the server gets, or not, and whose answer is lost.
async fn send_and_cut(
    world: &World,
    proxy: &Proxy,
    id: &SessionId,
    side: Side,
) -> (NewEntry, Error) {
    loop {
        let message = queued("hello");
        let change = work(vec![message.clone()]);
        proxy.cut_at("COMMIT", side);
        let decide = move |_: &_| Ok::<_, ()>((change, ()));
        let changed = world.store.change(&world.workspace, id, &[], decide).await;
        // A renewal of the instance may have met the knife.
        if let Err(error) = changed {
            return (message, error);
        }
    }
}

fn has(log: &[Entry], message: &NewEntry) -> bool {
    let NewEntry::Event { id, .. } = message else {
        return false;
    };
    log.iter().any(|entry| entry.event_id == *id)
}

/// runtime US-7, AR-6
#[tokio::test(flavor = "multi_thread")]
async fn us_7_a_connection_cut_around_a_commit_repeats_nothing_and_says_what_is_unknown() {
    let database = postgres::Database::create().await;
    let proxy = Proxy::start(&postgres::Database::socket()).await;
    let world = World::new(bed(&proxy.url(database.url()))).await;
    let (id, lease) = world.leased().await;

    // In the middle of a client's transaction: nothing was asked to stay.
    let message = queued("cut in the middle");
    proxy.cut_at("cut in the middle", Side::Before);
    let change = work(vec![message.clone()]);
    let decide = move |_: &_| Ok::<_, ()>((change, ()));
    let cut = world.store.change(&world.workspace, &id, &[], decide).await;
    assert!(matches!(cut, Err(Error::Unavailable { .. })), "{cut:?}");
    assert!(!has(&log_of(&world.store, &id).await, &message));

    // Around its commit: the error says that nobody knows, and the log does.
    for (side, there) in [(Side::Before, false), (Side::After, true)] {
        let (message, error) = send_and_cut(&world, &proxy, &id, side).await;
        assert!(matches!(error, Error::Unknown { .. }), "{error:?}");
        assert_eq!(
            has(&log_of(&world.store, &id).await, &message),
            there,
            "{side:?}"
        );
    }

    // A brain's append: it is sent again, and done once.
    world.store.append(&lease, answer("first")).await.unwrap();
    let mut tail = world.store.subscribe(&id);
    for (side, text) in [(Side::Before, "cut before"), (Side::After, "cut after")] {
        proxy.cut_at(text, side);
        let stored = soon(world.store.append(&lease, answer(text)))
            .await
            .unwrap();
        assert!(!proxy.is_armed(), "{side:?}: it was cut");
        let log = log_of(&world.store, &id).await;
        assert_eq!(log.last(), stored.last(), "{side:?}");
        assert_eq!(count(&log, text), 1, "{side:?}");
        match soon(tail.recv()).await {
            Some(TailItem::Entries(heard)) => assert_eq!(&heard[..], &stored[..]),
            other => panic!("{other:?}"),
        }
    }

    // One that takes a message from the queue is a transaction: its brain reads what became of it.
    let mut attempt = 0;
    let refused = loop {
        attempt += 1;
        let stored = world.change(&id, work(vec![queued("take me")])).await;
        let processed = NewEntry::Processed {
            event_id: stored[0].event_id.clone(),
        };
        let taken = NewEntry::event(answered(&format!("taken {attempt}")));
        proxy.cut_at("COMMIT", Side::After);
        // A renewal of the instance may meet the knife instead.
        match world
            .store
            .append(&lease, entries(vec![processed, taken]))
            .await
        {
            Ok(_) => {}
            Err(AppendError::Store(error)) => break error,
            Err(other) => panic!("{other:?}"),
        }
    };
    assert!(matches!(refused, Error::Unknown { .. }), "{refused:?}");
    let lease = claim_again(&world, &lease).await;
    let log = log_of(&world.store, &id).await;
    assert_eq!(
        count(&log, &format!("taken {attempt}")),
        1,
        "it is there, and nobody does it again"
    );
    write_again(&world, lease, "on it goes").await;
    world.store.close().await;
}

/// A write that never ends would keep its session, and in time all connections. security STORE-2, LEASE-1
#[tokio::test(flavor = "multi_thread")]
async fn store_2_a_database_that_says_nothing_is_given_up_and_taken_up_again() {
    let database = postgres::Database::create().await;
    let proxy = Proxy::start(&postgres::Database::socket()).await;
    let world = World::new(bed(&proxy.url(database.url()))).await;
    let (id, lease) = world.leased().await;
    world.store.append(&lease, answer("before")).await.unwrap();

    proxy.silence(true);
    let began = Instant::now();
    let change = Change {
        title: Some(Some("a title".to_owned())),
        ..Change::default()
    };
    let decide = move |_: &_| Ok::<_, ()>((change, ()));
    let (append, read, ping, changed) = tokio::join!(
        world.store.append(&lease, answer("into the silence")),
        world.store.read(&id, 0, 10),
        world.store.ping(),
        world.store.change(&world.workspace, &id, &[], decide),
    );
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    assert!(matches!(append, Err(AppendError::Store(_))), "{append:?}");
    assert!(matches!(read, Err(Error::Unavailable { .. })), "{read:?}");
    assert!(matches!(ping, Err(Error::Unavailable { .. })), "{ping:?}");
    assert!(changed.is_err(), "{changed:?}");

    // What was under way arrives now, late, at a server that waits for it.
    proxy.silence(false);
    let lease = claim_again(&world, &lease).await;
    let before = count(&log_of(&world.store, &id).await, "into the silence");
    write_again(&world, lease, "after").await;
    let log = log_of(&world.store, &id).await;
    assert_eq!(
        count(&log, "into the silence"),
        before,
        "nothing comes after the claim"
    );
    assert!(before <= 1);
    assert_eq!(count(&log, "after"), 1);
    soon(world.store.ping()).await.expect("ready again");
    world.store.close().await;
}

/// Runs SQL as superuser.
async fn run(url: &str, sql: String) {
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    let sql = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
    sql.execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// PostgreSQL's 53300.
#[tokio::test(flavor = "multi_thread")]
async fn store_2_too_many_connections_are_waited_for_and_then_said() {
    let owner = Bed::postgres().await;
    let Database::Postgres { url } = &owner.database else {
        panic!("a PostgreSQL");
    };
    let url = url.expose_secret();
    let name = url
        .split_once("@localhost/")
        .unwrap()
        .1
        .split_once('?')
        .unwrap()
        .0;
    let role = format!("role_of_{name}");
    run(
        url,
        format!("CREATE ROLE {role} LOGIN; ALTER DATABASE {name} OWNER TO {role}"),
    )
    .await;
    let world = World::new(bed(
        &url.replace("manyhands@localhost", &format!("{role}@localhost"))
    ))
    .await;
    let (id, lease) = world.leased().await;

    run(url, format!("ALTER ROLE {role} CONNECTION LIMIT 0")).await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename =";
    run(url, format!("{end} '{role}'")).await;
    let refused = world.store.append(&lease, answer("refused")).await;
    let refused = refused.expect_err("there is no connection").to_string();
    assert!(refused.contains("too many connections"), "{refused}");

    let waiting = {
        let store = world.store.clone();
        tokio::spawn(async move { store.ping().await })
    };
    run(url, format!("ALTER ROLE {role} CONNECTION LIMIT -1")).await;
    soon(waiting).await.unwrap().expect("it waited for room");
    write_again(&world, lease, "taken").await;
    let log = world.log(&id).await;
    assert_eq!((count(&log, "refused"), count(&log, "taken")), (0, 1));
    world.store.close().await;
}

/// PostgreSQL's 53100, said by a trigger in the disk's place. security STORE-4
#[tokio::test(flavor = "multi_thread")]
async fn store_4_a_postgres_whose_disk_is_full_refuses_writes_keeps_reads_and_resumes() {
    let world = World::new(Bed::postgres().await).await;
    let (id, lease) = world.leased().await;
    world.store.append(&lease, answer("before")).await.unwrap();
    world
        .bed
        .sql(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';
             END $$;
             CREATE TRIGGER full_disk BEFORE INSERT ON log FOR EACH ROW EXECUTE FUNCTION full_disk()",
        )
        .await;
    let appends = (0..4).map(|_| world.store.append(&lease, answer("refused")));
    for refused in futures::future::join_all(appends).await {
        let full = matches!(refused, Err(AppendError::Store(Error::NoSpace { .. })));
        assert!(full, "{refused:?}");
    }
    let decide = |_: &_| Ok::<_, ()>((work(vec![queued("refused")]), ()));
    let refused = world.store.change(&world.workspace, &id, &[], decide).await;
    assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
    assert_eq!(
        world.log(&id).await.len(),
        2,
        "reads go on, and nothing was written"
    );
    world.bed.sql("DROP TRIGGER full_disk ON log").await;
    world.store.append(&lease, answer("after")).await.unwrap();
    assert_eq!(positions(&world.log(&id).await), [1, 2, 3]);
    world.store.close().await;
}
