//! Files, the files that sessions read, captures and blobs that nobody needs any more.

use std::sync::Arc;

use manyhands_protocol::file::{File, FileScope};
use manyhands_protocol::page::Order;
use manyhands_protocol::repository::Resource;
use manyhands_protocol::session::SessionStatus;
use manyhands_protocol::time::Clock as _;
use manyhands_protocol::{FileId, ResourceId, SessionId, Timestamp, WorkspaceId};
use manyhands_store::files::{Captured, FILES, FileDeletion, Mount, MountRefusal, Unmounted};
use manyhands_store::listing::{Key, Range};
use manyhands_store::{Append, Belongings, Change, Created, Database, FileRecord, Origin};
use secrecy::ExposeSecret as _;
use sqlx::{Connection as _, PgConnection};

use crate::bed::*;

contract!(
    files_page_newest_first_and_by_scope,
    api_2_foreign_files_are_not_there,
    api_4_a_quota_is_exact_also_at_once,
    id_3_a_mounted_file_is_a_copy_that_shares_the_blob,
    id_3_sessions_mount_the_same_files_in_any_order_at_once,
    fi_3_a_session_has_at_most_500_files,
    inp_4_two_resources_cannot_share_a_path,
    ht_15_a_session_with_a_bad_file_is_not_created,
    up_8_a_deleted_session_takes_its_files_and_leaves_the_originals,
    fi_6_a_wish_for_a_capture_lasts_until_it_is_finished,
    fi_5_an_output_that_is_written_again_is_a_new_file,
    fi_8_expired_files_give_up_their_blobs_and_later_their_rows,
    a_session_that_ended_takes_no_files;
    on_disks: store_3_a_damaged_row_is_said_and_the_others_are_served,
);

fn record(now: Timestamp, name: &str, size: u64) -> FileRecord {
    let id = FileId::generate();
    FileRecord {
        blob: format!("files/{}", id.as_str().to_lowercase()),
        file: File {
            id,
            kind: Default::default(),
            filename: name.to_owned(),
            mime_type: "text/plain".to_owned(),
            size_bytes: size,
            created_at: now,
            downloadable: false,
            expires_at: None,
            scope: None,
        },
        origin: Origin::Upload {},
        sha256: "00".repeat(32),
    }
}

impl World {
    async fn upload(&self, name: &str) -> FileRecord {
        let record = record(self.bed.clock.now(), name, 10);
        let inserted = self
            .store
            .insert_file(&self.workspace, record.clone(), None)
            .await;
        assert_eq!(inserted, Ok(true));
        record
    }

    async fn mount(&self, session: &SessionId, file: &FileRecord, path: &str) -> ResourceId {
        let mounted = self
            .store
            .mount_file(&self.workspace, session, mount(file, path))
            .await;
        mounted.unwrap().expect("a session").expect("mounted").id
    }

    async fn loose(&self) -> Vec<String> {
        self.store.loose_blobs(100).await.unwrap()
    }

    async fn listed(&self, scope: Option<&SessionId>, range: &Range) -> Vec<FileId> {
        let found = self.store.list_files(&self.workspace, scope, range).await;
        found
            .unwrap()
            .into_iter()
            .map(|found| found.file.id)
            .collect()
    }
}

fn mount(file: &FileRecord, path: &str) -> Mount {
    Mount {
        file_id: file.file.id.clone(),
        path: Some(path.to_owned()),
    }
}

fn page(after: Option<&FileRecord>, limit: u32) -> Range {
    Range {
        after: after.map(|record| Key {
            created_at: record.file.created_at,
            id: record.file.id.to_string(),
        }),
        order: Order::Desc,
        limit,
    }
}

fn oldest_first() -> Range {
    Range {
        after: None,
        order: Order::Asc,
        limit: 1000,
    }
}

async fn files_page_newest_first_and_by_scope(bed: Bed) {
    let world = World::new(bed).await;
    let mut sent = Vec::new();
    for name in ["a", "b", "c"] {
        sent.push(world.upload(name).await);
    }
    let ids = |records: &[&FileRecord]| -> Vec<FileId> {
        records
            .iter()
            .map(|record| record.file.id.clone())
            .collect()
    };
    assert_eq!(
        world.listed(None, &page(None, 2)).await,
        ids(&[&sent[2], &sent[1]])
    );
    assert_eq!(
        world.listed(None, &page(Some(&sent[1]), 2)).await,
        ids(&[&sent[0]])
    );
    let session = world.session().await;
    world
        .mount(&session, &sent[0], "/mnt/session/uploads/a")
        .await;
    let scoped = world.listed(Some(&session), &page(None, 10)).await;
    assert_eq!(scoped.len(), 1);
    assert!(
        !ids(&[&sent[0]]).contains(&scoped[0]),
        "a copy has its own id"
    );
    assert_eq!(world.listed(None, &page(None, 10)).await.len(), 4);
    let asked = [sent[0].file.id.clone(), FileId::generate()];
    let found = world.store.files(&world.workspace, &asked).await.unwrap();
    assert_eq!(found, [sent[0].clone()]);
}

async fn api_2_foreign_files_are_not_there(bed: Bed) {
    let world = World::new(bed).await;
    let (file, session) = (world.upload("a").await, world.session().await);
    let (stranger, id) = (WorkspaceId::generate(), &file.file.id);
    assert_eq!(world.store.file(&stranger, id).await, Ok(None));
    let asked = std::slice::from_ref(id);
    assert_eq!(world.store.files(&stranger, asked).await, Ok(Vec::new()));
    let deleted = world.store.delete_file(&stranger, id).await;
    assert_eq!(deleted, Ok(FileDeletion::Missing));
    let path = "/mnt/session/uploads/a";
    let mounted = world
        .store
        .mount_file(&stranger, &session, mount(&file, path))
        .await;
    assert_eq!(mounted, Ok(None));
    let resource = world.mount(&session, &file, path).await;
    let removed = world
        .store
        .unmount_file(&stranger, &session, &resource)
        .await;
    assert_eq!(removed, Ok(Unmounted::Missing));
    let elsewhere = world.session().await;
    assert_eq!(world.store.resource(&elsewhere, &resource).await, Ok(None));
}

async fn api_4_a_quota_is_exact_also_at_once(bed: Bed) {
    let world = Arc::new(World::new(bed).await);
    let now = world.bed.clock.now();
    let sending = (0..20).map(|n| {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            let record = record(now, &n.to_string(), 10);
            let (store, workspace) = (&world.store, &world.workspace);
            store
                .insert_file(workspace, record, Some(100))
                .await
                .unwrap()
        })
    });
    let mut taken = 0;
    for sent in sending.collect::<Vec<_>>() {
        taken += u32::from(sent.await.unwrap());
    }
    assert_eq!(taken, 10);
    let full = record(now, "one more", 1);
    let refused = world
        .store
        .insert_file(&world.workspace, full, Some(100))
        .await;
    assert_eq!(refused, Ok(false));
    let first = world.listed(None, &page(None, 1)).await;
    // A session's copy counts for nothing (runtime FI-2).
    let session = world.session().await;
    let file = world.store.file(&world.workspace, &first[0]).await.unwrap();
    let file = file.expect("there");
    let copy = world.mount(&session, &file, "/mnt/session/uploads/a").await;
    let refused = world
        .store
        .insert_file(&world.workspace, record(now, "x", 1), Some(100))
        .await;
    assert_eq!(refused, Ok(false));
    let gone = world.store.delete_file(&world.workspace, &first[0]).await;
    assert_eq!(gone, Ok(FileDeletion::Done));
    let again = world
        .store
        .insert_file(&world.workspace, record(now, "y", 10), Some(100))
        .await;
    assert_eq!(again, Ok(true));
    assert!(
        world
            .store
            .resource(&session, &copy)
            .await
            .unwrap()
            .is_some()
    );
}

async fn id_3_a_mounted_file_is_a_copy_that_shares_the_blob(bed: Bed) {
    let world = World::new(bed).await;
    let (file, session) = (world.upload("data.csv").await, world.session().await);
    let path = "/mnt/session/uploads/data.csv";
    let id = world.mount(&session, &file, path).await;
    let resource = world.store.resource(&session, &id).await.unwrap();
    let Some(Resource::File(resource)) = resource else {
        panic!("{resource:?}")
    };
    assert_ne!(resource.file_id, file.file.id);
    assert_eq!(resource.mount_path, path);
    let mounted = world.store.mounted_files(&session).await.unwrap();
    let [mounted] = &mounted[..] else {
        panic!("{mounted:?}")
    };
    assert_eq!(mounted.mount_path, path);
    assert_eq!(mounted.record.blob, file.blob);
    assert_eq!(mounted.record.origin, Origin::Mount {});
    let scope = FileScope::Session {
        id: session.clone(),
    };
    assert_eq!(mounted.record.file.scope, Some(scope));
    let copy = world
        .store
        .delete_file(&world.workspace, &resource.file_id)
        .await;
    assert_eq!(copy, Ok(FileDeletion::Mounted));

    // The blob stays as long as somebody has it, whoever goes first.
    let gone = world
        .store
        .delete_file(&world.workspace, &file.file.id)
        .await;
    assert_eq!(gone, Ok(FileDeletion::Done));
    assert!(world.loose().await.is_empty());
    let asked = [file.blob.clone(), "files/none".to_owned()];
    let absent = world.store.absent_blobs(&asked).await.unwrap();
    assert_eq!(absent, ["files/none"]);
    let removed = world
        .store
        .unmount_file(&world.workspace, &session, &id)
        .await;
    assert_eq!(removed, Ok(Unmounted::Done));
    let again = world
        .store
        .unmount_file(&world.workspace, &session, &id)
        .await;
    assert_eq!(again, Ok(Unmounted::Missing));
    assert_eq!(world.loose().await, std::slice::from_ref(&file.blob));
    world.store.blob_removed(&file.blob).await.unwrap();
    assert!(world.loose().await.is_empty());
    assert!(
        world
            .store
            .mounted_files(&session)
            .await
            .unwrap()
            .is_empty()
    );
}

/// Lets two transactions on PostgreSQL come as far as this file before either gets it. Elsewhere one follows the other.
async fn met_at<T>(bed: &Bed, file: &FileId, both: impl Future<Output = T>) -> T {
    let Database::Postgres { url } = &bed.database else {
        return both.await;
    };
    let connect = async || PgConnection::connect(url.expose_secret()).await.unwrap();
    let (mut holder, mut looker) = (connect().await, connect().await);
    let mut held = holder.begin().await.unwrap();
    let hold = sqlx::query("SELECT id FROM files WHERE id = $1 FOR UPDATE").bind(file.as_str());
    hold.execute(&mut *held).await.unwrap();
    let release = async {
        until_waiting(&mut looker, 2).await;
        held.rollback().await.unwrap();
    };
    tokio::join!(both, release).0
}

/// runtime ID-3: who mounts files in another order waits for nobody in a ring.
async fn id_3_sessions_mount_the_same_files_in_any_order_at_once(bed: Bed) {
    let world = World::new(bed).await;
    let mut files = Vec::new();
    for name in ["first", "between", "last"] {
        files.push(world.upload(name).await);
    }
    let there: Vec<Mount> = files
        .iter()
        .map(|file| mount(file, &format!("/{}", file.file.id)))
        .collect();
    let back: Vec<Mount> = there.iter().rev().cloned().collect();
    let session = async |files: &[Mount]| {
        let session = world.new_session(Change::default());
        let belongings = Belongings {
            files: files.to_vec(),
            ..Belongings::default()
        };
        world.store.create_session_with(session, belongings).await
    };
    let both = async { tokio::join!(session(&there), session(&back)) };
    let made = soon(met_at(&world.bed, &files[1].file.id, both)).await;
    assert_eq!(made, (Ok(Created::Done), Ok(Created::Done)));
}

/// runtime FI-3, CONFLICT-5
async fn fi_3_a_session_has_at_most_500_files(bed: Bed) {
    let world = World::new(bed).await;
    let file = world.upload("a").await;
    let many = |count: usize| {
        let path = |n| mount(&file, &format!("/mnt/session/uploads/{n}"));
        (0..count).map(path).collect::<Vec<_>>()
    };
    let session = world.new_session(Change::default());
    let refused = world
        .store
        .create_session_with(
            session,
            Belongings {
                files: many(FILES + 1),
                ..Default::default()
            },
        )
        .await;
    assert_eq!(refused, Ok(Created::Refused(MountRefusal::TooMany)));
    let session = world.new_session(Change::default());
    let id = session.id.clone();
    let created = world
        .store
        .create_session_with(
            session,
            Belongings {
                files: many(FILES),
                ..Default::default()
            },
        )
        .await;
    assert_eq!(created, Ok(Created::Done));
    let one_more = Mount {
        file_id: file.file.id.clone(),
        path: None,
    };
    let refused = world
        .store
        .mount_file(&world.workspace, &id, one_more.clone())
        .await;
    assert_eq!(refused, Ok(Some(Err(MountRefusal::TooMany))));
    let resources = world.store.list_resources(&id, &oldest_first()).await;
    let resources = resources.unwrap();
    assert_eq!(resources.len(), FILES);
    let first = resources[0].id();
    assert_eq!(
        world.store.unmount_file(&world.workspace, &id, first).await,
        Ok(Unmounted::Done)
    );
    let added = world
        .store
        .mount_file(&world.workspace, &id, one_more)
        .await;
    let added = added.unwrap().expect("a session").expect("room");
    let expected = format!("/mnt/session/uploads/{}", added.file_id);
    assert_eq!(added.mount_path, expected, "runtime FI-1: the default");
}

async fn inp_4_two_resources_cannot_share_a_path(bed: Bed) {
    let world = Arc::new(World::new(bed).await);
    let (file, session) = (world.upload("a").await, world.session().await);
    world
        .mount(&session, &file, "/mnt/session/uploads/d/a")
        .await;
    for path in ["d/a", "d/a/b", "d"] {
        let path = format!("/mnt/session/uploads/{path}");
        let refused = world
            .store
            .mount_file(&world.workspace, &session, mount(&file, &path))
            .await;
        assert_eq!(refused, Ok(Some(Err(MountRefusal::Taken(0, path)))));
    }
    // At once, one of them has it.
    let both = (0..8).map(|_| {
        let (world, file, session) = (Arc::clone(&world), file.clone(), session.clone());
        tokio::spawn(async move {
            let mount = mount(&file, "/mnt/session/uploads/same");
            let mounted = world.store.mount_file(&world.workspace, &session, mount);
            mounted.await.unwrap().expect("a session").is_ok()
        })
    });
    let mut mounted = 0;
    for one in both.collect::<Vec<_>>() {
        mounted += u32::from(one.await.unwrap());
    }
    assert_eq!(mounted, 1);
}

async fn ht_15_a_session_with_a_bad_file_is_not_created(bed: Bed) {
    let world = World::new(bed).await;
    let file = world.upload("a").await;
    let missing = record(world.bed.clock.now(), "missing", 1);
    let path = |name: &str| format!("/mnt/session/uploads/{name}");
    for (mounts, refusal) in [
        (
            vec![mount(&file, &path("a")), mount(&missing, &path("b"))],
            MountRefusal::NoFile(1),
        ),
        (
            vec![mount(&file, &path("a")), mount(&file, &path("a"))],
            MountRefusal::Taken(1, path("a")),
        ),
    ] {
        let session = world.new_session(Change::default());
        let id = session.id.clone();
        let created = world
            .store
            .create_session_with(
                session,
                Belongings {
                    files: mounts,
                    ..Default::default()
                },
            )
            .await;
        assert_eq!(created, Ok(Created::Refused(refusal)));
        assert_eq!(world.store.session(&world.workspace, &id).await, Ok(None));
        assert!(world.store.mounted_files(&id).await.unwrap().is_empty());
    }
    assert_eq!(world.listed(None, &page(None, 10)).await.len(), 1);
}

/// Scenario 14: outputs and copies go, uploads stay.
async fn up_8_a_deleted_session_takes_its_files_and_leaves_the_originals(bed: Bed) {
    let world = World::new(bed).await;
    let (file, session) = (world.upload("a").await, world.session().await);
    world.mount(&session, &file, "/mnt/session/uploads/a").await;
    world
        .store
        .want_capture(&world.workspace, &session)
        .await
        .unwrap();
    let due = world.store.captures_due(10).await.unwrap();
    let output = output(&world, &session, "out", "1");
    let kept = world
        .store
        .finish_capture(&due[0], vec![output.clone()], false);
    assert_eq!(kept.await, Ok(Captured::Kept));
    assert_eq!(world.listed(Some(&session), &page(None, 10)).await.len(), 2);
    let delete = Change {
        delete: true,
        ..Change::default()
    };
    world.change(&session, delete).await;
    assert!(
        world
            .listed(Some(&session), &page(None, 10))
            .await
            .is_empty()
    );
    let left = world.listed(None, &page(None, 10)).await;
    assert_eq!(left, std::slice::from_ref(&file.file.id));
    assert_eq!(
        world.loose().await,
        std::slice::from_ref(&output.blob),
        "the original's blob stays"
    );
    assert!(world.store.captures_due(10).await.unwrap().is_empty());
    let late = world
        .store
        .finish_capture(&due[0], vec![output], true)
        .await;
    assert_eq!(late, Ok(Captured::Gone));
}

fn output(world: &World, session: &SessionId, path: &str, stamp: &str) -> FileRecord {
    let mut output = record(world.bed.clock.now(), path, 7);
    output.file.scope = Some(FileScope::Session {
        id: session.clone(),
    });
    output.origin = Origin::Output {
        path: path.to_owned(),
        stamp: stamp.to_owned(),
    };
    output
}

async fn fi_6_a_wish_for_a_capture_lasts_until_it_is_finished(bed: Bed) {
    let world = World::new(bed).await;
    let (session, _lease) = world.leased().await;
    let (store, workspace) = (&world.store, &world.workspace);
    store.want_capture(workspace, &session).await.unwrap();
    assert!(
        store.captures_due(10).await.unwrap().is_empty(),
        "it is at work"
    );
    let rest = Change {
        append: Append {
            status: Some(SessionStatus::Idle),
            ..Append::default()
        },
        ..Change::default()
    };
    world.change(&session, rest).await;
    let due = store.captures_due(10).await.unwrap();
    assert_eq!(due.len(), 1);
    if !matches!(world.bed.database, Database::Sqlite { .. }) {
        // An instance of its own, which is at a place of its own.
        let elsewhere = world.bed.open().await;
        let none = elsewhere.captures_due(10).await.unwrap();
        assert!(none.is_empty(), "the sandbox is at another place");
        elsewhere.close().await;
    }
    // Another turn begins and ends while the first one's outputs are captured.
    store.want_capture(workspace, &session).await.unwrap();
    let kept = store.finish_capture(&due[0], Vec::new(), true).await;
    assert_eq!(kept, Ok(Captured::Kept));
    let due = store.captures_due(10).await.unwrap();
    assert_eq!(due.len(), 1, "the newer wish stays");
    let unsteady = store.finish_capture(&due[0], Vec::new(), false).await;
    assert_eq!(unsteady, Ok(Captured::Kept));
    assert_eq!(store.captures_due(10).await.unwrap(), due);
    // The next process of a database that admits one is at the same place, whatever it is called.
    let next = match &world.bed.database {
        Database::Sqlite { .. } => {
            store.close().await;
            world.bed.open().await
        }
        _ => store.clone(),
    };
    assert_eq!(next.captures_due(10).await.unwrap(), due);
    let finished = next.finish_capture(&due[0], Vec::new(), true).await;
    assert_eq!(finished, Ok(Captured::Kept));
    assert!(next.captures_due(10).await.unwrap().is_empty());
}

async fn fi_5_an_output_that_is_written_again_is_a_new_file(bed: Bed) {
    let world = World::new(bed).await;
    let session = world.session().await;
    world
        .store
        .want_capture(&world.workspace, &session)
        .await
        .unwrap();
    let due = world.store.captures_due(10).await.unwrap().remove(0);
    let capture = async |found: Vec<FileRecord>| {
        let kept = world.store.finish_capture(&due, found, false).await;
        assert_eq!(kept, Ok(Captured::Kept));
        world.store.outputs(&session).await.unwrap()
    };
    let (a, b) = (
        output(&world, &session, "a", "1"),
        output(&world, &session, "b", "1"),
    );
    let both = capture(vec![a.clone(), b.clone()]).await;
    assert_eq!(both, [a.clone(), b.clone()]);
    let newer = output(&world, &session, "a", "2");
    assert_eq!(
        capture(vec![newer.clone()]).await,
        [newer.clone(), b.clone()]
    );
    assert_eq!(
        world.store.file(&world.workspace, &a.file.id).await,
        Ok(None)
    );
    assert_eq!(world.loose().await, std::slice::from_ref(&a.blob));
    // Written again with the same content: it stays the file it is.
    let mut touched = b.clone();
    touched.origin = Origin::Output {
        path: "b".to_owned(),
        stamp: "2".to_owned(),
    };
    assert_eq!(capture(vec![touched.clone()]).await, [newer, touched]);
    assert_eq!(world.loose().await, [a.blob]);
}

async fn fi_8_expired_files_give_up_their_blobs_and_later_their_rows(bed: Bed) {
    let world = World::new(bed).await;
    let now = world.bed.clock.now();
    let days = |days: i64| Timestamp::from_micros(now.as_micros() + days * 86_400 * 1_000_000);
    let mut recent = record(now, "recent", 5);
    recent.file.expires_at = Some(now);
    let mut old = record(now, "old", 5);
    old.file.expires_at = Some(days(-31));
    let mut later = record(now, "later", 5);
    later.file.expires_at = Some(days(1));
    for record in [&recent, &old, &later] {
        let inserted = world
            .store
            .insert_file(&world.workspace, record.clone(), None)
            .await;
        assert_eq!(inserted, Ok(true));
    }
    let session = world.session().await;
    let mounted = world
        .store
        .mount_file(
            &world.workspace,
            &session,
            mount(&recent, "/mnt/session/uploads/a"),
        )
        .await;
    assert_eq!(mounted, Ok(Some(Err(MountRefusal::Expired(0)))));
    world.store.expire_files().await.unwrap();
    let mut expected = vec![recent.blob.clone(), old.blob.clone()];
    expected.sort();
    assert_eq!(world.loose().await, expected);
    let shown = world.store.file(&world.workspace, &recent.file.id).await;
    assert_eq!(shown, Ok(Some(recent.clone())), "its metadata stay");
    assert_eq!(
        world.store.file(&world.workspace, &old.file.id).await,
        Ok(None)
    );
    let there = world.store.file(&world.workspace, &later.file.id).await;
    assert_eq!(there, Ok(Some(later)));
    let deleted = world
        .store
        .delete_file(&world.workspace, &recent.file.id)
        .await;
    assert_eq!(deleted, Ok(FileDeletion::Done));
}

async fn a_session_that_ended_takes_no_files(bed: Bed) {
    let world = World::new(bed).await;
    let (file, session) = (world.upload("a").await, world.session().await);
    world.archive_session(&session).await;
    let mounted = world
        .store
        .mount_file(
            &world.workspace,
            &session,
            mount(&file, "/mnt/session/uploads/a"),
        )
        .await;
    assert_eq!(mounted, Ok(Some(Err(MountRefusal::Ended))));
}

async fn store_3_a_damaged_row_is_said_and_the_others_are_served(bed: Bed) {
    let world = World::new(bed).await;
    let (damaged, whole) = (world.upload("damaged").await, world.upload("whole").await);
    world
        .bed
        .sql("UPDATE files SET body = REPLACE(body, 'damaged', 'changed')")
        .await;
    let read = world.store.file(&world.workspace, &damaged.file.id).await;
    let Err(manyhands_store::Error::Damaged { item, .. }) = read else {
        panic!("{read:?}")
    };
    assert_eq!(item, format!("file {}", damaged.file.id));
    let other = world.store.file(&world.workspace, &whole.file.id).await;
    assert_eq!(other, Ok(Some(whole)));
}
