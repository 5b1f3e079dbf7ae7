//! The private PostgreSQL: a database per test, durable settings, nothing left behind.

use std::path::Path;
use std::process::Command;

use manyhands_testkit::postgres::{Cluster, Database};

/// Runs SQL with psql and returns the bare rows.
fn psql(url: &str, sql: &str) -> String {
    let psql = Command::new("psql")
        .args([
            "--no-psqlrc",
            "--tuples-only",
            "--no-align",
            "--command",
            sql,
            url,
        ])
        .output()
        .expect("psql");
    assert!(
        psql.status.success(),
        "{}",
        String::from_utf8_lossy(&psql.stderr)
    );
    String::from_utf8(psql.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn each_test_has_its_own_database() {
    let (one, two) = tokio::join!(Database::create(), Database::create());
    psql(one.url(), "CREATE TABLE t (x int)");
    let tables = "SELECT count(*) FROM pg_tables WHERE tablename = 't'";
    assert_eq!(psql(one.url(), tables), "1");
    assert_eq!(psql(two.url(), tables), "0");
}

#[tokio::test]
async fn store_1_settings_are_durable() {
    let database = Database::create().await;
    for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
        assert_eq!(psql(database.url(), &format!("SHOW {setting}")), "on");
    }
    assert_eq!(psql(database.url(), "SHOW listen_addresses"), "");
}

#[test]
fn a_dropped_cluster_leaves_nothing() {
    let cluster = Cluster::start();
    let url = cluster.create_database();
    let folder = url.split_once("host=").unwrap().1.to_owned();
    let pid = std::fs::read_to_string(format!("{folder}/data/postmaster.pid")).unwrap();
    let process = format!("/proc/{}", pid.lines().next().unwrap());
    assert!(Path::new(&process).exists());
    drop(cluster);
    assert!(!Path::new(&folder).exists(), "{folder} is still there");
    assert!(!Path::new(&process).exists(), "{process} is still there");
}
