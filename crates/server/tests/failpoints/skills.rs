//! Skills and their versions: made and removed, each step done again when it got no answer.

use http::Method;
use serde_json::Value;

use crate::objects::{delete, remove, text};
use crate::story::{Gone, Place, expect, get, send};

/// What a story has made of skills.
#[derive(Debug, Default)]
pub(crate) struct Skills {
    skill: Option<String>,
    version: Option<String>,
    version_deleted: bool,
    deleted: bool,
}

impl Skills {
    /// Does what is left to do.
    pub(crate) async fn before(&mut self, place: &Place) -> Result<(), Gone> {
        if self.deleted {
            return Ok(());
        }
        let listed = expect(200, get(place, "/v1/skills?source=anthropic").await?);
        assert_eq!(listed["data"].as_array().map(Vec::len), Some(4), "{listed}");
        let skill = match &self.skill {
            Some(skill) => skill.clone(),
            None => {
                let made = post(place, "/v1/skills").await?;
                self.skill.insert(made).clone()
            }
        };
        let path = format!("/v1/skills/{skill}");
        let versions = format!("{path}/versions");
        let version = match &self.version {
            Some(version) => version.clone(),
            None => {
                let made = post(place, &versions).await?;
                self.version.insert(made).clone()
            }
        };
        if !self.version_deleted {
            delete(place, &format!("{versions}/{version}")).await?;
            // One that was made without an answer may stand before it.
            let shown = expect(200, get(place, &path).await?);
            assert_ne!(shown["latest_version_id"], Value::from(version));
            self.version_deleted = true;
        }
        remove(place, &path).await?;
        self.deleted = true;
        Ok(())
    }
}

/// Sends a skill; the id of what was made.
async fn post(place: &Place, path: &str) -> Result<String, Gone> {
    let head = "Content-Disposition: form-data; name=\"files[]\"; filename=\"greet/SKILL.md\"";
    let body =
        format!("--b\r\n{head}\r\n\r\n---\nname: greet\ndescription: Greets.\n---\n\r\n--b--\r\n");
    let sender = Place {
        client: place
            .client
            .clone()
            .header("content-type", "multipart/form-data; boundary=b"),
        ..place.clone()
    };
    let made = expect(200, send(&sender, Method::POST, path, &body).await?);
    Ok(text(&made["id"]).to_owned())
}
