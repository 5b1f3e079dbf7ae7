use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(address: &str, expected: Option<&str>) {
    assert_eq!(kind(address.parse().expect(address)), expected, "{address}");
}

/// security NET-3: the first and the last address of every network, and their neighbours.
#[test]
fn net_3_special_networks_of_ipv4() {
    check("0.0.0.0", Some("this network"));
    check("0.255.255.255", Some("this network"));
    check("1.0.0.0", None);
    check("9.255.255.255", None);
    check("10.0.0.0", Some("private"));
    check("10.255.255.255", Some("private"));
    check("11.0.0.0", None);
    check("100.63.255.255", None);
    check("100.64.0.0", Some("shared by a carrier"));
    check("100.127.255.255", Some("shared by a carrier"));
    check("100.128.0.0", None);
    check("126.255.255.255", None);
    check("127.0.0.1", Some("loopback"));
    check("127.255.255.254", Some("loopback"));
    check("128.0.0.0", None);
    check("169.253.255.255", None);
    check("169.254.169.254", Some("link-local"));
    check("169.255.0.0", None);
    check("172.15.255.255", None);
    check("172.16.0.0", Some("private"));
    check("172.31.255.255", Some("private"));
    check("172.32.0.0", None);
    check("192.0.0.8", Some("protocol assignments"));
    check("192.0.0.170", Some("protocol assignments"));
    check("192.0.1.0", None);
    check("192.0.2.1", Some("documentation"));
    check("192.88.99.1", Some("6to4 relay"));
    check("192.167.255.255", None);
    check("192.168.0.0", Some("private"));
    check("192.169.0.0", None);
    check("198.17.255.255", None);
    check("198.18.0.0", Some("benchmarking"));
    check("198.19.255.255", Some("benchmarking"));
    check("198.20.0.0", None);
    check("198.51.100.7", Some("documentation"));
    check("203.0.113.7", Some("documentation"));
    check("223.255.255.255", None);
    check("224.0.0.1", Some("multicast"));
    check("239.255.255.255", Some("multicast"));
    check("240.0.0.0", Some("reserved"));
    check("255.255.255.254", Some("reserved"));
    check("255.255.255.255", Some("broadcast"));
    check("8.8.8.8", None);
}

/// security NET-3
#[test]
fn net_3_special_networks_of_ipv6() {
    check("::", Some("unspecified"));
    check("::1", Some("loopback"));
    check("100::1", Some("discard"));
    check("100:0:0:1::1", Some("outside of global unicast"));
    check("200::1", Some("outside of global unicast"));
    check("1fff:ffff::1", Some("outside of global unicast"));
    check("2001:2::1", Some("benchmarking"));
    check("2001:10::1", Some("ORCHID"));
    check("2001:2f:ffff::1", Some("ORCHID"));
    check("2001:1::1", Some("protocol assignments"));
    check("2001:1ff:ffff::1", Some("protocol assignments"));
    check("2001:200::1", None);
    check("2001:db8::1", Some("documentation"));
    check("3fff::1", Some("documentation"));
    check("3fff:fff:ffff::1", Some("documentation"));
    check("3fff:1000::1", None);
    check("4000::1", Some("outside of global unicast"));
    check("5f00::1", Some("segment routing"));
    check("fbff::1", Some("outside of global unicast"));
    check("fc00::1", Some("unique local"));
    check("fd00:ec2::254", Some("unique local"));
    check("fe00::1", Some("outside of global unicast"));
    check("fe80::1", Some("link-local"));
    check("fec0::1", Some("site-local"));
    check("ff02::1", Some("multicast"));
    check("ff0e::1", Some("multicast"));
    check("2606:4700:4700::1111", None);
    check("2a00:1450:4001::8a", None);
}

/// security NET-3: every standard way of carrying IPv4 inside IPv6.
#[test]
fn net_3_ipv4_inside_ipv6() {
    check("::ffff:127.0.0.1", Some("IPv4-mapped"));
    check("::ffff:8.8.8.8", Some("IPv4-mapped"));
    check("::ffff:0:127.0.0.1", Some("IPv4-translated"));
    check("::127.0.0.1", Some("IPv4-compatible"));
    check("::8.8.8.8", Some("IPv4-compatible"));
    check("64:ff9b::8.8.8.8", None);
    check("64:ff9b::10.0.0.1", Some("IPv4 through NAT64, not global"));
    check(
        "64:ff9b::169.254.169.254",
        Some("IPv4 through NAT64, not global"),
    );
    check("64:ff9b:0:0:0:1:8.8.8.8", Some("reserved"));
    check("64:ff9b:1::8.8.8.8", Some("local NAT64"));
    check("2002:7f00:1::", Some("6to4, IPv4 in IPv6"));
    check("2002:808:808::1", Some("6to4, IPv4 in IPv6"));
    check(
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        Some("Teredo, IPv4 in IPv6"),
    );
    check("2606:4700::5efe:10.0.0.1", Some("ISATAP, IPv4 in IPv6"));
    check("2606:4700::200:5efe:8.8.8.8", Some("ISATAP, IPv4 in IPv6"));
    check("fe80::5efe:10.0.0.1", Some("link-local"));
}

/// security NET-3: what the operator lists, and nothing beside it.
#[test]
fn net_3_the_operator_lists_networks() {
    let allowed = Allowed::parse(["10.1.0.0/16", "fd00:1::/32", "127.0.0.1/32"]).expect("networks");
    #[track_caller]
    fn check(allowed: &Allowed, address: &str, dialled: bool) {
        let checked = allowed.check(address.parse().expect(address));
        assert_eq!(checked.is_ok(), dialled, "{address}: {checked:?}");
    }
    check(&allowed, "10.1.2.3", true);
    check(&allowed, "10.2.0.0", false);
    check(&allowed, "127.0.0.1", true);
    check(&allowed, "127.0.0.2", false);
    check(&allowed, "fd00:1::7", true);
    check(&allowed, "fd00:2::7", false);
    check(&allowed, "8.8.8.8", true);
    check(&allowed, "::ffff:10.1.2.3", false);
    check(&allowed, "64:ff9b::10.1.2.3", false);
    for refused in [
        "10.1.2.3/16",
        "10.1.0.0",
        "10.1.0.0/33",
        "",
        "*",
        "example.com",
    ] {
        let no = NoNetwork(refused.to_owned());
        assert_eq!(Allowed::parse([refused]), Err(no));
    }
}

proptest! {
    /// security NET-3: the standard library knows some kinds by itself; none of them is global here.
    #[test]
    fn net_3_what_others_call_special_is_not_global(v4 in any::<u32>(), v6 in any::<u128>(), spread in 0u32..128) {
        let v4 = Ipv4Addr::from(v4);
        let special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
            || v4.is_broadcast() || v4.is_documentation() || v4.is_unspecified();
        prop_assert!(!(special && is_global(v4.into())), "{v4}");
        for clothed in [v4.to_ipv6_mapped(), v4.to_ipv6_compatible()] {
            prop_assert!(!is_global(clothed.into()), "{clothed}");
        }
        // Few bits set, so that the special networks are hit.
        let v6 = Ipv6Addr::from(v6.checked_shr(spread).unwrap_or(0));
        let special = v6.is_loopback() || v6.is_multicast() || v6.is_unspecified() || v6.is_unique_local()
            || v6.is_unicast_link_local() || v6.to_ipv4().is_some();
        prop_assert!(!(special && is_global(v6.into())), "{v6}");
    }
}
