//! Clocks that are set while instances live by them (security LEASE-1).

use crate::bed::*;

#[tokio::test(flavor = "multi_thread")]
async fn lease_1_a_clock_set_back_keeps_no_dead_instance_alive_on_postgres() {
    a_clock_set_back_keeps_no_dead_instance_alive(Bed::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_1_a_clock_set_back_keeps_no_dead_instance_alive_in_memory() {
    a_clock_set_back_keeps_no_dead_instance_alive(Bed::memory().await).await;
}

async fn a_clock_set_back_keeps_no_dead_instance_alive(bed: Bed) {
    let world = World::new(bed).await;
    let (id, lease) = world.leased().await;
    let World {
        bed,
        store,
        workspace,
        ..
    } = world;
    // Dead, not closed: its row stays.
    drop(store);
    let another = bed.open().await;
    // As if the database's clock had been set back by a day since it renewed itself.
    bed.sql("UPDATE instances SET expires_at = expires_at + 86400000000")
        .await;
    let taken = soon(async {
        loop {
            if let Some(taken) = another.claim(&workspace, &id).await.unwrap() {
                return taken;
            }
            tokio::task::yield_now().await;
        }
    });
    assert!(taken.await.epoch > lease.epoch);
    another.close().await;
}
