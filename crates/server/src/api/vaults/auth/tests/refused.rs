//! What a credential cannot be, and what of it cannot change.

use super::*;

/// runtime VA-2, VA-4, VA-10: refused by the field's name, and without a word of what was sent (security CRED-2).
#[test]
fn va_4_what_a_credential_cannot_be_is_refused_by_name() {
    #[track_caller]
    fn check(auth: Value, problem: &str) {
        let error = make(&auth).expect_err(problem);
        let message = error.message();
        assert!(message.starts_with(problem), "{message}");
        assert!(!message.contains("canary"), "{message}");
    }
    check(json!({}), "auth.type: is required");
    check(
        json!({"type": "canary-kind"}),
        "auth.type: expected mcp_oauth",
    );
    check(json!({"type": 5}), "type: expected a string");
    check(
        with(bearer(), "/token", json!("REMOVED")),
        "auth.token: is required",
    );
    check(
        with(bearer(), "/token", json!(null)),
        "auth.token: is required",
    );
    check(
        with(bearer(), "/token", json!("")),
        "auth.token: must not be empty",
    );
    check(
        with(bearer(), "/token", json!(["canary"])),
        "token: expected",
    );
    check(
        with(bearer(), "/token", json!("canary with space")),
        "auth.token: has a space",
    );
    check(
        with(bearer(), "/token", json!("canary\r\nx: y")),
        "auth.token: has a space",
    );
    check(
        with(bearer(), "/token", json!("c".repeat(LONGEST + 1))),
        "auth.token: has more than",
    );
    check(
        with(bearer(), "/access_token", json!("canary")),
        "auth.access_token: does not belong to static_bearer",
    );
    check(
        with(bearer(), "/secret_value", json!("canary")),
        "auth.secret_value: does not belong",
    );
    check(
        with(bearer(), "/mcp_server_url", json!("REMOVED")),
        "auth.mcp_server_url: is required",
    );
    check(
        with(bearer(), "/mcp_server_url", json!("canary")),
        "auth.mcp_server_url: the URL must begin",
    );
    check(
        with(
            bearer(),
            "/mcp_server_url",
            json!("https://canary:x@x.example"),
        ),
        "auth.mcp_server_url: the URL must have no user",
    );
    check(
        with(oauth(), "/access_token", json!(null)),
        "auth.access_token: is required",
    );
    check(
        with(oauth(), "/token", json!("canary")),
        "auth.token: does not belong to mcp_oauth",
    );
    check(
        with(oauth(), "/expires_at", json!("2026-11-21T12:00:00Z")),
        "auth.expires_at: must be in the future",
    );
    check(
        with(oauth(), "/expires_at", json!("canary")),
        "expires_at: is not as documented",
    );
    for name in [
        "client_id",
        "refresh_token",
        "token_endpoint",
        "token_endpoint_auth",
    ] {
        let at = format!("auth.refresh.{name}: is required");
        check(
            with(oauth(), &format!("/refresh/{name}"), json!("REMOVED")),
            &at,
        );
        check(with(oauth(), &format!("/refresh/{name}"), json!(null)), &at);
    }
    check(
        with(oauth(), "/refresh/client_id", json!("")),
        "auth.refresh.client_id: must not be empty",
    );
    check(
        with(oauth(), "/refresh/token_endpoint", json!("canary")),
        "auth.refresh.token_endpoint: the URL must begin",
    );
    check(
        with(oauth(), "/refresh/scope", json!("a\nb")),
        "auth.refresh.scope: must have at most",
    );
    let endpoint = "/refresh/token_endpoint_auth";
    let at = "auth.refresh.token_endpoint_auth";
    check(
        with(oauth(), endpoint, json!({})),
        &format!("{at}.type: is required"),
    );
    check(
        with(oauth(), endpoint, json!({"type": "canary"})),
        &format!("{at}.type: expected none"),
    );
    check(
        with(oauth(), endpoint, json!({"type": "client_secret_post"})),
        &format!("{at}.client_secret: is required"),
    );
    check(
        with(
            oauth(),
            endpoint,
            json!({"type": "none", "client_secret": "canary"}),
        ),
        &format!("{at}.client_secret: does not belong"),
    );
    check(
        with(variable(), "/secret_value", json!("")),
        "auth.secret_value: must not be empty",
    );
    check(
        with(variable(), "/networking", json!(null)),
        "auth.networking: is required",
    );
    check(
        with(variable(), "/networking", json!({"type": "canary"})),
        "networking.type: expected",
    );
    check(
        with(variable(), "/networking", json!({"type": "limited"})),
        "networking: missing field `allowed_hosts`",
    );
    for name in ["", "1X", "A-B", "A B", "Ä", "A=B", &"A".repeat(256)] {
        check(
            with(variable(), "/secret_name", json!(name)),
            "auth.secret_name: must be a variable's name",
        );
    }
    for name in ["PATH", "path", "LD_PRELOAD", "https_proxy", "HOME"] {
        check(
            with(variable(), "/secret_name", json!(name)),
            "auth.secret_name: is a variable that sandboxes have",
        );
    }
    let hosts = |hosts: Value| {
        with(
            variable(),
            "/networking",
            json!({"type": "limited", "allowed_hosts": hosts}),
        )
    };
    let at = "auth.networking.allowed_hosts";
    check(
        hosts(json!(vec!["a.example"; 17])),
        &format!("{at}: must have at most 16"),
    );
    for host in [
        "https://a.example",
        "a.example:443",
        "a.example/x",
        "::1",
        "[::1]",
        "*.*.example",
        "*",
        "a.*.example",
        "A.example",
        "192.0.2.1/24",
        "0x7f.1",
        "",
    ] {
        check(
            hosts(json!(["ok.example", host])),
            &format!("{at}[1]: must be a host"),
        );
    }
    assert!(make(&hosts(json!(vec!["a.example"; 16]))).is_ok());
    assert!(make(&hosts(json!([]))).is_ok());
}

/// runtime VA-2, VA-5
#[test]
fn va_5_what_is_immutable_is_refused_by_name() {
    #[track_caller]
    fn check(stored: Value, update: Value, problem: &str) {
        let stored = make(&stored).expect("accepted").auth;
        let error = params(&update).and_then(|params| updated(&stored, params, now()));
        let error = error.expect_err(problem);
        assert!(error.message().starts_with(problem), "{}", error.message());
        assert!(!error.message().contains("canary"), "{}", error.message());
    }
    check(bearer(), json!({}), "auth.type: is required");
    check(
        bearer(),
        oauth(),
        "auth.type: cannot be changed; it is static_bearer",
    );
    check(
        bearer(),
        json!({"type": "static_bearer", "mcp_server_url": "https://mcp.example.com"}),
        "auth.mcp_server_url: cannot be changed",
    );
    check(
        bearer(),
        json!({"type": "static_bearer", "mcp_server_url": null}),
        "auth.mcp_server_url: cannot be changed",
    );
    check(
        bearer(),
        json!({"type": "static_bearer", "secret_value": "canary"}),
        "auth.secret_value: does not belong",
    );
    check(
        bearer(),
        json!({"type": "static_bearer", "token": ""}),
        "auth.token: must not be empty",
    );
    check(
        variable(),
        json!({"type": "environment_variable", "secret_name": "OTHER"}),
        "auth.secret_name: cannot be changed",
    );
    check(
        variable(),
        json!({"type": "environment_variable", "networking": {"type": "limited", "allowed_hosts": ["x:1"]}}),
        "auth.networking.allowed_hosts[0]",
    );
    check(
        oauth(),
        json!({"type": "mcp_oauth", "expires_at": "2026-11-21T11:00:00Z"}),
        "auth.expires_at: must be in the future",
    );
    let refresh = |refresh: Value| json!({"type": "mcp_oauth", "refresh": refresh});
    for name in ["client_id", "token_endpoint", "resource"] {
        let at = format!("auth.refresh.{name}: cannot be changed");
        check(
            oauth(),
            refresh(json!({ name: "https://other.example" })),
            &at,
        );
    }
    let at = "auth.refresh.token_endpoint_auth";
    let auth = |kind: &str| {
        refresh(json!({"token_endpoint_auth": {"type": kind, "client_secret": "canary"}}))
    };
    check(
        oauth(),
        auth("none"),
        &format!("{at}.type: expected client_secret_basic"),
    );
    check(
        oauth(),
        refresh(json!({"token_endpoint_auth": {"client_secret": "canary"}})),
        &format!("{at}.type: is required"),
    );
    let public = with(
        oauth(),
        "/refresh/token_endpoint_auth",
        json!({"type": "none"}),
    );
    check(
        public,
        auth("client_secret_post"),
        &format!("{at}: cannot be changed; its type is none"),
    );
    let plain = with(oauth(), "/refresh", json!(null));
    check(
        plain,
        refresh(json!({"refresh_token": "canary"})),
        "auth.refresh: this credential has none",
    );
}
