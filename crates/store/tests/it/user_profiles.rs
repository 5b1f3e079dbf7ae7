//! User profiles and their links (api §23).

use std::time::Duration;

use manyhands_protocol::WorkspaceId;
use manyhands_protocol::id::UserProfileId;
use manyhands_protocol::page::Order;
use manyhands_protocol::time::Clock as _;
use manyhands_store::listing::{Key, Range};
use manyhands_store::user_profiles::{ProfileRange, ProfileRecord};

use crate::bed::*;

contract!(
    profiles_live_and_are_deleted,
    profiles_are_sorted_by_creation_or_by_name,
    api_2_foreign_profiles_are_not_there,
    links_work_until_they_expire_or_their_profile_is_gone,
);

async fn profile(world: &World, name: Option<&str>) -> ProfileRecord {
    let now = world.bed.clock.now();
    let profile = ProfileRecord {
        id: UserProfileId::generate(),
        name: name.map(str::to_owned),
        relationship: Default::default(),
        details: Default::default(),
        metadata: Default::default(),
        created_at: now,
        updated_at: now,
    };
    let inserted = world.store.insert_user_profile(&world.workspace, &profile);
    inserted.await.unwrap();
    profile
}

async fn renamed(
    world: &World,
    workspace: &WorkspaceId,
    id: &UserProfileId,
    name: &str,
) -> Option<ProfileRecord> {
    let name = name.to_owned();
    let changed = world
        .store
        .update_user_profile(workspace, id, move |profile| {
            Ok::<_, ()>(Some(ProfileRecord {
                name: Some(name),
                ..profile.clone()
            }))
        })
        .await;
    changed.unwrap().map(Result::unwrap)
}

async fn profiles_live_and_are_deleted(bed: Bed) {
    let world = World::new(bed).await;
    let made = profile(&world, None).await;
    let read = || world.store.user_profile(&world.workspace, &made.id);
    assert_eq!(read().await.unwrap(), Some(made.clone()));
    let changed = renamed(&world, &world.workspace, &made.id, "Ada").await;
    let changed = changed.expect("a profile");
    assert_eq!(changed.name.as_deref(), Some("Ada"));
    assert_eq!(read().await.unwrap(), Some(changed.clone()));
    let refused = world
        .store
        .update_user_profile(&world.workspace, &made.id, |_| Err::<_, &str>("no"));
    assert_eq!(refused.await.unwrap(), Some(Err("no")));
    let untouched = world
        .store
        .update_user_profile(&world.workspace, &made.id, |_| Ok::<_, ()>(None));
    assert_eq!(untouched.await.unwrap(), Some(Ok(changed)));
    let delete = || world.store.delete_user_profile(&world.workspace, &made.id);
    assert!(delete().await.unwrap());
    assert!(!delete().await.unwrap());
    assert_eq!(read().await.unwrap(), None);
}

/// All ids of a list, read in pages of two.
async fn walked(
    world: &World,
    range: impl Fn(Option<&ProfileRecord>) -> ProfileRange,
) -> Vec<UserProfileId> {
    let mut found: Vec<ProfileRecord> = Vec::new();
    loop {
        let range = range(found.last());
        let page = world.store.list_user_profiles(&world.workspace, &range);
        let page = page.await.unwrap();
        if page.is_empty() {
            return found.into_iter().map(|profile| profile.id).collect();
        }
        assert!(page.len() <= 2);
        found.extend(page);
    }
}

async fn profiles_are_sorted_by_creation_or_by_name(bed: Bed) {
    let world = World::new(bed).await;
    let mut made = Vec::new();
    // Capitals come before small letters, and letters of other scripts after both, whatever the database's own order is.
    for name in [Some("b"), None, Some("B"), Some("é"), Some("a"), Some("b")] {
        world.bed.clock.advance(Duration::from_secs(1));
        made.push(profile(&world, name).await.id);
    }
    let pick = |places: [usize; 6]| places.map(|place| made[place].clone()).to_vec();
    for order in [Order::Asc, Order::Desc] {
        let turned = |mut ids: Vec<UserProfileId>| {
            if order == Order::Desc {
                ids.reverse();
            }
            ids
        };
        let created = walked(&world, |last| {
            ProfileRange::Created(Range {
                after: last.map(|profile| Key {
                    created_at: profile.created_at,
                    id: profile.id.to_string(),
                }),
                order,
                limit: 2,
            })
        });
        assert_eq!(created.await, turned(made.clone()));
        let named = walked(&world, |last| ProfileRange::Named {
            after: last.map(|profile| {
                let name = profile.name.clone().unwrap_or_default();
                (name, profile.id.clone())
            }),
            order,
            limit: 2,
        });
        assert_eq!(named.await, turned(pick([1, 2, 4, 0, 5, 3])), "{order:?}");
    }
}

async fn api_2_foreign_profiles_are_not_there(bed: Bed) {
    let world = World::new(bed).await;
    let made = profile(&world, None).await;
    let foreign = WorkspaceId::generate();
    let store = &world.store;
    assert_eq!(store.user_profile(&foreign, &made.id).await.unwrap(), None);
    assert_eq!(renamed(&world, &foreign, &made.id, "x").await, None);
    assert!(!store.delete_user_profile(&foreign, &made.id).await.unwrap());
    let later = world.bed.clock.now().after(Duration::from_secs(60));
    let link = store.insert_user_profile_link(&foreign, &made.id, &[7; 32], later);
    assert!(!link.await.unwrap());
    assert!(!store.is_user_profile_link(&[7; 32]).await.unwrap());
    let all = ProfileRange::Named {
        after: None,
        order: Order::Asc,
        limit: 9,
    };
    assert_eq!(store.list_user_profiles(&foreign, &all).await.unwrap(), []);
    let own = store.list_user_profiles(&world.workspace, &all);
    assert_eq!(own.await.unwrap(), [made]);
}

async fn links_work_until_they_expire_or_their_profile_is_gone(bed: Bed) {
    let world = World::new(bed).await;
    let made = profile(&world, None).await;
    let minute = Duration::from_secs(60);
    let give = async |hash: u8| {
        let expires_at = world.bed.clock.now().after(minute);
        let hash = [hash; 32];
        let kept =
            world
                .store
                .insert_user_profile_link(&world.workspace, &made.id, &hash, expires_at);
        assert!(kept.await.unwrap());
    };
    let works = async |hash: u8| world.store.is_user_profile_link(&[hash; 32]).await.unwrap();
    give(1).await;
    assert!(works(1).await && !works(2).await);
    world.bed.clock.advance(minute);
    assert!(!works(1).await);
    give(2).await;
    assert!(works(2).await);
    let deleted = world.store.delete_user_profile(&world.workspace, &made.id);
    assert!(deleted.await.unwrap());
    assert!(!works(2).await);
}
