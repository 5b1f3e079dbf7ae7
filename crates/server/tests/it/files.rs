//! Files over HTTP: sent, listed, mounted, captured, read and removed.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::Method;
use manyhands_testkit::gate::PATIENCE;
use manyhands_testkit::http::{Answer, Client};
use manyhands_testkit::model::Reply;
use serde_json::{Value, json};

use crate::app::{TestApp, id, stories};

stories! {
    fi_8_a_file_is_sent_shown_and_removed,
    fi_8_names_and_expiries_are_checked,
    li_1_files_are_listed_in_both_forms,
    id_3_a_session_reads_copies_of_files,
    fi_1_mount_paths_are_rooted_and_checked,
    fi_4_resources_are_added_and_removed_while_a_session_lives,
    scenario_21_an_output_appears_and_goes_with_its_session,
    fi_6_a_capture_that_failed_is_made_later,
}

pub(crate) const BOUNDARY: &str = "5f0c1d";

/// A multipart body of these parts: headers behind `form-data;`, and content.
pub(crate) fn multipart(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (head, content) in parts {
        let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

async fn post(client: &Client, body: Vec<u8>) -> Answer {
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    let client = client.clone().header("content-type", &kind);
    let client = client.without("anthropic-beta");
    let sent = client.send(Method::POST, "/v1/files", body);
    sent.await.expect("an answer")
}

pub(crate) async fn upload(app: &TestApp, name: &str, content: &[u8]) -> Value {
    let head = format!("name=\"file\"; filename=\"{name}\"");
    post(&app.client, multipart(&[(&head, content)])).await.ok()
}

async fn fi_8_a_file_is_sent_shown_and_removed(app: &TestApp) {
    let head = "name=\"file\"; filename=\"dir/data.csv\"\r\nContent-Type: text/csv";
    let large = vec![b'x'; 3 << 20];
    let file = post(&app.client, multipart(&[(head, &large)])).await.ok();
    assert!(id(&file).starts_with("file_"));
    let expected = json!({
        "id": file["id"], "type": "file", "filename": "data.csv", "mime_type": "text/csv",
        "size_bytes": large.len(), "created_at": file["created_at"], "downloadable": false,
        "expires_at": null, "scope": null,
    });
    assert_eq!(file, expected);
    let path = format!("/v1/files/{}", id(&file));
    // No beta header is asked for (runtime HT-5).
    let client = app.client.clone().without("anthropic-beta");
    assert_eq!(client.get(&path).await.ok(), file);
    let refused = client.get(&format!("{path}/content")).await;
    refused.error(400, "invalid_request_error");
    assert_eq!(
        refused.json()["error"]["details"]["error_code"],
        "file_not_downloadable"
    );
    let deleted = client.delete(&path).await.ok();
    assert_eq!(deleted, json!({"id": file["id"], "type": "file_deleted"}));
    for gone in [
        client.get(&path).await,
        client.delete(&path).await,
        client.get(&format!("{path}/content")).await,
    ] {
        gone.error(404, "not_found_error");
    }
    until(app, "its blob is gone", async || blobs(app) == 0).await;
}

/// The model's next turn runs a command and says that it is done.
fn run(app: &TestApp, command: &str) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let call = format!("toolu_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let input = json!({"command": command});
    app.model.push(Reply::tool_use(call, "bash", input));
    app.model.push(Reply::text("done"));
}

/// The files in the folder of blobs.
fn blobs(app: &TestApp) -> usize {
    let mut folders = vec![app.dir.path().join("blobs")];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            match entry.path().is_dir() {
                true => folders.push(entry.path()),
                false => count += 1,
            }
        }
    }
    count
}

/// Waits for what a chore does; nobody tells of it, so it is asked for again and again.
async fn until(app: &TestApp, what: &str, mut done: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !done().await {
            app.client.get("/healthz").await;
        }
    });
    waited
        .await
        .unwrap_or_else(|_| panic!("{what} within {PATIENCE:?}"));
}

async fn fi_8_names_and_expiries_are_checked(app: &TestApp) {
    let client = &app.client;
    let unnamed = post(
        client,
        multipart(&[("name=\"file\"\r\nContent-Type: application/pdf", b"%PDF")]),
    );
    assert_eq!(unnamed.await.ok()["filename"], "unnamed.pdf");
    // The text part comes first, as the official client sends it.
    let seconds = "name=\"expires_in_seconds\"";
    let file = "name=\"file\"; filename=\"a.txt\"";
    let kept = post(
        client,
        multipart(&[(seconds, b"3600"), (file, b"1"), ("name=\"other\"", b"?")]),
    );
    let kept = kept.await.ok();
    assert!(kept["expires_at"].is_string(), "{kept}");
    let before = blobs(app);
    for (parts, problem) in [
        (
            vec![(seconds, &b"3599"[..]), (file, b"1")],
            "expires_in_seconds: expected",
        ),
        (
            vec![(file, b"1"), (seconds, b"7776001")],
            "expires_in_seconds: expected",
        ),
        (
            vec![(file, b"1"), (seconds, b"1e5")],
            "expires_in_seconds: expected",
        ),
        (vec![(file, b"1"), (file, b"2")], "file: is given twice"),
        (vec![(seconds, b"3600")], "file: is required"),
        (
            vec![("name=\"file\"; filename=\"a:b\"", b"1")],
            "file: its filename",
        ),
    ] {
        post(client, multipart(&parts)).await.refused(problem);
    }
    let whole = multipart(&[(file, b"content")]);
    let cut = post(client, whole[..whole.len() - 20].to_vec()).await;
    cut.error(400, "invalid_request_error");
    let endless = [&whole[..20], &vec![b'h'; 300 << 10][..]].concat();
    post(client, endless)
        .await
        .error(400, "invalid_request_error");
    let json = client.post("/v1/files", &json!({})).await;
    let message = json.error(400, "invalid_request_error");
    assert!(message.contains("multipart/form-data"), "{message}");
    assert_eq!(blobs(app), before, "nothing is left of what was refused");
}

/// runtime LI-1, LI-10
async fn li_1_files_are_listed_in_both_forms(app: &TestApp) {
    let client = &app.client;
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        ids.insert(0, id(&upload(app, name, b"1").await));
    }
    let listed = async |query: String| {
        let page = client.get(&format!("/v1/files?{query}")).await.ok();
        let data = page["data"].as_array().expect("a list");
        (data.iter().map(id).collect::<Vec<_>>(), page)
    };
    let (all, page) = listed(String::new()).await;
    assert_eq!(all, ids);
    assert_eq!(page["next_page"], Value::Null);
    assert_eq!(
        (&page["has_more"], &page["first_id"], &page["last_id"]),
        (&json!(false), &json!(ids[0]), &json!(ids[2]))
    );
    let (first, page) = listed("limit=2".to_owned()).await;
    assert_eq!(
        (first, &page["has_more"]),
        (ids[..2].to_vec(), &json!(true))
    );
    let cursor = page["next_page"].as_str().expect("a cursor");
    assert!(cursor.starts_with("page_"));
    assert_eq!(listed(format!("limit=2&page={cursor}")).await.0, ids[2..]);
    let (after, page) = listed(format!("limit=1&after_id={}", ids[0])).await;
    assert_eq!(
        (after, &page["has_more"]),
        (ids[1..2].to_vec(), &json!(true))
    );
    let (before, page) = listed(format!("limit=1&before_id={}", ids[2])).await;
    assert_eq!(
        (before, &page["has_more"]),
        (ids[1..2].to_vec(), &json!(true))
    );
    let (chosen, page) = listed(format!(
        "ids[]={}&ids[]=file_01none&ids[]={0}&ids[]={1}",
        ids[2], ids[0]
    ))
    .await;
    assert_eq!(
        (chosen, &page["next_page"]),
        (vec![ids[0].clone(), ids[2].clone()], &Value::Null)
    );
    assert!(listed("scope_id=sesn_01none".to_owned()).await.0.is_empty());
    let many: Vec<String> = (0..101).map(|n| format!("ids[]=file_{n:03}")).collect();
    for (query, problem) in [
        (
            format!("ids[]={}&limit=5", ids[0]),
            "ids: cannot be combined with limit",
        ),
        ("ids[]=agent_1".to_owned(), "ids: expected an id"),
        (many.join("&"), "ids: expected at most 100"),
        ("scope_id=x".to_owned(), "scope_id: expected an id"),
        (
            "limit=1001".to_owned(),
            "limit: expected a whole number from 1 to 1000",
        ),
        ("after_id=file_01none".to_owned(), "after_id: is not a file"),
        (
            format!("after_id={0}&before_id={0}", ids[0]),
            "before_id: cannot",
        ),
        ("page=page_x".to_owned(), "page: is not a cursor"),
    ] {
        let message = client
            .get(&format!("/v1/files?{query}"))
            .await
            .error(400, "invalid_request_error");
        assert!(message.starts_with(problem), "{query}: {message}");
    }
}

async fn create(app: &TestApp, resources: Value) -> Answer {
    let body = json!({
        "agent": app.agent().await, "environment_id": app.environment().await, "resources": resources,
    });
    app.client.post("/v1/sessions", &body).await
}

/// runtime ID-3, FI-1, CONFLICT-5: a path is rooted, and need not be given.
async fn id_3_a_session_reads_copies_of_files(app: &TestApp) {
    let file = upload(app, "data.csv", b"a,b").await;
    let entry = json!({"type": "file", "file_id": file["id"], "mount_path": "/in/data.csv"});
    let session = create(app, json!([entry, {"type": "file", "file_id": file["id"]}]))
        .await
        .ok();
    let resources = session["resources"].as_array().expect("resources");
    assert_eq!(resources.len(), 2);
    let copy = &resources[0];
    assert_eq!(copy["type"], "file");
    assert_eq!(copy["mount_path"], "/mnt/session/uploads/in/data.csv");
    assert_ne!(copy["file_id"], file["id"]);
    let default = format!(
        "/mnt/session/uploads/{}",
        resources[1]["file_id"].as_str().expect("an id")
    );
    assert_eq!(resources[1]["mount_path"], default);
    let session_id = id(&session);
    assert_eq!(
        app.retrieve(&session_id).await["resources"],
        session["resources"]
    );
    let all = app.client.get("/v1/sessions").await.ok();
    assert_eq!(all["data"][0]["resources"], session["resources"]);
    let scoped = app
        .client
        .get(&format!("/v1/files?scope_id={session_id}"))
        .await
        .ok();
    let scope = json!({"type": "session", "id": session_id});
    for file in scoped["data"].as_array().expect("files") {
        assert_eq!(
            (&file["scope"], &file["downloadable"]),
            (&scope, &json!(false))
        );
    }
    // The sandbox is given them with its recipe (runtime EN-16).
    run(app, "cat");
    app.turn(&session_id, "read").await;
    let given = app.hands.uploads(&session_id);
    let paths: Vec<&str> = given.iter().map(|upload| upload.path.as_str()).collect();
    let second = default
        .strip_prefix("/mnt/session/uploads/")
        .expect("below");
    let mut expected = vec!["in/data.csv", second];
    expected.sort_unstable();
    assert_eq!(paths, expected);
    assert!(given.iter().all(|upload| upload.size == 3));
    // The copy is the session's: it is not removed as a file.
    let copy = format!("/v1/files/{}", copy["file_id"].as_str().expect("an id"));
    app.client
        .delete(&copy)
        .await
        .error(400, "invalid_request_error");
    app.client
        .delete(&format!("/v1/sessions/{session_id}"))
        .await
        .ok();
    app.client.get(&copy).await.error(404, "not_found_error");
    let original = app
        .client
        .get(&format!("/v1/files/{}", id(&file)))
        .await
        .ok();
    assert_eq!(original, file, "runtime UP-8: the original stays");
}

/// runtime FI-1, FI-3, CONFLICT-5
async fn fi_1_mount_paths_are_rooted_and_checked(app: &TestApp) {
    let file = id(&upload(app, "a", b"1").await);
    let entry = |path: &str| json!({"type": "file", "file_id": file, "mount_path": path});
    for (resources, problem) in [
        (
            json!([entry("/../x")]),
            "resources[0].mount_path: has an empty segment",
        ),
        (
            json!([entry("/a"), entry("/a")]),
            "resources[1].mount_path: /mnt/session/uploads/a is",
        ),
        (
            json!([entry("/a"), entry("/a/b")]),
            "resources[1].mount_path: /mnt/session/uploads/a/b is",
        ),
        (
            json!([{"type": "file", "file_id": "x"}]),
            "resources[0].file_id: expected an id",
        ),
        (
            json!([{"type": "file"}]),
            "resources[0]: missing field `file_id`",
        ),
        (
            json!([{"type": "folder"}]),
            "resources[0].type: expected file",
        ),
        (
            json!(vec![entry("/a"); 501]),
            "resources: a session has at most 500 files",
        ),
    ] {
        create(app, resources).await.refused(problem);
    }
    let unknown = json!([{"type": "file", "file_id": "file_01none"}]);
    create(app, unknown).await.error(404, "not_found_error");
    let sessions = app.client.get("/v1/sessions").await.ok();
    assert_eq!(sessions["data"], json!([]), "nothing is half made");
}

async fn fi_4_resources_are_added_and_removed_while_a_session_lives(app: &TestApp) {
    let file = id(&upload(app, "a", b"1").await);
    let session = app.session().await;
    run(app, "cat");
    app.turn(&session, "start").await;
    assert!(app.hands.uploads(&session).is_empty());
    let path = format!("/v1/sessions/{session}/resources");
    let body = json!({"type": "file", "file_id": file, "mount_path": "data"});
    let added = app.client.post(&path, &body).await.ok();
    assert_eq!(added["mount_path"], "/mnt/session/uploads/data");
    let laid = app.hands.uploads(&session);
    assert_eq!(laid.len(), 1, "a live sandbox has it when the answer comes");
    assert_eq!(laid[0].path, "data");
    let own = format!("{path}/{}", id(&added));
    assert_eq!(app.client.get(&own).await.ok(), added);
    let page = app.client.get(&path).await.ok();
    assert_eq!(page, json!({"data": [added], "next_page": null}));
    let rotated = app
        .client
        .post(&own, &json!({"authorization_token": "x"}))
        .await;
    rotated.error(400, "invalid_request_error");
    for (body, problem) in [
        (body.clone(), "mount_path: /mnt/session/uploads/data is"),
        (
            json!({"type": "github_repository", "url": "https://github.com/a/b"}),
            "type: repositories and memory stores are given",
        ),
        (json!({"file_id": file}), "type: expected file"),
    ] {
        app.client.post(&path, &body).await.refused(problem);
    }
    let deleted = app.client.delete(&own).await.ok();
    assert_eq!(
        deleted,
        json!({"id": added["id"], "type": "session_resource_deleted"})
    );
    assert!(app.hands.uploads(&session).is_empty());
    app.client.delete(&own).await.error(404, "not_found_error");
    app.client.get(&own).await.error(404, "not_found_error");
    let other = app.session().await;
    let again = app.client.post(&path, &body).await.ok();
    let elsewhere = format!("/v1/sessions/{other}/resources/{}", id(&again));
    app.client
        .get(&elsewhere)
        .await
        .error(404, "not_found_error");
}

async fn outputs(app: &TestApp, session: &str) -> Vec<Value> {
    let page = app
        .client
        .get(&format!("/v1/files?scope_id={session}"))
        .await
        .ok();
    page["data"].as_array().expect("files").clone()
}

/// A turn in which the sandbox writes a file.
async fn write(app: &TestApp, session: &str, path: &str, content: &[u8]) {
    app.hands.write_output(session, path, content);
    run(app, "write");
    app.turn(session, "write").await;
}

/// Scenarios 14 and 21.
async fn scenario_21_an_output_appears_and_goes_with_its_session(app: &TestApp) {
    let session = app.session().await;
    let content: Vec<u8> = (0..600_000_u32).map(|n| n as u8).collect();
    write(app, &session, "d/report.csv", &content).await;
    until(app, "the output is listed", async || {
        outputs(app, &session).await.len() == 1
    })
    .await;
    let file = outputs(app, &session).await.remove(0);
    assert_eq!(
        (&file["filename"], &file["downloadable"]),
        (&json!("report.csv"), &json!(true))
    );
    assert_eq!(
        (&file["mime_type"], &file["size_bytes"]),
        (&json!("text/csv"), &json!(content.len()))
    );
    let path = format!("/v1/files/{}/content", id(&file));
    let read = app.client.get(&path).await;
    assert_eq!((read.status, &read.body[..]), (200, &content[..]));
    assert_eq!(read.header("content-type"), Some("text/csv"));
    assert_eq!(read.header("content-length"), Some("600000"));
    assert_eq!(read.header("x-content-type-options"), Some("nosniff"));
    let disposition = read.header("content-disposition").expect("a disposition");
    assert!(
        disposition.starts_with("attachment; filename=\"report.csv\""),
        "{disposition}"
    );

    // Written again, it is a new file in the old one's place.
    write(app, &session, "d/report.csv", b"new").await;
    until(app, "the new one is listed", async || {
        let now = outputs(app, &session).await;
        now.len() == 1 && now[0]["size_bytes"] == 3
    })
    .await;
    app.client.get(&path).await.error(404, "not_found_error");
    let file = outputs(app, &session).await.remove(0);
    let path = format!("/v1/files/{}", id(&file));
    app.client
        .delete(&format!("/v1/sessions/{session}"))
        .await
        .ok();
    app.client.get(&path).await.error(404, "not_found_error");
    assert!(outputs(app, &session).await.is_empty());
    until(app, "all blobs are gone", async || blobs(app) == 0).await;
}

/// The wish stays until the capture is made: here it cannot be for a while, because the place of blobs is away.
async fn fi_6_a_capture_that_failed_is_made_later(app: &TestApp) {
    let session = app.session().await;
    let folder = app.dir.path().join("blobs");
    let away = app.dir.path().join("away");
    std::fs::rename(&folder, &away).expect("moved");
    std::fs::write(&folder, "no folder").expect("written");
    write(app, &session, "a.txt", b"kept").await;
    assert!(outputs(app, &session).await.is_empty());
    std::fs::remove_file(&folder).expect("removed");
    std::fs::rename(&away, &folder).expect("moved back");
    until(app, "the output is listed", async || {
        outputs(app, &session).await.len() == 1
    })
    .await;
}

/// runtime HT-14, FI-8: one byte over the cap is refused, and the cap itself is not; nothing of it is in memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ht_14_files_of_500_mb_are_taken_and_larger_ones_are_not() {
    let app = TestApp::sqlite().await;
    let address = app.url();
    for (size, status) in [(500_u64 << 20, "200"), ((500 << 20) + 1, "413")] {
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"large\"\r\n\r\n"
        );
        let tail = format!("\r\n--{BOUNDARY}--\r\n");
        let answer = pour(&address, &app.key, &head, size, &tail).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
        if status == "200" {
            assert!(answer.contains("\"size_bytes\":524288000"), "{answer}");
        } else {
            assert!(answer.contains("request_too_large"), "{answer}");
        }
    }
    app.end().await;
}

/// Sends a body piece by piece; the answer's text.
async fn pour(url: &str, key: &str, head: &str, size: u64, tail: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let address = url.trim_start_matches("http://");
    let stream = tokio::net::TcpStream::connect(address)
        .await
        .expect("a connection");
    let (mut reader, mut writer) = stream.into_split();
    let length = head.len() as u64 + size + tail.len() as u64;
    let request = format!(
        "POST /v1/files HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\
         content-type: multipart/form-data; boundary={BOUNDARY}\r\ncontent-length: {length}\r\n\r\n{head}"
    );
    let tail = tail.to_owned();
    let writing = tokio::spawn(async move {
        let piece = vec![b'x'; 1 << 20];
        writer.write_all(request.as_bytes()).await?;
        let mut left = size;
        while left > 0 {
            let now = left.min(piece.len() as u64);
            writer.write_all(&piece[..now as usize]).await?;
            left -= now;
        }
        writer.write_all(tail.as_bytes()).await?;
        Ok::<_, std::io::Error>(writer)
    });
    let mut answer = Vec::new();
    // A refused body may be cut off after its answer.
    let _ = reader.read_to_end(&mut answer).await;
    drop(writing.await);
    String::from_utf8_lossy(&answer).into_owned()
}

/// runtime FI-8, security API-4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fi_8_a_full_quota_is_said_with_its_code() {
    let app = TestApp::with(|config| config.files.quota = Some(10)).await;
    let head = "name=\"file\"; filename=\"a\"";
    let file = post(&app.client, multipart(&[(head, b"0123456789")]))
        .await
        .ok();
    let refused = post(&app.client, multipart(&[(head, b"1")])).await;
    refused.error(400, "invalid_request_error");
    assert_eq!(
        refused.json()["error"]["details"]["error_code"],
        "storage_quota_exceeded"
    );
    app.client
        .delete(&format!("/v1/files/{}", id(&file)))
        .await
        .ok();
    post(&app.client, multipart(&[(head, b"1")])).await.ok();
    until(&app, "one blob is left", async || blobs(&app) == 1).await;
    app.end().await;
}

/// security STORE-3: damage is an error where it can be said, and a cut-off answer where it is found later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_3_a_damaged_file_is_never_served_as_whole() {
    let app = TestApp::sqlite().await;
    let session = app.session().await;
    write(&app, &session, "a", &vec![1; 700_000]).await;
    until(&app, "the output is listed", async || {
        outputs(&app, &session).await.len() == 1
    })
    .await;
    let path = format!(
        "/v1/files/{}/content",
        id(&outputs(&app, &session).await[0])
    );
    let file = the_blob(&app);
    let whole = std::fs::read(&file).expect("its bytes");
    for (at, early) in [(10, true), (600_000, false)] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(&file, damaged).expect("written");
        let answer = app.client.send(Method::GET, &path, "").await;
        match answer {
            Ok(answer) if early => drop(answer.error(500, "api_error")),
            Ok(answer) => panic!(
                "{} bytes of a damaged file are served as {}",
                answer.body.len(),
                answer.status
            ),
            Err(_) => assert!(!early, "it can be said at once"),
        }
    }
    app.end().await;
}

fn the_blob(app: &TestApp) -> std::path::PathBuf {
    let mut folders = vec![app.dir.path().join("blobs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            if !entry.path().is_dir() {
                return entry.path();
            }
            folders.push(entry.path());
        }
    }
    panic!("there is no blob")
}

/// runtime FI-8: what has expired is shown and not served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fi_8_an_expired_file_is_shown_and_cannot_be_mounted() {
    let clock = manyhands_testkit::clock::TestClock::default();
    let app = TestApp::by(&clock).await;
    let parts = [
        ("name=\"expires_in_seconds\"", &b"3600"[..]),
        ("name=\"file\"; filename=\"a\"", b"1"),
    ];
    let file = post(&app.client, multipart(&parts)).await.ok();
    let path = format!("/v1/files/{}", id(&file));
    clock.advance(Duration::from_secs(3601));
    assert_eq!(app.client.get(&path).await.ok(), file);
    let read = app.client.get(&format!("{path}/content")).await;
    read.error(404, "not_found_error");
    assert_eq!(
        read.json()["error"]["details"]["error_code"],
        "file_expired"
    );
    let session = create(&app, json!([{"type": "file", "file_id": file["id"]}])).await;
    session.error(400, "invalid_request_error");
    assert_eq!(
        session.json()["error"]["details"]["error_code"],
        "file_expired"
    );
    app.end().await;
}
