//! `[[models]]`: which models there are, and who serves them.

use std::path::PathBuf;
use std::time::Duration;

use manyhands_brain::models::{self, ModelSpec, ProviderSpec, Timeouts};
use secrecy::SecretString;

use super::{Environment, Error, file, variable, wrong};

/// The models of the file, or without any the ones that the environment means (architecture "Model layer").
///
/// `ANTHROPIC_BASE_URL` points clients at this server, so it is never read here.
pub(super) fn specs(
    listed: Vec<file::Model>,
    script: Option<PathBuf>,
    environment: Environment<'_>,
) -> Result<Vec<ModelSpec>, Error> {
    if listed.is_empty() {
        let key = variable(environment, "ANTHROPIC_API_KEY")?.map(SecretString::from);
        const BASE_URL: &str = "MANYHANDS_ANTHROPIC_BASE_URL";
        let base_url = variable(environment, BASE_URL)?;
        let base_url = base_url
            .map(|url| manyhands_egress::check_endpoint(&url))
            .transpose();
        let base_url = base_url.map_err(|error| wrong(BASE_URL, error.to_string()))?;
        return Ok(models::default_specs(key, base_url, script));
    }
    let spec = |(index, model): (usize, file::Model)| {
        spec(model, &format!("models[{index}]"), &script, environment)
    };
    listed.into_iter().enumerate().map(spec).collect()
}

fn spec(
    model: file::Model,
    at: &str,
    script: &Option<PathBuf>,
    environment: Environment<'_>,
) -> Result<ModelSpec, Error> {
    if model.id.is_empty() || model.id.matches('*').count() > 1 {
        return Err(wrong(
            format!("{at}.id"),
            "expected a model id, or a pattern with one *",
        ));
    }
    let is_scripted = matches!(model.provider, file::Provider::Scripted);
    if is_scripted && (model.base_url.is_some() || model.key.is_some()) {
        return Err(wrong(at, "a scripted model has neither base_url nor key"));
    }
    if !is_scripted && model.script.is_some() {
        return Err(wrong(at, "only a scripted model has a script"));
    }
    if model.output_limit.is_some() && !matches!(model.provider, file::Provider::OpenAi) {
        return Err(wrong(
            at,
            "only a model of provider openai has an output_limit",
        ));
    }
    let base_url = model
        .base_url
        .as_deref()
        .map(manyhands_egress::check_endpoint);
    let base_url = base_url
        .transpose()
        .map_err(|error| wrong(format!("{at}.base_url"), error.to_string()))?;
    let key_at = format!("{at}.key");
    let key = |name: &str| match &model.key {
        Some(source) => source.read(&key_at, environment).map(Some),
        // The variable's key is for its own endpoint only.
        None if base_url.is_none() => match variable(environment, name)? {
            Some(key) => Ok(Some(SecretString::from(key))),
            None => Err(wrong(
                &key_at,
                format!("is missing: name its source, or set {name}"),
            )),
        },
        None => Ok(None),
    };
    let timeouts = timeouts(&model, at)?;
    let provider = match model.provider {
        file::Provider::Scripted => ProviderSpec::Scripted {
            script: model.script.or_else(|| script.clone()),
        },
        file::Provider::Anthropic => ProviderSpec::Anthropic {
            key: key("ANTHROPIC_API_KEY")?,
            base_url,
            timeouts,
        },
        file::Provider::OpenAi => ProviderSpec::OpenAi {
            key: key("OPENAI_API_KEY")?,
            base_url,
            output_limit: model.output_limit.map(file::OutputLimit::spec),
            timeouts,
        },
    };
    // What a server of another make does with an effort it does not know is anybody's guess.
    let knows_effort = !matches!(provider, ProviderSpec::OpenAi { .. });
    Ok(ModelSpec {
        upstream_id: model.upstream_id,
        display_name: model.display_name,
        context_window: model.context_window,
        mid_conversation_system: model.mid_conversation_system,
        max_output: model.max_output,
        thinking: model.thinking.map(file::Thinking::spec).unwrap_or_default(),
        effort: model.effort.unwrap_or(knows_effort),
        prices: model.prices.map(|prices| prices.spec(at)).transpose()?,
        ..ModelSpec::new(model.id, provider)
    })
}

/// How long an endpoint may be silent: at least a second, at most a day.
fn timeouts(model: &file::Model, at: &str) -> Result<Timeouts, Error> {
    let usual = Timeouts::default();
    let seconds = |name: &str, seconds: Option<u64>, usual: Duration| match seconds {
        None => Ok(usual),
        Some(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        Some(_) => Err(wrong(
            format!("{at}.{name}"),
            "must be from 1 to 86400 seconds",
        )),
    };
    Ok(Timeouts {
        headers: seconds(
            "first_byte_seconds",
            model.first_byte_seconds,
            usual.headers,
        )?,
        between: seconds("silence_seconds", model.silence_seconds, usual.between)?,
    })
}
