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
