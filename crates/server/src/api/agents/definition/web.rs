//! What bounds the web tools, checked (runtime WB-2, WB-3, WB-5, WB-7).

use std::collections::HashSet;

use manyhands_egress::host::{Host, Pattern};
use manyhands_protocol::agent::Tool;
use manyhands_protocol::environment::{EnvironmentConfig, Networking};
use manyhands_protocol::web::{
    ToolFilter, ToolReference, UrlSources, UserInput, UserLocation, WebSettings,
};

use crate::api::error::ApiError;

const ENTRIES: usize = 64;
const ENTRY: usize = 255;
const REFERENCES: usize = 128;
const LOCATION: usize = 256;

/// What path suffixes of `web_search` may not hold (runtime WB-3).
const NOT_IN_PATHS: [char; 8] = ['?', '#', '$', ',', '|', '^', '!', ' '];

/// Names that are never on the public web.
const PRIVATE: [&str; 5] = ["localhost", "local", "internal", "localdomain", "invalid"];

/// The settings of the built-in tool `name`, in canonical form. `customs` are the custom tools beside it.
pub(super) fn settings(
    name: &str,
    given: WebSettings,
    customs: &HashSet<String>,
    at: &str,
) -> Result<WebSettings, ApiError> {
    if given.is_empty() {
        return Ok(given);
    }
    let (fetches, searches) = (name == "web_fetch", name == "web_search");
    let foreign = [
        (
            "allowed_domains",
            given.allowed_domains.is_some(),
            fetches || searches,
        ),
        (
            "blocked_domains",
            given.blocked_domains.is_some(),
            fetches || searches,
        ),
        ("user_location", given.user_location.is_some(), searches),
        (
            "max_content_tokens",
            given.max_content_tokens.is_some(),
            fetches,
        ),
        ("url_sources", given.url_sources.is_some(), fetches),
    ];
    if let Some((field, ..)) = foreign.iter().find(|(_, set, known)| *set && !known) {
        return Err(ApiError::field(
            format!("{at}.{field}"),
            format!("{name} has no such setting"),
        ));
    }
    if given.allowed_domains.is_some() && given.blocked_domains.is_some() {
        return Err(ApiError::field(
            at,
            "Only one of allowed_domains or blocked_domains may be set.",
        ));
    }
    let list = |field: &str, list: Option<Vec<String>>| {
        let at = format!("{at}.{field}");
        list.map(|list| domains(&list, searches, &at)).transpose()
    };
    if given.max_content_tokens == Some(0) {
        return Err(ApiError::field(
            format!("{at}.max_content_tokens"),
            "must be above 0",
        ));
    }
    if let Some(location) = &given.user_location {
        check_location(location, &format!("{at}.user_location"))?;
    }
    if let Some(sources) = &given.url_sources {
        check_sources(sources, customs, &format!("{at}.url_sources"))?;
    }
    Ok(WebSettings {
        allowed_domains: list("allowed_domains", given.allowed_domains)?,
        blocked_domains: list("blocked_domains", given.blocked_domains)?,
        ..given
    })
}

/// Whether all domains that the agent's web tools are allowed lie within the hosts of a `limited` environment (runtime
/// WB-9). `at` names the list of tools.
pub(crate) fn within(
    tools: &[Tool],
    environment: &EnvironmentConfig,
    at: &str,
) -> Result<(), ApiError> {
    let EnvironmentConfig::Cloud {
        networking: Networking::Limited { allowed_hosts, .. },
        ..
    } = environment
    else {
        return Ok(());
    };
    let hosts: Vec<Pattern> = allowed_hosts
        .iter()
        .filter_map(|host| Pattern::parse(host).ok())
        .collect();
    let is_within = |entry: &str| {
        let domain = entry.split('/').next().unwrap_or_default();
        Host::parse(domain).is_ok_and(|host| hosts.iter().any(|pattern| pattern.matches(&host)))
    };
    for tool in tools {
        let Tool::AgentToolset { configs, .. } = tool else {
            continue;
        };
        for config in configs {
            let domains = config.web.allowed_domains.as_deref().unwrap_or_default();
            if let Some((index, entry)) = domains
                .iter()
                .enumerate()
                .find(|(_, entry)| !is_within(entry))
            {
                let field = format!("{at}: {}.allowed_domains.{index}", config.name);
                let problem =
                    format!("{entry} is not within the allowed_hosts of the session's environment");
                return Err(ApiError::field(field, problem));
            }
        }
    }
    Ok(())
}

/// A list of domains in lower case.
fn domains(list: &[String], paths: bool, at: &str) -> Result<Vec<String>, ApiError> {
    if list.is_empty() {
        return Err(ApiError::field(
            at,
            "Empty list of domains is ambiguous. Provide at least one domain or null.",
        ));
    }
    if list.len() > ENTRIES {
        let problem = format!("has {} entries; at most {ENTRIES} are allowed", list.len());
        return Err(ApiError::field(at, problem));
    }
    let mut seen = HashSet::new();
    let mut domains = Vec::with_capacity(list.len());
    for (index, entry) in list.iter().enumerate() {
        let domain = domain(entry, paths)
            .map_err(|problem| ApiError::field(format!("{at}.{index}"), problem))?;
        if !seen.insert(domain.clone()) {
            return Err(ApiError::field(format!("{at}.{index}"), "is listed twice"));
        }
        domains.push(domain);
    }
    Ok(domains)
}

/// One domain in lower case, with its path where one is allowed.
fn domain(entry: &str, paths: bool) -> Result<String, &'static str> {
    if !(1..=ENTRY).contains(&entry.len()) {
        return Err("expected 1 to 255 characters");
    }
    if !entry.is_ascii() {
        return Err("expected ASCII; write international names as xn--");
    }
    let entry = entry.strip_suffix('/').unwrap_or(entry);
    let (host, path) = match entry.split_once('/') {
        Some((host, path)) => (host, Some(path)),
        None => (entry, None),
    };
    let host = host.to_ascii_lowercase();
    if host.contains([':', '@']) {
        return Err("expected a host name without scheme, port and user");
    }
    if host.contains('*') {
        return Err("wildcards are not needed: a domain stands for those below it too");
    }
    let labels: Vec<&str> = host.split('.').collect();
    let is_label = |label: &&str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if !labels.iter().all(is_label) {
        return Err("is not a host name");
    }
    let last = labels.last().copied().unwrap_or_default();
    // Every notation of an address ends in a label that is a number (dotted, decimal, octal, hexadecimal).
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || last
            .strip_prefix("0x")
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if is_number {
        return Err("addresses are not allowed; write the host's name");
    }
    if PRIVATE.contains(&last) {
        return Err("is not a public name");
    }
    if labels.len() < 2 || psl::domain(host.as_bytes()).is_none() {
        return Err("is a top-level domain or the suffix of a registry; name a domain below it");
    }
    match path {
        None => Ok(host),
        Some(_) if !paths => Err("expected a host name without a path"),
        Some(path)
            if path.contains(NOT_IN_PATHS) || path.contains(|c: char| c.is_ascii_control()) =>
        {
            Err("the path has a character that is not allowed")
        }
        Some(path) => Ok(format!("{host}/{path}")),
    }
}

fn check_location(location: &UserLocation, at: &str) -> Result<(), ApiError> {
    let UserLocation {
        kind: _,
        city,
        country,
        region,
        timezone,
    } = location;
    for (field, text) in [("city", city), ("region", region), ("timezone", timezone)] {
        let length = text.as_ref().map_or(1, |text| text.chars().count());
        if !(1..=LOCATION).contains(&length) {
            return Err(ApiError::field(
                format!("{at}.{field}"),
                format!("expected 1 to {LOCATION} characters"),
            ));
        }
    }
    let is_code =
        |code: &String| code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    if !country.as_ref().is_none_or(is_code) {
        return Err(ApiError::field(
            format!("{at}.country"),
            "expected two upper-case letters of ISO 3166-1",
        ));
    }
    if timezone
        .as_deref()
        .is_some_and(|name| jiff::tz::TimeZone::get(name).is_err())
    {
        return Err(ApiError::field(
            format!("{at}.timezone"),
            "is not a name of the time zone database",
        ));
    }
    Ok(())
}

fn check_sources(
    sources: &UrlSources,
    customs: &HashSet<String>,
    at: &str,
) -> Result<(), ApiError> {
    let UrlSources {
        client_tool_results: client,
        server_tool_results: server,
        user_input,
    } = sources;
    let none = Some(ToolFilter::None {});
    if *client == none && *server == none && *user_input == Some(UserInput::None {}) {
        return Err(ApiError::field(
            at,
            "with all three none, no URL could ever be fetched",
        ));
    }
    let is_web = |name: &str| matches!(name, "web_search" | "web_fetch");
    let custom = |name: &str| customs.contains(name);
    check_filter(
        client,
        custom,
        "a custom tool of the same list",
        &format!("{at}.client_tool_results"),
    )?;
    check_filter(
        server,
        is_web,
        "web_search or web_fetch",
        &format!("{at}.server_tool_results"),
    )
}

fn check_filter(
    filter: &Option<ToolFilter>,
    known: impl Fn(&str) -> bool,
    expected: &str,
    at: &str,
) -> Result<(), ApiError> {
    let Some(ToolFilter::Only { tools } | ToolFilter::Except { tools }) = filter else {
        return Ok(());
    };
    let at = format!("{at}.tools");
    if !(1..=REFERENCES).contains(&tools.len()) {
        return Err(ApiError::field(
            at,
            format!("expected 1 to {REFERENCES} tools"),
        ));
    }
    let mut seen = HashSet::new();
    for (index, ToolReference { name, .. }) in tools.iter().enumerate() {
        let at = format!("{at}[{index}].name");
        if !known(name) {
            return Err(ApiError::field(at, format!("expected {expected}")));
        }
        if !seen.insert(name) {
            return Err(ApiError::field(at, "is listed twice"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
        let with = |field: &str, value: &str| json!({"user_location": {"type": "approximate", field: value}});
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
}
