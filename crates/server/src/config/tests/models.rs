//! Which models there are, and who serves them.

use manyhands_brain::models::ProviderSpec;

use super::*;

#[test]
fn without_models_in_the_file_the_environment_says_who_serves_claude() {
    #[track_caller]
    fn check(environment: &[(&str, &str)], expected: Option<(Option<&str>, Option<&str>)>) {
        let config = plain("", environment);
        let served = match &config.models[0].provider {
            ProviderSpec::Anthropic { base_url, key, .. } => Some((
                base_url.as_ref().map(|url| url.as_str()),
                key.as_ref().map(ExposeSecret::expose_secret),
            )),
            ProviderSpec::OpenAi { .. } | ProviderSpec::Scripted { .. } => None,
        };
        assert_eq!(config.models[0].id, "claude-*");
        assert_eq!(served, expected);
    }
    let base = ("MANYHANDS_ANTHROPIC_BASE_URL", "http://127.0.0.1:9/");
    check(&[], None);
    check(&[("ANTHROPIC_API_KEY", "")], None);
    check(&[("ANTHROPIC_API_KEY", "k")], Some((None, Some("k"))));
    check(&[base], Some((Some("http://127.0.0.1:9/"), None)));
    check(
        &[base, ("ANTHROPIC_API_KEY", "k")],
        Some((Some("http://127.0.0.1:9/"), Some("k"))),
    );
    // That variable points clients at this server.
    check(&[("ANTHROPIC_BASE_URL", "http://127.0.0.1:8787")], None);
}

#[test]
fn models_of_the_file_are_complete_entries() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = dir.path().join("key");
    fs::write(&key, "from-file\n").expect("written");
    let toml = format!(
        r#"
        [[models]]
        id = "claude-*"
        provider = "anthropic"
        thinking = "adaptive"

        [[models]]
        id = "local"
        provider = "anthropic"
        base_url = "http://127.0.0.1:9"
        key = {{ file = "{}" }}
        thinking = {{ budget = 2048 }}
        effort = false
        context_window = 1000
        prices = {{ input = 1.0, output = 2.0, cache_read = 0.1, cache_write = 1.25 }}

        [[models]]
        id = "open"
        provider = "anthropic"
        base_url = "http://127.0.0.1:9"

        [[models]]
        id = "demo"
        provider = "scripted"
        script = "demo.yaml"
        "#,
        key.display()
    );
    let config = plain(&toml, &[("ANTHROPIC_API_KEY", "from-env")]);
    let key = |index: usize| match &config.models[index].provider {
        ProviderSpec::Anthropic { key, .. } => {
            key.as_ref().map(|key| key.expose_secret().to_owned())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(key(0).as_deref(), Some("from-env"));
    assert_eq!(key(1).as_deref(), Some("from-file"));
    assert_eq!(key(2), None, "the variable's key goes to no other endpoint");
    assert_eq!(config.models.len(), 4);
    let shown = show(&config);
    for secret in ["from-env", "from-file"] {
        assert!(!shown.contains(secret) && !format!("{config:?}").contains(secret));
    }
    assert!(
        shown.contains("budget = 2048") && shown.contains("script = \"demo.yaml\""),
        "{shown}"
    );
    toml::from_str::<toml::Table>(&shown).expect("it prints TOML");
}

#[test]
fn chat_completions_endpoints_are_models_too() {
    let toml = r#"
        [[models]]
        id = "gpt-*"
        provider = "openai"
        effort = true

        [[models]]
        id = "local"
        provider = "openai"
        base_url = "http://127.0.0.1:8000/v1"
        key = { env = "LOCAL_KEY" }
        context_window = 32768
        max_output = 4096
        output_limit = "max_completion_tokens"
        mid_conversation_system = false
        first_byte_seconds = 1200

        [[models]]
        id = "open"
        provider = "openai"
        base_url = "http://127.0.0.1:11434/v1"
    "#;
    let config = plain(
        toml,
        &[("OPENAI_API_KEY", "from-env"), ("LOCAL_KEY", "local-key")],
    );
    let keys = config.models.iter().map(|spec| match &spec.provider {
        ProviderSpec::OpenAi { key, .. } => key.as_ref().map(ExposeSecret::expose_secret),
        other => panic!("{other:?}"),
    });
    let keys: Vec<_> = keys.collect();
    assert_eq!(keys, [Some("from-env"), Some("local-key"), None]);
    let efforts: Vec<bool> = config.models.iter().map(|spec| spec.effort).collect();
    assert_eq!(efforts, [true, false, false], "only where it is said");
    assert_eq!(config.models[1].mid_conversation_system, Some(false));
    let shown = show(&config);
    for secret in ["from-env", "local-key"] {
        assert!(!shown.contains(secret) && !format!("{config:?}").contains(secret));
    }
    for setting in [
        "provider = \"openai\"",
        "base_url = \"http://127.0.0.1:8000/v1\"",
        "output_limit = \"max_completion_tokens\"",
        "mid_conversation_system = false",
        "first_byte_seconds = 1200\nid = \"local\"",
        "silence_seconds = 90",
        "key = \"(none)\"",
    ] {
        assert!(shown.contains(setting), "{setting}: {shown}");
    }
}

#[test]
fn bu_2_prices_have_at_most_six_decimals() {
    let model = |prices: &str| {
        format!("[[models]]\nid = 'm'\nprovider = 'scripted'\nprices = {{ {prices} }}")
    };
    let config = plain(
        &model("input = 0.1, output = 2.5, cache_read = 0.000001, cache_write = 1"),
        &[],
    );
    let prices = config.models[0].prices.expect("prices");
    assert_eq!(prices.cache_write_1h, prices.cache_write);
    assert!(show(&config).contains("input = 0.1"), "{}", show(&config));
    refused(
        &model("input = 0.0000001, output = 1, cache_read = 0, cache_write = 0"),
        &[],
        "models[0].prices.input: expected dollars per million tokens with at most six decimals",
    );
    refused(
        &model("input = 0, output = -1, cache_read = 0, cache_write = 0"),
        &[],
        "models[0].prices.output: ",
    );
    refused(
        &model("input = 0, output = 1"),
        &[],
        "missing field `cache_read`",
    );
}
