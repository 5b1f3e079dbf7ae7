//! Calls of the web tools: they run in this wake, beside the sandbox, and end with it (runtime WB-1).

use manyhands_egress::host::Pattern;
use manyhands_hands::toolset;
use manyhands_hands::web::{Bounds, Input};
use manyhands_hands::{Block, Call, Output};
use manyhands_protocol::EventId;
use manyhands_protocol::environment::Networking;
use manyhands_protocol::web::UrlSources;

use super::{Stop, Wake};
use crate::context;
use crate::shown::Reader;
use crate::tools::{self, Done, Verdict, WebCall};

/// Characters of a result beyond which the whole goes to a file (runtime TL-3).
const MOST: usize = 100_000;

/// Characters that are shown of such a result.
const PREVIEW: usize = 20_000;

/// Entries of the log that are read at once.
const PAGE: u32 = 1000;

impl Wake {
    /// What the intents of this wake's web calls name: no other wake can have their results.
    pub(super) fn web_instance(&self) -> String {
        format!("server-{}", self.lease.epoch)
    }

    /// The calls, with what bounds them now (runtime WB-11).
    pub(super) async fn web_calls(&mut self, run: &[EventId]) -> Result<Vec<WebCall>, Stop> {
        let mut calls = Vec::new();
        for id in run {
            let Some(call) = self
                .transcript
                .calls
                .get(id)
                .filter(|call| tools::is_web(&call.name))
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
            self.web_begun.insert(id.clone());
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
        let hosts = match self.recipe().await?.network.networking {
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

    /// A result that a model can take: of a longer one the whole goes to a file of the sandbox, where the agent can
    /// read it, and the result is its beginning and the file's name (runtime TL-3).
    pub(super) async fn within_limits(&mut self, done: &mut Done) -> Result<(), Stop> {
        let Verdict::Output(output) = &mut done.verdict else {
            return Ok(());
        };
        let [Block::Text { text }] = output.content.as_slice() else {
            return Ok(());
        };
        let Some((end, _)) = text.char_indices().nth(MOST) else {
            return Ok(());
        };
        debug_assert!(end < text.len());
        let whole = text.clone();
        let shown = whole
            .char_indices()
            .nth(PREVIEW)
            .map_or(whole.as_str(), |(end, _)| &whole[..end]);
        let kept = match self.keep(done, &whole).await? {
            Some(path) => format!("The whole output is in {path}."),
            None => "The rest is not kept.".to_owned(),
        };
        let characters = whole.chars().count();
        let note =
            format!("[output truncated: {PREVIEW} of {characters} characters are shown. {kept}]");
        done.verdict = Verdict::Output(Output::text(format!("{shown}\n\n{note}")));
        Ok(())
    }

    /// Writes a text to a file of the sandbox; `None` when the agent could not read it there, or there is no sandbox.
    async fn keep(&mut self, done: &Done, text: &str) -> Result<Option<String>, Stop> {
        if !context::has_sandbox(&self.agent().definition) {
            return Ok(None);
        }
        if self.sandbox.is_none() {
            match self.provision().await? {
                Some(Ok(sandbox)) => self.sandbox = Some(sandbox),
                Some(Err(_)) | None => return Ok(None),
            }
        }
        let Some(sandbox) = self.sandbox.clone() else {
            return Ok(None);
        };
        let path = format!("/tmp/tool-output/{}-{}.txt", done.name, done.id);
        let input = serde_json::json!({"file_path": path, "content": text});
        let written = tools::execute(
            &*sandbox,
            Call {
                call_id: done.id.as_str().to_owned(),
                epoch: self.lease.epoch,
                name: "write".to_owned(),
                deadline: toolset::deadline("write", &input),
                input,
            },
        )
        .await;
        match written.verdict {
            Verdict::Output(output) if !output.is_error => Ok(Some(path)),
            Verdict::Output(_) => Ok(None),
            Verdict::Lost(_) => {
                self.sandbox = None;
                Ok(None)
            }
            Verdict::Stale => Err(Stop::Lost),
        }
    }
}
