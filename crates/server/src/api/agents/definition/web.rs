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
mod tests;
