//! `manyhands verify`: on a real server's store, while it runs and when it is damaged.

use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use crate::bed::{Bed, asking_bash, flag, status};
use crate::{directory, run, succeeded, text};

/// security STORE-3
#[tokio::test]
async fn store_3_verify_reads_beside_the_server_and_names_what_is_damaged() {
    let call = Reply::tool_use("toolu_1", "bash", json!({"command": "true"}));
    let mut bed = Bed::with([call, Reply::text("As needle wishes.")]).await;
    let agent = bed.agent(asking_bash()).await;
    let data = bed.server.data_dir().to_owned();
    let verify = ["verify", "--data-dir", directory(&data)];

    // With an open call, and with an answered one.
    let asked = bed.run(&["Do it.", "--agent", &agent]).await;
    let said = text(&asked.stderr);
    assert_eq!(status(&asked), Some(3), "{said}");
    let clean = succeeded(&run(&verify, &[]).await);
    assert!(
        clean.starts_with("nothing is damaged: 1 sessions, "),
        "{clean}"
    );
    let (session, denied) = (flag(&said, "--session "), flag(&said, "--deny "));
    succeeded(&bed.run(&["--session", &session, "--deny", &denied]).await);
    let clean = succeeded(&run(&verify, &[]).await);
    assert!(
        clean.starts_with("nothing is damaged: 1 sessions, "),
        "{clean}"
    );

    assert!(bed.server.terminate().await.success());
    let file = data.join("manyhands.db");
    let mut bytes = std::fs::read(&file).expect("the database");
    let found: Vec<usize> = (0..bytes.len() - 6)
        .filter(|&at| &bytes[at..at + 6] == b"needle")
        .collect();
    for &at in &found {
        bytes[at] = b'N';
    }
    std::fs::write(&file, bytes).expect("the database");
    let damaged = run(&verify, &[]).await;
    assert_eq!(status(&damaged), Some(1));
    let said = text(&damaged.stdout);
    assert!(
        said.starts_with("entry ") && said.contains(&format!("of {session}: ")),
        "{said}"
    );
    let closing = said.lines().last().expect("a closing line");
    assert!(closing.contains("damaged: 1 sessions, "), "{said}");

    let damaged = run(&[&verify[..], &["--json"]].concat(), &[]).await;
    assert_eq!(status(&damaged), Some(1));
    let lines: Vec<Value> = text(&damaged.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let (closing, items) = lines.split_last().expect("a closing line");
    assert_eq!(
        (&closing["type"], &closing["ok"]),
        (&json!("counts"), &json!(false))
    );
    assert_eq!(closing["damaged"], json!(items.len()));
    assert!(
        items.iter().all(|line| line["type"] == "damage"),
        "{items:?}"
    );
}

/// security STORE-3: what cannot be read is neither clean nor damaged.
#[tokio::test]
async fn store_3_verify_says_when_there_is_nothing_to_read() {
    let empty = tempfile::tempdir().expect("a directory");
    let args = ["verify", "--json", "--data-dir", directory(empty.path())];
    let output = run(&args, &[]).await;
    assert_eq!(status(&output), Some(2));
    let line: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(line["type"], "error");
    let said = crate::refused(&output);
    assert!(said.contains("there is no"), "{said}");
    assert_eq!(std::fs::read_dir(empty.path()).expect("it").count(), 0);
}
