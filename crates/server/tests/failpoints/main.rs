//! A real server dies at every named step of what it does (security §4): each point ends the process as `kill -9` does,
//! while clients go on with what they do. After each death, with the next server on the same data: what was acknowledged
//! is there, each call has one result, each message one answer, no command ran twice, and nothing is damaged.

mod check;
mod lane;
mod memory;
mod model;
mod objects;
mod points;
mod resources;
mod skills;
mod source;
mod story;
mod tenancy;
mod user_profiles;
mod vaults;

use std::collections::BTreeSet;

use futures::future::join_all;

use lane::Store;
use points::{Deed, ELSEWHERE, On, POINTS, Point};

/// Servers that are swept side by side.
const LANES: usize = 4;

/// The deaths on these databases that some deeds bring about.
fn deaths(on: &[On], of: impl Fn(Deed) -> bool) -> Vec<(&'static Point, u32)> {
    let points = POINTS.iter();
    let points = points.filter(|point| on.contains(&point.on) && of(point.deed));
    let deaths = points.flat_map(|point| point.nth.iter().map(move |nth| (point, *nth)));
    deaths.collect()
}

/// Sweeps all points of some databases, those of one deed spread over all lanes.
async fn sweep(on: &[On], store: Store) {
    let beside = [Deed::FirstStart, Deed::Backup];
    let all = deaths(on, |deed| !beside.contains(&deed));
    let lanes = (0..LANES).map(|lane| {
        let own: Vec<_> = all.iter().skip(lane).step_by(LANES).copied().collect();
        async move { lane::sweep(&own, store).await }
    });
    join_all(lanes).await;
    let starts = deaths(on, |deed| deed == Deed::FirstStart);
    let starts = starts.into_iter();
    join_all(starts.map(|(point, nth)| lane::first_start(point, nth, store))).await;
}

/// security §4, LOG-1, LOG-3, I1, I3, I4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_3_a_server_that_dies_at_any_point_loses_nothing_on_sqlite() {
    sweep(&[On::Sqlite, On::Both], Store::Sqlite).await;
}

/// security §4, LOG-1, LOG-3, I1, I3, I4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_3_a_server_that_dies_at_any_point_loses_nothing_on_postgres() {
    sweep(&[On::Postgres, On::Both], Store::Postgres).await;
}

/// security §4, STORE-5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_5_a_backup_that_dies_at_any_point_is_whole_or_not_there() {
    let all = deaths(&[On::Sqlite], |deed| deed == Deed::Backup);
    lane::backup(&all).await;
}

/// security §4: forty points or more, each of them swept.
#[test]
fn log_3_the_list_of_points_is_what_the_source_names() {
    let listed: BTreeSet<String> = POINTS.iter().map(|point| point.name.to_owned()).collect();
    assert_eq!(listed.len(), POINTS.len(), "a point is listed twice");
    let elsewhere = ELSEWHERE.iter().map(|(point, _)| (*point).to_owned());
    let all: BTreeSet<String> = listed.iter().cloned().chain(elsewhere).collect();
    assert_eq!(
        all.len(),
        listed.len() + ELSEWHERE.len(),
        "a point is listed twice"
    );
    assert_eq!(all, source::names());
    assert!(listed.len() >= 40, "{}", listed.len());
    assert!(POINTS.iter().all(|point| !point.nth.is_empty()));
}
