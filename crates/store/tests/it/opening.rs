//! Opening a database: what is verified, what is refused, and what the refusal says.

use manyhands_protocol::time::SystemClock;
use manyhands_store::{AppendError, Config, Database, Error, NewEntry, Store};
use rustix::net;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use crate::bed::*;

contract!(;
    on_disks:
    store_5_an_older_program_refuses_a_newer_schema,
    store_5_a_changed_migration_is_refused,
);

async fn refusal(bed: &Bed) -> (&'static str, String) {
    match Store::open(bed.config()).await {
        Err(Error::Setup { operation, reason }) => (operation, reason),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it opened"),
    }
}

async fn store_5_an_older_program_refuses_a_newer_schema(bed: Bed) {
    bed.open().await.close().await;
    // The checksum's type differs between the two; a copy of an existing row serves both.
    bed.sql(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         SELECT 9999, 'from the future', success, checksum, 1 FROM _sqlx_migrations LIMIT 1",
    )
    .await;
    match Store::open(bed.config()).await.err() {
        Some(Error::Schema { found: 9999, known }) => assert!((1..9999).contains(&known)),
        other => panic!("{other:?}"),
    }
    bed.sql("DELETE FROM _sqlx_migrations WHERE version = 9999")
        .await;
    bed.open().await.close().await;
}

async fn store_5_a_changed_migration_is_refused(bed: Bed) {
    bed.open().await.close().await;
    bed.sql("UPDATE _sqlx_migrations SET checksum = substr(checksum, 2)")
        .await;
    let (_, reason) = refusal(&bed).await;
    assert!(reason.contains("modified"), "{reason}");
}

#[tokio::test]
async fn a_second_opener_of_a_data_directory_is_told_the_holders_pid() {
    let bed = Bed::sqlite().await;
    let store = bed.open().await;
    let Err(Error::InUse { directory, pid }) = Store::open(bed.config()).await else {
        panic!("it is held");
    };
    assert_eq!(pid, std::process::id().to_string());
    assert!(directory.ends_with("data"));
    assert_eq!(store.ping().await, Ok(()), "the holder is not disturbed");
    store.close().await;
    bed.open().await.close().await;
}

#[tokio::test]
async fn a_data_directory_is_private_to_its_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let bed = Bed::sqlite().await;
    let store = bed.open().await;
    let Database::Sqlite { directory } = &bed.database else {
        panic!("it is SQLite");
    };
    let mode = std::fs::metadata(directory).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    store.close().await;
}

/// Whatever the directory's own mode is: the database and its log are for their owner alone.
#[tokio::test]
async fn a_database_in_an_open_directory_is_private_to_its_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let bed = Bed::sqlite().await;
    let Database::Sqlite { directory } = &bed.database else {
        panic!("it is SQLite");
    };
    std::fs::create_dir_all(directory).unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory, open).unwrap();
    let store = bed.open().await;
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names = Vec::new();
    for entry in entries.map(Result::unwrap) {
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", entry.path().display());
        names.push(entry.file_name().into_string().unwrap());
    }
    for name in ["manyhands.db", "manyhands.db-wal"] {
        assert!(names.iter().any(|it| it == name), "{name}: {names:?}");
    }
    store.close().await;
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named_as_such() {
    let bed = Bed::sqlite().await;
    let Database::Sqlite { directory } = &bed.database else {
        panic!("it is SQLite");
    };
    std::fs::create_dir_all(directory).unwrap();
    std::fs::write(
        directory.join("manyhands.db"),
        "not a database ".repeat(500),
    )
    .unwrap();
    let Err(error) = Store::open(bed.config()).await else {
        panic!("it opened");
    };
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
}

async fn open_postgres(url: &str) -> Result<Store, Error> {
    Store::open(Config {
        database: Database::Postgres { url: url.into() },
        clock: Arc::new(SystemClock),
        replica: Default::default(),
    })
    .await
}

#[tokio::test]
async fn an_absent_postgres_is_explained_without_the_password() {
    // Bound and never listened to: connections are refused for as long as the test runs.
    let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
    let socket = net::socket(net::AddressFamily::INET, net::SocketType::STREAM, None).unwrap();
    net::bind(&socket, &any).unwrap();
    let bound = net::getsockname(&socket).unwrap();
    let port = SocketAddrV4::try_from(bound).unwrap().port();
    let url = format!("postgres://someone:hunter2@127.0.0.1:{port}/none");
    let error = open_postgres(&url).await.err().expect("nobody is there");
    let text = error.to_string();
    assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
    assert!(text.contains("start again"), "{text}");
    assert!(!text.contains("hunter2") && !format!("{error:?}").contains("hunter2"));

    let error = open_postgres("postgres://someone:hunter2@:x:y").await.err();
    let text = error.expect("that is no URL").to_string();
    assert!(text.contains("postgres://user:password@host"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn store_1_a_postgres_that_may_lose_commits_is_refused() {
    let bed = Bed::postgres().await;
    bed.sql(
        "DO $$ BEGIN
            EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database());
        END $$",
    )
    .await;
    let (operation, reason) = refusal(&bed).await;
    assert_eq!(operation, "checking PostgreSQL's durability settings");
    assert!(reason.starts_with("synchronous_commit is off"), "{reason}");
}

/// A server that drops its connections costs the writes under way, and those that still pick a dead connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_cuts_its_connections_is_connected_to_again() {
    let world = World::new(Bed::postgres().await).await;
    let (id, lease) = world.leased().await;
    world
        .bed
        .sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
    let mut failures = 0;
    let stored = loop {
        let append = entries(vec![NewEntry::event(answered("again"))]);
        match world.store.append(&lease, append).await {
            Ok(stored) => break stored,
            Err(AppendError::Store(Error::Unavailable { .. })) => failures += 1,
            Err(other) => panic!("{other:?}"),
        }
        assert!(failures <= 16, "as many as the pool has connections");
    };
    assert_eq!(positions(&stored), [2], "the failures wrote nothing");
    assert_eq!(world.log(&id).await[1..], stored);
}
