//! Calls of the web tools, with what bounds them (runtime WB-1).

use manyhands_egress::host::Pattern;
use manyhands_hands::web::{Bounds, Input};
use manyhands_protocol::EventId;
use manyhands_protocol::environment::Networking;
use manyhands_protocol::web::UrlSources;

use super::{Stop, Wake};
use crate::shown::Reader;
use crate::tools::{self, Hand, WebCall};

/// Entries of the log that are read at once.
const PAGE: u32 = 1000;

impl Wake {
    /// The calls, with what bounds them now (runtime WB-11).
    pub(super) async fn web_calls(&self, run: &[EventId]) -> Result<Vec<WebCall>, Stop> {
        let mut calls = Vec::new();
        for id in run {
            let Some(call) = self
                .transcript
                .calls
                .get(id)
                .filter(|call| call.hand() == Hand::Web)
            else {
                continue;
            };
            let name = call.name.clone();
            let input = serde_json::from_str(&call.input).unwrap_or_default();
            // It was valid when the call was admitted.
            let Ok(input) = Input::parse(&name, &input) else {
                continue;
            };
            let bounds = self.bounds(&name).await?;
            calls.push(WebCall {
                id: id.clone(),
                name,
                input,
                bounds,
            });
        }
        Ok(calls)
    }

    async fn bounds(&self, name: &str) -> Result<Bounds, Stop> {
        let settings = tools::web_settings(&self.agent().definition, name);
        let shown = match &settings.url_sources {
            Some(sources) if name == "web_fetch" => Some(self.shown(sources).await?),
            _ => None,
        };
        let hosts = match self.networking().await? {
            Networking::Limited { allowed_hosts, .. }
                if self.shared.config.web_within_environment =>
            {
                // What is no pattern admits nothing.
                let patterns = allowed_hosts
                    .iter()
                    .filter_map(|host| Pattern::parse(host).ok());
                Some(patterns.collect())
            }
            _ => None,
        };
        Ok(Bounds {
            settings,
            hosts,
            shown,
        })
    }

    async fn shown(&self, sources: &UrlSources) -> Result<manyhands_hands::web::Shown, Stop> {
        let mut reader = Reader::new(sources);
        let mut position = 0;
        loop {
            let entries = self
                .shared
                .store
                .read(&self.lease.session, position, PAGE)
                .await?;
            for entry in &entries {
                // Each entry of a long log is progress.
                self.activity.progress();
                position = entry.position;
                reader.read(entry);
            }
            if entries.len() < PAGE as usize {
                return Ok(reader.shown);
            }
        }
    }
}
