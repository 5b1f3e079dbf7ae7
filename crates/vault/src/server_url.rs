//! URLs of MCP servers, in the one spelling they are compared in (runtime MC-6, security CRED-9). Pure.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use manyhands_egress::host::{Host, NotCanonical};

/// The longest URL, in bytes (api §29).
pub const LONGEST: usize = 2048;

/// The URL of an MCP server with scheme and host in lower case, without the scheme's own port and without a slash at the end.
/// Two that are equal get the same credential; path, sub-domain and any other port tell them apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerUrl {
    text: String,
    host: String,
}

impl ServerUrl {
    /// Reads a URL. What two readers could understand differently is refused, never repaired (security NET-2).
    ///
    /// # Errors
    /// [`NotServerUrl`]: tell who wrote it.
    pub fn parse(text: &str) -> Result<Self, NotServerUrl> {
        if text.len() > LONGEST {
            return Err(NotServerUrl::Long);
        }
        let plain =
            |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'"' | b'<' | b'>');
        if !text.bytes().all(plain) {
            return Err(NotServerUrl::Character);
        }
        let (scheme, rest) = text.split_once("://").ok_or(NotServerUrl::Scheme)?;
        let (scheme, own_port) = match scheme.to_ascii_lowercase().as_str() {
            "https" => ("https", 443),
            "http" => ("http", 80),
            _ => return Err(NotServerUrl::Scheme),
        };
        if rest.contains('#') {
            return Err(NotServerUrl::Fragment);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if authority.contains('@') {
            return Err(NotServerUrl::UserInfo);
        }
        let (host, port) = split_port(authority)?;
        let host = canonical_host(host)?;
        let port = match port {
            Some(port) if port != own_port => format!(":{port}"),
            _ => String::new(),
        };
        let (path, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
        if path.split('/').any(is_dots) {
            return Err(NotServerUrl::Dots);
        }
        // Of several slashes none is taken: the one spelling would have another.
        let path = match path.strip_suffix('/') {
            Some(shorter) if !shorter.ends_with('/') => shorter,
            _ => path,
        };
        Ok(Self {
            text: format!("{scheme}://{host}{port}{path}{query}"),
            host,
        })
    }

    /// The URL in its one spelling.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its host: a name, an IPv4 address, or an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The key by which the store finds a credential for it.
    pub fn key(&self) -> String {
        format!("mcp {}", self.text)
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is no URL of an MCP server. Says nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotServerUrl {
    /// More than [`LONGEST`] bytes.
    #[error("the URL is longer than {LONGEST} bytes")]
    Long,
    /// It has a space, a control character, a backslash, quotes, angle brackets, or is not ASCII.
    #[error("the URL has a character that no URL has; percent-encode it")]
    Character,
    /// It begins with neither `https://` nor `http://`.
    #[error("the URL must begin with https:// or http://")]
    Scheme,
    /// It has a fragment.
    #[error("the URL must have no fragment")]
    Fragment,
    /// It has a user or a password.
    #[error("the URL must have no user and no password")]
    UserInfo,
    /// Its path has `.` or `..` segments.
    #[error("the URL's path must have no . or .. segments")]
    Dots,
    /// Its host, or port, is not canonical.
    #[error(transparent)]
    Host(#[from] NotCanonical),
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), NotServerUrl> {
    // The colons of an IPv6 address are inside of its brackets.
    let after = authority.rfind(']').map_or(0, |end| end + 1);
    let Some(colon) = authority[after..].find(':') else {
        return Ok((authority, None));
    };
    let (host, port) = authority.split_at(after + colon);
    let port = &port[1..];
    let plain = (1..=5).contains(&port.len())
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && !port.starts_with('0');
    let port = plain.then(|| port.parse().ok()).flatten();
    port.map(|port| (host, Some(port)))
        .ok_or(NotServerUrl::Host(NotCanonical::Port))
}

/// A name, or an address in its one spelling.
fn canonical_host(host: &str) -> Result<String, NotServerUrl> {
    if let Some(inner) = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        let address: Ipv6Addr = inner.parse().map_err(|_| NotCanonical::Address)?;
        return Ok(format!("[{address}]"));
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok(address.to_string());
    }
    Ok(Host::parse(&host.to_ascii_lowercase())?.as_str().to_owned())
}

/// Whether a path segment means this place or the one above, also percent-encoded.
fn is_dots(segment: &str) -> bool {
    let segment = segment.to_ascii_lowercase().replace("%2e", ".");
    matches!(segment.as_str(), "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// runtime MC-6, security CRED-9
    #[test]
    fn mc_6_urls_are_compared_in_one_spelling() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            let url = ServerUrl::parse(text).expect(text);
            assert_eq!(url.as_str(), expected, "{text}");
            assert_eq!(ServerUrl::parse(url.as_str()).as_ref(), Ok(&url), "{text}");
        }
        check("https://mcp.example.com", "https://mcp.example.com");
        check("https://mcp.example.com/", "https://mcp.example.com");
        check("HTTPS://MCP.Example.COM:443/", "https://mcp.example.com");
        check(
            "http://mcp.example.com:80/sse/",
            "http://mcp.example.com/sse",
        );
        check("https://mcp.example.com:80", "https://mcp.example.com:80");
        check("http://mcp.example.com:443", "http://mcp.example.com:443");
        check(
            "https://mcp.example.com:8443/A/b",
            "https://mcp.example.com:8443/A/b",
        );
        check(
            "https://mcp.example.com/a%2Fb",
            "https://mcp.example.com/a%2Fb",
        );
        check(
            "https://mcp.example.com/?a=1",
            "https://mcp.example.com?a=1",
        );
        check(
            "https://mcp.example.com/x/?a=/",
            "https://mcp.example.com/x?a=/",
        );
        check("http://127.0.0.1:8080/mcp", "http://127.0.0.1:8080/mcp");
        check("http://[::1]:8080/mcp/", "http://[::1]:8080/mcp");
        check("http://[0:0::1]/", "http://[::1]");
        check("https://x.example/...", "https://x.example/...");
        // One slash alone: an empty segment is part of the path.
        let two = "https://mcp.example.com//";
        check(two, two);
    }

    /// runtime MC-6: what must not be taken for one another.
    #[test]
    fn mc_6_path_host_port_and_scheme_tell_servers_apart() {
        let all = [
            "https://example.com",
            "http://example.com",
            "https://www.example.com",
            "https://example.com:8443",
            "https://example.com/mcp",
            "https://example.com/MCP",
            "https://example.com/mcp/v1",
            "https://example.com/mcp?a=1",
        ];
        let all: Vec<ServerUrl> = all
            .iter()
            .map(|text| ServerUrl::parse(text).expect(text))
            .collect();
        for (index, one) in all.iter().enumerate() {
            for other in &all[index + 1..] {
                assert_ne!(one, other);
            }
        }
    }

    /// security NET-2
    #[test]
    fn net_2_what_is_ambiguous_is_no_server_url() {
        #[track_caller]
        fn check(text: &str, expected: NotServerUrl) {
            assert_eq!(ServerUrl::parse(text), Err(expected), "{text}");
        }
        check("", NotServerUrl::Scheme);
        check("mcp.example.com", NotServerUrl::Scheme);
        check("ftp://mcp.example.com", NotServerUrl::Scheme);
        check("https:/mcp.example.com", NotServerUrl::Scheme);
        check("https://user@mcp.example.com", NotServerUrl::UserInfo);
        check("https://a:b@mcp.example.com", NotServerUrl::UserInfo);
        check("https://mcp.example.com#x", NotServerUrl::Fragment);
        check("https://mcp.example.com/ x", NotServerUrl::Character);
        check("https://mcp.example.com\\x", NotServerUrl::Character);
        check("https://mcp.example.com/\n", NotServerUrl::Character);
        check("https://mcp.exämple.com/", NotServerUrl::Character);
        check("https://x.example/a/../b", NotServerUrl::Dots);
        check("https://x.example/a/%2E%2e/b", NotServerUrl::Dots);
        check("https://x.example/.", NotServerUrl::Dots);
        check("https://", NotServerUrl::Host(NotCanonical::Empty));
        check("https:///x", NotServerUrl::Host(NotCanonical::Empty));
        check(
            "https://x.example.:443/",
            NotServerUrl::Host(NotCanonical::TrailingDot),
        );
        check(
            "https://x.example:0443/",
            NotServerUrl::Host(NotCanonical::Port),
        );
        check(
            "https://x.example:/",
            NotServerUrl::Host(NotCanonical::Port),
        );
        check(
            "https://x.example:65536/",
            NotServerUrl::Host(NotCanonical::Port),
        );
        check(
            "https://x.example:+1/",
            NotServerUrl::Host(NotCanonical::Port),
        );
        check("https://0x7f.1/", NotServerUrl::Host(NotCanonical::Address));
        check(
            "https://2130706433/",
            NotServerUrl::Host(NotCanonical::Address),
        );
        check("https://[::1/", NotServerUrl::Host(NotCanonical::Port));
        check("https://[x]/", NotServerUrl::Host(NotCanonical::Address));
        check(
            "https://%6dcp.example.com/",
            NotServerUrl::Host(NotCanonical::Address),
        );
        check(
            &format!("https://x.example/{}", "a".repeat(2048)),
            NotServerUrl::Long,
        );
    }
}
