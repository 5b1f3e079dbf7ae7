//! Files of sessions, and the sandboxes that read them.

use manyhands_protocol::FileId;
use manyhands_protocol::file::File;
use manyhands_protocol::time::{Clock as _, SystemClock};
use manyhands_store::files::{FileRecord, Mount, Origin};
use manyhands_testkit::model::Reply;
use serde_json::json;

use crate::bed::Bed;

/// runtime FI-4: a file that was added at another server is there for the next call of a sandbox that lives.
#[tokio::test]
async fn fi_4_what_was_added_elsewhere_is_there_for_the_next_call() {
    let call = |id: &str| Reply::tool_use(id, "bash", json!({"command": "ls"}));
    let bed = Bed::new([
        call("toolu_1"),
        Reply::text("Done."),
        call("toolu_2"),
        Reply::text("Done again."),
    ])
    .await;
    bed.turn("Look").await;
    let session = bed.session.clone();
    assert_eq!(bed.hands.uploads(session.as_str()), []);

    let workspace = bed.store.default_workspace().await.unwrap();
    let now = SystemClock.now();
    let file = File {
        id: FileId::generate(),
        kind: Default::default(),
        filename: "data.csv".to_owned(),
        mime_type: "text/csv".to_owned(),
        size_bytes: 4,
        created_at: now,
        downloadable: false,
        expires_at: None,
        scope: None,
    };
    let mount = Mount {
        file_id: file.id.clone(),
        path: Some("/mnt/session/uploads/data.csv".to_owned()),
    };
    let record = FileRecord {
        file,
        origin: Origin::Upload {},
        blob: "files/data".to_owned(),
        sha256: "0".repeat(64),
    };
    assert!(
        bed.store
            .insert_file(&workspace, record, None)
            .await
            .unwrap()
    );
    let mounted = bed.store.mount_file(&workspace, &session, mount).await;
    mounted.unwrap().expect("a session").expect("mounted");

    bed.turn("Look again").await;
    let there = bed.hands.uploads(session.as_str());
    let paths: Vec<&str> = there.iter().map(|upload| upload.path.as_str()).collect();
    assert_eq!(paths, ["data.csv"]);
    assert_eq!(bed.hands.provisions(), 1, "it is the same sandbox");
    bed.assert_each_call_has_one_result().await;
}
