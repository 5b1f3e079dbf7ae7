//! A memory store: filled, changed, emptied, archived and deleted, each step done again when it got no answer.

use http::Method;
use serde_json::json;

use crate::objects::{archive_and_remove, find, find_or_make, text};
use crate::story::{Gone, Place, expect, get, post, send};

/// What a story keeps in a memory store.
#[derive(Debug)]
pub(crate) struct Memory {
    name: String,
    store: Option<String>,
    /// Of what is left to do, the first: each step is at an end only when it was answered.
    step: usize,
}

impl Memory {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            store: None,
            step: 0,
        }
    }

    /// Does what is left to do, and sees that what was acknowledged is there.
    pub(crate) async fn go_on(&mut self, place: &Place) -> Result<(), Gone> {
        let path = self.store(place).await?;
        let memories = format!("{path}/memories");
        if self.step == 0 {
            let body = json!({"description": "kept"});
            expect(200, post(place, &path, &body).await?);
            self.step = 1;
        }
        for at in ["/kept", "/moved", "/deleted"] {
            if self.step == 1 {
                let body = json!({"path": at, "content": "first"});
                let answer = post(place, &memories, &body).await?;
                // Made before, without an answer.
                assert!([200, 409].contains(&answer.status), "{answer}");
            }
        }
        self.step = self.step.max(2);
        if self.step == 2 {
            let kept = find(place, &memories, "path", "/kept")
                .await?
                .expect("it was made");
            let hash = &kept["content_sha256"];
            let body = json!({"content": "second", "precondition": {"type": "content_sha256", "content_sha256": hash}});
            let path = format!("{memories}/{}", text(&kept["id"]));
            // What was done without an answer is so already, whatever is expected.
            expect(200, post(place, &path, &body).await?);
            self.step = 3;
        }
        if self.step == 3 {
            if let Some(moved) = find(place, &memories, "path", "/moved").await? {
                let path = format!("{memories}/{}", text(&moved["id"]));
                expect(200, post(place, &path, &json!({"path": "/at/last"})).await?);
            }
            if let Some(deleted) = find(place, &memories, "path", "/deleted").await? {
                let path = format!("{memories}/{}", text(&deleted["id"]));
                expect(200, send(place, Method::DELETE, &path, "").await?);
            }
            self.step = 4;
        }
        if self.step == 4 {
            self.check(place, &path).await?;
            self.step = 5;
        }
        archive_and_remove(place, &path, &mut self.step, 5).await
    }

    /// The story's store, made when there is none.
    async fn store(&mut self, place: &Place) -> Result<String, Gone> {
        if let Some(store) = &self.store {
            return Ok(store.clone());
        }
        let made = find_or_make(place, "/v1/memory_stores", "name", &self.name).await?;
        let path = format!("/v1/memory_stores/{}", text(&made["id"]));
        Ok(self.store.insert(path).clone())
    }

    /// The memories are as they were left, every change is one version, and the first text of one is redacted.
    async fn check(&self, place: &Place, path: &str) -> Result<(), Gone> {
        let all = expect(
            200,
            get(place, &format!("{path}/memories?view=full")).await?,
        );
        let all = all["data"].as_array().expect("a list").iter();
        let all: Vec<_> = all
            .map(|memory| (text(&memory["path"]), text(&memory["content"])))
            .collect();
        let expected = [("/at/last", "first"), ("/kept", "second")];
        assert_eq!(all, expected, "{}", self.name);
        let versions = format!("{path}/memory_versions");
        let all = expect(200, get(place, &versions).await?);
        let all = all["data"].as_array().expect("a list");
        let mut operations: Vec<_> = all
            .iter()
            .map(|version| text(&version["operation"]))
            .collect();
        operations.sort_unstable();
        let expected = [
            "created", "created", "created", "deleted", "modified", "modified",
        ];
        assert_eq!(operations, expected, "{}", self.name);
        let modified = all
            .iter()
            .find(|version| version["operation"] == "modified" && version["path"] == "/kept");
        let memory = &modified.expect("a change")["memory_id"];
        let first = all
            .iter()
            .find(|version| version["operation"] == "created" && version["memory_id"] == *memory);
        let first = text(&first.expect("its beginning")["id"]);
        let redact = format!("{versions}/{first}/redact");
        let redacted = expect(200, post(place, &redact, &json!({})).await?);
        assert!(redacted["redacted_at"].is_string(), "{redacted}");
        Ok(())
    }
}
