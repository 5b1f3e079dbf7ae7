//! A workspace is made, and a request that may be repeated is repeated until it is answered (security API-6).

use serde_json::json;

use crate::story::{Gone, Place, expect, get, post};

/// What a story has made.
#[derive(Debug, Default)]
pub(crate) struct Tenancy {
    workspace_made: bool,
    answered: bool,
}

impl Tenancy {
    /// Does what is left to do. However often the server died: there is one agent of the repeated request.
    pub(crate) async fn before(&mut self, place: &Place, name: &str) -> Result<(), Gone> {
        if !self.workspace_made {
            let path = "/v1/manyhands/workspaces";
            expect(200, post(place, path, &json!({"name": name})).await?);
            self.workspace_made = true;
        }
        if self.answered {
            return Ok(());
        }
        let once = format!("once {name}");
        let key = once.replace(' ', "-");
        let sender = Place {
            client: place.client.clone().header("idempotency-key", &key),
            ..place.clone()
        };
        let body = json!({"name": once, "model": "claude-opus-4-8"});
        let made = post(&sender, "/v1/agents", &body).await?;
        if made.status == 409 {
            // It was made, and the server died before it could say so.
            assert_eq!(made.header("x-should-retry"), Some("false"), "{made}");
            made.error(409, "conflict_error");
        } else {
            assert_eq!(expect(200, made)["name"], *once);
        }
        assert_eq!(named(place, &once).await?, 1, "{once}");
        self.answered = true;
        Ok(())
    }
}

/// How many agents have this name.
async fn named(place: &Place, name: &str) -> Result<usize, Gone> {
    let (mut count, mut page) = (0, String::new());
    loop {
        let path = format!("/v1/agents?limit=100{page}");
        let listed = expect(200, get(place, &path).await?);
        let agents = listed["data"].as_array().expect("agents");
        count += agents.iter().filter(|agent| agent["name"] == name).count();
        match listed["next_page"].as_str() {
            Some(next) => page = format!("&page={next}"),
            None => return Ok(count),
        }
    }
}
