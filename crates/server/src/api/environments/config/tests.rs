use serde_json::{Value, json};

use super::*;

fn config(value: Value) -> EnvironmentConfig {
    serde_json::from_value(value).expect("a config")
}

fn param(value: Value) -> Option<EnvironmentConfigParam> {
    serde_json::from_value(value).expect("a config in a request")
}

fn stored() -> Value {
    json!({
        "type": "cloud",
        "networking": {"type": "limited", "allowed_hosts": ["a.example"], "allow_mcp_servers": true,
            "allow_package_managers": true},
        "packages": {"type": "packages", "apt": ["jq"], "cargo": [], "gem": [], "go": [], "npm": [], "pip": ["requests==2.32.3"]},
    })
}

/// Also runtime EN-10.
#[test]
fn en_3_omitted_members_keep_their_values() {
    #[track_caller]
    fn check(given: Value, change: impl FnOnce(&mut Value)) {
        let mut expected = stored();
        change(&mut expected);
        let merged = merged(&config(stored()), param(given)).expect("accepted");
        assert_eq!(merged, config(expected));
    }
    check(json!(null), |_| {});
    check(json!({"type": "cloud"}), |_| {});
    check(
        json!({"type": "cloud", "networking": null, "packages": null}),
        |_| {},
    );
    check(
        json!({"type": "cloud", "networking": {"type": "limited"}, "packages": {}}),
        |_| {},
    );
    check(
        json!({"type": "cloud", "networking": {"type": "limited", "allowed_hosts": ["*.b.example"]}}),
        |it| it["networking"]["allowed_hosts"] = json!(["*.b.example"]),
    );
    check(
        json!({"type": "cloud", "networking": {"type": "limited", "allowed_hosts": [], "allow_mcp_servers": false}}),
        |it| {
            it["networking"]["allowed_hosts"] = json!([]);
            it["networking"]["allow_mcp_servers"] = json!(false);
        },
    );
    check(
        json!({"type": "cloud", "networking": {"type": "unrestricted"}}),
        |it| it["networking"] = json!({"type": "unrestricted"}),
    );
    check(
        json!({"type": "cloud", "packages": {"npm": ["typescript@5.6.3"], "pip": []}}),
        |it| {
            it["packages"]["npm"] = json!(["typescript@5.6.3"]);
            it["packages"]["pip"] = json!([]);
        },
    );
    let fresh = created(param(
        json!({"type": "cloud", "networking": {"type": "limited"}}),
    ));
    assert_eq!(
        serde_json::to_value(fresh.expect("accepted")).unwrap()["networking"],
        json!({"type": "limited", "allowed_hosts": [], "allow_mcp_servers": false, "allow_package_managers": false})
    );
}

/// runtime EN-1, EN-7, EN-10, security NET-2
#[test]
fn en_8_what_cannot_be_is_refused_by_name() {
    #[track_caller]
    fn check(given: Value, problem: &str) {
        for error in [
            merged(&config(stored()), param(given.clone())).expect_err(problem),
            created(param(given.clone())).expect_err(problem),
        ] {
            assert!(error.message().starts_with(problem), "{}", error.message());
        }
    }
    let closed = "config.networking.allow_package_managers: must be true";
    check(
        json!({"type": "cloud", "packages": {"pip": ["requests"]},
            "networking": {"type": "limited", "allow_package_managers": false, "allowed_hosts": ["packages.example.org"]}}),
        closed,
    );
    for (host, why) in [
        ("https://a.example", "it has a scheme; name the host alone"),
        ("a.example:443", "it has a port; name the host alone"),
        ("a.example/x", "the host has a character"),
        ("A.example", "the host has capital letters"),
        ("a.example.", "the host ends with a dot"),
        ("*.", "the host is empty"),
        ("*", "the host has a character"),
        ("a.*.example", "the host has a character"),
        ("127.0.0.1", "the host is an address"),
        ("2130706433", "the host is an address"),
        ("[::1]", "the host is an address"),
        ("ä.example", "the host has a character"),
        ("", "the host is empty"),
    ] {
        check(
            json!({"type": "cloud", "networking": {"type": "limited", "allowed_hosts": ["fine.example", host]}}),
            &format!(
                "config.networking.allowed_hosts[1]: must be a host like api.example.com or *.example.com: {why}"
            ),
        );
    }
    check(
        json!({"type": "cloud", "networking": {"type": "limited", "allowed_hosts": vec!["a.example"; HOSTS + 1]}}),
        "config.networking.allowed_hosts: must have at most 256 entries",
    );
    check(
        json!({"type": "cloud", "packages": {"pip": ["requests", "--index-url=https://evil.example"]}}),
        "config.packages.pip[1]: must be a name that pip knows",
    );
    check(
        json!({"type": "cloud", "packages": {"apt": ["./x.deb"]}}),
        "config.packages.apt[0]: must be a name that apt knows",
    );
}

#[test]
fn en_1_the_type_never_changes() {
    let error = merged(&config(stored()), param(json!({"type": "self_hosted"}))).expect_err("kept");
    assert_eq!(error.message(), "config.type: cannot be changed");
    let own = EnvironmentConfig::SelfHosted {};
    let error = merged(&own, param(json!({"type": "cloud"}))).expect_err("kept");
    assert_eq!(error.message(), "config.type: cannot be changed");
    assert_eq!(merged(&own, param(json!({"type": "self_hosted"}))), Ok(own));
    let error = created(param(json!({"type": "self_hosted"}))).expect_err("later");
    assert!(
        error
            .message()
            .starts_with("config.type: self_hosted is not supported"),
        "{}",
        error.message()
    );
}
