use super::*;

fn registry(key: bool) -> Registry {
    let clock: SharedClock = Arc::new(manyhands_protocol::time::SystemClock);
    // Only the first test can install it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = Client::builder().no_proxy().build().unwrap();
    let specs = default_specs(key.then(|| SecretString::from("k")), None, None);
    Registry::new(specs, &client, &clock).unwrap()
}

#[test]
fn without_a_key_claude_is_scripted_and_says_so() {
    let registry = registry(false);
    assert!(registry.claude_is_scripted());
    let list = registry.list();
    assert_eq!(list.len(), 18);
    assert!(list[0].display_name.contains("scripted"));
    assert_eq!(list[17].id, "scripted");
}

#[test]
fn with_a_key_claude_goes_to_the_endpoint() {
    let registry = registry(true);
    assert!(!registry.claude_is_scripted());
    assert!(
        registry
            .list()
            .iter()
            .all(|model| model.id == "scripted" || !model.display_name.contains("scripted"))
    );
}

#[test]
fn exact_ids_win_over_patterns_and_earlier_entries_over_later() {
    let mut registry = registry(false);
    let model = || Arc::new(Scripted::built_in());
    let spec = |id: &str, max_output| ModelSpec {
        max_output: Some(max_output),
        ..ModelSpec::new(id, ProviderSpec::Scripted { script: None })
    };
    registry.add(spec("local-*", 1), model()).unwrap();
    registry.add(spec("local-*-x", 2), model()).unwrap();
    registry.add(spec("local-big", 3), model()).unwrap();
    #[track_caller]
    fn check(registry: &Registry, id: &str, max_output: Option<u32>) {
        assert_eq!(
            registry.resolve(id).map(|resolved| resolved.max_output),
            max_output,
            "{id}"
        );
    }
    check(&registry, "claude-anything", Some(32_000));
    check(&registry, "local-big", Some(3));
    check(&registry, "local-small", Some(1));
    check(&registry, "local-a-x", Some(1));
    check(&registry, "gpt-9", None);
    check(&registry, "", None);
    assert!(registry.add(spec("a*b*", 1), model()).is_err());
    assert!(registry.add(spec("", 1), model()).is_err());
}

/// A registry with one entry behind a Messages endpoint.
fn behind_messages(spec: impl FnOnce(ModelSpec) -> ModelSpec) -> Registry {
    let anthropic = ProviderSpec::Anthropic {
        base_url: None,
        key: None,
        timeouts: Timeouts::default(),
    };
    let mut registry = Registry::empty();
    let spec = spec(ModelSpec::new("*", anthropic));
    registry.add(spec, Arc::new(Scripted::built_in())).unwrap();
    registry
}

#[test]
fn se_10_the_models_that_take_system_messages_in_a_conversation() {
    #[track_caller]
    fn check(registry: &Registry, id: &str, expected: bool) {
        let found = registry.resolve(id).unwrap().mid_conversation_system;
        assert_eq!(found, expected, "{id}");
    }
    let plain = behind_messages(|spec| spec);
    check(&plain, "claude-opus-4-8", true);
    check(&plain, "claude-opus-5", true);
    check(&plain, "claude-opus-5-20260805", true);
    check(&plain, "claude-mythos-5-1", true);
    check(&plain, "claude-haiku-5-5", true);
    check(&plain, "claude-opus-4-7", false);
    check(&plain, "claude-sonnet-5", false);
    check(&plain, "claude-opus-4-5-20251101", false);
    check(&plain, "another", false);
    let renamed = behind_messages(|spec| ModelSpec {
        upstream_id: Some("claude-opus-5".to_owned()),
        ..spec
    });
    check(&renamed, "house-model", true);
    let told = behind_messages(|spec| ModelSpec {
        mid_conversation_system: Some(false),
        ..spec
    });
    check(&told, "claude-opus-5", false);
    check(&registry(false), "claude-opus-4-5", true);
    check(&registry(false), "scripted", true);
}

#[test]
fn a_context_window_is_configured_or_known() {
    #[track_caller]
    fn check(registry: &Registry, id: &str, expected: Option<u64>) {
        let found = registry.resolve(id).unwrap().context_window;
        assert_eq!(found, expected, "{id}");
    }
    let plain = behind_messages(|spec| spec);
    check(&plain, "claude-opus-5", Some(200_000));
    check(&plain, "another", None);
    let told = behind_messages(|spec| ModelSpec {
        context_window: Some(1_000_000),
        ..spec
    });
    check(&told, "claude-opus-5", Some(1_000_000));
    check(&told, "another", Some(1_000_000));
    check(&registry(false), "claude-opus-5", None);
}

#[test]
fn what_is_asked_for_leaves_room_in_a_small_window() {
    #[track_caller]
    fn check(context_window: Option<u64>, max_output: Option<u32>, expected: u32) {
        let registry = behind_messages(|spec| ModelSpec {
            context_window,
            max_output,
            ..spec
        });
        assert_eq!(registry.resolve("local").unwrap().max_output, expected);
    }
    check(None, None, 32_000);
    check(Some(200_000), None, 32_000);
    check(Some(8192), None, 2048);
    check(Some(8192), Some(6000), 6000);
    check(Some(1), None, 1);
    check(Some(u64::MAX), None, 32_000);
}
