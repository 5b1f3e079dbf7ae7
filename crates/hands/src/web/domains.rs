//! Which hosts and pages the lists of a web tool admit (runtime WB-4). Pure.

use manyhands_protocol::web::WebSettings;

/// Whether the lists admit this host and path. The lists are canonical: lower case, checked when they were set.
pub(super) fn admits(settings: &WebSettings, host: &str, path: &str) -> bool {
    let listed = |list: &[String]| list.iter().any(|entry| covers(entry, host, path));
    let allowed = settings.allowed_domains.as_deref().is_none_or(listed);
    let blocked = settings.blocked_domains.as_deref().is_some_and(listed);
    allowed && !blocked
}

/// Whether an entry stands for this host, itself or one below it, and for this path, where it has one.
fn covers(entry: &str, host: &str, path: &str) -> bool {
    let (domain, below) = match entry.split_once('/') {
        Some((domain, below)) => (domain, Some(below)),
        None => (entry, None),
    };
    is_within(domain, host)
        && below.is_none_or(|below| {
            let rest = path.trim_start_matches('/').strip_prefix(below);
            rest.is_some_and(|rest| {
                rest.is_empty() || below.ends_with('/') || rest.starts_with('/')
            })
        })
}

/// Whether `host` is `domain` or lies below it, label by label.
fn is_within(domain: &str, host: &str) -> bool {
    host.strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// runtime WB-4
    #[test]
    fn wb_4_a_domain_stands_for_itself_and_what_is_below_it() {
        #[track_caller]
        fn check(entry: &str, host: &str, path: &str, listed: bool) {
            let list = Some(vec![entry.to_owned()]);
            let allow = WebSettings {
                allowed_domains: list.clone(),
                ..WebSettings::default()
            };
            let block = WebSettings {
                blocked_domains: list,
                ..WebSettings::default()
            };
            assert_eq!(admits(&allow, host, path), listed, "{entry} {host}{path}");
            assert_eq!(admits(&block, host, path), !listed, "{entry} {host}{path}");
        }
        check("example.com", "example.com", "/", true);
        check("example.com", "docs.example.com", "/", true);
        check("example.com", "badexample.com", "/", false);
        check("www.example.com", "example.com", "/", false);
        check("example.com", "example.com.evil.net", "/", false);
        check("example.com/docs", "example.com", "/docs", true);
        check("example.com/docs", "a.example.com", "/docs/intro", true);
        check("example.com/docs", "example.com", "/docsearch", false);
        check("example.com/docs", "example.com", "/", false);
        assert!(admits(&WebSettings::default(), "example.com", "/"));
    }
}
