//! What web tools may and may not be told.

use serde_json::{Value, json};

use super::*;

#[track_caller]
fn check(name: &str, given: Value, expected: Result<Value, &str>) {
    let given: WebSettings = serde_json::from_value(given).expect("JSON");
    let customs = HashSet::from(["lookup".to_owned()]);
    match (settings(name, given, &customs, "x"), expected) {
        (Ok(settings), Ok(expected)) => {
            assert_eq!(serde_json::to_value(settings).expect("JSON"), expected)
        }
        (Err(error), Err(problem)) => assert_eq!(error.message(), problem),
        (Ok(settings), Err(problem)) => panic!("{settings:?} instead of {problem}"),
        (Err(error), Ok(_)) => panic!("refused: {}", error.message()),
    }
}

/// runtime WB-3, WB-5
#[test]
fn wb_3_lists_of_domains_hold_public_host_names() {
    #[track_caller]
    fn one(entry: &str, fetch: Result<&str, &str>, search: Result<&str, &str>) {
        for (name, expected) in [("web_fetch", fetch), ("web_search", search)] {
            for field in ["allowed_domains", "blocked_domains"] {
                let refused = expected
                    .err()
                    .map(|problem| format!("x.{field}.0: {problem}"));
                let expected = match (expected, &refused) {
                    (Ok(shown), _) => Ok(json!({field: [shown]})),
                    (Err(_), refused) => Err(refused.as_deref().unwrap_or_default()),
                };
                check(name, json!({field: [entry]}), expected);
            }
        }
    }
    let both = |entry: &str, expected| one(entry, expected, expected);
    both("docs.example.com", Ok("docs.example.com"));
    both("Docs.Example.COM/", Ok("docs.example.com"));
    both("xn--bcher-kva.example.com", Ok("xn--bcher-kva.example.com"));
    both("", Err("expected 1 to 255 characters"));
    both(&"a".repeat(256), Err("expected 1 to 255 characters"));
    both(
        "bücher.de",
        Err("expected ASCII; write international names as xn--"),
    );
    for entry in [
        "https://example.com",
        "example.com:443",
        "me@example.com",
        "[::1]",
    ] {
        both(
            entry,
            Err("expected a host name without scheme, port and user"),
        );
    }
    both(
        "*.example.com",
        Err("wildcards are not needed: a domain stands for those below it too"),
    );
    for entry in [
        "example..com",
        "-a.example.com",
        "a-.example.com",
        ".example.com",
        "example.com.",
        "exa mple.com",
        "a_b.example.com",
    ] {
        both(entry, Err("is not a host name"));
    }
    for entry in [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "127.1",
        "0177.0.0.01",
        "1.2.3.0x4",
    ] {
        both(
            entry,
            Err("addresses are not allowed; write the host's name"),
        );
    }
    for entry in [
        "localhost",
        "printer.local",
        "db.internal",
        "a.localdomain",
        "x.invalid",
    ] {
        both(entry, Err("is not a public name"));
    }
    for entry in ["com", "co.uk", "intranet"] {
        both(
            entry,
            Err("is a top-level domain or the suffix of a registry; name a domain below it"),
        );
    }
    let no_path = Err("expected a host name without a path");
    one("example.com/docs", no_path, Ok("example.com/docs"));
    for path in [
        "a?b", "a#b", "a$b", "a,b", "a|b", "a^b", "a!b", "a b", "a\tb",
    ] {
        one(
            &format!("example.com/{path}"),
            no_path,
            Err("the path has a character that is not allowed"),
        );
    }
    check(
        "web_fetch",
        json!({"allowed_domains": ["a.com", "A.com/"]}),
        Err("x.allowed_domains.1: is listed twice"),
    );
    let many: Vec<String> = (0..65).map(|n| format!("a{n}.com")).collect();
    check(
        "web_fetch",
        json!({"allowed_domains": many[..64]}),
        Ok(json!({"allowed_domains": many[..64]})),
    );
    check(
        "web_fetch",
        json!({"allowed_domains": many}),
        Err("x.allowed_domains: has 65 entries; at most 64 are allowed"),
    );
    check(
        "web_search",
        json!({"blocked_domains": []}),
        Err(
            "x.blocked_domains: Empty list of domains is ambiguous. Provide at least one domain or null.",
        ),
    );
    check(
        "web_search",
        json!({"blocked_domains": ["a.com"], "allowed_domains": ["b.com"]}),
        Err("x: Only one of allowed_domains or blocked_domains may be set."),
    );
    check(
        "web_search",
        json!({"blocked_domains": null, "allowed_domains": ["b.com"]}),
        Ok(json!({"allowed_domains": ["b.com"]})),
    );
}

/// runtime WB-2
#[test]
fn wb_2_each_tool_has_its_own_settings() {
    check("bash", json!({}), Ok(json!({})));
    check(
        "bash",
        json!({"allowed_domains": ["a.com"]}),
        Err("x.allowed_domains: bash has no such setting"),
    );
    check(
        "web_search",
        json!({"max_content_tokens": 5}),
        Err("x.max_content_tokens: web_search has no such setting"),
    );
    check(
        "web_search",
        json!({"url_sources": {}}),
        Err("x.url_sources: web_search has no such setting"),
    );
    check(
        "web_fetch",
        json!({"max_content_tokens": 5}),
        Ok(json!({"max_content_tokens": 5})),
    );
    check(
        "web_fetch",
        json!({"max_content_tokens": 0}),
        Err("x.max_content_tokens: must be above 0"),
    );
    let here = json!({"type": "approximate", "city": "Graz", "country": "AT", "region": null, "timezone": "Europe/Vienna"});
    check(
        "web_search",
        json!({"user_location": here}),
        Ok(json!({"user_location": here})),
    );
    check(
        "web_fetch",
        json!({"user_location": here}),
        Err("x.user_location: web_fetch has no such setting"),
    );
    let with =
        |field: &str, value: &str| json!({"user_location": {"type": "approximate", field: value}});
    check(
        "web_search",
        with("country", "at"),
        Err("x.user_location.country: expected two upper-case letters of ISO 3166-1"),
    );
    check(
        "web_search",
        with("timezone", "Moon/Base"),
        Err("x.user_location.timezone: is not a name of the time zone database"),
    );
    check(
        "web_search",
        with("city", ""),
        Err("x.user_location.city: expected 1 to 256 characters"),
    );
}

#[test]
fn wb_7_sources_name_tools_that_are_there() {
    let filter = |kind: &str, names: &[&str]| {
        let tools: Vec<Value> = names
            .iter()
            .map(|name| json!({"type": "tool_reference", "name": name}))
            .collect();
        json!({"type": kind, "tools": tools})
    };
    #[track_caller]
    fn refused(sources: Value, problem: &str) {
        check(
            "web_fetch",
            json!({"url_sources": sources}),
            Err(&format!("x.url_sources{problem}")),
        );
    }
    let fine = json!({"client_tool_results": filter("only", &["lookup"]), "server_tool_results": filter("except", &["web_search"]), "user_input": null});
    check(
        "web_fetch",
        json!({"url_sources": fine}),
        Ok(json!({"url_sources": fine})),
    );
    refused(
        json!({"client_tool_results": "none", "server_tool_results": "none", "user_input": "none"}),
        ": with all three none, no URL could ever be fetched",
    );
    refused(
        json!({"client_tool_results": filter("only", &["other"])}),
        ".client_tool_results.tools[0].name: expected a custom tool of the same list",
    );
    refused(
        json!({"server_tool_results": filter("except", &["web_fetch", "bash"])}),
        ".server_tool_results.tools[1].name: expected web_search or web_fetch",
    );
    refused(
        json!({"client_tool_results": filter("only", &[])}),
        ".client_tool_results.tools: expected 1 to 128 tools",
    );
    refused(
        json!({"client_tool_results": filter("only", &["lookup", "lookup"])}),
        ".client_tool_results.tools[1].name: is listed twice",
    );
}

/// runtime WB-9, CONFLICT-2
#[test]
fn wb_9_allowed_domains_lie_within_the_environments_hosts() {
    #[track_caller]
    fn check(domain: &str, problem: Option<&str>) {
        let tool = json!({"type": "agent_toolset_20260401", "configs": [{"name": "web_fetch", "allowed_domains": [domain]}]});
        let tools = crate::api::agents::definition::tools(&[tool]).expect("accepted");
        let limited = json!({"type": "cloud", "networking": {"type": "limited", "allowed_hosts": ["a.com", "*.b.com"]}, "packages": {}});
        let limited = serde_json::from_value(limited).expect("an environment");
        let refused = within(&tools, &limited, "agent")
            .err()
            .map(|error| error.message().to_owned());
        assert_eq!(refused.as_deref(), problem);
        assert!(within(&tools, &EnvironmentConfig::default(), "agent").is_ok());
    }
    check("a.com", None);
    check("x.b.com", None);
    check(
        "b.com",
        Some(
            "agent: web_fetch.allowed_domains.0: b.com is not within the allowed_hosts of the session's environment",
        ),
    );
    check(
        "x.a.com",
        Some(
            "agent: web_fetch.allowed_domains.0: x.a.com is not within the allowed_hosts of the session's environment",
        ),
    );
}
