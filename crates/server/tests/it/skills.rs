//! Skills over HTTP: sent as folders and archives, versioned, shown, given away and deleted.

mod agents;

use http::Method;
use manyhands_testkit::http::{Answer, Client};
use serde_json::{Value, json};

use crate::app::{TestApp, id, stories};
use crate::files::{BOUNDARY, multipart};

stories! {
    sk_1_a_skill_is_sent_versioned_shown_and_removed,
    sk_1_what_is_no_skill_is_refused,
    sk_1_old_clients_see_the_old_shape,
    sk_1_built_in_skills_are_there_and_stay,
}

pub(crate) const MARKDOWN: &str = "---\nname: greet\ndescription: Greets people. Use it when somebody comes.\nlicense: MIT\n---\n# Greet\n";

pub(crate) async fn post(client: &Client, path: &str, parts: &[(&str, &[u8])]) -> Answer {
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    let client = client.clone().header("content-type", &kind);
    let sent = client.send(Method::POST, path, multipart(parts));
    sent.await.expect("an answer")
}

/// No beta header is asked for (runtime HT-5).
pub(crate) fn plain(app: &TestApp) -> Client {
    app.client.clone().without("anthropic-beta")
}

fn old(app: &TestApp) -> Client {
    plain(app).header("anthropic-beta", "skills-2025-10-02")
}

pub(crate) const FILE: &str = "name=\"files[]\"; filename=\"greet/SKILL.md\"";
const SCRIPT: &str = "name=\"files[]\"; filename=\"greet/scripts/hello.sh\"";

pub(crate) async fn skill(app: &TestApp) -> Value {
    let parts: &[(&str, &[u8])] = &[
        (SCRIPT, b"#!/bin/sh\necho hello\n"),
        (FILE, MARKDOWN.as_bytes()),
    ];
    post(&plain(app), "/v1/skills", parts).await.ok()
}

async fn version(app: &TestApp, skill: &Value) -> Value {
    let path = format!("/v1/skills/{}/versions", id(skill));
    post(&plain(app), &path, &[(FILE, MARKDOWN.as_bytes())])
        .await
        .ok()
}

async fn sk_1_a_skill_is_sent_versioned_shown_and_removed(app: &TestApp) {
    let client = plain(app);
    let made = skill(app).await;
    assert!(id(&made).starts_with("skill_"));
    let expected = json!({
        "id": made["id"], "type": "skill", "display_name": "greet",
        "latest_version_id": made["latest_version_id"], "source": {"type": "custom"},
        "created_at": made["created_at"], "updated_at": made["created_at"],
    });
    assert_eq!(made, expected);
    let path = format!("/v1/skills/{}", id(&made));
    assert_eq!(client.get(&path).await.ok(), made);
    let first = client.get(&format!("{path}/versions/latest")).await.ok();
    let expected = json!({
        "id": made["latest_version_id"], "type": "skill_version", "skill_id": made["id"], "name": "greet",
        "description": "Greets people. Use it when somebody comes.", "created_at": made["created_at"],
    });
    assert_eq!(first, expected);

    // The archive that is given away is taken again, with its execute bits; the label comes first, as some clients send it.
    let content = format!("{path}/versions/{}/content", id(&first));
    let archive = client.get(&content).await;
    assert_eq!(archive.header("content-type"), Some("application/zip"));
    let folder =
        manyhands_skills::Folder::new(manyhands_skills::read(&archive.body).expect("a zip"));
    let folder = folder.expect("a skill");
    assert_eq!(folder.files()["SKILL.md"].bytes, MARKDOWN.as_bytes());
    assert!(folder.files()["scripts/hello.sh"].executable);
    let zip = "name=\"files[]\"; filename=\"greet.zip\"\r\nContent-Type: application/zip";
    let parts: &[(&str, &[u8])] = &[
        ("name=\"display_name\"", b"From a zip"),
        (zip, &archive.body),
    ];
    let copy = post(&client, "/v1/skills", parts).await.ok();
    assert_eq!(copy["display_name"], "From a zip");
    let copied = format!("/v1/skills/{}/versions/latest/content", id(&copy));
    assert_eq!(client.get(&copied).await.body, archive.body);

    let second = version(app, &made).await;
    let listed = client.get(&format!("{path}/versions")).await.ok();
    assert_eq!(listed, json!({"data": [second, first], "next_page": null}));
    let page = client.get(&format!("{path}/versions?limit=1")).await.ok();
    let next = page["next_page"].as_str().expect("more");
    let page = client
        .get(&format!("{path}/versions?limit=1&page={next}"))
        .await
        .ok();
    assert_eq!(page, json!({"data": [first], "next_page": null}));
    assert_eq!(
        client.get(&path).await.ok()["latest_version_id"],
        second["id"]
    );
    let listed = client.get("/v1/skills?source=custom").await.ok();
    let listed: Vec<String> = listed["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(id)
        .collect();
    assert_eq!(listed, [id(&copy), id(&made)]);

    let gone = format!("{path}/versions/{}", id(&second));
    let deleted = client.delete(&gone).await.ok();
    assert_eq!(
        deleted,
        json!({"id": second["id"], "type": "skill_version_deleted"})
    );
    client.get(&gone).await.error(404, "not_found_error");
    assert_eq!(
        client.get(&path).await.ok()["latest_version_id"],
        first["id"]
    );
    let only = client
        .delete(&format!("{path}/versions/{}", id(&first)))
        .await;
    only.error(400, "invalid_request_error");
    let deleted = client.delete(&path).await.ok();
    assert_eq!(deleted, json!({"id": made["id"], "type": "skill_deleted"}));
    for gone in [
        &path,
        &content,
        &format!("{path}/versions"),
        &format!("{path}/versions/latest"),
    ] {
        client.get(gone).await.error(404, "not_found_error");
    }
    client.delete(&path).await.error(404, "not_found_error");
}

async fn sk_1_what_is_no_skill_is_refused(app: &TestApp) {
    let client = plain(app);
    let check = async |path: &str, parts: &[(&str, &[u8])], problem: &str| {
        let answer = post(&client, path, parts).await;
        answer.error(400, "invalid_request_error");
        let answer = answer.json();
        let message = answer["error"]["message"].as_str().expect("a message");
        assert!(message.contains(problem), "{message}");
    };
    let create = "/v1/skills";
    let named = |name: &str| format!("name=\"files[]\"; filename=\"{name}\"");
    check(create, &[], "files: is required").await;
    check(
        create,
        &[("name=\"files[]\"", b"x")],
        "its path as its filename",
    )
    .await;
    check(
        create,
        &[(&named("SKILL.md"), MARKDOWN.as_bytes())],
        "is in no folder",
    )
    .await;
    check(
        create,
        &[(&named("other/SKILL.md"), MARKDOWN.as_bytes())],
        "must be the same",
    )
    .await;
    check(create, &[(FILE, b"no front matter")], "begins with a line").await;
    let up = named("greet/../../etc/passwd");
    check(
        create,
        &[(FILE, MARKDOWN.as_bytes()), (&up, b"x")],
        "not a path below",
    )
    .await;
    check(
        create,
        &[(FILE, MARKDOWN.as_bytes()), (FILE, b"x")],
        "could land on the name",
    )
    .await;
    check(
        create,
        &[(FILE, b"PK\x03\x04 but no more")],
        "not a complete zip",
    )
    .await;
    let name = "name=\"display_name\"";
    let twice: &[(&str, &[u8])] = &[(name, b"a"), (name, b"b"), (FILE, MARKDOWN.as_bytes())];
    check(create, twice, "display_name: is given twice").await;
    let long = [b'x'; 256];
    check(
        create,
        &[(name, &long), (FILE, MARKDOWN.as_bytes())],
        "display_name: is 256",
    )
    .await;
    check(
        create,
        &[(name, b"a\nb"), (FILE, MARKDOWN.as_bytes())],
        "single line",
    )
    .await;
    // The name stays the same, and so does what is there.
    let made = skill(app).await;
    let other = MARKDOWN.replace("greet", "other");
    let versions = format!("/v1/skills/{}/versions", id(&made));
    check(
        &versions,
        &[(&named("other/SKILL.md"), other.as_bytes())],
        "stays the same",
    )
    .await;
    let listed = client.get(&versions).await.ok();
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1));
    let absent = post(
        &client,
        "/v1/skills/skill_01none/versions",
        &[(FILE, MARKDOWN.as_bytes())],
    )
    .await;
    absent.error(404, "not_found_error");
    client
        .get("/v1/skills/Not-an-id")
        .await
        .error(400, "invalid_request_error");
    client
        .get("/v1/skills?source=plugin")
        .await
        .error(400, "invalid_request_error");
    let odd = client.get(&format!("{versions}/newest")).await;
    odd.error(400, "invalid_request_error");
    // Over the cap, quickly, with nothing left behind (security INP-1).
    let large = vec![b'x'; manyhands_skills::TOTAL];
    let parts: &[(&str, &[u8])] = &[(FILE, MARKDOWN.as_bytes()), (SCRIPT, &large)];
    let refused = post(&client, create, parts).await;
    let message = refused.error(413, "request_too_large");
    assert!(message.contains("30 MB in all"), "{message}");
    let listed = client.get("/v1/skills?source=custom").await.ok();
    assert_eq!(listed["data"], json!([made]));
}

/// api §28
async fn sk_1_old_clients_see_the_old_shape(app: &TestApp) {
    let client = old(app);
    let title = "name=\"display_title\"";
    let parts: &[(&str, &[u8])] = &[(title, b"Greeter"), (FILE, MARKDOWN.as_bytes())];
    let made = post(&client, "/v1/skills", parts).await.ok();
    let version = made["latest_version"].as_str().expect("digits").to_owned();
    assert!(version.parse::<i64>().is_ok_and(|epoch| epoch > 1_000_000));
    let expected = json!({
        "id": made["id"], "type": "skill", "display_title": "Greeter", "latest_version": version, "source": "custom",
        "created_at": made["created_at"], "updated_at": made["created_at"],
    });
    assert_eq!(made, expected);
    let path = format!("/v1/skills/{}", id(&made));
    let shown = client.get(&format!("{path}/versions/{version}")).await.ok();
    let expected = json!({
        "id": shown["id"], "type": "skill_version", "skill_id": made["id"], "version": version, "directory": "greet",
        "name": "greet", "description": "Greets people. Use it when somebody comes.", "created_at": made["created_at"],
    });
    assert_eq!(shown, expected);
    let listed = client.get(&format!("{path}/versions")).await.ok();
    assert_eq!(
        listed,
        json!({"data": [shown], "has_more": false, "next_page": null})
    );
    let listed = client.get("/v1/skills?limit=1&source=custom").await.ok();
    assert_eq!(
        listed,
        json!({"data": [made], "has_more": false, "next_page": null})
    );
    // Both shapes are one thing: ids, times and latest name versions in either.
    let now = plain(app).get(&path).await.ok();
    assert_eq!(now["latest_version_id"], shown["id"]);
    for name in [
        &version,
        "latest",
        now["latest_version_id"].as_str().expect("an id"),
    ] {
        let archive = client.get(&format!("{path}/versions/{name}/content")).await;
        assert!(archive.body.starts_with(b"PK"), "{name}");
    }
    let next = post(
        &client,
        &format!("{path}/versions"),
        &[(FILE, MARKDOWN.as_bytes())],
    )
    .await
    .ok();
    assert!(next["version"].as_str() > Some(&*version));
    let deleted = client
        .delete(&format!("{path}/versions/{version}"))
        .await
        .ok();
    assert_eq!(
        deleted,
        json!({"id": version, "type": "skill_version_deleted"})
    );
}

async fn sk_1_built_in_skills_are_there_and_stay(app: &TestApp) {
    let client = plain(app);
    let listed = client.get("/v1/skills?source=anthropic").await.ok();
    let mut ids: Vec<String> = listed["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(id)
        .collect();
    ids.sort();
    assert_eq!(ids, ["docx", "pdf", "pptx", "xlsx"]);
    let pdf = client.get("/v1/skills/pdf").await.ok();
    assert_eq!(pdf["source"], json!({"type": "anthropic"}));
    let version = client.get("/v1/skills/pdf/versions/latest").await.ok();
    assert_eq!(
        (&version["name"], &version["id"]),
        (&json!("pdf"), &pdf["latest_version_id"])
    );
    let archive = client.get("/v1/skills/pdf/versions/latest/content").await;
    let files = manyhands_skills::read(&archive.body).expect("a zip");
    assert!(files.iter().any(|file| file.path == "pdf/SKILL.md"));
    client
        .delete("/v1/skills/pdf")
        .await
        .error(400, "invalid_request_error");
    let path = format!("/v1/skills/pdf/versions/{}", id(&version));
    client
        .delete(&path)
        .await
        .error(400, "invalid_request_error");
    let parts: &[(&str, &[u8])] = &[(FILE, MARKDOWN.as_bytes())];
    post(&client, "/v1/skills/pdf/versions", parts)
        .await
        .error(400, "invalid_request_error");
}
