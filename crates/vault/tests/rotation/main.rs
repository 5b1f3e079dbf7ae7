//! A rotation of the master key that dies at each of its steps: the old key is in use, or the new one, and either opens
//! everything (security CRED-1).

use std::path::Path;
use std::sync::Arc;

use manyhands_protocol::WorkspaceId;
use manyhands_store::{Config, Database, Store};
use manyhands_testkit::clock::TestClock;
use manyhands_vault::{Place, Source, Vaults, rotate};
use secrecy::{ExposeSecret as _, SecretString};

async fn opened(folder: &Path) -> (Store, Vaults) {
    let database = Database::Sqlite {
        directory: folder.join("data"),
    };
    let store = Store::open(Config::new(database, Arc::new(TestClock::default()))).await;
    let store = store.expect("a store");
    let source = Source::File {
        path: folder.join("master-key"),
        make: true,
    };
    let vaults = Vaults::open(store.clone(), source).await.expect("vaults");
    (store, vaults)
}

/// Each step, and whether the new key is in use when the process dies there.
const STEPS: [(&str, bool); 6] = [
    ("vault::master::written", false),
    ("vault::rotate::aside", false),
    ("store::vault::rewrapped", false),
    ("store::vault::replaced", false),
    ("vault::rotate::committed", true),
    ("vault::master::finished", true),
];

/// security CRED-1. One test, since it decides for the whole process where it fails.
#[tokio::test(flavor = "multi_thread")]
async fn cred_1_a_rotation_that_is_cut_short_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let workspaces: Vec<WorkspaceId> = (0..3).map(|_| WorkspaceId::generate()).collect();
    let place = |workspace| Place {
        workspace,
        holder: "vlt_1",
        object: "vcrd_1",
        field: "token",
    };
    let (store, vaults) = opened(folder).await;
    let mut sealed = Vec::new();
    for workspace in &workspaces {
        let secret = SecretString::from(workspace.as_str());
        let value = vaults.seal(&place(workspace), &secret).await;
        sealed.push(value.expect("sealed"));
    }
    store.close().await;
    for (step, is_new) in STEPS {
        let (store, vaults) = opened(folder).await;
        assert!(
            !vaults.is_sealed(),
            "before {step}: {:?}",
            vaults.why_sealed()
        );
        let before = store.master_key().await.expect("a look");
        fail::cfg(step, "panic").expect("a step");
        let path = folder.join("master-key");
        let rotating = tokio::spawn({
            let store = store.clone();
            async move { rotate::rotate_file(&store, &path).await }
        });
        let rotated = rotating.await;
        fail::remove(step);
        assert!(!matches!(rotated, Ok(Ok(_))), "{step} is passed");
        let after = store.master_key().await.expect("a look");
        assert_eq!(after != before, is_new, "{step}");
        store.close().await;

        let (store, vaults) = opened(folder).await;
        assert!(
            !vaults.is_sealed(),
            "after {step}: {:?}",
            vaults.why_sealed()
        );
        for (workspace, sealed) in workspaces.iter().zip(&sealed) {
            let text = vaults
                .unseal(&place(workspace), sealed)
                .await
                .expect("open");
            assert_eq!(text.expose_secret(), workspace.as_str(), "after {step}");
        }
        store.close().await;
    }
    // What the attempts have left is in nobody's way.
    let (store, _) = opened(folder).await;
    let path = folder.join("master-key");
    let rotated = rotate::rotate_file(&store, &path).await.expect("rotated");
    assert_eq!(rotated.keys, workspaces.len());
    let mut left: Vec<String> = std::fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .filter(|name| !name.ends_with(".new"))
        .collect();
    left.sort();
    assert_eq!(left, ["data", "master-key"]);
}
