//! Backup while a server writes, and restore into a new data directory (security STORE-5).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use manyhands_protocol::SessionId;
use manyhands_protocol::id::ApiKeyId;
use manyhands_protocol::time::Clock as _;
use manyhands_store::audit::Actor;
use manyhands_store::backup::{self, Damaged, Told};
use manyhands_store::key::{ApiKey, KeyRole, Opens};
use manyhands_store::verify::{self, Counts, Source};
use manyhands_store::{Database, Entry, Error};
use manyhands_testkit::clock::TestClock;
use secrecy::ExposeSecret as _;
use tokio::sync::watch;

use crate::bed::*;

fn directory(bed: &Bed) -> PathBuf {
    match &bed.database {
        Database::Sqlite { directory } => directory.clone(),
        _ => panic!("it is SQLite on a disk"),
    }
}

async fn back_up(world: &World, file: &Path) -> Result<Counts, Error> {
    backup::backup(&directory(&world.bed), file, &mut drop).await
}

async fn restore(file: &Path, directory: &Path) -> Result<Counts, Error> {
    backup::restore(file, directory, Damaged::Refuse, &mut drop).await
}

fn bed_on(directory: &Path) -> Bed {
    let database = Database::Sqlite {
        directory: directory.to_owned(),
    };
    Bed::on(database, TestClock::default())
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A world with one session of some entries, and a folder for backups.
async fn small() -> (World, SessionId, tempfile::TempDir) {
    let world = World::new(Bed::sqlite().await).await;
    let id = world.session_with(notes(&["one", "two"])).await;
    (world, id, tempfile::tempdir().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn store_5_a_backup_amid_writes_has_all_that_was_acknowledged_before_it() {
    let world = Arc::new(World::new(Bed::sqlite().await).await);
    let key = ApiKey {
        id: ApiKeyId::generate(),
        workspace: world.workspace.clone(),
        opens: Opens::Workspace(KeyRole::Admin),
        name: "ci".to_owned(),
        hint: "mh_abc".to_owned(),
        created_at: world.bed.clock.now(),
        revoked_at: None,
    };
    world
        .store
        .insert_key(Actor::Operator, &key, &[7; 32])
        .await
        .unwrap();
    let (stop, stopped) = watch::channel(false);
    let (progress, mut written) = watch::channel(0);
    let progress = Arc::new(progress);
    let mut writers = Vec::new();
    for _ in 0..8 {
        let (world, stopped, progress) =
            (Arc::clone(&world), stopped.clone(), Arc::clone(&progress));
        let id = world.session().await;
        let (noted, note) = watch::channel(Vec::<Entry>::new());
        let writer = tokio::spawn({
            let id = id.clone();
            async move {
                while !*stopped.borrow() {
                    let stored = world.change(&id, notes(&["more", "and more"])).await;
                    noted.send_modify(|all| all.extend(stored));
                    progress.send_modify(|count| *count += 1);
                }
            }
        });
        writers.push((id, note, writer));
    }
    let folder = tempfile::tempdir().unwrap();
    for round in 1..=3 {
        soon(written.wait_for(|count| *count >= round * 100))
            .await
            .unwrap();
        let acknowledged: BTreeMap<SessionId, Vec<Entry>> = writers
            .iter()
            .map(|(id, note, _)| (id.clone(), note.borrow().clone()))
            .collect();
        let before = *written.borrow();
        let file = folder.path().join(format!("{round}.backup"));
        let counts = back_up(&world, &file).await.unwrap();
        assert_eq!((counts.damaged, counts.sessions), (0, 8));
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        soon(written.wait_for(|count| *count > before))
            .await
            .unwrap();

        let target = folder.path().join(format!("restored-{round}"));
        let again = restore(&file, &target).await.unwrap();
        assert_eq!(again, counts);
        let bed = bed_on(&target);
        let store = bed.open().await;
        for (id, entries) in &acknowledged {
            let log = store.read(id, 0, 100_000).await.unwrap();
            assert_eq!(&log[..entries.len()], entries);
            assert_eq!(positions(&log), (1..=log.len() as i64).collect::<Vec<_>>());
        }
        let found = store.key_by_hash(&[7; 32]).await.unwrap();
        assert_eq!(found.as_ref(), Some(&key), "keys go on working");
        // It is a server like any other: it writes, and what it writes is whole.
        let id = acknowledged.keys().next().unwrap();
        let (entries, ()) = store
            .change(&world.workspace, id, &[], |_| {
                Ok::<_, std::convert::Infallible>((notes(&["after"]), ()))
            })
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let source = Source::Database(bed.database.clone());
        let verified = verify::verify(&source, &mut drop).await.unwrap();
        assert_eq!(
            (verified.entries, verified.damaged),
            (counts.entries + 1, 0)
        );
        assert!(entries[0].position > acknowledged[id].len() as i64);
        store.close().await;
    }
    stop.send(true).unwrap();
    for (_, _, writer) in writers {
        writer.await.unwrap();
    }
    let expected = [
        "1.backup",
        "2.backup",
        "3.backup",
        "restored-1",
        "restored-2",
        "restored-3",
    ];
    assert_eq!(names(folder.path()), expected);
}

#[tokio::test]
async fn store_5_a_backup_overwrites_nothing_and_leaves_nothing_behind() {
    let (world, _, folder) = small().await;
    let file = folder.path().join("kept");
    fs::write(&file, "an older one").unwrap();
    let error = back_up(&world, &file).await.unwrap_err().to_string();
    assert!(error.contains("exists already"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "an older one");
    let dangling = folder.path().join("link");
    std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
    let error = back_up(&world, &dangling).await.unwrap_err().to_string();
    assert!(error.contains("exists already"), "{error}");
    // One that appears while the copy is made wins.
    let late = folder.path().join("late");
    let mut tell = |told| {
        if let Told::Verified(_) = told {
            fs::write(&late, "first").unwrap();
        }
    };
    let from = directory(&world.bed);
    let made = backup::backup(&from, &late, &mut tell);
    let error = made.await.unwrap_err().to_string();
    assert!(error.contains("exists already"), "{error}");
    assert_eq!(fs::read_to_string(&late).unwrap(), "first");
    let error = back_up(&world, &folder.path().join("no/where")).await;
    assert!(matches!(error, Err(Error::Setup { .. })), "{error:?}");
    assert_eq!(names(folder.path()), ["kept", "late", "link"]);
    let nothing = folder.path().join("nothing");
    let error = backup::backup(folder.path(), &nothing, &mut drop)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("there is no"), "{error}");
    assert!(!nothing.exists());
}

#[tokio::test]
async fn store_5_a_backup_that_breaks_off_leaves_nothing_behind() {
    let (world, _, folder) = small().await;
    let file = folder.path().join("backup");
    let from = directory(&world.bed);
    let (say, mut said) = watch::channel(Vec::new());
    let mut tell = |_| drop(say.send_replace(names(folder.path())));
    tokio::select! {
        // Heard before the next step is taken, since it is looked at first.
        biased;
        heard = said.changed() => heard.unwrap(),
        made = backup::backup(&from, &file, &mut tell) => panic!("it came to its end: {made:?}"),
    }
    let seen = said.borrow().clone();
    assert!(
        seen.len() == 1 && seen[0].starts_with("backup.part-"),
        "{seen:?}"
    );
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

#[tokio::test]
async fn store_5_only_a_new_or_empty_directory_is_restored_into() {
    let (world, id, folder) = small().await;
    let file = folder.path().join("backup");
    back_up(&world, &file).await.unwrap();
    let error = restore(&file, &directory(&world.bed)).await.unwrap_err();
    assert!(error.to_string().contains("is not empty"), "{error}");
    assert_eq!(world.log(&id).await.len(), 2, "the server goes on");
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("notes.txt"), "mine").unwrap();
    let error = restore(&file, &other).await.unwrap_err();
    assert!(error.to_string().contains("is not empty"), "{error}");
    assert_eq!(names(&other), ["notes.txt"]);
    fs::remove_file(other.join("notes.txt")).unwrap();
    restore(&file, &other).await.unwrap();
    assert_eq!(names(&other), ["lock", "manyhands.db"]);
    let error = restore(&file, &other).await.unwrap_err();
    assert!(error.to_string().contains("is not empty"), "{error}");
    let mode = fs::metadata(other.join("manyhands.db"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn store_5_a_damaged_backup_is_told_and_not_restored_unless_asked_for() {
    let (world, id, folder) = small().await;
    world
        .bed
        .sql("UPDATE log SET checksum = 0 WHERE position = 2")
        .await;
    let file = folder.path().join("backup");
    let mut damage = Vec::new();
    let mut tell = |told| {
        if let Told::Verified(verify::Told::Damage(found)) = told {
            damage.push(found.item);
        }
    };
    let counts = backup::backup(&directory(&world.bed), &file, &mut tell)
        .await
        .unwrap();
    assert_eq!(counts.damaged, 1);
    assert_eq!(damage, [format!("entry 2 of {id}")]);
    let target = folder.path().join("restored");
    let refused = restore(&file, &target).await;
    assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
    assert_eq!(names(&target), ["lock"]);
    let counts = backup::restore(&file, &target, Damaged::Keep, &mut drop)
        .await
        .unwrap();
    assert_eq!(counts.damaged, 1);
    let store = bed_on(&target).open().await;
    assert_eq!(store.read(&id, 0, 1).await.unwrap().len(), 1);
    store.close().await;

    let nonsense = folder.path().join("nonsense");
    fs::write(&nonsense, "no database ".repeat(1000)).unwrap();
    let target = folder.path().join("other");
    let refused = restore(&nonsense, &target).await.unwrap_err();
    // That would be told to accept the damage, which does not help.
    assert!(matches!(refused, Error::Setup { .. }), "{refused}");
    assert!(!target.exists());
}

#[tokio::test]
async fn store_5_an_older_backup_is_brought_up_to_date_and_a_newer_one_refused() {
    let (world, id, folder) = small().await;
    let file = folder.path().join("backup");
    back_up(&world, &file).await.unwrap();
    let copy = folder.path().join("old");
    fs::create_dir(&copy).unwrap();
    let old = copy.join("manyhands.db");
    fs::copy(&file, &old).unwrap();
    let bed = bed_on(&copy);
    bed.sql(
        "ALTER TABLE agent_versions DROP COLUMN checksum; ALTER TABLE environments DROP COLUMN checksum;
         ALTER TABLE session_profiles DROP COLUMN checksum;
         DROP TABLE files; DROP TABLE session_resources; DROP TABLE loose_blobs; DROP TABLE captures;
         DROP TABLE checkpoints; DROP TABLE master_key; DROP TABLE data_keys; DROP TABLE vaults; DROP TABLE credentials;
         DROP TABLE placeholders; DROP TABLE audit; DROP TABLE kept_clones;
         DROP TABLE memory_stores; DROP TABLE memories; DROP TABLE memory_versions; DROP TABLE memory_remains;
         DROP TABLE session_memory_stores; DROP TABLE skills; DROP TABLE skill_versions; DROP TABLE session_skills;
         ALTER TABLE workspaces DROP COLUMN body; ALTER TABLE api_keys DROP COLUMN role;
         ALTER TABLE api_keys DROP COLUMN environment_id; DROP TABLE idempotent_requests; DROP TABLE user_profiles;
         DROP TABLE user_profile_links; DELETE FROM _sqlx_migrations WHERE version >= 5",
    )
    .await;
    let target = folder.path().join("restored");
    restore(&old, &target).await.unwrap();
    let store = bed_on(&target).open().await;
    assert_eq!(store.read(&id, 0, 9).await.unwrap().len(), 2);
    store.close().await;
    let refused = backup::backup(&copy, &folder.path().join("no"), &mut drop).await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, Error::Schema { found, known } if found < known),
        "{refused}"
    );

    bed.sql("UPDATE _sqlx_migrations SET version = 9999 WHERE version = 2")
        .await;
    let target = folder.path().join("newer");
    let refused = restore(&old, &target).await.unwrap_err();
    assert!(
        matches!(refused, Error::Schema { found: 9999, .. }),
        "{refused}"
    );
    assert!(!target.exists());
}

/// The procedure of docs/src/operations.md.
#[tokio::test]
async fn store_5_what_pg_dump_wrote_is_restored_by_pg_restore_and_verifies() {
    let world = World::new(Bed::postgres().await).await;
    let (id, _) = world.leased().await;
    let stored = world.change(&id, notes(&["one", "two \u{1}"])).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("manyhands.dump");
    let Database::Postgres { url } = &world.bed.database else {
        panic!("it is PostgreSQL");
    };
    let mut dump = tokio::process::Command::new("pg_dump");
    dump.args(["--format=custom", "--file"]).arg(&file);
    succeeds(dump.arg(url.expose_secret())).await;
    let bed = Bed::postgres().await;
    let Database::Postgres { url } = &bed.database else {
        panic!("it is PostgreSQL");
    };
    let mut restore = tokio::process::Command::new("pg_restore");
    restore.args(["--exit-on-error", "--no-owner", "--dbname"]);
    succeeds(restore.arg(url.expose_secret()).arg(&file)).await;
    let source = Source::Database(bed.database.clone());
    let counts = verify::verify(&source, &mut drop).await.unwrap();
    let found = (counts.sessions, counts.entries, counts.damaged);
    assert_eq!(found, (1, 3, 0));
    let store = bed.open().await;
    assert_eq!(store.read(&id, 1, 9).await.unwrap(), stored);
    store.close().await;
}

async fn succeeds(command: &mut tokio::process::Command) {
    let output = soon(command.output()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// In the child: the failpoint, and the folder to work in.
const POINT: &str = "MANYHANDS_STORE_BACKUP_POINT";
const PLACE: &str = "MANYHANDS_STORE_BACKUP_PLACE";

#[test]
fn store_5_a_crash_at_any_step_leaves_a_whole_copy_or_none() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Some(point) = std::env::var_os(POINT) {
        let place = PathBuf::from(std::env::var_os(PLACE).unwrap());
        return runtime.block_on(crash(point.to_str().unwrap(), &place));
    }
    for (point, named) in [
        ("store::backup::copied", false),
        ("store::backup::before_rename", false),
        ("store::backup::after_rename", true),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("backup::store_5_a_crash_at_any_step_leaves_a_whole_copy_or_none")
            .env(POINT, point)
            .env(PLACE, folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stderr);
        assert_eq!(child.status.signal(), Some(6), "{point} is reached: {said}");
        let file = folder.path().join("backup");
        assert_eq!(file.exists(), named, "{point}");
        // What is left under another name is in nobody's way.
        runtime.block_on(async {
            if !named {
                let from = folder.path().join("data");
                let made = backup::backup(&from, &file, &mut drop).await.unwrap();
                assert_eq!(made.damaged, 0);
            }
            let counts = restore(&file, &folder.path().join("restored")).await;
            assert_eq!(counts.unwrap().entries, 2, "{point}");
        });
    }
}

async fn crash(point: &str, place: &Path) {
    let core = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(rustix::process::Resource::Core, core).unwrap();
    let world = World::new(bed_on(&place.join("data"))).await;
    world.session_with(notes(&["one", "two"])).await;
    fail::cfg_callback(point, || std::process::abort()).unwrap();
    let made = back_up(&world, &place.join("backup")).await;
    panic!("it came to its end: {made:?}");
}
