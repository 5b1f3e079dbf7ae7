use manyhands_vault::seal::LONGEST;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::*;
use crate::api::json::parse_quietly;

mod refused;

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
