//! Reading a whole store for damage: each kind is found and named, and none hides another (security STORE-3).

use manyhands_protocol::EventId;
use manyhands_protocol::SessionId;
use manyhands_store::verify::{Counts, Source, Told, verify};
use manyhands_store::{Append, Database, Error, NewEntry};

use crate::bed::*;

contract!(
    store_3_a_clean_store_is_found_clean_beside_its_server,
    store_3_damage_of_every_kind_is_found_and_named,
    store_3_damage_in_one_session_does_not_hide_anothers,
    store_3_what_belongs_to_no_session_is_damage_unless_it_is_being_removed,
    store_3_damaged_resources_are_named;
    on_disks:
    store_3_no_write_of_a_server_looks_like_damage,
    store_5_what_has_another_schema_is_not_judged,
);

async fn look(database: &Database) -> Result<(Vec<String>, Counts), Error> {
    let mut damage = Vec::new();
    let source = Source::Database(database.clone());
    let counts = verify(&source, &mut |told| {
        if let Told::Damage(found) = told {
            damage.push(format!("{}: {}", found.item, found.reason));
        }
    })
    .await?;
    assert_eq!(counts.damaged, damage.len() as u64);
    Ok((damage, counts))
}

async fn found(world: &World) -> Vec<String> {
    look(&world.bed.database).await.unwrap().0
}

fn custom_call() -> NewEntry {
    let body = serde_json::json!({"type": "agent.custom_tool_use", "name": "ask", "input": {}});
    NewEntry::event(serde_json::from_value(body).unwrap())
}

fn id_of(entry: &NewEntry) -> EventId {
    match entry {
        NewEntry::Event { id, .. } => id.clone(),
        _ => panic!("it is no event"),
    }
}

/// A session with 6 entries: two messages, of which the first is processed, an open call, a note, a private entry.
async fn rich(world: &World) -> SessionId {
    let (id, lease) = world.leased().await;
    let event_id = world.log(&id).await[0].event_id.clone();
    let call = custom_call();
    let append = Append {
        opened: vec![(id_of(&call), "agent.custom_tool_use")],
        entries: vec![
            NewEntry::Processed { event_id },
            NewEntry::Private {
                type_name: "response",
                body: "{}".to_owned(),
            },
            call,
        ],
        ..Append::default()
    };
    world.store.append(&lease, append).await.unwrap();
    world.change(&id, work(vec![queued("and more")])).await;
    world.change(&id, notes(&["a note"])).await;
    world.store.release(&lease).await.unwrap();
    id
}

async fn store_3_a_clean_store_is_found_clean_beside_its_server(bed: Bed) {
    let world = World::new(bed).await;
    rich(&world).await;
    rich(&world).await;
    world.session().await;
    let (id, lease) = world.leased().await;
    for _ in 0..3 {
        let hello = || NewEntry::event(answered("hello"));
        let append = entries((0..100).map(|_| hello()).collect());
        world.store.append(&lease, append).await.unwrap();
    }
    let (damage, counts) = look(&world.bed.database).await.unwrap();
    assert_eq!(damage, Vec::<String>::new());
    let expected = Counts {
        sessions: 4,
        entries: 6 + 6 + 301,
        // A workspace, an agent, its version, an environment.
        resources: 4,
        damaged: 0,
    };
    assert_eq!(counts, expected);
    // The server goes on as before.
    assert_eq!(world.change(&id, notes(&["b"])).await[0].position, 302);
}

async fn store_3_damage_of_every_kind_is_found_and_named(bed: Bed) {
    let world = World::new(bed).await;
    for (plant, expected) in [
        (
            "UPDATE log SET body = replace(body, 'a note', 'a nota') WHERE position = 6",
            "entry 6 of S: its checksum does not match",
        ),
        (
            "UPDATE log SET checksum = checksum + 1 WHERE position = 3",
            "entry 3 of S: its checksum does not match",
        ),
        (
            "UPDATE log SET kind = 7 WHERE position = 3",
            "entry 3 of S: its kind is 7",
        ),
        (
            "UPDATE log SET workspace = 'wrkspc_other' WHERE position = 3",
            "entry 3 of S: it is in workspace wrkspc_other, not W",
        ),
        (
            "DELETE FROM log WHERE position = 3",
            "entry 3 of S: it is missing",
        ),
        (
            "DELETE FROM log WHERE position IN (2, 3)",
            "entry 1 of S: it is not processed and does not wait in the inbox
             entries 2 to 3 of S: they are missing",
        ),
        (
            "DELETE FROM log WHERE position = 6",
            "entry 6 of S: it is missing though the session's row counts them",
        ),
        (
            "UPDATE sessions SET last_position = 5",
            "session S: its row counts 5 entries, its log goes to position 6",
        ),
        (
            "UPDATE log SET position = -3 WHERE position = 6",
            "entry -3 of S: its checksum does not match; its position is below 1
             entry 6 of S: it is missing though the session's row counts them",
        ),
        (
            "UPDATE log SET refers_to = 4 WHERE position = 2",
            "entry 2 of S: it refers to entry 4, which is not its queued event; its checksum does not match",
        ),
        (
            "UPDATE log SET refers_to = 40 WHERE position = 2",
            "entry 2 of S: it refers to entry 40, which is missing",
        ),
        (
            "DELETE FROM inbox",
            "entry 5 of S: it is not processed and does not wait in the inbox",
        ),
        (
            "INSERT INTO inbox (session_id, position, workspace, event_id)
             SELECT session_id, position, workspace, event_id FROM log WHERE position = 1",
            "entry 1 of S: it is processed and still waits in the inbox",
        ),
        (
            "INSERT INTO inbox (session_id, position, workspace, event_id)
             SELECT session_id, position, workspace, event_id FROM log WHERE position = 6",
            "entry 6 of S: it was never queued, but waits or is processed again",
        ),
        (
            "INSERT INTO inbox (session_id, position, workspace, event_id)
             SELECT session_id, 9, workspace, 'sevt_ghost' FROM log WHERE position = 1",
            "queued event sevt_ghost of S: the log does not have it at position 9",
        ),
        (
            "UPDATE calls SET event_id = 'sevt_ghost'",
            "call sevt_ghost of S: it is no tool use (agent.custom_tool_use) of the log",
        ),
        (
            "UPDATE calls SET event_id = (SELECT event_id FROM log WHERE position = 6), type = 'user.message',
                 answer = 'sevt_ghost'",
            "call E6 of S: it is no tool use (user.message) of the log; its answer sevt_ghost is not in the log",
        ),
        (
            "DELETE FROM session_profiles",
            "session S: its profile is missing",
        ),
        (
            "UPDATE session_profiles SET body = '{', checksum = NULL",
            "session S: EOF while parsing an object at line 1 column 1",
        ),
        (
            "UPDATE session_profiles SET body = REPLACE(body, 'helper', 'hepler')",
            "session S: its checksum does not match",
        ),
        (
            "UPDATE sessions SET status = 'asleep'",
            "session S: its status is unknown",
        ),
        (
            "UPDATE sessions SET input_position = 7",
            "session S: it has input up to position 7 and entries up to 6",
        ),
        (
            "UPDATE sessions SET id = 'nobody';
             UPDATE session_profiles SET session_id = 'nobody'; UPDATE log SET session_id = 'nobody';
             UPDATE inbox SET session_id = 'nobody'; UPDATE calls SET session_id = 'nobody'",
            "session \"nobody\": its id is not a session's",
        ),
    ] {
        let id = rich(&world).await;
        let sixth = world.log(&id).await[5].event_id.clone();
        world.bed.sql(plant).await;
        let expected: Vec<String> = expected
            .lines()
            .map(|line| line.trim().replace("E6", sixth.as_str()))
            .map(|line| line.replace(" S:", &format!(" {id}:")))
            .map(|line| line.replace("not W", &format!("not {}", world.workspace)))
            .collect();
        assert_eq!(found(&world).await, expected, "{plant}");
        world
            .bed
            .sql(
                "DELETE FROM sessions; DELETE FROM session_profiles; DELETE FROM log; DELETE FROM inbox;
                 DELETE FROM calls",
            )
            .await;
        assert!(found(&world).await.is_empty());
    }
}

async fn store_3_damage_in_one_session_does_not_hide_anothers(bed: Bed) {
    let world = World::new(bed).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(rich(&world).await);
    }
    ids.sort();
    world
        .bed
        .sql(
            "UPDATE session_profiles SET body = '{' WHERE session_id = (SELECT MIN(id) FROM sessions);
             UPDATE log SET checksum = 0 WHERE position = 4;
             DELETE FROM log WHERE session_id = (SELECT MAX(id) FROM sessions) AND position > 4",
        )
        .await;
    let found = found(&world).await;
    let at = |line: &str, item: String| assert!(line.starts_with(&item), "{line}");
    assert_eq!(found.len(), 6, "{found:#?}");
    at(&found[0], format!("session {}: ", ids[0]));
    at(&found[1], format!("entry 4 of {}: ", ids[0]));
    at(&found[2], format!("entry 4 of {}: ", ids[1]));
    at(&found[3], format!("entry 4 of {}: ", ids[2]));
    at(&found[4], format!("entries 5 to 6 of {}: ", ids[2]));
    at(&found[5], "queued event ".to_owned());
}

async fn store_3_what_belongs_to_no_session_is_damage_unless_it_is_being_removed(bed: Bed) {
    let world = World::new(bed).await;
    let id = rich(&world).await;
    world.bed.sql("DELETE FROM sessions").await;
    let row = "its row is missing, and there are 6 entries, 1 queued events, 1 calls, 1 profiles";
    assert_eq!(found(&world).await, [format!("session {id}: {row}")]);
    world
        .bed
        .sql(
            "DELETE FROM inbox; DELETE FROM calls; DELETE FROM session_profiles;
             DELETE FROM log WHERE position < 3;
             INSERT INTO remains (session_id) SELECT DISTINCT session_id FROM log",
        )
        .await;
    assert!(found(&world).await.is_empty());
}

async fn store_3_damaged_resources_are_named(bed: Bed) {
    let world = World::new(bed).await;
    let (agent, environment) = (&world.agent.id, &world.environment.id);
    for (plant, expected, mend) in [
        (
            "UPDATE agents SET version = 2",
            format!("agent {agent}: its latest version is missing"),
            "UPDATE agents SET version = 1",
        ),
        (
            "UPDATE environments SET body = REPLACE(body, 'plain', 'plane')",
            format!("environment {environment}: its checksum does not match"),
            "UPDATE environments SET body = REPLACE(body, 'plane', 'plain')",
        ),
        (
            "UPDATE agent_versions SET body = REPLACE(body, 'helper', 'hepler')",
            format!("version 1 of agent {agent}: its checksum does not match"),
            "UPDATE agent_versions SET body = REPLACE(body, 'hepler', 'helper')",
        ),
        (
            "UPDATE agent_versions SET body = '[]'",
            format!("version 1 of agent {agent}: "),
            "DELETE FROM agent_versions; DELETE FROM agents",
        ),
        (
            "UPDATE environments SET id = 'env_other', checksum = NULL",
            "environment env_other: its body is that of another environment".to_owned(),
            "DELETE FROM environments",
        ),
        (
            "INSERT INTO environments (id, workspace, body, created_at) VALUES ('env_x', 'w', '{}', 1)",
            "environment env_x: missing field".to_owned(),
            "DELETE FROM environments",
        ),
        (
            "INSERT INTO workspaces (id, slot, created_at) VALUES ('x', 'x', 1)",
            "workspace x: ".to_owned(),
            "DELETE FROM workspaces WHERE id = 'x'",
        ),
    ] {
        world.bed.sql(plant).await;
        let found = found(&world).await;
        assert_eq!(found.len(), 1, "{plant}: {found:?}");
        assert!(found[0].starts_with(&expected), "{plant}: {found:?}");
        world.bed.sql(mend).await;
        let left = look(&world.bed.database).await.unwrap().0;
        assert!(left.is_empty(), "{mend}: {left:?}");
    }
    assert!(environment.as_str().starts_with("env_"));
}

async fn store_3_no_write_of_a_server_looks_like_damage(bed: Bed) {
    let world = std::sync::Arc::new(World::new(bed).await);
    let (id, lease) = world.leased().await;
    let writer = {
        let (world, id) = (std::sync::Arc::clone(&world), id.clone());
        tokio::spawn(async move {
            for _ in 0..50 {
                let stored = world.change(&id, work(vec![queued("go on")])).await;
                let event_id = stored[0].event_id.clone();
                let append = entries(vec![
                    NewEntry::Processed { event_id },
                    NewEntry::event(answered("yes")),
                ]);
                world.store.append(&lease, append).await.unwrap();
                rich(&world).await;
            }
        })
    };
    let mut looks = 0;
    while !writer.is_finished() || looks == 0 {
        assert_eq!(found(&world).await, Vec::<String>::new());
        looks += 1;
    }
    writer.await.unwrap();
    let (damage, counts) = look(&world.bed.database).await.unwrap();
    assert_eq!((damage.len(), counts.sessions), (0, 51));
}

async fn store_5_what_has_another_schema_is_not_judged(bed: Bed) {
    let world = World::new(bed).await;
    world
        .bed
        .sql("UPDATE _sqlx_migrations SET version = 9999 WHERE version = 3")
        .await;
    let schema = async || match look(&world.bed.database).await {
        Err(Error::Schema { found, known }) => (found, known),
        other => panic!("{other:?}"),
    };
    let (newer, known) = schema().await;
    assert!(newer == 9999 && newer > known, "{newer} and {known}");
    world
        .bed
        .sql("DELETE FROM _sqlx_migrations WHERE version > 2")
        .await;
    assert_eq!(schema().await, (2, known));
    world.bed.sql("DROP TABLE _sqlx_migrations").await;
    let error = look(&world.bed.database).await.unwrap_err().to_string();
    assert!(error.contains("no database of Manyhands"), "{error}");
}

#[tokio::test]
async fn store_3_a_copy_of_a_data_directory_can_be_verified_and_a_missing_one_cannot() {
    let world = World::new(Bed::sqlite().await).await;
    rich(&world).await;
    let Database::Sqlite { directory } = &world.bed.database else {
        panic!("it is SQLite");
    };
    let copy = tempfile::tempdir().unwrap();
    let database = Database::Sqlite {
        directory: copy.path().to_owned(),
    };
    let error = look(&database).await.unwrap_err().to_string();
    assert!(error.contains("there is no"), "{error}");
    assert_eq!(std::fs::read_dir(copy.path()).unwrap().count(), 0);
    world.store.close().await;
    let name = "manyhands.db";
    std::fs::copy(directory.join(name), copy.path().join(name)).unwrap();
    let (damage, counts) = look(&database).await.unwrap();
    assert_eq!((damage.len(), counts.entries), (0, 6));
}

#[tokio::test]
async fn store_3_a_damaged_page_is_found_and_the_rest_is_read() {
    let world = World::new(Bed::sqlite().await).await;
    let Database::Sqlite { directory } = &world.bed.database else {
        panic!("it is SQLite");
    };
    let id = world.session().await;
    // Long enough for pages of its own.
    let long = format!("needle {}", "x".repeat(20_000));
    world.change(&id, notes(&["one", &long, "three"])).await;
    let other = rich(&world).await;
    world.store.close().await;
    let file = directory.join("manyhands.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(6).position(|text| text == b"needle").unwrap();
    bytes[at] = b'N';
    std::fs::write(&file, &bytes).unwrap();
    let (damage, counts) = look(&world.bed.database).await.unwrap();
    let expected = format!("entry 2 of {id}: its checksum does not match");
    assert_eq!(damage, [expected]);
    assert_eq!((counts.sessions, counts.entries), (2, 9), "{other} is read");
}
