//! A user profile and a link for it: made, changed and removed, each step done again when it got no answer (api §23).

use http::Method;
use serde_json::json;

use crate::objects::{delete, text};
use crate::story::{Gone, Place, expect, get, post, send};

/// What a story has made.
#[derive(Debug, Default)]
pub(crate) struct UserProfiles {
    profile: Option<String>,
    link: Option<String>,
    deleted: bool,
}

impl UserProfiles {
    /// Does what is left to do.
    pub(crate) async fn before(&mut self, place: &Place) -> Result<(), Gone> {
        if self.deleted {
            return Ok(());
        }
        let profile = match &self.profile {
            Some(profile) => profile.clone(),
            None => {
                let body = json!({"name": "Ada"});
                let made = expect(200, post(place, "/v1/user_profiles", &body).await?);
                self.profile.insert(text(&made["id"]).to_owned()).clone()
            }
        };
        let path = format!("/v1/user_profiles/{profile}");
        if self.link.is_none() {
            let changed = expect(200, post(place, &path, &json!({"name": "Grace"})).await?);
            assert_eq!(expect(200, get(place, &path).await?), changed);
            let answer = send(place, Method::POST, &format!("{path}/enrollment_url"), "").await?;
            let url = expect(200, answer)["url"].clone();
            let (_, secret) = url
                .as_str()
                .and_then(|url| url.rsplit_once('/'))
                .expect("a link");
            self.link = Some(format!("/enroll/{secret}"));
        }
        let link = self.link.clone().expect("a link");
        delete(place, &path).await?;
        assert_eq!(
            get(place, &link).await?.status,
            404,
            "it goes with its profile"
        );
        self.deleted = true;
        Ok(())
    }
}
