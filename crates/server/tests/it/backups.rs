//! What a thief of a backup has of the secrets in it (security STORE-5, CRED-1).

use std::fs;

use manyhands_hands::provider::fake::Fake;
use manyhands_server::{MasterKey, Overrides, Server};
use manyhands_store::backup::{Damaged, backup, restore};
use manyhands_testkit::http::{Answer, Client};
use serde_json::json;
use tempfile::TempDir;

use crate::app::{TestApp, config, id, sqlite};

const SECRET: &str = "canary-51d0e3";

/// A server on a restored data directory, with the master key that is, or is not, at this place.
async fn restored(app: &TestApp, dir: &TempDir) -> (Server, Client) {
    let mut config = config(dir, sqlite(dir), &app.model);
    config.master_key = MasterKey::File(dir.path().join("master-key"));
    let overrides = Overrides {
        hands: Some(std::sync::Arc::new(Fake::new())),
        ..Overrides::default()
    };
    let server = Server::start(config, overrides).await;
    let server = server.expect("the server starts");
    let client = Client::with_key(&format!("http://{}", server.address()), &app.key);
    (server, client)
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// security STORE-5, CRED-1: what a backup has of secrets is sealed, and is opened by the key alone, which is not in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_5_a_backup_gives_no_secret_away_without_the_key() {
    let app = TestApp::sqlite().await;
    let vault = json!({"display_name": "keys"});
    let vault = id(&app.client.post("/v1/vaults", &vault).await.ok());
    let path = format!("/v1/vaults/{vault}/credentials");
    let credential = |name: &str| {
        json!({"display_name": "not secret", "auth": {"type": "environment_variable", "secret_name": name,
            "secret_value": SECRET, "networking": {"type": "unrestricted"}}})
    };
    let made = app.client.post(&path, &credential("FIRST")).await.ok();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("copy");
    let mut told = Vec::new();
    backup(app.dir.path(), &file, &mut |what| told.push(what))
        .await
        .expect("a backup");
    let bytes = fs::read(&file).expect("the copy");
    assert!(holds(&bytes, b"not secret"), "the credential is in it");
    assert!(!holds(&bytes, SECRET.as_bytes()), "its secret is not");
    let key = fs::read(app.dir.path().join("master-key")).expect("the key");
    assert!(!holds(&bytes, key.trim_ascii()), "and neither is the key");

    let dir = tempfile::tempdir().expect("a folder");
    restore(&file, dir.path(), Damaged::Refuse, &mut |_| {})
        .await
        .expect("restored");
    let (server, client) = restored(&app, &dir).await;
    let sealed = |answer: Answer| assert!(answer.error(503, "api_error").contains("sealed"));
    sealed(client.get(&path).await);
    sealed(client.post(&path, &credential("SECOND")).await);
    client.get(&format!("/v1/vaults/{vault}")).await.ok();
    // Another key opens nothing.
    let place = dir.path().join("master-key");
    let other = manyhands_vault::master::MasterKey::generate().expect("a key");
    other.write(&place, false).expect("written");
    sealed(client.post(&path, &credential("SECOND")).await);
    fs::write(&place, &key).expect("written");
    let listed = client.get(&path).await.ok();
    assert_eq!(listed["data"], json!([made]));
    client.post(&path, &credential("SECOND")).await.ok();
    server.stop().await;
    app.end().await;
}
