use manyhands_vault::seal::LONGEST;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::*;
use crate::api::json::parse_quietly;

fn now() -> Timestamp {
    Timestamp::parse("2026-11-21T12:00:00Z").expect("an instant")
}

fn params(auth: &Value) -> Result<CredentialAuthParams, ApiError> {
    let body = serde_json::to_vec(auth).expect("JSON");
    parse_quietly(&body)
}

fn make(auth: &Value) -> Result<Given, ApiError> {
    created(params(auth)?, now())
}

fn bearer() -> Value {
    json!({"type": "static_bearer", "mcp_server_url": "https://mcp.example.com/", "token": "canary-token"})
}

fn oauth() -> Value {
    json!({"type": "mcp_oauth", "mcp_server_url": "https://mcp.example.com", "access_token": "canary-access",
        "expires_at": "2026-11-21T13:00:00Z",
        "refresh": {"client_id": "client", "refresh_token": "canary-refresh", "token_endpoint": "https://auth.example.com/token",
            "token_endpoint_auth": {"type": "client_secret_basic", "client_secret": "canary-client"},
            "resource": "https://mcp.example.com", "scope": "read"}})
}

fn variable() -> Value {
    json!({"type": "environment_variable", "secret_name": "API_KEY", "secret_value": "canary-value",
        "networking": {"type": "limited", "allowed_hosts": ["api.example.com", "*.example.org", "192.0.2.1"]}})
}

/// With a member set, or removed where the value says so.
fn with(mut auth: Value, path: &str, value: Value) -> Value {
    let (parent, name) = path.rsplit_once('/').expect("a path");
    let parent = auth.pointer_mut(parent).expect("the parent");
    let members = parent.as_object_mut().expect("an object");
    match value {
        Value::String(text) if text == "REMOVED" => drop(members.remove(name)),
        value => drop(members.insert(name.to_owned(), value)),
    }
    auth
}

fn fields(secrets: &Secrets) -> Vec<(Field, &str)> {
    let pairs = secrets.iter();
    pairs
        .map(|(field, secret)| (*field, secret.expose_secret()))
        .collect()
}

/// runtime VA-2, api §16.2: what is made of each kind.
#[test]
fn va_2_each_kind_has_its_members() {
    #[track_caller]
    fn check(auth: Value, shown: Value, key: &str, secrets: &[(Field, &str)]) {
        let given = make(&auth).expect("accepted");
        assert_eq!(serde_json::to_value(&given.auth).expect("JSON"), shown);
        assert_eq!(given.key, key);
        assert_eq!(fields(&given.secrets), secrets);
        assert!(!format!("{given:?}").contains("canary"), "CRED-2");
    }
    check(
        bearer(),
        json!({"type": "static_bearer", "mcp_server_url": "https://mcp.example.com/"}),
        "mcp https://mcp.example.com",
        &[(Field::Token, "canary-token")],
    );
    check(
        oauth(),
        json!({"type": "mcp_oauth", "mcp_server_url": "https://mcp.example.com",
            "expires_at": "2026-11-21T13:00:00.000000Z",
            "refresh": {"client_id": "client", "token_endpoint": "https://auth.example.com/token",
                "token_endpoint_auth": {"type": "client_secret_basic"}, "resource": "https://mcp.example.com", "scope": "read"}}),
        "mcp https://mcp.example.com",
        &[
            (Field::AccessToken, "canary-access"),
            (Field::RefreshToken, "canary-refresh"),
            (Field::ClientSecret, "canary-client"),
        ],
    );
    check(
        json!({"type": "mcp_oauth", "mcp_server_url": "https://mcp.example.com", "access_token": "canary-access",
            "expires_at": null, "refresh": null}),
        json!({"type": "mcp_oauth", "mcp_server_url": "https://mcp.example.com"}),
        "mcp https://mcp.example.com",
        &[(Field::AccessToken, "canary-access")],
    );
    let public = with(
        oauth(),
        "/refresh/token_endpoint_auth",
        json!({"type": "none"}),
    );
    let public = with(public, "/refresh/resource", json!(null));
    check(
        with(public, "/refresh/scope", json!("")),
        json!({"type": "mcp_oauth", "mcp_server_url": "https://mcp.example.com",
            "expires_at": "2026-11-21T13:00:00.000000Z",
            "refresh": {"client_id": "client", "token_endpoint": "https://auth.example.com/token",
                "token_endpoint_auth": {"type": "none"}}}),
        "mcp https://mcp.example.com",
        &[
            (Field::AccessToken, "canary-access"),
            (Field::RefreshToken, "canary-refresh"),
        ],
    );
    check(
        variable(),
        json!({"type": "environment_variable", "secret_name": "API_KEY",
            "networking": {"type": "limited", "allowed_hosts": ["api.example.com", "*.example.org", "192.0.2.1"]},
            "injection_location": {"body": true, "header": true}}),
        "env API_KEY",
        &[(Field::SecretValue, "canary-value")],
    );
}

/// runtime VA-11
#[test]
fn va_11_locations_are_completed_and_merged() {
    #[track_caller]
    fn check(current: Option<(bool, bool)>, given: Value, expected: Result<(bool, bool), &str>) {
        let auth = with(variable(), "/injection_location", given);
        let made = match current {
            None => make(&auth).map(|given| given.auth),
            Some((body, header)) => {
                let location = json!({"body": body, "header": header});
                let stored = with(variable(), "/injection_location", location);
                let stored = make(&stored).expect("accepted").auth;
                let auth = with(auth, "/networking", json!(null));
                params(&auth)
                    .and_then(|params| updated(&stored, params, now()).map(|(auth, _)| auth))
            }
        };
        match (made, expected) {
            (
                Ok(CredentialAuth::EnvironmentVariable {
                    injection_location, ..
                }),
                Ok((body, header)),
            ) => assert_eq!(injection_location, InjectionLocation { body, header }),
            (Err(error), Err(problem)) => {
                assert!(error.message().starts_with(problem), "{error:?}")
            }
            (made, expected) => panic!("{made:?}, not {expected:?}"),
        }
    }
    let none = "auth.injection_location: must enable";
    let null = "auth.injection_location: must not be null";
    check(None, json!("REMOVED"), Ok((true, true)));
    check(None, json!({"body": true}), Ok((true, false)));
    check(None, json!({"header": true}), Ok((false, true)));
    check(
        None,
        json!({"header": true, "body": true}),
        Ok((true, true)),
    );
    check(None, json!({}), Err(none));
    check(None, json!({"header": false}), Err(none));
    check(None, json!(null), Err(null));
    check(
        None,
        json!({"header": null, "body": true}),
        Err("auth.injection_location.header: must not"),
    );
    check(
        None,
        json!({"header": true, "body": null}),
        Err("auth.injection_location.body: must not"),
    );
    check(Some((true, true)), json!("REMOVED"), Ok((true, true)));
    check(
        Some((true, true)),
        json!({"body": false}),
        Ok((false, true)),
    );
    check(Some((false, true)), json!({"body": true}), Ok((true, true)));
    check(Some((false, true)), json!({"header": false}), Err(none));
    check(
        Some((false, true)),
        json!({"header": false, "body": true}),
        Ok((true, false)),
    );
    check(Some((true, true)), json!(null), Err(null));
    check(
        Some((true, true)),
        json!({"body": null}),
        Err("auth.injection_location.body: must not"),
    );
}

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

/// runtime VA-5, api §16.3
#[test]
fn va_5_an_update_replaces_what_it_names() {
    #[track_caller]
    fn check(
        stored: Value,
        update: Value,
        change: impl FnOnce(&mut Value),
        secrets: &[(Field, &str)],
    ) {
        let stored = make(&stored).expect("accepted").auth;
        let params = params(&update).expect("read");
        let (auth, replaced) = updated(&stored, params, now()).expect("accepted");
        let mut expected = serde_json::to_value(&stored).expect("JSON");
        change(&mut expected);
        assert_eq!(serde_json::to_value(&auth).expect("JSON"), expected);
        assert_eq!(fields(&replaced), secrets);
    }
    let new = json!({"type": "static_bearer", "token": "new"});
    check(bearer(), new, |_| {}, &[(Field::Token, "new")]);
    check(
        bearer(),
        json!({"type": "static_bearer", "token": null}),
        |_| {},
        &[],
    );
    check(
        bearer(),
        json!({"type": "static_bearer", "mcp_server_url": "https://mcp.example.com/"}),
        |_| {},
        &[],
    );
    // A new token keeps the old expiry; the expiry alone may change, and be forgotten.
    check(
        oauth(),
        json!({"type": "mcp_oauth", "access_token": "new"}),
        |_| {},
        &[(Field::AccessToken, "new")],
    );
    check(
        oauth(),
        json!({"type": "mcp_oauth", "expires_at": "2027-01-01T00:00:00Z"}),
        |auth| auth["expires_at"] = json!("2027-01-01T00:00:00.000000Z"),
        &[],
    );
    check(
        oauth(),
        json!({"type": "mcp_oauth", "expires_at": null}),
        |auth| drop(auth.as_object_mut().map(|auth| auth.remove("expires_at"))),
        &[],
    );
    let refresh = |refresh: Value| json!({"type": "mcp_oauth", "refresh": refresh});
    check(oauth(), refresh(json!(null)), |_| {}, &[]);
    check(
        oauth(),
        refresh(json!({"refresh_token": "new"})),
        |_| {},
        &[(Field::RefreshToken, "new")],
    );
    check(
        oauth(),
        refresh(json!({"scope": "write"})),
        |auth| auth["refresh"]["scope"] = json!("write"),
        &[],
    );
    check(oauth(), refresh(json!({"scope": null})), |_| {}, &[]);
    check(
        oauth(),
        refresh(json!({"scope": ""})),
        |auth| {
            drop(
                auth["refresh"]
                    .as_object_mut()
                    .map(|refresh| refresh.remove("scope")),
            )
        },
        &[],
    );
    // The stored type of the client's authentication stays, whichever is sent.
    for kind in ["client_secret_basic", "client_secret_post"] {
        let auth = json!({"token_endpoint_auth": {"type": kind, "client_secret": "new"}});
        check(
            oauth(),
            refresh(auth),
            |_| {},
            &[(Field::ClientSecret, "new")],
        );
    }
    check(
        variable(),
        json!({"type": "environment_variable", "secret_value": "new"}),
        |_| {},
        &[(Field::SecretValue, "new")],
    );
    check(
        variable(),
        json!({"type": "environment_variable", "networking": {"type": "unrestricted"}}),
        |auth| auth["networking"] = json!({"type": "unrestricted"}),
        &[],
    );
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
