//! `manyhands backup` and `restore`: from a server that runs to another that goes on.

use manyhands_testkit::daemon::Daemon;
use manyhands_testkit::http::Client;
use manyhands_testkit::model::Reply;

use crate::bed::{Bed, asking_bash, status};
use crate::{PROGRAM, directory, refused, run, succeeded, text};

/// security STORE-5
#[tokio::test]
async fn store_5_what_was_backed_up_beside_the_server_goes_on_in_another() {
    let bed = Bed::with([Reply::text("As you wish.")]).await;
    let agent = bed.agent(asking_bash()).await;
    let told = succeeded(&bed.run(&["Do it.", "--agent", &agent]).await);
    assert!(told.contains("As you wish."), "{told}");
    let session = bed.only_session().await;
    let path = format!("/v1/sessions/{session}/events");
    let events = bed.server.client().get(&path).await.ok();
    let key = bed.server.api_key();

    let folder = tempfile::tempdir().expect("a directory");
    let (file, target) = (folder.path().join("mh.backup"), folder.path().join("data"));
    let (file, target) = (directory(&file), directory(&target));
    let data = directory(bed.server.data_dir());
    let said = succeeded(&run(&["backup", file, "--data-dir", data], &[]).await);
    assert!(said.contains("nothing is damaged: 1 sessions, "), "{said}");
    for absent in ["the bytes of files, skills and checkpoints", "master key"] {
        assert!(said.contains(absent), "{said}");
    }
    assert!(said.contains(&format!("{data}/blobs\n")), "{said}");
    let verified = succeeded(&run(&["verify", file], &[]).await);
    assert!(
        verified.starts_with("nothing is damaged: 1 sessions, "),
        "{verified}"
    );
    let again = refused(&run(&["backup", file, "--data-dir", data], &[]).await);
    assert!(again.contains("exists already"), "{again}");
    let busy = refused(&run(&["restore", file, "--data-dir", data], &[]).await);
    assert!(
        busy.contains("is not empty") && busy.contains("hint: name a new or empty directory"),
        "{busy}"
    );

    let said = succeeded(&run(&["restore", file, "--data-dir", target], &[]).await);
    assert!(said.contains("nothing is damaged: 1 sessions, "), "{said}");
    assert!(
        said.contains(&format!("manyhands serve --data-dir {target}"))
            && said.contains(&format!("put their copy into {target}/blobs;")),
        "{said}"
    );
    let restored = Daemon::builder()
        .binary(PROGRAM)
        .data_dir(target)
        .start()
        .await;
    let client = Client::with_key(restored.url(), &key);
    assert_eq!(
        client.get(&path).await.ok(),
        events,
        "the key and the log are the same"
    );
}

/// security STORE-5: what is no backup is not advised to be accepted, and no other command's place is advised.
#[tokio::test]
async fn store_5_what_is_no_backup_is_told_what_helps() {
    let folder = tempfile::tempdir().expect("a directory");
    let (file, target) = (folder.path().join("garbage"), folder.path().join("data"));
    std::fs::write(&file, "no database ".repeat(1000)).expect("written");
    let (file, target) = (directory(&file), directory(&target));
    let restore = ["restore", file, "--data-dir", target];
    for args in [&restore[..], &[&restore[..], &["--accept-damage"]].concat()] {
        let said = refused(&run(args, &[]).await);
        let hint = "hint: name a whole file that `manyhands backup` made";
        assert!(said.contains(hint), "{said}");
    }
    let said = refused(&run(&["verify", file], &[]).await);
    let hint = "hint: name a file that `manyhands backup` made";
    assert!(said.contains(hint), "{said}");
}

/// security STORE-5: the key of a model is nothing that a backup needs; a server does.
#[tokio::test]
async fn store_5_a_store_is_copied_and_verified_without_the_keys_of_models() {
    let mut bed = Bed::with([]).await;
    assert!(bed.server.terminate().await.success());
    let folder = tempfile::tempdir().expect("a directory");
    let settings = folder.path().join("manyhands.toml");
    let toml = "[[models]]\nid = 'm'\nprovider = 'anthropic'\nkey = { env = 'ABSENT_KEY' }\n\
                [web.search]\nprovider = 'brave'\nkey = { env = 'ABSENT_KEY' }\n";
    std::fs::write(&settings, toml).expect("written");
    let env = [("MANYHANDS_CONFIG", directory(&settings))];
    let (file, target) = (folder.path().join("mh.backup"), folder.path().join("data"));
    let (file, target) = (directory(&file), directory(&target));
    let data = directory(bed.server.data_dir());
    for args in [
        &["backup", file, "--data-dir", data][..],
        &["restore", file, "--data-dir", target],
        &["verify", "--data-dir", target],
        &["audit", "--data-dir", target],
        &["keys", "list", "--data-dir", target],
    ] {
        succeeded(&run(args, &env).await);
    }
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", target];
    let output = run(&serve, &env).await;
    let said = text(&output.stderr);
    assert_eq!(status(&output), Some(1), "{said}");
    assert!(said.contains("ABSENT_KEY is not set"), "{said}");
}

/// security STORE-5: PostgreSQL has its own programs, which are named, and nothing is connected to.
#[tokio::test]
async fn store_5_backup_and_restore_of_postgres_name_its_own_programs() {
    let url = "postgres://someone:hunter2@127.0.0.1:1/none";
    for (command, program) in [("backup", "pg_dump"), ("restore", "pg_restore")] {
        let output = run(&[command, "file", "--database-url", url], &[]).await;
        let said = refused(&output);
        assert!(
            said.contains(program) && !said.contains("hunter2"),
            "{said}"
        );
        assert_eq!(
            (status(&output), text(&output.stdout)),
            (Some(1), String::new())
        );
    }
}
