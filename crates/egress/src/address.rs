//! Addresses: which ones may be dialled (security NET-3).
//!
//! Only global unicast addresses, by the registries of special-purpose addresses, and never one that carries an IPv4
//! address in an IPv6 address that would not be dialled itself. An operator can list networks of their own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Why an address is not dialled: the kind of addresses that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} is not a global address: {kind}")]
pub struct NotGlobal {
    /// The address.
    pub address: IpAddr,
    /// For example `loopback`.
    pub kind: &'static str,
}

/// Networks that the operator allows although they are not global, for example a mirror of packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed(Vec<IpNet>);

impl Allowed {
    /// Reads networks in their canonical form: `10.1.0.0/16`, `fd00:1::/32`, and a single address as `10.1.2.3/32`.
    ///
    /// # Errors
    /// The text that is no network, or whose address has bits behind the prefix.
    pub fn parse<S: AsRef<str>>(networks: impl IntoIterator<Item = S>) -> Result<Self, NoNetwork> {
        let read = |text: S| match text.as_ref().parse::<IpNet>() {
            Ok(network) if network == network.trunc() => Ok(network),
            _ => Err(NoNetwork(text.as_ref().to_owned())),
        };
        networks
            .into_iter()
            .map(read)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether the address may be dialled: it is global, or in a listed network. An IPv4 address in IPv6 clothes is
    /// listed only as the IPv6 address that it is.
    ///
    /// # Errors
    /// [`NotGlobal`] with the kind of address.
    pub fn check(&self, address: IpAddr) -> Result<(), NotGlobal> {
        match kind(address) {
            Some(kind) if !self.0.iter().any(|network| network.contains(&address)) => {
                Err(NotGlobal { address, kind })
            }
            _ => Ok(()),
        }
    }
}

/// A text that is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no network: write it as 10.1.0.0/16, without bits behind the prefix")]
pub struct NoNetwork(pub String);

/// Whether the address is of global unicast: reachable from everywhere, and one machine's.
pub fn is_global(address: IpAddr) -> bool {
    kind(address).is_none()
}

/// What the address is of, when it is not global.
pub fn kind(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => kind_v4(address),
        IpAddr::V6(address) => kind_v6(address),
    }
}

fn kind_v4(address: Ipv4Addr) -> Option<&'static str> {
    SPECIAL_V4
        .iter()
        .find(|(network, _)| network.contains(&address))
        .map(|(_, kind)| *kind)
}

fn kind_v6(address: Ipv6Addr) -> Option<&'static str> {
    if NAT64.contains(&address) {
        // The translator dials the IPv4 address behind it.
        return kind_v4(last_four(address)).map(|_| "IPv4 through NAT64, not global");
    }
    let special = SPECIAL_V6
        .iter()
        .find(|(network, _)| network.contains(&address))
        .map(|(_, kind)| *kind);
    if special.is_some() {
        return special;
    }
    if !GLOBAL_UNICAST.contains(&address) {
        return Some("outside of global unicast");
    }
    // The interface identifier of ISATAP, with or without the bit that says that the IPv4 address is unique.
    let segments = address.segments();
    (segments[4] & !0x0200 == 0 && segments[5] == 0x5efe).then_some("ISATAP, IPv4 in IPv6")
}

fn last_four(address: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = address.octets();
    Ipv4Addr::new(a, b, c, d)
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(segments: [u16; 8], prefix: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

const GLOBAL_UNICAST: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

/// IANA's IPv4 special-purpose registry, less what it calls globally reachable on its own, and multicast.
const SPECIAL_V4: [(Ipv4Net, &str); 16] = [
    (v4(0, 0, 0, 0, 8), "this network"),
    (v4(10, 0, 0, 0, 8), "private"),
    (v4(100, 64, 0, 0, 10), "shared by a carrier"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    (v4(169, 254, 0, 0, 16), "link-local"),
    (v4(172, 16, 0, 0, 12), "private"),
    (v4(192, 0, 0, 0, 24), "protocol assignments"),
    (v4(192, 0, 2, 0, 24), "documentation"),
    (v4(192, 88, 99, 0, 24), "6to4 relay"),
    (v4(192, 168, 0, 0, 16), "private"),
    (v4(198, 18, 0, 0, 15), "benchmarking"),
    (v4(198, 51, 100, 0, 24), "documentation"),
    (v4(203, 0, 113, 0, 24), "documentation"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(255, 255, 255, 255, 32), "broadcast"),
    (v4(240, 0, 0, 0, 4), "reserved"),
];

/// The same for IPv6, and what carries IPv4; the more exact ones first, for their names.
const SPECIAL_V6: [(Ipv6Net, &str); 21] = [
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), "unspecified"),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "loopback"),
    (v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), "IPv4-mapped"),
    (v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96), "IPv4-translated"),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), "IPv4-compatible"),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), "local NAT64"),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), "discard"),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 8), "reserved"),
    (
        v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32),
        "Teredo, IPv4 in IPv6",
    ),
    (v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), "benchmarking"),
    (v6([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28), "ORCHID"),
    (v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28), "ORCHID"),
    (
        v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
        "protocol assignments",
    ),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "documentation"),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), "6to4, IPv4 in IPv6"),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "documentation"),
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), "segment routing"),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "unique local"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "link-local"),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), "site-local"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast"),
];

#[cfg(test)]
mod tests;
