//! What holds for every text that is read as a host: for the tests, and for the fuzz targets (security INP-6).

use super::{Host, LONGEST, Pattern};

/// What holds for every text: what is taken is spelled as every other reader spells it.
pub(crate) fn hold(text: &str) {
    let Ok(host) = Host::parse(text) else {
        return;
    };
    assert_eq!(host.as_str(), text);
    assert!(text.len() <= LONGEST);
    assert!(text.parse::<std::net::IpAddr>().is_err(), "{text}");
    // A browser's reader: it repairs, so that what it leaves alone was canonical.
    match url::Host::parse(text) {
        Ok(url::Host::Domain(name)) => assert_eq!(name, text),
        Ok(address) => panic!("{text} is the address {address}"),
        // It knows which xn-- labels cannot be; they stay names that nobody can register.
        Err(_) => assert!(text.contains("xn--"), "{text}"),
    }
    let pattern = Pattern::parse(text).expect("a host is a pattern");
    assert!(pattern.matches(&host));
    let below = Pattern::Below(host.clone());
    assert!(!below.matches(&host));
}
