//! Host names: the one parser, for settings, the proxy, credentials and fetchers (security NET-2).
//!
//! A name has one spelling here: lower-case ASCII labels of letters, digits and inner hyphens. Whatever another reader
//! could take for the same host (capitals, a trailing dot, Unicode) or for an address (dotted, octal, hex, one number,
//! anything with a colon) is refused, never repaired, so that the value that was checked is the value that is dialled.

use std::fmt;
use std::str::FromStr;

/// The longest name, in bytes.
pub const LONGEST: usize = 253;
/// The longest label, in bytes.
const LABEL: usize = 63;

/// A canonical host name, for example `api.example.com`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(String);

impl Host {
    /// Reads a name.
    ///
    /// # Errors
    /// [`NotCanonical`]: the text is no name in its only spelling. Tell who wrote it.
    pub fn parse(text: &str) -> Result<Self, NotCanonical> {
        // First of all, so that whatever follows looks at little.
        if text.len() > LONGEST {
            return Err(NotCanonical::Long);
        }
        if text.is_empty() {
            return Err(NotCanonical::Empty);
        }
        if text.contains("://") {
            return Err(NotCanonical::Scheme);
        }
        if has_port(text) {
            return Err(NotCanonical::WithPort);
        }
        if text.contains([':', '[', ']', '%']) {
            return Err(NotCanonical::Address);
        }
        if text.ends_with('.') {
            return Err(NotCanonical::TrailingDot);
        }
        let mut last = "";
        for label in text.split('.') {
            check_label(label)?;
            last = label;
        }
        // Whose last label is a number is an address to many readers: `127.1`, `0x7f000001`, `2130706433`.
        if is_number(last) {
            return Err(NotCanonical::Address);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether it is `x:443`: with one colon alone it is no address.
fn has_port(text: &str) -> bool {
    let digits = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && digits(port))
}

fn check_label(label: &str) -> Result<(), NotCanonical> {
    let bytes = label.as_bytes();
    if bytes.is_empty() {
        return Err(NotCanonical::EmptyLabel);
    }
    if bytes.len() > LABEL {
        return Err(NotCanonical::Long);
    }
    if bytes.iter().any(u8::is_ascii_uppercase) {
        return Err(NotCanonical::Capitals);
    }
    let plain = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if !bytes.iter().all(plain) {
        return Err(NotCanonical::Character);
    }
    if bytes.starts_with(b"-") || bytes.ends_with(b"-") {
        return Err(NotCanonical::Hyphen);
    }
    Ok(())
}

fn is_number(label: &str) -> bool {
    let hex = label
        .strip_prefix("0x")
        .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hex || label.bytes().all(|byte| byte.is_ascii_digit())
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Host {
    type Err = NotCanonical;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// Why a text is not a host name in its only spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCanonical {
    /// There is nothing.
    #[error("the host is empty")]
    Empty,
    /// More than 253 bytes, or a label of more than 63.
    #[error("the host, or a label of it, is too long")]
    Long,
    /// It is a URL.
    #[error("it has a scheme; name the host alone, without https://")]
    Scheme,
    /// It is a host and a port.
    #[error("it has a port; name the host alone")]
    WithPort,
    /// An address in one of its spellings.
    #[error("the host is an address; only names are possible")]
    Address,
    /// It ends with a dot.
    #[error("the host ends with a dot")]
    TrailingDot,
    /// Two dots in a row, or one at the start.
    #[error("the host has an empty label")]
    EmptyLabel,
    /// It has capital letters.
    #[error("the host has capital letters; write it in lower case")]
    Capitals,
    /// It has a character that no name has.
    #[error(
        "the host has a character other than ASCII letters, digits, hyphens and dots; \
         write international names in their xn-- form"
    )]
    Character,
    /// A label starts or ends with a hyphen.
    #[error("a label of the host starts or ends with a hyphen")]
    Hyphen,
    /// The text is not `host:port` with a plain decimal port of 1 to 65535.
    #[error("the port is not a plain decimal number from 1 to 65535")]
    Port,
}

/// What an allow list names: a host, or all names below one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pattern {
    /// `x`: that host alone.
    Exact(Host),
    /// `*.x`: what ends with `.x`, at any depth, and not `x` itself.
    Below(Host),
}

impl Pattern {
    /// Reads `x` or `*.x`, without scheme, port or path (runtime EN-10).
    ///
    /// # Errors
    /// As [`Host::parse`].
    pub fn parse(text: &str) -> Result<Self, NotCanonical> {
        match text.strip_prefix("*.") {
            Some(rest) => Host::parse(rest).map(Self::Below),
            None => Host::parse(text).map(Self::Exact),
        }
    }

    /// Whether it names this host.
    pub fn matches(&self, host: &Host) -> bool {
        match self {
            Self::Exact(exact) => exact == host,
            Self::Below(suffix) => host
                .as_str()
                .strip_suffix(suffix.as_str())
                // The dot is the label's boundary, and before it there is a label, or the name were not canonical.
                .is_some_and(|front| front.ends_with('.')),
        }
    }

    /// Whether some host is named by both.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(host), pattern) | (pattern, Self::Exact(host)) => pattern.matches(host),
            (Self::Below(one), Self::Below(two)) => {
                one == two || self.matches(two) || other.matches(one)
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => host.fmt(f),
            Self::Below(host) => write!(f, "*.{host}"),
        }
    }
}

impl FromStr for Pattern {
    type Err = NotCanonical;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// Where a request goes: a host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The name.
    pub host: Host,
    /// The port, never 0.
    pub port: u16,
}

impl Target {
    /// Reads `host:port`, or `host` where there is a default port.
    ///
    /// # Errors
    /// As [`Host::parse`], and [`NotCanonical::Port`].
    pub fn parse(text: &str, default: Option<u16>) -> Result<Self, NotCanonical> {
        let (host, port) = match (text.rsplit_once(':'), default) {
            (Some((host, port)), _) => (Host::parse(host)?, parse_port(port)?),
            (None, Some(port)) => (Host::parse(text)?, port),
            (None, None) => return Err(Host::parse(text).err().unwrap_or(NotCanonical::Port)),
        };
        Ok(Self { host, port })
    }
}

fn parse_port(text: &str) -> Result<u16, NotCanonical> {
    let plain = !text.is_empty()
        && text.len() <= 5
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && !text.starts_with('0');
    plain
        .then(|| text.parse().ok())
        .flatten()
        .ok_or(NotCanonical::Port)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod hold;

#[cfg(test)]
mod tests;
