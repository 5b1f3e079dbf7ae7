use super::*;

fn limited(allowed: &[&str], mcp: bool, packages: bool) -> Networking {
    Networking::Limited {
        allowed_hosts: allowed.iter().map(|text| (*text).to_owned()).collect(),
        allow_mcp_servers: mcp,
        allow_package_managers: packages,
    }
}

fn operator() -> Operator {
    let patterns = |list: &[&str]| {
        let read = |text: &&str| Pattern::parse(text).expect(text);
        list.iter().map(read).collect()
    };
    Operator {
        ports: vec![80, 443, 8443],
        package_hosts: patterns(&["pypi.example", "*.crates.example"]),
        tunnel_hosts: patterns(&["pinned.example"]),
    }
}

fn policy(networking: &Networking) -> Policy {
    let mcp = ["mcp.example".to_owned(), "127.0.0.1".to_owned()];
    Policy::new(networking, &mcp, &operator()).expect("a policy")
}

#[track_caller]
fn check(policy: &Policy, target: &str, expected: Result<Tls, Reason>) {
    let target = Target::parse(target, None).expect(target);
    let decided = match policy.decide(&target) {
        Decision::Allow(allowed) => {
            assert_eq!(allowed.target(), &target);
            Ok(allowed.tls())
        }
        Decision::Refuse(reason) => Err(reason),
    };
    assert_eq!(decided, expected, "{target}");
}

/// security NET-1, runtime EN-10, EN-11: the list, and what its switches name.
#[test]
fn net_1_limited_is_the_list_and_its_switches() {
    let bare = policy(&limited(&["a.example", "*.b.example"], false, false));
    check(&bare, "a.example:443", Ok(Tls::Opened));
    check(&bare, "x.b.example:80", Ok(Tls::Opened));
    for target in [
        "b.example:443",
        "x.a.example:443",
        "mcp.example:443",
        "pypi.example:443",
        "pinned.example:443",
    ] {
        check(&bare, target, Err(Reason::HostNotAllowed));
    }
    let mcp = policy(&limited(&[], true, false));
    check(&mcp, "mcp.example:443", Ok(Tls::Opened));
    check(&mcp, "pypi.example:443", Err(Reason::HostNotAllowed));
    let packages = policy(&limited(&["pinned.example"], false, true));
    check(&packages, "pypi.example:443", Ok(Tls::Opened));
    check(&packages, "static.crates.example:443", Ok(Tls::Opened));
    check(&packages, "mcp.example:443", Err(Reason::HostNotAllowed));
    check(&packages, "pinned.example:443", Ok(Tls::PassedWithName));
    let nothing = policy(&limited(&[], false, false));
    check(&nothing, "a.example:443", Err(Reason::HostNotAllowed));
}

/// runtime EN-10: any name; security NET-4: the operator's ports.
#[test]
fn en_10_unrestricted_is_every_name_on_the_ports() {
    let open = policy(&Networking::Unrestricted {});
    check(&open, "any.example:443", Ok(Tls::Passed));
    check(&open, "any.example:8443", Ok(Tls::Passed));
    check(&open, "any.example:22", Err(Reason::PortNotAllowed));
    let listed = policy(&limited(&["a.example"], false, false));
    check(&listed, "a.example:8443", Ok(Tls::Opened));
    check(&listed, "a.example:25", Err(Reason::PortNotAllowed));
    assert_eq!(Operator::default().ports, [80, 443]);
}

/// security NET-7
#[test]
fn net_7_a_list_that_cannot_be_read_opens_nothing() {
    for wrong in ["A.example", "10.0.0.1", "https://a.example", "*", ""] {
        let networking = limited(&["a.example", wrong], true, true);
        let error = Policy::new(&networking, &[], &operator()).expect_err(wrong);
        assert_eq!(error.text, wrong);
    }
    let closed = Policy::closed();
    check(&closed, "a.example:443", Err(Reason::NoPolicy));
}

/// security NET-10
#[test]
fn net_10_every_reason_has_a_code_of_its_own() {
    let codes: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|it| it.code()).collect();
    assert_eq!(codes.len(), Reason::ALL.len());
    for reason in Reason::ALL {
        assert!(matches!(reason.status(), 400 | 403 | 421), "{reason}");
        assert!(reason.remedy().ends_with('.'), "{reason}");
    }
}
