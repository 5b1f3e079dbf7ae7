//! Hosts, addresses, URLs, and the first bytes of what a sandbox sends (security NET-2 to NET-5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Method;
use manyhands_egress::address::is_global;
use manyhands_egress::fuzzing::{self, Hello};
use manyhands_egress::host::Target;
use manyhands_egress::repository::Repository;
use manyhands_hands::web::Shown;
use manyhands_vault::ServerUrl;
use url::Url;

use crate::text;

/// A host has one spelling, which every reader shares.
pub(crate) fn host(bytes: &[u8]) {
    if let Some(text) = text(bytes) {
        fuzzing::host(text);
    }
}

/// Host and port are written as they were read.
pub(crate) fn target(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(target) = Target::parse(text, None) {
        assert_eq!(target.to_string(), text);
        assert_ne!(target.port, 0);
    }
    if let Ok(target) = Target::parse(text, Some(443)) {
        let written = target.to_string();
        assert!(
            written == text || written == format!("{text}:443"),
            "{text}"
        );
    }
}

/// An IPv4 address that may not be dialled may not be dialled in IPv6 clothes either (security NET-3).
pub(crate) fn address(bytes: &[u8]) {
    let Some(four) = bytes.first_chunk::<4>() else {
        return;
    };
    let plain = Ipv4Addr::from(*four);
    let [a, b, c, d] = *four;
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let dressed = [
        plain.to_ipv6_mapped(),
        Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
        Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
    ];
    if !is_global(IpAddr::V4(plain)) {
        for address in dressed {
            assert!(!is_global(IpAddr::V6(address)), "{plain} as {address}");
        }
    }
    if let Some(sixteen) = bytes.first_chunk::<16>() {
        let address = Ipv6Addr::from(*sixteen);
        let odd = address.is_loopback()
            || address.is_multicast()
            || address.is_unspecified()
            || address.is_unique_local()
            || address.is_unicast_link_local();
        assert!(!(odd && is_global(IpAddr::V6(address))), "{address}");
    }
}

/// A head that is taken is the same however it came, and written again.
pub(crate) fn head(bytes: &[u8]) {
    fuzzing::head(bytes);
    if let Some(size) = fuzzing::chunk_size(bytes) {
        let digits = text(bytes).expect("digits");
        assert_eq!(u64::from_str_radix(digits, 16), Ok(size));
    }
}

/// What the first bytes of a tunnel are stays what it is when more come.
pub(crate) fn hello(bytes: &[u8]) {
    let whole = fuzzing::hello(bytes);
    for end in (0..bytes.len()).step_by(1 + bytes.len() / 32) {
        match fuzzing::hello(&bytes[..end]) {
            Hello::Partial => {}
            said => assert_eq!(said, whole, "{end}"),
        }
    }
}

/// What follows the URL of a repository belongs to it only where it stays below its path.
pub(crate) fn repository(bytes: &[u8]) {
    let Some((url, path)) = text(bytes).and_then(|text| text.split_once('\n')) else {
        return;
    };
    let Ok(repository) = Repository::parse(url) else {
        return;
    };
    let seen = Url::parse(url).expect("a URL to every reader");
    // Nothing to repair but the port that is meant anyway.
    assert!(
        [url.to_owned(), url.replacen(":443/", "/", 1)].contains(&seen.to_string()),
        "{url}"
    );
    let at = repository.target();
    assert_eq!(seen.host_str(), Some(at.host.as_str()));
    assert_eq!(seen.port_or_known_default(), Some(at.port));
    for method in [Method::GET, Method::POST] {
        if !repository.owns(at, &method, path) {
            continue;
        }
        // As a browser's reader resolves it, which walks dots and decodes nothing.
        let Ok(asked) = seen.join(path) else {
            panic!("{path:?} is owned and no path");
        };
        let own = seen.path().trim_end_matches(".git").to_ascii_lowercase();
        let asked = asked.path().to_ascii_lowercase();
        let rest = asked.strip_prefix(&own).expect(path);
        assert!(rest.starts_with('/') || rest.starts_with(".git/"), "{path}");
    }
}

/// The URL of an MCP server has one spelling, and goes where every reader sees it go.
pub(crate) fn server_url(bytes: &[u8]) {
    let Some(Ok(url)) = text(bytes).map(ServerUrl::parse) else {
        return;
    };
    assert_eq!(ServerUrl::parse(url.as_str()).as_ref(), Ok(&url));
    let seen = Url::parse(url.as_str()).expect("a URL to every reader");
    // The readers write IPv6 addresses that end in an IPv4 one in two ways.
    let host = url::Host::parse(url.host()).expect("a host to every reader");
    assert_eq!(seen.host().map(|host| host.to_owned()), Some(host));
    assert!(matches!(seen.scheme(), "http" | "https"));
    assert!(seen.username().is_empty() && seen.password().is_none() && seen.fragment().is_none());
}

/// A URL to be fetched is one of the web, without credentials, and stays itself.
pub(crate) fn web_url(bytes: &[u8]) {
    let Some(url) = text(bytes).and_then(manyhands_hands::fuzzing::url) else {
        return;
    };
    assert!(matches!(url.scheme(), "http" | "https") && url.host().is_some());
    assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
    assert_eq!(Url::parse(url.as_str()).as_ref(), Ok(&url));
}

/// A URL that stands alone in a text was shown by it.
pub(crate) fn shown(bytes: &[u8]) {
    let Some(said) = text(bytes) else { return };
    let mut shown = Shown::default();
    shown.read(said);
    for word in said.split(' ') {
        let plain = word.starts_with("http://") || word.starts_with("https://");
        let ends_well = word.ends_with(|last: char| last.is_ascii_alphanumeric());
        let simple = |byte: u8| byte.is_ascii_alphanumeric() || b":/.?&=-_".contains(&byte);
        if plain && ends_well && word.bytes().all(simple) && word.len() < 1000 {
            let url = Url::parse(word);
            assert!(
                url.is_err() || shown.contains(&url.expect("a URL")),
                "{word}"
            );
        }
    }
}
