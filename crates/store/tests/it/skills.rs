//! Skills, their versions, and the sessions that have them.

use std::time::Duration;

use manyhands_protocol::agent::SkillRef;
use manyhands_protocol::page::Order;
use manyhands_protocol::skill::Origin;
use manyhands_protocol::{SessionId, SkillId, SkillVersionId};
use manyhands_store::listing::Range;
use manyhands_store::skills::{
    Added, Deletion, NewVersion, SkillRecord, VersionName, VersionRecord,
};
use manyhands_store::{Belongings, Change, Created};

use crate::bed::*;

contract!(
    sk_1_skills_have_versions_in_order,
    sk_1_a_skill_keeps_its_name_and_one_version,
    sk_1_sessions_keep_the_versions_they_have,
    sk_1_of_many_who_let_go_at_once_one_removes_the_version,
    sk_1_what_comes_with_the_server_is_installed_once_and_seen_by_all,
    api_2_foreign_skills_are_not_there,
    lc_5_a_session_is_not_made_with_a_version_that_is_gone,
);

const ALL: Range = Range {
    after: None,
    order: Order::Desc,
    limit: 100,
};

pub(crate) fn version(name: &str) -> NewVersion {
    let id = SkillVersionId::generate();
    NewVersion {
        name: name.to_owned(),
        description: format!("what {id} does"),
        blob: format!("skills/00/{}", id.as_str().to_lowercase()),
        size: 7,
        sha256: "00".repeat(32),
        id,
    }
}

pub(crate) async fn skill(world: &World, name: &str) -> SkillRecord {
    let (id, shown) = (SkillId::generate(), "shown".to_owned());
    let made = world
        .store
        .insert_skill(&world.workspace, &id, shown, version(name));
    made.await.unwrap()
}

async fn added(world: &World, skill: &SkillId, name: &str) -> VersionRecord {
    let added = world
        .store
        .insert_skill_version(&world.workspace, skill, version(name));
    match added.await.unwrap() {
        Added::Done(version) => version,
        other => panic!("{other:?}"),
    }
}

async fn find(world: &World, skill: &SkillId, name: &VersionName) -> Option<VersionRecord> {
    let found = world.store.skill_version(&world.workspace, skill, name);
    found.await.unwrap()
}

async fn latest(world: &World, skill: &SkillId) -> VersionRecord {
    find(world, skill, &VersionName::Latest)
        .await
        .expect("it has versions")
}

async fn versions(world: &World, skill: &SkillId) -> Vec<SkillVersionId> {
    let listed = world
        .store
        .list_skill_versions(&world.workspace, skill, &ALL);
    let listed = listed.await.unwrap().into_iter();
    listed.map(|record| record.version.id).collect()
}

async fn delete(world: &World, skill: &SkillId, version: &SkillVersionId) -> Deletion {
    let deleted = world
        .store
        .delete_skill_version(&world.workspace, skill, version);
    deleted.await.unwrap()
}

fn reference(version: &VersionRecord) -> SkillRef {
    SkillRef {
        kind: "custom".to_owned(),
        skill_id: version.version.skill_id.to_string(),
        version: version.version.id.to_string(),
    }
}

async fn try_session(world: &World, skills: &[&VersionRecord]) -> (SessionId, Created) {
    let mut session = world.new_session(Change::default());
    session.agent.definition.skills = skills.iter().map(|version| reference(version)).collect();
    let id = session.id.clone();
    let created = world
        .store
        .create_session_with(session, Belongings::default());
    (id, created.await.unwrap())
}

async fn session(world: &World, skills: &[&VersionRecord]) -> SessionId {
    let (id, created) = try_session(world, skills).await;
    assert_eq!(created, Created::Done);
    id
}

async fn end(world: &World, session: &SessionId) {
    let change = Change {
        delete: true,
        ..Change::default()
    };
    world.change(session, change).await;
}

async fn loose(world: &World) -> Vec<String> {
    world.store.loose_blobs(100).await.unwrap()
}

async fn sk_1_skills_have_versions_in_order(bed: Bed) {
    let world = World::new(bed).await;
    let first = skill(&world, "a").await;
    let id = first.skill.id.clone();
    // The clock stands still: epochs tell versions of one moment apart.
    let second = added(&world, &id, "a").await;
    let third = added(&world, &id, "a").await;
    assert!(first.latest_epoch < second.epoch && second.epoch < third.epoch);
    assert_eq!(latest(&world, &id).await, third);
    let found = world
        .store
        .skill(&world.workspace, &id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.skill.latest_version_id, third.version.id);
    assert_eq!(found.latest_epoch, third.epoch);
    for record in [&second, &third] {
        let by_id = VersionName::Id(record.version.id.clone());
        let by_epoch = VersionName::parse(&record.epoch.to_string()).unwrap();
        for name in [by_id, by_epoch] {
            assert_eq!(find(&world, &id, &name).await.as_ref(), Some(record));
        }
    }
    let first_version = first.skill.latest_version_id.clone();
    let (second, third) = (second.version.id, third.version.id);
    assert_eq!(
        versions(&world, &id).await,
        [third.clone(), second.clone(), first_version.clone()]
    );

    // Without the newest one the one before is; epochs are not used again.
    let gone = latest(&world, &id).await.epoch;
    assert_eq!(delete(&world, &id, &third).await, Deletion::Done);
    assert_eq!(latest(&world, &id).await.version.id, second);
    assert_eq!(loose(&world).await.len(), 1);
    let fourth = added(&world, &id, "a").await;
    assert!(fourth.epoch >= gone);

    // Skills are listed newest first.
    world.bed.clock.advance(Duration::from_secs(1));
    let other = skill(&world, "b").await;
    let listed = world
        .store
        .list_skills(&world.workspace, None, &ALL)
        .await
        .unwrap();
    let ids: Vec<_> = listed.iter().map(|record| &record.skill.id).collect();
    assert_eq!(ids, [&other.skill.id, &id]);
    let one = world
        .store
        .list_skills(&world.workspace, None, &Range { limit: 1, ..ALL })
        .await;
    assert_eq!(one.unwrap(), [other]);
}

async fn sk_1_a_skill_keeps_its_name_and_one_version(bed: Bed) {
    let world = World::new(bed).await;
    let record = skill(&world, "a").await;
    let id = record.skill.id.clone();
    let other = world
        .store
        .insert_skill_version(&world.workspace, &id, version("b"));
    assert_eq!(other.await, Ok(Added::OtherName("a".to_owned())));
    let only = record.skill.latest_version_id;
    assert_eq!(delete(&world, &id, &only).await, Deletion::Only);
    let absent = SkillVersionId::generate();
    assert_eq!(delete(&world, &id, &absent).await, Deletion::Missing);
    added(&world, &id, "a").await;
    let deleted = world.store.delete_skill(&world.workspace, &id);
    assert_eq!(deleted.await, Ok(Deletion::Done));
    assert_eq!(loose(&world).await.len(), 2);
    assert_eq!(world.store.skill(&world.workspace, &id).await, Ok(None));
    assert!(versions(&world, &id).await.is_empty());
    let again = world.store.delete_skill(&world.workspace, &id);
    assert_eq!(again.await, Ok(Deletion::Missing));
}

async fn sk_1_sessions_keep_the_versions_they_have(bed: Bed) {
    let world = World::new(bed).await;
    let record = skill(&world, "a").await;
    let other = latest(&world, &skill(&world, "b").await.skill.id).await;
    let old = latest(&world, &record.skill.id).await;
    let one = session(&world, &[&other, &old]).await;
    let two = session(&world, &[&old]).await;
    let has = world.store.session_skills(&one).await.unwrap();
    assert_eq!(has, [old.clone(), other.clone()], "by name");

    let new = added(&world, &record.skill.id, "a").await;
    assert_eq!(
        delete(&world, &record.skill.id, &old.version.id).await,
        Deletion::Done
    );
    assert_eq!(versions(&world, &record.skill.id).await, [new.version.id]);
    let by_id = VersionName::Id(old.version.id.clone());
    assert_eq!(find(&world, &record.skill.id, &by_id).await, None);
    assert_eq!(
        world.store.session_skills(&two).await.unwrap(),
        std::slice::from_ref(&old)
    );
    assert!(loose(&world).await.is_empty(), "sessions have it");
    let absent = world
        .store
        .absent_blobs(std::slice::from_ref(&old.blob))
        .await;
    assert_eq!(absent, Ok(Vec::new()));

    end(&world, &one).await;
    assert!(loose(&world).await.is_empty(), "one session has it still");
    // A skill goes with its versions, but for those that sessions have.
    let deleted = world.store.delete_skill(&world.workspace, &record.skill.id);
    assert_eq!(deleted.await, Ok(Deletion::Done));
    assert_eq!(loose(&world).await.len(), 1);
    assert_eq!(
        world.store.session_skills(&two).await.unwrap(),
        std::slice::from_ref(&old)
    );
    end(&world, &two).await;
    assert!(loose(&world).await.contains(&old.blob));
    let absent = world
        .store
        .absent_blobs(std::slice::from_ref(&old.blob))
        .await;
    assert_eq!(absent, Ok(vec![old.blob]));
    // What no session has any more, but is not deleted, stays.
    assert_eq!(latest(&world, &other.version.skill_id).await, other);
}

async fn sk_1_of_many_who_let_go_at_once_one_removes_the_version(bed: Bed) {
    let world = std::sync::Arc::new(World::new(bed).await);
    let record = skill(&world, "a").await;
    let old = latest(&world, &record.skill.id).await;
    added(&world, &record.skill.id, "a").await;
    let mut sessions = Vec::new();
    for _ in 0..6 {
        sessions.push(session(&world, &[&old]).await);
    }
    let mut ends = tokio::task::JoinSet::new();
    for session in sessions {
        let world = std::sync::Arc::clone(&world);
        ends.spawn(async move { end(&world, &session).await });
    }
    let deleting = {
        let (world, old) = (std::sync::Arc::clone(&world), old.clone());
        tokio::spawn(async move { delete(&world, &old.version.skill_id, &old.version.id).await })
    };
    ends.join_all().await;
    assert_eq!(deleting.await.unwrap(), Deletion::Done);
    assert_eq!(loose(&world).await, [old.blob]);
}

async fn sk_1_what_comes_with_the_server_is_installed_once_and_seen_by_all(bed: Bed) {
    let world = World::new(bed).await;
    let id = SkillId::parse("pdf").unwrap();
    let one = version("pdf");
    let install = |version: NewVersion| {
        let (world, id) = (&world, &id);
        async move {
            world
                .store
                .install_skill(id, "PDF".to_owned(), version)
                .await
                .unwrap()
        }
    };
    assert!(install(one.clone()).await);
    assert!(!install(one.clone()).await);
    let asked = [one.id.clone(), SkillVersionId::generate()];
    let known = world.store.known_skill_versions(&asked);
    assert_eq!(known.await, Ok(vec![one.id.clone()]));
    let before = latest(&world, &id).await;
    assert_eq!(before.version.id, one.id);
    let two = version("pdf");
    assert!(install(two.clone()).await, "a newer server has another");
    assert!(!install(one.clone()).await, "an older one changes nothing");
    assert_eq!(latest(&world, &id).await.version.id, two.id);
    let by_id = VersionName::Id(one.id.clone());
    assert_eq!(find(&world, &id, &by_id).await, Some(before));

    let made = skill(&world, "own").await;
    for (origin, expected) in [
        (None, vec![&made.skill.id, &id]),
        (Some(Origin::Custom), vec![&made.skill.id]),
        (Some(Origin::Anthropic), vec![&id]),
    ] {
        let listed = world
            .store
            .list_skills(&world.workspace, origin, &ALL)
            .await
            .unwrap();
        let mut ids: Vec<_> = listed.iter().map(|record| &record.skill.id).collect();
        ids.sort_by_key(|id| id.as_str() == "pdf");
        assert_eq!(ids, expected);
    }
    let changed = world
        .store
        .insert_skill_version(&world.workspace, &id, version("pdf"));
    assert_eq!(changed.await, Ok(Added::BuiltIn));
    assert_eq!(delete(&world, &id, &two.id).await, Deletion::BuiltIn);
    let deleted = world.store.delete_skill(&world.workspace, &id);
    assert_eq!(deleted.await, Ok(Deletion::BuiltIn));
}

async fn api_2_foreign_skills_are_not_there(bed: Bed) {
    let world = World::new(bed).await;
    let record = skill(&world, "a").await;
    let own = latest(&world, &record.skill.id).await;
    let stranger = manyhands_protocol::WorkspaceId::generate();
    let id = &record.skill.id;
    assert_eq!(world.store.skill(&stranger, id).await, Ok(None));
    let found = world
        .store
        .skill_version(&stranger, id, &VersionName::Latest)
        .await;
    assert_eq!(found, Ok(None));
    assert_eq!(
        world.store.list_skill_versions(&stranger, id, &ALL).await,
        Ok(Vec::new())
    );
    assert_eq!(
        world.store.list_skills(&stranger, None, &ALL).await,
        Ok(Vec::new())
    );
    let added = world
        .store
        .insert_skill_version(&stranger, id, version("a"))
        .await;
    assert_eq!(added, Ok(Added::Missing));
    assert_eq!(
        world.store.delete_skill(&stranger, id).await,
        Ok(Deletion::Missing)
    );
    let deleted = world
        .store
        .delete_skill_version(&stranger, id, &own.version.id)
        .await;
    assert_eq!(deleted, Ok(Deletion::Missing));
    assert_eq!(latest(&world, id).await, own);
}

async fn lc_5_a_session_is_not_made_with_a_version_that_is_gone(bed: Bed) {
    let world = World::new(bed).await;
    let record = skill(&world, "a").await;
    let old = latest(&world, &record.skill.id).await;
    let new = added(&world, &record.skill.id, "a").await;
    delete(&world, &record.skill.id, &old.version.id).await;
    let (id, created) = try_session(&world, &[&new, &old]).await;
    assert_eq!(created, Created::NoSkill(1));
    assert_eq!(world.store.session(&world.workspace, &id).await, Ok(None));
    assert_eq!(world.store.session_skills(&id).await, Ok(Vec::new()));
    // The version of one skill is not that of another.
    let mut mixed = new.clone();
    mixed.version.skill_id = skill(&world, "b").await.skill.id;
    assert_eq!(try_session(&world, &[&mixed]).await.1, Created::NoSkill(0));
}
