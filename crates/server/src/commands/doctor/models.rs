//! Whether the configured models can be asked.

use std::time::Duration;

use manyhands_brain::models::{ModelSpec, OpenAi, ProviderSpec};
use reqwest::{Client, RequestBuilder, Response};
use secrecy::ExposeSecret;
use serde::Deserialize;

use super::{Check, fail, note, ok};
use crate::failure::Failure;

/// Most of a list of models that is read, in bytes.
const LIST: usize = 8 << 20;

/// Looks at one entry; asking an endpoint for its models costs nothing.
pub(super) async fn check(spec: &ModelSpec) -> Check {
    let name = format!("model {}", spec.id);
    match &spec.provider {
        ProviderSpec::Scripted { script: None } => note(
            &name,
            "is answered by the built-in script",
            "set ANTHROPIC_API_KEY, or configure [[models]], for a model",
        ),
        ProviderSpec::Scripted { script: Some(path) } => match std::fs::metadata(path) {
            Ok(_) => ok(
                &name,
                format!("is answered by the script {}", path.display()),
            ),
            Err(error) => fail(
                &name,
                format!("{} cannot be read: {error}", path.display()),
                "correct the path",
            ),
        },
        ProviderSpec::Anthropic { base_url, key, .. } => {
            let base = base_url
                .as_ref()
                .map_or("https://api.anthropic.com", |url| url.as_str());
            let base = base.trim_end_matches('/').trim_end_matches("/v1");
            let request = |client: &Client| {
                let request = client
                    .get(format!("{base}/v1/models"))
                    .header("anthropic-version", "2023-06-01");
                match key {
                    Some(key) => request.header("x-api-key", key.expose_secret()),
                    None => request,
                }
            };
            // Its list comes in pages: that a model is not on the first says nothing.
            endpoint(&name, base, request, None).await
        }
        ProviderSpec::OpenAi { base_url, key, .. } => {
            let base = base_url.clone().unwrap_or_else(OpenAi::default_base_url);
            let request = |client: &Client| {
                let request = client.get(OpenAi::models_url(&base));
                match key {
                    Some(key) => request.bearer_auth(key.expose_secret()),
                    None => request,
                }
            };
            // A pattern stands for whatever agents name.
            let wanted = spec.upstream_id.as_deref().unwrap_or(&spec.id);
            let wanted = Some(wanted).filter(|id| !id.contains('*'));
            let base = base.as_str().trim_end_matches('/');
            endpoint(&name, base, request, wanted).await
        }
    }
}

async fn endpoint(
    name: &str,
    base: &str,
    request: impl Fn(&Client) -> RequestBuilder,
    wanted: Option<&str>,
) -> Check {
    let timeouts = manyhands_egress::Timeouts {
        connect: Duration::from_secs(5),
        read: Duration::from_secs(10),
    };
    let client = match manyhands_egress::client(timeouts) {
        Ok(client) => client,
        Err(error) => return fail(name, error.to_string(), "check the machine's certificates"),
    };
    let answer = match request(&client).send().await {
        Ok(answer) => answer,
        Err(error) => {
            let error = Failure::new(format!("{:#}", anyhow::Error::new(error.without_url())), "");
            return fail(
                name,
                format!("{base} cannot be reached: {error}"),
                "check the address, the network and the proxy",
            );
        }
    };
    let status = answer.status();
    if matches!(status.as_u16(), 401 | 403) {
        return fail(
            name,
            format!("{base} refuses the key ({status})"),
            "correct the key",
        );
    }
    if !status.is_success() {
        return note(
            name,
            format!("{base} answers, and has no list of models ({status})"),
            "nothing has to be done",
        );
    }
    let listed = ids(answer).await;
    match wanted {
        Some(wanted) if !listed.is_empty() && !listed.iter().any(|id| id == wanted) => note(
            name,
            format!("{base} answers, and lists no model {wanted:?}"),
            format!("set upstream_id to one of {}", some(&listed)),
        ),
        _ => ok(name, format!("{base} answers and takes the key")),
    }
}

/// The ids that a list names; none when it cannot be read.
async fn ids(mut answer: Response) -> Vec<String> {
    #[derive(Deserialize)]
    struct List {
        data: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        id: String,
    }
    let mut body = Vec::new();
    while let Ok(Some(piece)) = answer.chunk().await {
        if body.len() + piece.len() > LIST {
            return Vec::new();
        }
        body.extend_from_slice(&piece);
    }
    let list: Result<List, _> = serde_json::from_slice(&body);
    list.map_or_else(
        |_| Vec::new(),
        |list| list.data.into_iter().map(|entry| entry.id).collect(),
    )
}

/// The first few, for a person to read.
fn some(ids: &[String]) -> String {
    let first: Vec<&str> = ids.iter().take(5).map(String::as_str).collect();
    let more = if ids.len() > first.len() { ", …" } else { "" };
    format!("{}{more}", first.join(", "))
}

#[cfg(test)]
mod tests {
    use manyhands_brain::models::Timeouts;
    use manyhands_testkit::model::ModelServer;

    use super::super::Verdict;
    use super::*;

    fn spec(id: &str, base: &str) -> ModelSpec {
        let provider = ProviderSpec::OpenAi {
            base_url: Some(base.parse().expect("a URL")),
            key: Some("sk-hunter2".into()),
            output_limit: None,
            timeouts: Timeouts::default(),
        };
        ModelSpec::new(id, provider)
    }

    async fn verdict(spec: ModelSpec, expected: Verdict, found: &str) {
        let check = check(&spec).await;
        assert_eq!(check.verdict, expected, "{check:?}");
        assert!(check.found.contains(found), "{check:?}");
        assert!(!format!("{check:?}").contains("hunter2"), "{check:?}");
    }

    #[tokio::test]
    async fn a_chat_completions_endpoint_is_asked_for_its_models() {
        let server = ModelServer::start().await;
        let base = format!("{}/v1", server.url());
        let listed = "claude-opus-5";
        verdict(spec(listed, &base), Verdict::Ok, "answers and takes").await;
        verdict(spec("gpt-*", &base), Verdict::Ok, "answers and takes").await;
        let renamed = ModelSpec {
            upstream_id: Some(listed.to_owned()),
            ..spec("local", &base)
        };
        verdict(renamed, Verdict::Ok, "answers and takes").await;
        verdict(
            spec("qwen", &base),
            Verdict::Note,
            "lists no model \"qwen\"",
        )
        .await;
        let nowhere = "http://127.0.0.1:1/v1";
        verdict(spec("qwen", nowhere), Verdict::Fail, "cannot be reached").await;
        let elsewhere = format!("{}/elsewhere", server.url());
        verdict(spec("qwen", &elsewhere), Verdict::Note, "no list of models").await;
        assert_eq!(server.take_violations().len(), 1, "the wrong path");
    }
}
